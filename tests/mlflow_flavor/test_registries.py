"""What a module of the author's own keeps of functions and classes that another one gives it is in the model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD
from workflows import Workflow

Import = Callable[[str], ModuleType]

TOOLBOX = """
import contextlib
import functools
import logging
from types import SimpleNamespace

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

NAMES, CALLS = {}, {}

def timed(function):
    CALLS[function] = 0
    @functools.wraps(function)
    def inner():
        CALLS[function] += 1
        NAMES.setdefault(function.__name__, []).append(0.1)
        return function()
    return inner

class Tracer:
    @contextlib.contextmanager
    def span(self, name):
        self.last = name
        yield

tracer = Tracer()

def traced(function):
    @functools.wraps(function)
    def inner():
        with tracer.span(function.__name__):
            return function()
    return inner

def lister():
    tools = {}
    def listed(function):
        tools[function.__name__] = function
        return function
    return listed, lambda: sorted(tools)

listed, names = lister()
INSTANCES, CARDS = [], []

def made(cls):
    INSTANCES.append(cls())
    return cls

def carded(function):
    CARDS.append(SimpleNamespace(run=function))
    return function

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

class Plugin:
    @classmethod
    def found(cls):
        return cls.__subclasses__()

class Other:
    pass

def others():
    return Other.__subclasses__()
"""
DESK = """
from toolbox_ import TOOLS, tool, Tool

def ask(name):
    return TOOLS[name]()

def ask_for(name):
    return ask(name)

import toolbox_ as box

def ask_the_module(name):
    return box.TOOLS[name]()

def ask_late(name):
    def asked():
        from toolbox_ import TOOLS
        return TOOLS[name]()
    return asked()
"""
MORE = """
from toolbox_ import tool

