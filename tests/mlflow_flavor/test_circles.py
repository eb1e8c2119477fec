"""An agent's module that the helpers of the model import is one of them: both have the same classes then."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import mlflow
import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

AGENT = """
from workflows.events import Event
{imports}

class Found(Event):
    text: str

class Agent(Workflow):
    @step
    async def search(self, ev: StartEvent) -> Found:
        return {call}("hi")

    @step
    async def answer(self, ev: Found) -> StopEvent:
        return StopEvent(result=ev.text)

agent = Agent(timeout=5)
"""
IN_FUNCTION = """
def search(text):
    from tools_.agent import Found
    return Found(text=text)
"""
AT_TOP = """
from tools_ import agent

def search(text):
    return agent.Found(text=text)
"""
ANOTHER = """
from .tools import search
"""


@pytest.mark.parametrize("logs", ["agent", "Agent"])
@pytest.mark.parametrize(
    ("imports", "call", "tools"),
    [
        ("from tools_ import tools", "tools.search", IN_FUNCTION),
        ("from tools_.tools import search", "search", IN_FUNCTION),
        ("import tools_.tools", "tools_.tools.search", AT_TOP),
        ("from tools_.more import search", "search", IN_FUNCTION),
    ],
)
def test_helpers_have_the_classes_of_the_agent(
    package: Path, tmp_path: Path, imports: str, call: str, tools: str, logs: str
):
    agent = HEAD + AGENT.format(imports=imports, call=call)
    for file, text in {"__init__": "", "tools": tools, "more": ANOTHER, "agent": agent}.items():
        (package / f"{file}.py").write_text(text.replace("tools_", package.name))
    logged = getattr(import_module(f"{package.name}.agent"), logs)
    mlflow_flavor.save_model(logged, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
    assert mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({}) == "hi"
