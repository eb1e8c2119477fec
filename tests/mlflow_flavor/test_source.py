"""Logging a class or an instance: its source becomes a script, or a refusal says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.agents import Answer
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

MODULE = '''
from __future__ import annotations

import os  # needed by nobody
from json import dumps
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

# What is said
WORDS = ["hello"]
UNUSED = open("/nowhere/at/all") if False else None


class Options:
    loud = False


Options.loud = True


def shout(text: "str") -> str:
    return dumps(text.upper() if Options.loud else text)


class Speaker(Workflow):
    """Says a word, so many times."""

    def __init__(self, times: int = 1, **options) -> None:
        super().__init__(**options)
        self.times = times

    @step
    async def say(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=shout(" ".join(WORDS * self.times)))


class Needy(Speaker):
    def __init__(self, llm) -> None:
        super().__init__()


def made(word: str) -> type[Workflow]:
    class Inner(Workflow):
        @step
        async def say(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=word)

    return Inner


twice = Speaker(times=2, timeout=7)
print("a side effect")
'''

Import = Callable[[str], ModuleType]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(workflow: Any) -> Path:
        mlflow_flavor.save_model(workflow, tmp_path / "model", pip_requirements=["mlflow"])
        return tmp_path / "model"

    return save


Saved = Callable[[Any], Path]


async def test_a_class_is_logged_by_its_source(module: Import, saved: Saved):
    model = saved(module(MODULE).Speaker)
    assert await mlflow_flavor.load_model(str(model)).run() == '"HELLO"'


async def test_an_instance_is_logged_with_the_statement_that_makes_it(module: Import, saved: Saved):
    loaded: Any = mlflow_flavor.load_model(str(saved(module(MODULE).twice)))
    assert await loaded.run() == '"HELLO HELLO"'
    assert (loaded.times, loaded._timeout) == (2, 7)


def test_a_written_script_holds_what_the_class_uses_and_nothing_else(module: Import, saved: Saved):
    script = (saved(module(MODULE).Speaker) / "workflow.py").read_text()
    assert script.startswith("from __future__ import annotations\n")
    assert "# What is said\nWORDS" in script
    assert "Options.loud = True" in script
    assert [word for word in ("UNUSED", "needed by nobody", "side effect", "Needy", "twice") if word in script] == []
    assert script.endswith("mlflow_flavor.set_model(Speaker())\n")


PROMPT = """
{top}
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result={use})
"""
READ = "with open({path!r}) as file:\n    TEXT = file.read()"


@pytest.mark.parametrize(
    "top", [READ, "try:\n    with open({path!r}) as file:\n        TEXT = file.read()\nexcept OSError:\n    TEXT = ''"]
)
async def test_a_file_that_is_read_at_the_top_and_closed_is_not_asked_what_it_is(
    module: Import, saved: Saved, tmp_path: Path, top: str
):
    (tmp_path / "prompt.txt").write_text("Be brief.")
    source = PROMPT.format(top=top.format(path=str(tmp_path / "prompt.txt")), use="TEXT")
    assert await mlflow_flavor.load_model(str(saved(module(HEAD + source).Agent))).run() == "Be brief."


def test_a_file_that_is_still_used_is_refused(module: Import, saved: Saved, tmp_path: Path):
    (tmp_path / "prompt.txt").write_text("Be brief.")
    source = PROMPT.format(top=READ.format(path=str(tmp_path / "prompt.txt")), use="file.name")
    with pytest.raises(MlflowException, match="file, a _io"):
        saved(module(HEAD + source).Agent)


async def test_an_instance_that_is_no_variable_is_what_its_class_makes(saved: Saved):
    assert await mlflow_flavor.load_model(str(saved(Answer()))).run(question="why") == "WHY!"


def _mutated(module: ModuleType) -> Workflow:
    module.twice.times = 3
    return module.twice


def _with_other_words(module: ModuleType) -> Workflow:
    module.WORDS.append("again")
    return module.twice


def _with_other_setting(module: ModuleType) -> Workflow:
    module.twice._timeout = 8
    return module.twice


def _with_other_method(module: ModuleType) -> type[Workflow]:
    module.Speaker.__init__ = lambda self: None
    return module.Speaker


@pytest.mark.parametrize(
    ("take", "reason"),
    [
        (_mutated, "its times is not what its source makes"),
        (_with_other_setting, "its timeout is not what its source makes"),
        (_with_other_words, "WORDS is not what its source makes"),
        (_with_other_method, "Speaker.__init__ is not what its source makes"),
        (lambda m: m.Speaker(times=5), "its times is not what its source makes"),
        (lambda m: m.Needy, "it needs the arguments llm; log an instance"),
        (lambda m: m.Needy(object()), "it needs the arguments llm; make it a variable of its module"),
        (lambda m: m.made("x"), "its class is defined inside the function made, whose variables a script lacks"),
    ],
)
def test_what_no_script_can_be_true_to_is_refused(module: Import, saved: Saved, take: Any, reason: str):
    with pytest.raises(MlflowException) as caught:
        saved(take(module(MODULE)))
    assert f"cannot be written to a script ({reason}): pass the path of a .py file" in str(caught.value)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("from .words import WORDS", "it needs `from .words import WORDS` of its own package"),
        ("WORDS = ['sk-abcdefghijklmnop123456']", "it holds what looks like a secret; read that from the environment"),
    ],
)
def test_source_that_must_not_or_cannot_be_copied_is_refused(module: Import, saved: Saved, line: str, reason: str):
    found = module(MODULE)
    path = Path(str(found.__file__))
    path.write_text(path.read_text().replace('WORDS = ["hello"]', line))
    with pytest.raises(MlflowException) as caught:
        saved(found.Speaker)
    assert reason in str(caught.value)


COUNTER = """
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

