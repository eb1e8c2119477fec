"""A loader of modules of tools that the agent's file calls at its top is called in the model as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

REGISTRY = """
import importlib, pathlib, pkgutil

TOOLS = {}

def tool(function):
    TOOLS[function.__name__] = function
    return function

def load_builtin():
    from . import search  # which imports this module

def load_found():
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module("." + module.name, __package__)

def load_files():
    for file in pathlib.Path(__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f"{__name__}.{file.stem}")

def load(*names):
    for name in names:
        importlib.import_module(f"{__name__}.{name}")

def greet():
    return "hello"
"""
TOOL = "from . import tool\n@tool\ndef {name}(): return '{name}'\n"
AGENT = """
import tools_
from tools_ import TOOLS, load

{calls}

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=sorted(function() for function in TOOLS.values()))
"""

Save = Callable[[str], Path]


@pytest.fixture
def save(module: Callable[[str], ModuleType], package: Path, tmp_path: Path) -> Save:
    """Saves the model of an agent with a package of tools, of which each module fills the registry."""
    (package / "__init__.py").write_text(REGISTRY)
    for tool in ("search", "sum"):
        (package / f"{tool}.py").write_text(TOOL.format(name=tool))

    def saved(calls: str) -> Path:
        agent = module((HEAD + AGENT.format(calls=calls)).replace("tools_", package.name)).Agent
        mlflow_flavor.save_model(agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
        return tmp_path / "model"

    return saved


async def answer(model: Path) -> object:
    return await mlflow_flavor.load_model(str(model)).run()


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("tools_.load_builtin()", ["search"]),
        ("if not TOOLS:\n    tools_.load_builtin()", ["search"]),
        ("tools_.load_found()", ["search", "sum"]),
        ("tools_.load_files()", ["search", "sum"]),
        ("load('sum')", ["sum"]),
        ("for name in ('sum', 'search'): load(name)", ["search", "sum"]),
        ("load('sum')\ntools_.load_builtin()", ["search", "sum"]),
        ("def setup():\n    from tools_ import search, sum\n\nsetup()", ["search", "sum"]),
        ("tools_.load_found()\n@tools_.tool\ndef own(): return 'own'", ["own", "search", "sum"]),
    ],
)
async def test_what_it_loads_is_in_the_model(save: Save, caplog: pytest.LogCaptureFixture, calls: str, said: list[str]):
    assert await answer(save(calls)) == said
    assert not [each for each in caplog.records if each.name == "workflows.mlflow"]


async def test_no_other_call_is_made_for_that(save: Save):
    model = save("tools_.greet()\nload('sum')\ntools_.greet()")
    assert "greet" not in (model / "workflow.py").read_text()
    assert await answer(model) == ["sum"]


async def test_what_cannot_be_written_is_told(save: Save, caplog: pytest.LogCaptureFixture):
    model = save("load(__file__ and 'sum')")
    assert "holds sum of" in caplog.text
    assert await answer(model) == []
