"""What a library makes only when it is first used is not made by logging an agent that imports it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.mlflow_flavor.test_fidelity import HEAD

Import = Callable[[str], ModuleType]

LIBRARY = """
class Proxy:
    @property
    def __class__(self):
        globals()["made"] = "a client"
        return dict

chat = Proxy()
"""
PROGRAM = """
import mlflow_flavor

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=str({chat}))

def main(path):
    agent = Agent()
    mlflow_flavor.save_model(agent, path, pip_requirements=[])
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that makes a client, and sets a variable, where its proxy is asked for its class."""
    name = f"library_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("imports", "chat"), [("import library_", "library_.chat"), ("from library_ import chat", "chat")]
)
def test_a_program_that_imports_a_proxy_logs_its_agent(
    module: Import, library: str, tmp_path: Path, imports: str, chat: str
):
    program = module((HEAD + imports + PROGRAM.format(chat=chat)).replace("library_", library))
    program.main(tmp_path / "model")
    assert not hasattr(sys.modules[library], "made")