CALLS = 0
OLD = "old"

def tool(text):
    global CALLS
    CALLS += 1
    return text

class Counting(Workflow):
    @step
    async def count(self, ev: StartEvent) -> StopEvent:
        global OLD
        del OLD
        return StopEvent(result=tool("hi"))
"""


async def test_variables_that_functions_only_write_belong_to_the_source(module: Import, saved: Saved):
    assert await mlflow_flavor.load_model(str(saved(module(COUNTER).Counting))).run() == "hi"


SET_BY_FUNCTION = """
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Counting(Workflow):
    @step
    async def count(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=COUNT)

def setup():
    global COUNT
    COUNT = 1

setup()
"""


def test_a_variable_that_only_a_call_at_the_top_sets_is_refused(module: Import, saved: Saved):
    with pytest.raises(MlflowException, match=r"it uses COUNT, which no top-level statement of .*\.py sets; set it"):
        saved(module(SET_BY_FUNCTION).Counting)


def test_something_else_than_a_workflow_is_refused(saved: Saved):
    with pytest.raises(MlflowException, match="needs a path, a Workflow class or a Workflow instance, got dict"):
        saved({})


class Attached(Workflow):
    """Gets its only step from a function below."""


@step(workflow=Attached)
async def attached(ev: StartEvent) -> StopEvent:
    return StopEvent(result="attached")


async def test_steps_attached_by_a_decorator_belong_to_the_source(saved: Saved):
    assert await mlflow_flavor.load_model(str(saved(Attached))).run() == "attached"


PROGRAM = """
import mlflow
import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=f"{GREETING} {ev.name}")

GREETING = "Hello"

if __name__ == "__main__":
    agent = Echo(timeout=9)
    mlflow_flavor.save_model(agent, "model", pip_requirements=["mlflow"])
    GREETING = "changed later"
    print(mlflow.pyfunc.load_model("model").predict({"name": "Ann"}))
"""

NOTEBOOK = """
class Shell:
    class history_manager:
        input_hist_raw = ["", *{cells!r}]
        exceptions = {failed!r}

class IPython:
    get_ipython = staticmethod(lambda: Shell)

import sys
sys.modules["IPython"] = IPython
for number, cell in enumerate({cells!r}, 1):
    if number not in {failed!r}:
        exec(cell)
