"""Plain data in a registry do not say who put them there: modules that do so are found by what their lines call."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mlflow
import pytest

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD

FILES = {
    "__init__": "",
    "prompts": """
PROMPTS, SEEN = {}, []
OTHERWISE = "no such prompt"

def prompt(name, text):
    PROMPTS[name] = text

def says(name):
    def keep(function):
        PROMPTS[name] = function()
        return function
    return keep

class Prompt:
    def __init_subclass__(cls):
        PROMPTS[cls.__name__.lower()] = cls.text

class Named(type):
    def __init__(cls, name, bases, space):
        super().__init__(name, bases, space)
        PROMPTS[name.lower()] = cls.text

def otherwise(text):
    global OTHERWISE
    OTHERWISE = text

def text_of(name):
    SEEN.append(name)
    return PROMPTS.get(name, OTHERWISE)
""",
    "more": """
from .prompts import prompt

prompt("hello", "Good day")
LANGUAGE = "en"
""",
}
AGENT = """
from tools_.prompts import text_of
{imports}

class Agent(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=text_of("hello"))
"""

Agent = Callable[..., ModuleType]


@pytest.fixture
def agent(module: Callable[[str], ModuleType], package: Path) -> Agent:
    for file, text in FILES.items():
        (package / f"{file}.py").write_text(text)

    def made(imports: str = "") -> ModuleType:
        return module((HEAD + AGENT.format(imports=imports)).replace("tools_", package.name))

    return made


def logged(agent: ModuleType, package: Path, tmp_path: Path) -> object:
    """What the model of an agent answers."""
    mlflow_flavor.save_model(agent.Agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
    return mlflow.pyfunc.load_model(str(tmp_path / "model")).predict({})


@pytest.mark.parametrize("imports", ["import tools_.more", "from tools_.more import LANGUAGE"])
def test_a_module_that_sets_what_the_agent_reads_is_imported(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, imports: str
):
    assert logged(agent(imports), package, tmp_path) == "Good day"
    assert caplog.text == ""


SETTERS = {
    "item": "from .prompts import PROMPTS\nPROMPTS['hello'] = 'Hi'",
    "method": "from .prompts import PROMPTS\nPROMPTS.update(hello='Hi')",
    "module": "from . import prompts\nprompts.PROMPTS['hello'] = 'Hi'",
    "class": "from .prompts import PROMPTS\nclass Setup:\n    PROMPTS.update(hello='Hi')",
    "instance": "from .prompts import prompt\nclass Setup:\n    def __init__(self): prompt('hello', 'Hi')\nSetup()",
    "decorator": "from .prompts import says\n@says('hello')\ndef hello(): return 'Hi'",
    "subclass": "from .prompts import Prompt\nclass Hello(Prompt):\n    text = 'Hi'",
    "metaclass": "from .prompts import Named\nclass Hello(metaclass=Named):\n    text = 'Hi'",
    "partial": "from functools import partial\nfrom .prompts import prompt\npartial(prompt, 'hello')('Hi')",
    "alias": "from . import prompts\nmine = prompts.PROMPTS\nmine['hello'] = 'Hi'",
    "tried": "try:\n    from .prompts import prompt\nexcept ImportError:\n    pass\nelse:\n    prompt('hello', 'Hi')",
    "nested": "from .prompts import prompt\ndef b(): prompt('hello', 'Hi')\ndef a(): b()\na()",
    "function": "def boot():\n    from .prompts import PROMPTS\n    PROMPTS['hello'] = 'Hi'\nboot()",
}


@pytest.mark.parametrize("setter", SETTERS.values(), ids=SETTERS)
def test_a_module_of_which_nothing_is_used_sets_it_in_any_way(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, setter: str
):
    (package / "setter.py").write_text(f"{setter}\nTHERE = True\n")
    assert logged(agent("from tools_.setter import THERE"), package, tmp_path) == "Hi"
    assert caplog.text == ""


def test_several_modules_set_parts_of_one_registry(agent: Agent, package: Path, tmp_path: Path):
    for name in ("one", "two", "three"):
        (package / f"{name}.py").write_text(f"from .prompts import prompt\nprompt({name!r}, {name!r})\nTHERE = True\n")
    imports = "\n".join(f"from tools_.{name} import THERE as {name}" for name in ("one", "two", "three"))
    made = agent(imports)
    mlflow_flavor.save_model(made.Agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
    script = (tmp_path / "model" / "workflow.py").read_text()
    assert all(f"from {package.name}.{name} import THERE as {name}" in script for name in ("one", "two", "three"))


@pytest.mark.parametrize("setter", ["more", *SETTERS])
def test_one_that_only_the_program_imports_is_told(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, setter: str
):
    if setter in SETTERS:
        (package / f"{setter}.py").write_text(SETTERS[setter])
    made = agent()
    import_module(f"{package.name}.{setter}")
    assert logged(made, package, tmp_path) == "no such prompt"
    name = package.name
    assert f"{name}.prompts.PROMPTS is not in the model what it is here: {name}.{setter} sets it when" in caplog.text
    assert "SEEN" not in caplog.text


async def test_what_a_run_has_set_is_not_told(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    made = agent("import tools_.more")
    assert await made.Agent().run() == "Good day"
    caplog.clear()
    assert logged(made, package, tmp_path) == "Good day"
    assert caplog.text == ""


READS = """
import json, logging
from .prompts import SEEN
NUMBER = len(SEEN)
BY_NAME = {name: SEEN.count(name) for name in SEEN}
print(sum(BY_NAME.values()))
TEXT = json.dumps(SEEN)
logging.getLogger("seen").info("%s", SEEN)
"""


async def test_one_that_only_reads_what_a_run_has_set_is_not_told(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    made = agent("import tools_.more\nfrom tools_.prompts import SEEN")
    assert await made.Agent().run() == "Good day"
    (package / "reads.py").write_text(READS)
    import_module(f"{package.name}.reads")
    caplog.clear()
    assert logged(made, package, tmp_path) == "Good day"
    assert caplog.text == ""


async def test_one_that_brings_nothing_is_not_imported(agent: Agent, package: Path, tmp_path: Path):
    (package / "notes.py").write_text("from .prompts import SEEN, text_of\nFIRST = text_of('hello')\nSEEN.clear()\n")
    made = agent("import tools_.more\nfrom tools_.notes import FIRST\nfrom tools_.prompts import SEEN")
    assert await made.Agent().run() == "Good day"
    assert logged(made, package, tmp_path) == "Good day"
    assert "notes" not in (tmp_path / "model" / "workflow.py").read_text()


def test_nothing_of_a_module_itself_is_told(
    agent: Agent, package: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    made = agent("import tools_.more\nimport tools_.prompts\nsetattr(tools_.prompts, 'OTHERWISE', 'Hm')")
    for _ in range(2):  # the second time there is a model's copy as well
        caplog.clear()
        mlflow_flavor.save_model(made.Agent, tmp_path / str(_), code_paths=[package], pip_requirements=["mlflow"])
        assert caplog.text == ""


SETTINGS = """
from dataclasses import dataclass
from mlflow_flavor import config as settings_of_model

