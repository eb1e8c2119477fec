"""What a call at the top of an agent's file gives to another module is in the model, or told where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

REGISTRY = """
class Registry:
    def __init__(self):
        self.tools = {}

    def register(self, tool, name=None):
        self.tools[name or tool.name] = tool

registry = Registry()
HOOKS, OTHERS = [], {}
LIMIT = 3

def limit(number):
    global LIMIT
    LIMIT = number

def limited():
    return LIMIT

def hook(function):
    HOOKS.append(function)

def tool(function):
    OTHERS[function.__name__] = function
    return function
"""
TOOLS = """
import functools
import registry_
from registry_ import HOOKS, OTHERS, hook, registry, tool

class Search:
    name = "search"
    def run(self, query=""): return f"found {query}"

class Sum(Search):
    name = "sum"

def made(number):
    def inner(): return number
    return inner
"""
AGENT = """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[sorted(registry.tools), len(HOOKS), sorted(OTHERS)])
"""

Import = Callable[[str], ModuleType]
Save = Callable[..., Path]


@pytest.fixture
def save(module: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Save]:
    """Saves the model of an agent that has a registry beside it."""
    name = f"registry_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(REGISTRY)
    monkeypatch.syspath_prepend(tmp_path)

    def saved(calls: str, agent: str = AGENT, more: Sequence[Path] = ()) -> Path:
        written = module(f"{HEAD}{TOOLS}{calls}\n{agent}".replace("registry_", name))
        if hasattr(written, "later"):
            written.later()  # as a program does that is none of the agent's
        made = written.Agent
        helpers = [tmp_path / f"{name}.py", *more]
        mlflow_flavor.save_model(made, tmp_path / "model", code_paths=helpers, pip_requirements=["mlflow"])
        return tmp_path / "model"

    yield saved
    sys.modules.pop(name, None)


async def answer(model: Path) -> object:
    return await mlflow_flavor.load_model(str(model)).run()


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("registry.register(Search())\nregistry.register(Sum())", [["search", "sum"], 0, []]),
        ("search = Search()\nregistry.register(search)", [["search"], 0, []]),
        ("for _cls in (Search, Sum):\n    registry.register(_cls())", [["search", "sum"], 0, []]),
        ("ALL = [Search, Sum]\nfor _cls in ALL: registry.register(_cls())", [["search", "sum"], 0, []]),
        ("if registry is not None:\n    registry.register(Search)", [["search"], 0, []]),
        ("registry.register(Search().run, name='bound')", [["bound"], 0, []]),
        ("registry.register(Search.run, 'a')\nregistry.register(functools.partial(made, 1), 'b')", [["a", "b"], 0, []]),
        ("_ = [hook(made(n)) for n in range(3)]\nregistry_.hook(lambda: 1)", [[], 4, []]),
        ("@tool\ndef save(): pass\nhook(save)", [[], 1, ["save"]]),
        ("@tool\ndef save(): pass\nOTHERS['again'] = save\nhook(save)", [[], 1, ["again", "save"]]),
        ("for _n in range(3): hook(made(_n))\nHOOKS.append(made(9))", [[], 4, []]),
        ("hook(print)\nregistry.register(len, name='length')", [["length"], 1, []]),  # nobody's own
        ("registry.register('of text', name='text')", [["text"], 0, []]),
        ("def setup(): registry.register(Search())\n\nsetup()", [["search"], 0, []]),
        ("def setup(): hook(made(1)), hook(made(2))\n\nsetup()\nHOOKS.append(made(3))", [[], 3, []]),
        ("def setup(tool): hook(tool)\n\n@tool\ndef save(): pass\nsetup(save)", [[], 1, ["save"]]),
        ("class Kit:\n    def __init__(self): registry.register(Sum())\nKit()", [["sum"], 0, []]),
        ("class Kit:\n    tools = [Search]\n    def install(self): hook(*self.tools)\nKit().install()", [[], 1, []]),
        ("class Kit:\n    registry.register(Search())\n    hook(made)", [["search"], 1, []]),
        ("OTHERS['a'] = OTHERS['b'] = made\ndel OTHERS['a']", [[], 0, ["b"]]),
        ("def install(where, tool): where.register(tool)\n\ninstall(registry, Search())", [["search"], 0, []]),
        ("def install(where): where.hook(made), where.tool(made)\n\ninstall(registry_)", [[], 1, ["made"]]),
        ("def install(where=registry_): where.hook(made)\n\ninstall()", [[], 1, []]),
        ("def install(where): where.register(Sum())\n\nmine = registry_.registry\ninstall(mine)", [["sum"], 0, []]),
        ("kit = registry_\nkit.registry.register(Sum())\nkit.hook(made)", [["sum"], 1, []]),
        ("hook(made)\nFIRST = HOOKS[0]\n@tool\ndef save(): return FIRST(1)", [[], 1, ["save"]]),
    ],
)
async def test_what_it_gives_is_in_the_model(save: Save, caplog: pytest.LogCaptureFixture, calls: str, said: object):
    assert await answer(save(calls)) == said
    assert "holds" not in caplog.text


@pytest.mark.parametrize(
    ("calls", "said", "told"),
    [
        ("def later(): registry.register(Search())", [[], 0, []], "holds what Search() made, and in the"),
        (
            "def setup(): hook(made(1)), hook(made(2))\n\nlater = setup\nHOOKS.append(made(3))",
            [[], 1, []],
            "what made() made",
        ),
        ("@tool\ndef save(): pass\ndef later(): hook(save)", [[], 0, ["save"]], "HOOKS holds save"),
        ("registry.register(Search(), __file__)", [[], 0, []], "Search() made, and in the model it will not"),
    ],
)
async def test_what_no_script_can_give_is_told_and_the_rest_is_in_the_model(
    save: Save, caplog: pytest.LogCaptureFixture, calls: str, said: object, told: str
):
    assert await answer(save(calls)) == said
    (record,) = (each for each in caplog.records if each.name == "workflows.mlflow")
    assert told in record.getMessage()


def test_why_no_script_can_make_the_call_is_told(save: Save, caplog: pytest.LogCaptureFixture):
    save("registry.register(Search(), __file__)")
    assert "the source of that cannot be written to a script (it reads `__file__`, which a script" in caplog.text


LIMITED = AGENT.replace("sorted(OTHERS)", "registry_.limited()")


@pytest.mark.parametrize(
    "calls",
    [
        "registry_.limit(9)",
        "def setup(): registry_.limit(9)\n\nsetup()",
        "class Kit:\n    registry_.limit(9)",
        "limit = registry_.limit\nlimit(9)",
        "kit = registry_\nkit.limit(9)",
        "def install(where): where.limit(9)\n\ninstall(where=registry_)",
    ],
)
async def test_plain_data_that_it_sets_are_in_the_model(save: Save, calls: str):
    assert await answer(save(calls, LIMITED)) == [[], 0, 9]


async def test_what_a_run_has_changed_since_is_as_before(save: Save, caplog: pytest.LogCaptureFixture):
    model = save("registry_.limit(9)\ndef later(): registry_.LIMIT += 1", LIMITED)
    assert "limit(9)" not in (model / "workflow.py").read_text()
    assert not caplog.records


def test_a_call_that_no_script_can_make_for_plain_data_is_told(save: Save, caplog: pytest.LogCaptureFixture):
    save("registry_.limit(len(__file__))", LIMITED)
    (record,) = (each for each in caplog.records if each.name == "workflows.mlflow")
    assert "sets something by `line" in record.getMessage()
    assert "it reads `__file__`" in record.getMessage()


@pytest.mark.parametrize(
    "call",
    [
        "registry.register(lambda: Agent, 'agent')",
        "registry.register(Agent(), 'agent')",
        "if __name__ == '__main__':\n    hook(print)",
        "registry.tools.get('of nobody')",
        "print(hook(print))",
    ],
)
async def test_calls_that_give_nothing_of_the_file_but_the_agent_are_not_made(save: Save, call: str):
    script = (save("", f"{AGENT}\n{call}\n") / "workflow.py").read_text()
    assert [word for word in ("register(", "hook(", "of nobody") if word in script] == []


async def test_a_call_is_not_made_for_what_the_agent_does_not_see(save: Save, caplog: pytest.LogCaptureFixture):
    agent = AGENT.replace("len(HOOKS)", "0")
    script = (save("hook(made(1))\n", agent) / "workflow.py").read_text()
    assert "hook(" not in script
    assert "holds" not in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "elsewhere_.check([save], registry)",
        "elsewhere_.every(60, save)",
        "DONE = elsewhere_.every(60, lambda: 1)",
    ],
)
async def test_a_line_that_hands_the_same_to_somebody_else_is_not_in_the_script(save: Save, tmp_path: Path, line: str):
    other = f"elsewhere_{tmp_path.name}"
    (tmp_path / f"{other}.py").write_text(
        "def check(tools, registry): tools[0]()\ndef every(seconds, function): function()\n"
    )
    text = f"import elsewhere_\ndef save(): pass\nhook(save)\nregistry_.hook(lambda: 1)\n{line}"
    model = save(text.replace("elsewhere_", other), more=[tmp_path / f"{other}.py"])
    assert "elsewhere_" not in (model / "workflow.py").read_text()
    assert await answer(model) == [[], 2, []]


OF_ANOTHER = """
class Search:
    name = "search"

