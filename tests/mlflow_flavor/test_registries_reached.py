"""However an agent comes to what another module holds of its functions and classes, that is in the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import mlflow
import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD
from tests.mlflow_flavor.test_registries import AGENT

Import = Callable[[str], ModuleType]
Save = Callable[[str, str], Path]

BOX = """
import abc
import functools
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Annotated, Generic, TypeVar

TOOLS = {}

def tool(function):
    TOOLS[function.__name__] = function
    return function

"""
ADD = "@tool\ndef add(): pass\n"


@pytest.fixture
def save(module: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Save]:
    """Saves the model of an agent, of its source and that of the module `box` that it brings."""
    name = f"box_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)

    def saved(box: str, source: str) -> Path:
        (tmp_path / f"{name}.py").write_text(BOX + box)
        agent = module(HEAD + source.replace("box_", name)).agent
        helpers = [tmp_path / f"{name}.py"]
        mlflow_flavor.save_model(agent, tmp_path / "model", code_paths=helpers, pip_requirements=[])
        return tmp_path / "model"

    yield saved
    sys.modules.pop(name, None)


INHERITED = "class Root:\n    def names(self): return [*TOOLS]\n"
CACHED = "class Box:\n    @functools.{by}\n    def names(self{more}): return [*TOOLS]\n"
RESOURCE = """
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.resource import Resource

def get_tools(): return [*TOOLS]

class Child(Workflow):
    @step
    async def give(self, ev: StartEvent, tools: Annotated[list, Resource(get_tools)]) -> StopEvent:
        return StopEvent(result=tools)

Tools = Annotated[list, Resource(get_tools)]
"""


@pytest.mark.parametrize(
    ("box", "use"),
    [
        (f"{INHERITED}\nclass Box(Root): pass", "box_.Box().names()"),
        (f"{INHERITED}\nclass Middle(Root): pass\nclass Box(Middle): pass", "box_.Box().names()"),
        (f"{INHERITED}\nclass Box(Root):\n    def names(self): return super().names()", "box_.Box().names()"),
        (f"{INHERITED}\nclass Box(Root): pass\nbox = Box()", "box_.box.names()"),
        (f"{INHERITED}\nclass Box(Root, abc.ABC): pass", "box_.Box().names()"),
        (
            "class Box(Generic[TypeVar('T')]):\n    def names(self): return [*TOOLS]\n\nInts = Box[int]",
            "box_.Ints().names()",
        ),
        ("@functools.cache\ndef names(): return [*TOOLS]", "box_.names()"),
        (CACHED.format(by="cached_property", more=""), "box_.Box().names"),
        (CACHED.format(by="singledispatchmethod", more=", of"), "box_.Box().names(1)"),
        ("called = SimpleNamespace(names=lambda: [*TOOLS])", "box_.called.names()"),
    ],
)
async def test_what_reads_a_registry_need_not_be_a_function_of_the_module(save: Save, box: str, use: str):
    model = save(box, f"import box_\nfrom box_ import tool\n{ADD}{AGENT.format(use=use)}")
    assert await mlflow_flavor.load_model(str(model)).run() == "['add']"


RUN = """
import asyncio

async def main():
    await agent.run()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "agent",
    [
        AGENT.format(use="await Child().run()"),
        AGENT.format(use="tools").replace("StartEvent)", "StartEvent, tools: Tools)"),
        "class Agent(Child):\n    pass\n\nagent = Agent()\n",
    ],
    ids=["of a child workflow", "that a type names", "of a base class"],
)
def test_what_a_resource_reads_is_in_the_model_also_after_a_run(save: Save, agent: str):
    model = save(RESOURCE, f"from box_ import Child, Tools, tool\n{ADD}{agent}{RUN}")
    assert str(mlflow.pyfunc.load_model(str(model)).predict({})) == "['add']"


async def test_a_registry_of_a_module_that_an_attribute_holds_is_in_the_model(save: Save):
    desk = "class Desk:\n    module = box_\n\n    def names(self): return [*self.module.TOOLS]\n"
    model = save("", f"import box_\nfrom box_ import tool\n{ADD}\n{desk}{AGENT.format(use='Desk().names()')}")
    assert await mlflow_flavor.load_model(str(model)).run() == "['add']"


GIVING = """
def given(function):
    @functools.wraps(function)
    def inner(*args): return function(*args, [*TOOLS])
    return inner
"""


@pytest.mark.parametrize(
    ("given", "use"),
    [
        ("@given\ndef names(tools): return tools\n", "names()"),
        ("class Desk:\n    @given\n    def names(self, tools): return tools\n", "Desk().names()"),
    ],
)
async def test_what_a_decorator_gives_to_a_function_of_the_agent_is_in_the_model(save: Save, given: str, use: str):
    model = save(GIVING, f"from box_ import given, tool\n{ADD}\n{given}{AGENT.format(use=use)}")
    assert await mlflow_flavor.load_model(str(model)).run() == "['add']"