@dataclass
class Settings:
    text: str

def settings():
    return Settings(**settings_of_model({"text": "no such prompt"}))

TEXT = settings().text

def sets(function):
    from .prompts import otherwise
    otherwise(TEXT)
    return function
"""
SETS = """
from .prompts import otherwise
from .settings import TEXT
if TEXT != "no such prompt":
    otherwise(TEXT)
IS_SET = True
"""
OWN = """
import mlflow_flavor
from tools_.prompts import otherwise
CONFIG = mlflow_flavor.config({"text": "no such prompt"})
TEXT = CONFIG["text"]
"""
READ = "from tools_.prompts import otherwise\n"


@pytest.mark.parametrize(
    "lines",
    [
        f"{OWN}otherwise(TEXT)",
        f"{OWN}if TEXT != 'no such prompt':\n    otherwise(TEXT)",
        f"{OWN.replace('import mlflow_flavor', 'from mlflow_flavor import config as c')}otherwise(TEXT)".replace(
            "mlflow_flavor.config(", "c("
        ),
        f"{READ}from tools_.settings import TEXT\notherwise(TEXT)",
        f"{READ}from tools_ import settings\nif settings.TEXT != 'no such prompt':\n    otherwise(settings.TEXT)",
        f"{READ}from tools_.settings import settings as read\nfound = read()\notherwise(found.text)",
        f"{READ}from tools_.settings import *\notherwise(TEXT)",
        f"{READ}def text():\n    from tools_.settings import TEXT\n    return TEXT\notherwise(text())",
        f"{OWN}def sets(function):\n    otherwise(TEXT)\n    return function\n@sets\ndef nothing(): pass",
        "from tools_.settings import sets\n@sets\ndef nothing(): pass",
        "from tools_.settings import sets\n@sets\nclass Nothing: pass",
        "from tools_.settings import sets\nif True:\n    @sets\n    def nothing(): pass",
        "from tools_.sets import IS_SET",
        "import tools_.sets",
    ],
    ids=[
        "a call",
        "an if",
        "an alias",
        "of a helper",
        "a helper's module",
        "a helper's function",
        "star",
        "in a function",
        "decorator",
        "a helper's decorator",
        "of a class",
        "in a block",
        "set",
        "import",
    ],
)
def test_a_line_that_does_nothing_without_other_settings_is_in_the_model(
    agent: Agent, package: Path, tmp_path: Path, lines: str
):
    (package / "settings.py").write_text(SETTINGS)
    (package / "sets.py").write_text(SETS)
    made = agent(lines)
    mlflow_flavor.save_model(made.Agent, tmp_path / "model", code_paths=[package], pip_requirements=["mlflow"])
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config={"text": "Hm"})
    assert loaded.predict({}) == "no such prompt"  # it was logged without that setting, which is told and ignored
    settings = {"text": "Hi"}
    mlflow_flavor.save_model(
        made.Agent, tmp_path / "with", code_paths=[package], model_config=settings, pip_requirements=["mlflow"]
    )
    models = [mlflow.pyfunc.load_model(str(tmp_path / "with"), model_config=each) for each in (None, {"text": "Hm"})]
    assert [each.predict({}) for each in models] == ["Hi", "Hm"]