@tool
def add():
    return 3
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
    """What the names of modules beside the program end with: of a toolbox, and a desk that uses it."""
    (tmp_path / f"toolbox_{tmp_path.name}.py").write_text(TOOLBOX)
    for name, text in (("desk_", DESK), ("more_", MORE)):
        (tmp_path / f"{name}{tmp_path.name}.py").write_text(text.replace("toolbox_", f"toolbox_{tmp_path.name}"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path.name
    for name in ("toolbox_", "desk_", "more_"):
        sys.modules.pop(f"{name}{tmp_path.name}", None)


def saved(
    module: Import, toolbox: str, tmp_path: Path, source: str, files: tuple[str, ...] = ("toolbox_", "desk_")
) -> Path:
    """The model of an agent that uses these modules."""
    text = HEAD + source
    for name in ("toolbox_", "desk_", "more_"):
        text = text.replace(name, f"{name}{toolbox}")
    helpers = [tmp_path / f"{name}{toolbox}.py" for name in files]
    written = module(text)
    if hasattr(written, "later"):
        written.later()
    mlflow_flavor.save_model(written.agent, tmp_path / "model", code_paths=helpers, pip_requirements=[])
    return tmp_path / "model"


ADD = "def add(): return 3"


@pytest.mark.parametrize(
    ("imports", "given", "use"),
    [
        ("from toolbox_ import tool, TOOLS", f"@tool\n{ADD}", "TOOLS['add']()"),
        ("from toolbox_ import tool as a, call as e", f"@a\n{ADD}", "e('add')"),
        ("import toolbox_", f"@toolbox_.tool\n{ADD}", "toolbox_.call('add')"),
        ("from toolbox_ import *", f"@tool\n{ADD}", "call('add')"),
        ("from desk_ import tool, ask_for", f"@tool\n{ADD}", "ask_for('add')"),
        ("from toolbox_ import tool\nimport desk_", f"@tool\n{ADD}", "desk_.ask('add')"),
        ("from toolbox_ import toolbox", f"@toolbox.named('+')\n{ADD}", "toolbox.tools['+']()"),
        ("from toolbox_ import listed, names", f"@listed\n{ADD}", "3 * ('add' in names())"),
        ("from toolbox_ import *", f"@carded\n{ADD}", "CARDS[0].run()"),
        ("from toolbox_ import Tool", "class add(Tool): pass", "3 * len(Tool.ALL)"),
        ("from toolbox_ import *", "@made\nclass add: value = 3", "INSTANCES[0].value"),
        ("from toolbox_ import Plugin", "class add(Plugin): value = 3", "Plugin.found()[0].value"),
        ("from toolbox_ import Other, others", "class add(Other): value = 3", "others()[0].value"),
        ("from toolbox_ import tool, call", f"{ADD}\n\nadd = tool(add)", "call('add')"),
        ("from toolbox_ import TOOLS, call", f"{ADD}\n\nTOOLS['add'] = add", "call('add')"),
        ("from toolbox_ import TOOLS, call", f"{ADD}\n\nTOOLS |= {{'add': add}}", "call('add')"),
        ("from toolbox_ import TOOLS, call", "TOOLS['add'] = lambda: 3", "call('add')"),
    ],
)
async def test_what_it_keeps_is_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, imports: str, given: str, use: str
):
    model = saved(module, toolbox, tmp_path, f"{imports}\n\n{given}\n{AGENT.format(use=use)}")
    assert await mlflow_flavor.load_model(str(model)).run() == "3"


async def test_what_a_module_keeps_that_only_a_step_imports_is_in_the_model(
    module: Import, toolbox: str, tmp_path: Path
):
    agent = AGENT.format(use="call('add')").replace("return Stop", "from toolbox_ import call; return Stop")
    source = f"from toolbox_ import tool\n\n@tool\n{ADD}\n{agent}"
    assert await mlflow_flavor.load_model(str(saved(module, toolbox, tmp_path, source))).run() == "3"


@pytest.mark.parametrize("ask", ["ask", "ask_the_module", "ask_late"])
async def test_it_is_in_the_model_however_a_helper_comes_to_the_registry(
    module: Import, toolbox: str, tmp_path: Path, ask: str
):
    source = f"from desk_ import {ask}\nfrom toolbox_ import tool\n\n@tool\n{ADD}\n" + AGENT.format(use=f"{ask}('add')")
    assert await mlflow_flavor.load_model(str(saved(module, toolbox, tmp_path, source))).run() == "3"


OF_ANOTHER = "from more_ import add\nfrom toolbox_ import call\n" + AGENT.format(use="call('add')")
ALL = ("toolbox_", "desk_", "more_")


async def test_a_module_that_gives_it_is_imported_though_only_a_name_of_it_is(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    model = saved(module, toolbox, tmp_path, OF_ANOTHER, ALL)
    assert await mlflow_flavor.load_model(str(model)).run() == "3"
    assert "holds" not in caplog.text


def test_what_comes_from_a_module_that_the_model_does_not_have_is_told(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    saved(module, toolbox, tmp_path, OF_ANOTHER)
    assert f"TOOLS holds add of more_{toolbox}, and in the model it will not" in caplog.text


MANY = """
from types import SimpleNamespace
from toolbox_ import TOOLS

for _n in range(7):
    exec(f'def f{_n}(): pass')
    TOOLS[_n] = SimpleNamespace(run=eval(f'f{_n}'))
"""


def test_what_a_librarys_object_holds_of_a_module_that_only_the_program_imports_is_told_at_once(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / f"more_{toolbox}.py").write_text(MANY.replace("toolbox_", f"toolbox_{toolbox}"))
    importlib.import_module(f"more_{toolbox}")
    saved(module, toolbox, tmp_path, OF_ANOTHER.partition("\n")[2], ALL)
    assert caplog.text.count("and in the model it will not") == 1
    assert "and 2 more of more_" in caplog.text


def test_what_comes_from_a_module_that_only_the_program_imports_is_told(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    importlib.import_module(f"more_{toolbox}")
    saved(module, toolbox, tmp_path, OF_ANOTHER.partition("\n")[2], ALL)
    assert f"TOOLS holds add of more_{toolbox}, and in the model it will not" in caplog.text


@pytest.mark.parametrize("by", ["told", "timed", "traced"])
@pytest.mark.parametrize("imports", ["from toolbox_ import *", "import toolbox_"])
def test_what_it_only_wraps_is_not(module: Import, toolbox: str, tmp_path: Path, imports: str, by: str):
    by = f"toolbox_.{by}" if imports.startswith("import") else by
    given = f"@{by}\ndef used(): return 1\n\n@{by}\ndef evaluate(): return open('eval.csv')\n"
    calls = "\ntry:\n    used(), evaluate()\nexcept OSError:\n    pass\n"
    source = f"{imports}\n\n{given}\n{AGENT.format(use='used()')}{calls}"
    assert "evaluate" not in (saved(module, toolbox, tmp_path, source) / "workflow.py").read_text()


@pytest.mark.parametrize("use", ["call(chr(97) + chr(100) * 2)", "(add(), call)[0]"])
async def test_what_only_a_call_gives_it_is_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, use: str
):
    source = f"from toolbox_ import call, tool\n\n{ADD}\n\ntool(add)\n{AGENT.format(use=use)}"
    model = saved(module, toolbox, tmp_path, source)
    assert "tool(add)" in (model / "workflow.py").read_text()
    assert await mlflow_flavor.load_model(str(model)).run() == "3"
    assert "holds" not in caplog.text


COMMAND_LINE = "import sys\nfrom toolbox_ import call, tool\n\n@tool\ndef show(): return sys.argv"


async def test_what_it_keeps_and_no_script_can_have_is_told_and_the_rest_is_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    source = f"{COMMAND_LINE}\n\n@tool\n{ADD}\n{AGENT.format(use=chr(99) + 'all(chr(97) + chr(100) * 2)')}"
    model = saved(module, toolbox, tmp_path, source)
    assert "TOOLS holds show, and in the model it will not" in caplog.text
    assert await mlflow_flavor.load_model(str(model)).run() == "3"


@pytest.mark.parametrize("keeps", ["tool", "timed"])
def test_what_it_keeps_and_the_agent_does_not_see_is_not_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, keeps: str
):
    given = f"from toolbox_ import told, {keeps}\n\n@{keeps}\ndef evaluate(): return open('eval.csv')\n"
    source = f"{given}\n@{keeps}\ndef used(): return 1\n{AGENT.format(use='used()')}"
    assert "evaluate" not in (saved(module, toolbox, tmp_path, source) / "workflow.py").read_text()
    assert "holds" not in caplog.text


async def test_what_a_run_has_given_to_what_the_agent_sees_refuses_nothing(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    given = "from toolbox_ import tool, TOOLS\n\ndef show(): pass\n\ndef later(): tool(show)\n"
    model = saved(module, toolbox, tmp_path, f"{given}\n{AGENT.format(use='len(TOOLS)')}")
    assert "TOOLS holds show, and in the model it will not, unless a run puts it there" in caplog.text
    assert "show" not in (model / "workflow.py").read_text()
    assert await mlflow_flavor.load_model(str(model)).run() == "0"


def test_what_it_keeps_and_a_run_has_changed_is_refused_as_any_other(module: Import, toolbox: str, tmp_path: Path):
    given = "from toolbox_ import call, tool\n\nNOTES = []\n\n@tool\ndef note():\n    NOTES.append(1)\n    return NOTES"
    source = f"{given}\n{AGENT.format(use='call(chr(110))')}\n\nnote()\n"
    with pytest.raises(MlflowException, match=r"NOTES is not what its source makes.* Or log it before it is run"):
        saved(module, toolbox, tmp_path, source)


async def test_what_the_program_that_logs_an_imported_agent_gives_elsewhere_is_not_in_the_model(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    own = tmp_path / f"shop_{toolbox}.py"
    agent = AGENT.format(use="len(TOOLS)")
    own.write_text(f"{HEAD}from toolbox_{toolbox} import TOOLS\n{agent}")
    files = [str(tmp_path / f"toolbox_{toolbox}.py"), str(own)]
    program = f"""
import mlflow_flavor
from shop_{toolbox} import agent
from toolbox_{toolbox} import tool

log = open({str(tmp_path / "log.txt")!r}, "a")

@tool
def show():
    log.write("shown")

mlflow_flavor.save_model(agent, {str(tmp_path / "model")!r}, code_paths={files}, pip_requirements=[])
log.close()
"""
    module(program)
    sys.modules.pop(f"shop_{toolbox}")
    assert f"TOOLS holds show of written_{tmp_path.name}, and in the model it will not, unless a run" in caplog.text
    assert await mlflow_flavor.load_model(str(tmp_path / "model")).run() == "0"


def test_what_a_run_puts_into_another_module_is_no_part_of_the_source(
    module: Import, toolbox: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    given = "from toolbox_ import CARDS, call\n\nclass Seen:\n    pass\n"
    source = f"{given}\n{AGENT.format(use='Seen()')}\nCARDS.append([Seen(), agent, agent.answer])\n"
    saved(module, toolbox, tmp_path, source)
    assert "holds" not in caplog.text


def test_a_class_of_which_a_run_puts_something_into_another_module_is_not_in_the_model(
    module: Import, toolbox: str, tmp_path: Path
):
    source = f"from toolbox_ import CARDS, call\n\nclass Judged:\n    pass\n{AGENT.format(use='call')}"
    model = saved(module, toolbox, tmp_path, f"{source}\ndef run():\n    CARDS.append(Judged())\n\nrun()\n")
    assert "Judged" not in (model / "workflow.py").read_text()


USE = "TOOLS['add']()"
TOOLS = {
    "__init__.py": "",
    "registry.py": "TOOLS = {}\n",
    "add.py": "from .registry import TOOLS\n\nTOOLS['add'] = lambda: 3\n\ndef unused(): pass\n",
    "agent.py": "from . import add\nfrom .registry import TOOLS\n" + HEAD + AGENT.format(use=USE),
}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package in the working directory, one of whose modules fills the registry of another."""
    name = f"tools_{tmp_path.name}"
    (tmp_path / name).mkdir()
    for file, text in TOOLS.items():
        (tmp_path / name / file).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize(
    "imports",
    ["import tools_.add", "import tools_.add as registers", "from tools_ import add  # registers it"],
)
def test_a_module_that_is_imported_for_what_it_does_is_in_the_model(
    module: Import, tools: str, interpreter: Interpreter, tmp_path: Path, imports: str
):
    source = f"{imports}\nfrom tools_.registry import TOOLS\n{HEAD}{AGENT.format(use=USE)}"
    agent = module(source.replace("tools_", tools)).agent
    mlflow_flavor.save_model(agent, "model", code_paths=[tools], pip_requirements=[])
    (tmp_path / "elsewhere").mkdir()
    program = f"import mlflow; print(mlflow.pyfunc.load_model({str(tmp_path / 'model')!r}).predict({{}}))"
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = interpreter.run(program, tmp_path / "elsewhere", environment=environment)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "import tools_.add as judge\n{agent}\ndef evaluate(): return judge.unused()\n",
        "from tools_.add import unused\n{agent}",
        "import colorsys\nimport pydantic\n{agent}",
    ],
    ids=["used by others", "a name", "libraries"],
)
def test_an_import_that_only_others_need_is_not(module: Import, tools: str, tmp_path: Path, source: str):
    text = source.replace("tools_", tools).format(agent=HEAD + AGENT.format(use="3"))
    mlflow_flavor.save_model(module(text).agent, "model", pip_requirements=[])
    script = (tmp_path / "model" / "workflow.py").read_text()
    assert [word for word in (tools, "colorsys", "pydantic") if word in script] == []


async def test_a_relative_import_for_its_effect_is_in_the_model_that_has_the_package(tools: str):
    agent = importlib.import_module(f"{tools}.agent").agent
    mlflow_flavor.save_model(agent, "model", code_paths=[tools], pip_requirements=[])
    assert await mlflow_flavor.load_model("model").run() == "3"


LEFTOVER = [("import tools_.add", "agent"), ("import logs_", "agent"), ("from . import add", "tools_.agent")]


def agent_with(statement: str, place: str, tools: str, module: Import, tmp_path: Path, use: str = "3") -> Workflow:
    """An agent whose module makes this import, and no use of it."""
    (tmp_path / f"logs_{tmp_path.name}.py").write_text("import logging\n\nlogging.captureWarnings(False)\n")
    text = f"{statement}\n{HEAD}{AGENT.format(use=use)}".replace("tools_", tools).replace("logs_", f"logs_{tools[6:]}")
    if place == "agent":
        return module(text).agent
    (tmp_path / tools / "agent.py").write_text(text)
    return importlib.import_module(f"{tools}.agent").agent


@pytest.mark.parametrize(("statement", "place"), LEFTOVER)
def test_an_import_for_its_effect_of_what_the_model_lacks_fails_no_load(
    module: Import, tools: str, tmp_path: Path, interpreter: Interpreter, statement: str, place: str
):
    mlflow_flavor.save_model(agent_with(statement, place, tools, module, tmp_path), "model", pip_requirements=[])
    (tmp_path / "elsewhere").mkdir()
    program = f"import mlflow; print(mlflow.pyfunc.load_model({str(tmp_path / 'model')!r}).predict({{}}))"
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = interpreter.run(program, tmp_path / "elsewhere", environment=environment)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.parametrize(("statement", "place"), LEFTOVER)
def test_an_import_for_its_effect_of_what_the_model_lacks_is_told_once(
    module: Import, tools: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, statement: str, place: str
):
    mlflow_flavor.save_model(agent_with(statement, place, tools, module, tmp_path), "model", pip_requirements=[])
    path = f"logs_{tools[6:]}.py" if "logs_" in statement else tools
    assert [f"Pass code_paths=['{path}'] if" in record.getMessage() for record in caplog.records] == [True]


def test_an_import_for_its_effect_beside_one_that_is_needed_is_not_said_to_be_left_out(
    module: Import, tools: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    agent = agent_with("import math, logs_", "agent", tools, module, tmp_path, use="math.pi")
    mlflow_flavor.save_model(agent, "model", pip_requirements=[])
    assert "left out" not in caplog.text