META = """
class Meta(type):
    all = []

    def __init__(cls, *args):
        super().__init__(*args)
        Meta.all.append(cls)

class Tool(metaclass=Meta): pass
"""
VARIABLE = """
KEPT = ContextVar("kept", default=())

def keep(function):
    KEPT.set((*KEPT.get(), function))
    return function
"""


@pytest.mark.parametrize(
    ("box", "given", "use"),
    [
        (META, "from box_ import Tool\nclass add(Tool): pass\n", "type(Tool).all[1:]"),
        (VARIABLE, "from box_ import KEPT, keep\n@keep\ndef add(): pass\n", "KEPT.get()"),
    ],
)
async def test_a_registry_of_another_kind_is_in_the_model(save: Save, box: str, given: str, use: str):
    model = save(box, f"{given}{AGENT.format(use=f'[tool.__name__ for tool in {use}]')}")
    assert await mlflow_flavor.load_model(str(model)).run() == "['add']"


TREE = """
class Tool:
    @classmethod
    def all(cls): return [name for each in cls.__subclasses__() for name in (each.__name__, *each.all())]

class Other: pass
class Known(Other): pass

def walk(cls):
    for each in cls.__subclasses__():
        yield each.__name__
        yield from walk(each)
"""
WALK = TREE.rpartition("\n\n")[2]
OF_AGENT = "class Tool: pass\nclass Net(Tool): pass\nclass Http(Net): pass\n"


@pytest.mark.parametrize(
    ("source", "use", "names"),
    [
        ("from box_ import Tool\nclass Net(Tool): pass\nclass Http(Net): pass\n", "Tool.all()", "['Net', 'Http']"),
        (
            "from box_ import Known, Other, walk\nclass Net(Known): pass\nclass Http(Net): pass\n",
            "[*walk(Other)]",
            "['Known', 'Net', 'Http']",
        ),
        (f"{OF_AGENT}\n{WALK}", "[*walk(Tool)]", "['Net', 'Http']"),
        (OF_AGENT, "[each.__name__ for each in Tool.__subclasses__()]", "['Net']"),
    ],
    ids=["a class method", "a function", "of the agent's own", "a step"],
)
async def test_subclasses_are_in_the_model_where_the_agent_asks_for_them(save: Save, source: str, use: str, names: str):
    model = save(TREE, f"{source}{AGENT.format(use=use)}")
    assert await mlflow_flavor.load_model(str(model)).run() == names


def test_subclasses_are_not_in_the_model_where_nothing_asks_for_them(save: Save, caplog: pytest.LogCaptureFixture):
    source = f"from box_ import Other, tool\n{OF_AGENT}\nclass More(Other): pass\n{AGENT.format(use='[Tool, Other]')}"
    script = (save("class Other: pass", source) / "workflow.py").read_text()
    assert [name for name in ("Net", "Http", "More") if name in script] == []
    assert "holds" not in caplog.text


def test_a_subclass_that_no_script_can_have_is_told(save: Save, caplog: pytest.LogCaptureFixture):
    source = "class Tool: pass\nclass Net(Tool):\n    def where(self): return __file__\n"
    save("", f"{source}{AGENT.format(use='Tool.__subclasses__()')}")
    assert "Tool.__subclasses__() holds Net, and in the model it will not" in caplog.text


LOOP = """
import functools
from box_ import TOOLS, tool

def made(number):
    def inner(): return number
    inner.__name__ = f"of_{number}"
    return inner

for _number in (1, 2):
    tool(made(_number))
"""


async def test_functions_that_another_one_made_and_only_calls_in_a_loop_gave_it_are_in_the_model(
    save: Save, caplog: pytest.LogCaptureFixture
):
    source = f"{LOOP}\nTOOLS['third'] = made(3)\n{AGENT.format(use='[*TOOLS]')}"
    assert await mlflow_flavor.load_model(str(save("", source))).run() == "['of_1', 'of_2', 'third']"
    assert "holds" not in caplog.text


@pytest.mark.parametrize("made", ["made(1)", "lambda: 1", "functools.wraps(tool)(functools.partial(lambda _: 1, 2))"])
async def test_a_function_that_was_given_its_name_by_an_assignment_is_in_the_model(
    save: Save, caplog: pytest.LogCaptureFixture, made: str
):
    source = f"{LOOP.partition('for _')[0]}\nfirst = tool({made})\n{AGENT.format(use='len(TOOLS)')}"
    assert await mlflow_flavor.load_model(str(save("", source))).run() == "1"
    assert "holds" not in caplog.text


def test_what_a_logger_leads_to_is_nothing_that_a_module_holds(save: Save, caplog: pytest.LogCaptureFixture):
    box = "import logging\nlogger = logging.getLogger(__name__)\n\ndef names(): return logger.name\n"
    given = "from box_ import logger, names\n\ndef redact(record): return True\n\nlogger.addFilter(redact)\n"
    script = (save(box, f"{given}{AGENT.format(use='names()')}") / "workflow.py").read_text()
    assert "redact" not in script
    assert "holds" not in caplog.text
