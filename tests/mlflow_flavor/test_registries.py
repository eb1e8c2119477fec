"""What a module of the author's own keeps of functions and classes that another one gives it is in the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

Import = Callable[[str], ModuleType]

TOOLBOX = """
import functools
import logging

logger = logging.getLogger(__name__)
TOOLS = {}

def tool(function):
    TOOLS[function.__name__] = function
    return function

def call(name):
    return TOOLS[name]()

def told(function):
    @functools.wraps(function)
    def inner():
        logger.info("called")
        return function()
    return inner

class Toolbox:
    def __init__(self):
        self.tools = {}

    def named(self, name):
        def keep(function):
            self.tools[name] = function
            return function
        return keep

toolbox = Toolbox()

class Tool:
    ALL = []

    def __init_subclass__(cls):
        Tool.ALL.append(cls)
"""
AGENT = """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=str({use}))

agent = Agent()
"""


@pytest.fixture
def toolbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module beside the program."""
    name = f"toolbox_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(TOOLBOX)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def script(module: Import, toolbox: str, tmp_path: Path, source: str) -> str:
    """The script of an agent that uses that module."""
    agent = module(HEAD + source.replace("toolbox_", toolbox)).agent
    mlflow_flavor.save_model(agent, tmp_path / "model", code_paths=[f"{tmp_path}/{toolbox}.py"], pip_requirements=[])
    return (tmp_path / "model" / "workflow.py").read_text()


@pytest.mark.parametrize(
    ("imports", "given", "use"),
    [
        ("from toolbox_ import tool, TOOLS", "@tool\ndef add(): return 3", "TOOLS['add']()"),
        ("from toolbox_ import tool as a, call as e", "@a\ndef add(): return 3", "e('add')"),
        ("import toolbox_", "@toolbox_.tool\ndef add(): return 3", "toolbox_.call('add')"),
        ("from toolbox_ import toolbox", "@toolbox.named('+')\ndef add(): return 3", "toolbox.tools['+']()"),
        ("from toolbox_ import Tool", "class add(Tool): pass", "len(Tool.ALL)"),
    ],
    ids=["function", "other names", "module", "object", "base class"],
)
def test_what_it_keeps_is_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, imports: str, given: str, use: str
):
    assert " add" in script(module, toolbox, tmp_path, f"{imports}\n\n{given}\n{AGENT.format(use=use)}")


@pytest.mark.parametrize(
    ("imports", "by"), [("from toolbox_ import told", "told"), ("import toolbox_", "toolbox_.told")]
)
def test_what_it_only_wraps_is_not(module: Import, toolbox: str, tmp_path: Path, imports: str, by: str):
    given = f"@{by}\ndef used(): return 1\n\n@{by}\ndef evaluate(): return open('eval.csv')\n"
    assert "evaluate" not in script(module, toolbox, tmp_path, f"{imports}\n\n{given}\n{AGENT.format(use='used()')}")
