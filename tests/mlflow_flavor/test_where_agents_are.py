"""An instance is logged from whichever module of the author's can tell how it was made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

AGENTS = f"""{HEAD}
class Agent(Workflow):
    def __init__(self, style="plain", **options):
        super().__init__(**options)
        self.style = style

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=self.style)

AGENTS = {{"warm": Agent("warm"), "cool": Agent("cool")}}
"""
LOG = """
import mlflow_flavor
for agent in AGENTS.values():
    mlflow_flavor.save_model(agent, FOLDER + "/" + agent.style, code_paths=[CODE], pip_requirements=["mlflow"])
"""


async def styles(folder: Path) -> list[str]:
    return [await mlflow_flavor.load_model(str(folder / style)).run() for style in ("warm", "cool")]


async def test_a_loop_at_the_top_of_a_program_logs_agents_of_another_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    agents, program = f"agents_{tmp_path.name}", f"program_{tmp_path.name}"
    (tmp_path / f"{agents}.py").write_text(AGENTS)
    paths = f"FOLDER, CODE = {str(tmp_path)!r}, {str(tmp_path / agents)!r} + '.py'\n"
    (tmp_path / f"{program}.py").write_text(f"import {agents}\n{paths}{LOG.replace('AGENTS', f'{agents}.AGENTS')}")
    importlib.import_module(program)
    assert await styles(tmp_path) == ["warm", "cool"]


async def test_a_program_logs_agents_of_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / f"shop_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "agents.py").write_text(AGENTS)
    paths = f"FOLDER, CODE = {str(tmp_path)!r}, {str(package)!r}\n"
    (package / "train.py").write_text(f"from .agents import AGENTS\n{paths}{LOG}")
    importlib.import_module(f"{package.name}.train")
    assert await styles(tmp_path) == ["warm", "cool"]


def test_an_instance_that_a_function_made_is_to_be_a_variable(tmp_path: Path, module: Callable[[str], ModuleType]):
    agent = module(AGENTS).Agent("terse")
    with pytest.raises(MlflowException, match=r"its style is not .* Or make it a variable at the top of its module"):
        mlflow_flavor.save_model(agent, tmp_path / "model", pip_requirements=["mlflow"])