def add(): pass

def made(number):
    def inner(): return number
    return inner

def install(kit):
    kit.registry.register(Search())
    kit.hook(add), kit.hook(lambda: 1)
"""


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("from tools_ import Search\nregistry.register(Search())", [["search"], 0, []]),
        ("import tools_\nregistry.register(tools_.Search())\nhook(tools_.add)", [["search"], 1, []]),
        ("from tools_ import add, made\nfor n in (1, 2): hook(made(n))\ntool(add)", [[], 2, ["add"]]),
        ("from tools_ import add\ntool(add)\nUSED = add()", [[], 0, ["add"]]),
        ("import tools_\ntools_.install(registry_)", [["search"], 2, []]),
    ],
)
async def test_what_it_gives_of_a_third_module_is_in_the_model(
    save: Save, tmp_path: Path, caplog: pytest.LogCaptureFixture, calls: str, said: object
):
    (tmp_path / f"tools_{tmp_path.name}.py").write_text(OF_ANOTHER)
    text = calls.replace("tools_", f"tools_{tmp_path.name}")
    assert await answer(save(text, more=[tmp_path / f"tools_{tmp_path.name}.py"])) == said
    assert "holds" not in caplog.text


LAZY = """
def __getattr__(name):
    if name in ("tool", "tools", "names"):
        from . import registered
        return getattr(registered, name)
    raise AttributeError(name)