import mlflow, mlflow_flavor
mlflow_flavor.save_model(agent, "model", pip_requirements=["mlflow"])
print(mlflow.pyfunc.load_model("model").predict({{"name": "Ann"}}))
"""


Ran = Callable[[str], CompletedProcess[str]]


@pytest.fixture
def ran(interpreter: Interpreter, tmp_path: Path) -> Ran:
    """Runs a program in a process of its own."""
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    return lambda program: interpreter.run(program, tmp_path, environment=environment)


def test_a_program_can_log_what_it_defines(ran: Ran):
    done = ran(PROGRAM)
    assert done.stdout.strip() == "Hello Ann", done.stderr


CELL = (
    "{marker}\nfrom workflows import Workflow, step\nfrom workflows.events import StartEvent, StopEvent\n"
    "class Echo(Workflow):\n    @step\n    async def echo(self, ev: StartEvent) -> StopEvent:\n"
    "        return StopEvent(result=ev.name)\n"
)


MARKER = "# [USE IN MODEL]"


@pytest.fixture
def logged(ran: Ran) -> Callable[..., CompletedProcess[str]]:
    """Logs `agent` in a notebook that has run these cells; of some it is known that they failed."""
    return lambda *cells, failed=(): ran(NOTEBOOK.format(cells=cells, failed=dict.fromkeys(failed)))


Logged = Callable[..., CompletedProcess[str]]


def test_a_notebook_logs_its_marked_cells(logged: Logged, tmp_path: Path):
    done = logged(CELL.format(marker=MARKER), "noise = 1", f"{MARKER}\nagent = Echo()")
    assert done.stdout.strip() == "Ann", done.stderr
    assert "noise" not in (tmp_path / "model" / "workflow.py").read_text()


@pytest.mark.parametrize("more", ["", "import json\n"], ids=["another cell", "the same cell"])
def test_cells_of_a_notebook_are_compiled_one_by_one_and_logged(logged: Logged, more: str):
    cell = CELL.format(marker=f"{MARKER}\n{more}").replace("ev.name", "json.loads(json.dumps(named(ev.name)))")
    imports, helper = f"{MARKER}\nimport json", f"{MARKER}\nnamed = lambda text: json.loads(json.dumps(text))"
    done = logged(imports, helper, cell, f"{MARKER}\nagent = Echo()")
    assert done.stdout.strip() == "Ann", done.stderr


def test_an_instance_of_an_unmarked_cell_is_refused(logged: Logged):
    done = logged(CELL.format(marker=MARKER), "agent = Echo()")
    assert f"(the cell that sets agent does not begin with '{MARKER}')" in done.stderr


def test_a_prompt_of_a_notebook_keeps_its_lines(logged: Logged):
    prompt = f'{MARKER}\nPROMPT = """a\n! b\n% c\n"""'
    cell = CELL.format(marker=MARKER).replace("ev.name", "PROMPT")
    assert logged(prompt, cell, f"{MARKER}\nagent = Echo()").stdout == "a\n! b\n% c\n\n"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (
            [CELL.format(marker="# a cell"), f"{MARKER}\nagent = Echo()"],
            f"the cell of its class does not begin with '{MARKER}'",
        ),
        (
            ["def clean(text): return text", CELL.format(marker=MARKER).replace("ev.name", "clean(ev.name)")],
            f"it uses clean, and no cell that begins with '{MARKER}' sets that",
        ),
        (
            ["CALLS = 0", f"{MARKER}\ndef count():\n    global CALLS\n    CALLS += 1", CELL.format(marker=MARKER)],
            f"it uses CALLS, and no cell that begins with '{MARKER}' sets that",
        ),
        (
            ["made = None", f"{MARKER}\ndef get():\n    global made\n    made = made or 1", CELL.format(marker=MARKER)],
            f"it uses made, and no cell that begins with '{MARKER}' sets that",
        ),
        (
            [f"{MARKER}\nTOP = 5", CELL.format(marker=MARKER).replace("ev.name", "TOP"), "TOP = 9"],
            "TOP is not what its source makes",
        ),
    ],
    ids=["the class", "a helper", "a counter", "a cache", "another value"],
)
def test_what_only_unmarked_cells_of_a_notebook_set_is_refused(logged: Logged, cells: list[str], reason: str):
    done = logged(*cells, f"{MARKER}\nagent = Echo()")
    assert f"({reason})" in done.stderr


FIRST_SET = [
    "    N = 1\n    return N",
    "    try:\n        return N\n    except NameError:\n        N = 1\n        return N",
]


@pytest.mark.parametrize("body", FIRST_SET, ids=["used behind", "where nobody has"])
def test_what_a_function_of_a_marked_cell_uses_after_it_has_set_it_is_of_that_cell(logged: Logged, body: str):
    setting = f"{MARKER}\ndef count():\n    global N\n{body}\n\ncount()"
    done = logged(setting, CELL.format(marker=MARKER), f"{MARKER}\nagent = Echo()")
    assert done.stdout.strip() == "Ann", done.stderr


def test_what_a_function_of_a_marked_cell_sets_first_is_of_that_cell(logged: Logged):
    setting = f"{MARKER}\ndef begin():\n    global N\n    N = 1\n\ndef count():\n    global N\n    N += 1\n\nbegin()"
    done = logged(setting, CELL.format(marker=MARKER), f"{MARKER}\nagent = Echo()")
    assert done.stdout.strip() == "Ann", done.stderr


STEP = """{marker}
def name(): return said

class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        global said
        said = ev.name
        return StopEvent(result=name())

agent = Echo()
"""


@pytest.mark.parametrize(
    ("other", "told"),
    [("pass", "Ann\n"), ("said = 'Bob'", f"(it uses said, and no cell that begins with '{MARKER}' sets that)")],
    ids=["the step", "a cell"],
)
def test_what_a_step_of_a_notebook_has_set_is_of_a_run(logged: Logged, other: str, told: str):
    imports = f"{MARKER}\n{HEAD}\nimport asyncio"
    ran = "async def run(): await agent.run(name='Eve')\nasyncio.run(run())"
    done = logged(imports, STEP.format(marker=MARKER), ran, other)
    assert told in done.stdout + done.stderr


def test_marked_cells_that_failed_are_no_part_of_the_model(logged: Logged, tmp_path: Path):
    wrong = [f"{MARKER}\nGREETING = undefined", f"{MARKER}\nGREETING = = 1"]
    cell = CELL.format(marker=MARKER).replace("ev.name", "GREETING")
    done = logged(*wrong, f"{MARKER}\nGREETING = 'Hi'", cell, f"{MARKER}\nagent = Echo()", failed=(1, 2))
    assert done.stdout.strip() == "Hi", done.stderr
