"""Of many tools some cannot be in a script: the others are, after a handful of tries, and the warning says why."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

REGISTRY = """
from pathlib import Path

with Path({imports!r}).open("a") as file:
    file.write(".")

TOOLS = {{}}

def tool(function):
    TOOLS[function.__name__] = function
    return function
"""
AGENT = """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=len(TOOLS))
"""
MANY = "".join(f"@tool\ndef tool_{n}(): return {n}\n\n" for n in range(40))

Import = Callable[[str], ModuleType]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that keeps tools, and writes a point to a file each time that it is imported."""
    name = f"registry_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(REGISTRY.format(imports=str(tmp_path / "imports.txt")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def tools_in_model(module: Import, registry: str, tools: str) -> Callable[[], Awaitable[object]]:
    """Saves an agent with these tools."""
    agent = module(f"{HEAD}import os\nfrom {registry} import TOOLS, tool\n{tools}\n{AGENT}").Agent
    mlflow_flavor.save_model(agent, "model", code_paths=[f"{registry}.py"], pip_requirements=["mlflow"])
    return mlflow_flavor.load_model("model").run


IN_WRITING = "@tool\ndef where(): return __file__\n"
WHEN_RUN = "@tool\ndef keyed(key=os.environ.pop('KEY_OF_TOOL')): return key\n"


@pytest.mark.parametrize(
    ("tool", "tries", "reason"),
    [
        (IN_WRITING, 4, "holds where, and in the model it will not, unless a run puts it there: the source of that"),
        (WHEN_RUN, 16, "cannot be written to a script (run again, its source raised KeyError: 'KEY_OF_TOOL' at `"),
    ],
    ids=["in writing", "when run"],
)
async def test_the_others_are_in_the_model_after_a_handful_of_tries(
    module: Import,
    registry: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
    tries: int,
    reason: str,
):
    monkeypatch.setenv("KEY_OF_TOOL", "1")
    run = tools_in_model(module, registry, MANY + tool)
    assert await run() == 40
    assert len((tmp_path / "imports.txt").read_text()) <= tries
    assert caplog.text.count("in the model it will not") == 1
    assert reason in caplog.text


async def test_where_none_can_be_the_tries_end(
    module: Import, registry: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    for n in range(40):
        monkeypatch.setenv(f"KEY_OF_TOOL_{n}", "1")
    keyed = "@tool\ndef tool_{0}(key=os.environ.pop('KEY_OF_TOOL_{0}')): return key\n\n"
    run = tools_in_model(module, registry, "".join(keyed.format(n) for n in range(40)))
    assert await run() == 0
    assert len((tmp_path / "imports.txt").read_text()) <= 16
    assert "cannot be written to a script" in caplog.text