"""
REGISTERED = """
tools = {}

def tool(function):
    tools[function.__name__] = function
    return function

def names(): return sorted(tools)
"""


@pytest.mark.parametrize(
    ("imports", "calls"),
    [
        ("from lazy_ import names, tool", "@tool\ndef save(): pass\ntool(made)"),
        ("import lazy_\nfrom lazy_ import tools", "lazy_.tool(made)\ndef names(): return sorted(tools)"),
        ("import lazy_", "lazy_.tool(made)\ndef names(): return lazy_.names()"),
        ("from lazy_ import tool\nfrom lazy_.registered import names", "tool(made)"),
    ],
)
async def test_a_package_may_import_its_modules_when_it_is_asked(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str, calls: str
):
    package = tmp_path / f"lazy_{tmp_path.name}"
    package.mkdir()
    (package / "__init__.py").write_text(LAZY)
    (package / "registered.py").write_text(REGISTERED)
    agent = AGENT.replace("[sorted(registry.tools), len(HOOKS), sorted(OTHERS)]", "names()")
    model = save(f"{imports}\n{calls}".replace("lazy_", package.name), agent, more=[package])
    assert await answer(model) == sorted(["made", *(["save"] if "save" in calls else [])])
    for name in (package.name, f"{package.name}.registered"):
        monkeypatch.delitem(sys.modules, name)


KIT = """
class Kit:
    def __init__(self):
        self.tools, self.before = {}, []

    def tool(self, function, name=None):
        self.tools[name or function.__name__] = function
        return function

kit = Kit()
"""
TWICE = AGENT.replace("[sorted(registry.tools), len(HOOKS), sorted(OTHERS)]", "[sorted(kit.tools), len(kit.before)]")


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("@kit.tool\ndef audit(): pass\nkit.before.append(audit)", [["audit"], 1]),
        ("@kit.tool\ndef audit(): pass\nkit.tool(audit, 'check')", [["audit", "check"], 0]),
        ("def audit(): pass\nkit.tools['a'] = audit\nkit.tool(audit, 'b')", [["a", "b"], 0]),
    ],
)
async def test_one_object_may_hold_the_same_in_two_places(
    save: Save, tmp_path: Path, caplog: pytest.LogCaptureFixture, calls: str, said: object
):
    name = f"kit_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(KIT)
    text = f"from {name} import kit\n{calls}"
    assert await answer(save(text, TWICE, more=[tmp_path / f"{name}.py"])) == said
    assert "holds" not in caplog.text


EARLY = """
class Agent(Workflow):
    tools = [registry.tools["search"]]

    def __init__(self):
        super().__init__()
        self.first = OTHERS["save"]

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[self.tools[0].run(), self.first()])
"""


async def test_an_agent_that_takes_its_tools_when_it_is_made_has_them(save: Save):
    calls = "registry.register(Search())\nregistry.tools['search'].name = 'find'\n@tool\ndef save(): return 1\n"
    assert await answer(save(calls, EARLY)) == ["found ", 1]


async def test_a_tool_that_has_changed_is_told_and_the_others_are_in_the_model(
    save: Save, caplog: pytest.LogCaptureFixture
):
    changed = "counter = Search()\nregistry.register(counter)\nregistry.register(Sum())\ncounter.calls = [1]\n"
    assert await answer(save(f"{changed}vars(counter)['calls'].append(hook)\n")) == [["sum"], 0, []]
    (record,) = (each for each in caplog.records if each.name == "workflows.mlflow")
    assert "holds counter, and in the model it will not" in record.getMessage()


@pytest.mark.parametrize("line", ["", "for tool_ in registry.tools.values():\n    print('have', tool_.name)\n"])
async def test_a_variable_may_be_what_the_registry_gives(save: Save, line: str):
    calls = f"registry.register(Search())\n{line}DEFAULT = registry.tools['search']"
    agent = AGENT.replace("len(HOOKS)", "DEFAULT.run()")
    assert await answer(save(calls, agent)) == [["search"], "found ", []]


MEMO = """
import functools

LAST, CACHE = [], {}

class Client: pass

class Tool:
    def __init__(self, function): self.function = function

TOOLS = {}

def tool(function):
    TOOLS[function.__name__] = Tool(function)
    return function

def call(name):
    CACHE[name] = TOOLS[name]
    LAST.append(TOOLS[name])
    return TOOLS[name].function()

def client():
    return CACHE.setdefault("client", Client())

@functools.singledispatch
def show(value): return str(value)
"""
USES = """
import memo_
from memo_ import CACHE, client, show, tool

class Money:
    pass

@show.register
def _(value: Money): return "money"

@tool
def add(): return 3

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        CACHE["money"] = Money()
        return StopEvent(result=[memo_.call("add"), show(Money()), client() is not None])
"""


async def test_what_a_run_has_put_somewhere_is_not_told(
    module: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    name = f"memo_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MEMO)
    monkeypatch.syspath_prepend(tmp_path)
    agent = module(f"{HEAD}{USES}".replace("memo_", name)).Agent
    said = [3, "money", True]
    assert await agent().run() == said
    mlflow_flavor.save_model(agent, tmp_path / "model", code_paths=[tmp_path / f"{name}.py"], pip_requirements=[])
    sys.modules.pop(name, None)
    assert await answer(tmp_path / "model") == said
    assert "holds" not in caplog.text


async def test_a_call_that_nobody_needs_to_make_again_is_not_in_the_script(save: Save):
    calls = (
        "@tool\ndef save(): pass\n\ndef counted(function): pass\nregistry_.counted = counted\nregistry_.counted(save)"
    )
    script = (save(calls) / "workflow.py").read_text()
    assert "counted(save)" not in script


FACADE = """
from registry_ import HOOKS, SETTINGS, configure, hook
"""


@pytest.mark.parametrize("imports", ["from facade_ import HOOKS, SETTINGS, hook, configure", "from facade_ import *"])
async def test_what_has_several_names_is_one(save: Save, tmp_path: Path, imports: str):
    name, registry = f"facade_{tmp_path.name}", tmp_path / f"registry_{tmp_path.name}.py"
    more = 'SETTINGS = {"model": "small", "calls": 0}\ndef configure(model):\n    SETTINGS["model"] = model\n'
    registry.write_text(registry.read_text() + more)
    (tmp_path / f"{name}.py").write_text(FACADE.replace("registry_", registry.stem))
    calls = f"{imports}\nhook(made)\nconfigure('big')\ndef later(): SETTINGS['calls'] += 1\n".replace("facade_", name)
    agent = AGENT.replace("len(HOOKS)", "[len(HOOKS), SETTINGS['model']]")
    try:
        assert await answer(save(calls, agent, [tmp_path / f"{name}.py"])) == [[], [1, "big"], []]
    finally:
        sys.modules.pop(name, None)
