"""What a model's source needs of its module: not what is only called as a variable there, nor what nobody has set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter
from tests.mlflow_flavor.test_fidelity import HEAD, save

Import = Callable[[str], ModuleType]

MARKER = "# [USE IN MODEL]"
AGENT = (
    HEAD
    + """
class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=tool())

agent = Agent()
"""
)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """The script of a notebook with these cells, of which those that begin with `+` are marked."""

    def written(*cells: str) -> str:
        sources = [f"{MARKER}\n{cell[1:]}" if cell.startswith("+") else cell for cell in cells]
        found = {"cells": [{"cell_type": "code", "source": [source]} for source in sources]}
        (tmp_path / "notebook.ipynb").write_text(json.dumps(found))
        return mlflow_flavor.script_from_notebook(tmp_path / "notebook.ipynb", tmp_path / "agent.py").read_text()

    return written


Script = Callable[..., str]


@pytest.mark.parametrize(
    "tool",
    [
        "def tool():\n    result = 1\n    return result",
        "def tool(result=1, *args):\n    return result",
        "def tool(*, result):\n    def inner():\n        return [result]\n    return inner",
        "def tool():\n    result = 1\n    def inner():\n        nonlocal result\n        result += 1",
        "def tool(rows):\n    return [result for result in rows if result]",
        "tool = {result: 1 for result in (1, 2)}",
        "tool = lambda result: result + 1",
        "def tool(rows):\n    return result if (result := rows) else [result := row for row in rows]",
        "class Tool:\n    result = 1\n    twice = result * 2",
        "def tool(a):\n    match a:\n        case [1, *result] | {'a': 1, **result}:\n            return result",
        "def tool():\n    try:\n        pass\n    except ValueError as result:\n        return result",
        "def tool(rows):\n    with rows as result:\n        result()\n    for result in rows:\n        return result",
        "def tool():\n    import json as result\n    return result.dumps(1)",
        "def tool(result):\n    return f'{result:>{result}}'",
        "def tool(result):\n    return eval('result + 1')",
        "def tool(row):\n    return {**row}['result'], row['result']",
        "class Tool(list[Literal['result']]):\n    kind = Literal['result'], list[Annotated[int, 'result']]",
        "def tool(a: Literal['result'], b: Annotated[str, 'result'], c: 'not a name', d: '\\0'):\n    return a",
    ],
)
def test_a_variable_of_a_function_is_not_that_of_the_module(module: Import, tmp_path: Path, tool: str):
    imports = "from typing import Annotated, Literal\n"
    source = f"{imports}result = print('paid')\n{tool}\n{AGENT.replace('tool()', '(tool, Tool)')}"
    model = Path(save(module(source).agent, tmp_path))
    assert "print" not in (model / "workflow.py").read_text()


@pytest.mark.parametrize(
    "tool",
    [
        "def tool():\n    return [row for row in result]",
        "def tool():\n    def inner():\n        return lambda row: row + result\n    return inner",
        "def tool(row=result):\n    return row",
        "@result\ndef tool():\n    return 1",
        "def tool(row: result):\n    return row",
        "def tool(row: 'list[result]') -> Literal['a']:\n    return row",
        "def tool() -> Annotated['result', 1]:\n    return 1",
        "from __future__ import annotations\nclass Tool:\n    row: result",
        "class Tool(RootModel[list['result']]):\n    pass",
        "class Tool(Base['result']):\n    pass",
        "Tool = dict[str, 'result']",
        "tool = TypeAdapter(typing.Optional['list[result]'])",
        "class Tool:\n    result = result",
        "class Tool:\n    result = 1\n    def get(self):\n        return result",
        "def tool():\n    return f'{1:{result}}'",
        "def tool():\n    return eval('result + 1')",
        "def tool():\n    global result\n    result += 1",
        "def tool():\n    global result\n    del result",
        "def tool(rows):\n    match rows:\n        case result.first:\n            return 1",
        "def tool():\n    try:\n        pass\n    except result:\n        return 1",
    ],
)
def test_a_variable_of_the_module_is_needed_wherever_it_is_read(script: Script, tool: str):
    with pytest.raises(MlflowException, match="marked cells use 'result', which code cell 1 sets"):
        script("result = print('paid')", f"+{tool}", f"+{AGENT}")


PROGRAM = (
    HEAD
    + """
import asyncio
import mlflow_flavor

def tool(df, args=()):
    return df

class Agent(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        print("paid")
        result = [str(row) for row in tool([ev.question])]
        return StopEvent(result=result)

agent = Agent()

async def ask(question):
    return await agent.run(question=question)

if __name__ == "__main__":
    args = open("arguments").read()
    df = [row for row in open("table")]
    for question in df:
        result = asyncio.run(ask(question))
    mlflow_flavor.save_model(agent, "model", pip_requirements=["mlflow"])
    mlflow_flavor.load_model("model")
"""
)


def test_what_a_main_block_does_before_it_logs_is_no_part_of_the_model(interpreter: Interpreter, tmp_path: Path):
    (tmp_path / "arguments").touch()
    (tmp_path / "table").write_text("a cat\n")
    done = interpreter.run(PROGRAM, tmp_path)
    assert (done.stdout, done.stderr) == ("paid\n", "")


DECORATED = """
def counted(function):
    rows = []
    def inner():
        rows.append(1)
        return function()
    return inner

rows = ["a"]

@counted
def tool():
    return rows[0]

@counted
def evaluate():
    return open("eval.csv")
"""


TIMED = """
import functools
import time

class Timer:
    def __init__(self):
        self.last = 0

    def timed(self, function):
        @functools.wraps(function)
        def inner():
            began = time.time()
            try:
                return function()
            finally:
                self.last = time.time() - began
        return inner

timer = Timer()

@timer.timed
def tool():
    return "a"

@timer.timed
def evaluate():
    return open("eval.csv")
"""


@pytest.mark.parametrize("source", [DECORATED, TIMED], ids=["function", "method"])
def test_a_decorator_that_keeps_nothing_adds_nothing_to_the_module(module: Import, tmp_path: Path, source: str):
    model = Path(save(module(source + AGENT).agent, tmp_path))
    assert "evaluate" not in (model / "workflow.py").read_text()


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        ("self.last = function", "function"),
        ("self.all[function.__name__] = inner", "inner"),
        ("self.all.update(a=inner)", "function"),
        ("keep(function)", "function"),
    ],
)
def test_what_a_method_keeps_that_decorates_it_belongs_to_the_source(
    module: Import, tmp_path: Path, kept: str, given: str
):
    source = TIMED.replace("return inner", f"{kept}\n        return {given}").replace("0", "0\n        self.all = {}")
    model = Path(save(module(f"kept = []\ndef keep(f): kept.append(f)\n{source}{AGENT}").agent, tmp_path))
    assert "evaluate" in (model / "workflow.py").read_text()


SETUP = "def setup():\n    global db\n    db = 1"
USE = "def tool():\n    return db"


@pytest.mark.parametrize(
    "cells",
    [
        [f"+{SETUP}\nsetup()", f"+{USE}"],
        [f"+{SETUP}", "+import asyncio\nmade = asyncio.run(setup())", f"+{USE}"],
        [
            f"+{SETUP}\ndef begin():\n    with lock:\n        setup()\n\ntry:\n    begin()\nfinally:\n    pass",
            f"+{USE}",
        ],
        [f"+{SETUP}", "+def tool():\n    setup()\n    return [db for _ in (1, 2)]"],
        ["+def tool():\n    global db\n    with lock as db:\n        return lambda: db"],
        ["+def tool():\n    global db\n    import json as db\n    db.dumps(1)\n    del db"],
        ["+def tool():\n    global db\n    db = 1\n    db += 1"],
        ["+def tool():\n    global db\n    try:\n        db\n    except NameError:\n        db = 1\n    return db"],
        ["+def tool():\n    global db\n    if 'db' not in globals():\n        db = 1\n    return db"],
        [f"+{SETUP}"],
        ["+db = None\ndef tool():\n    global db\n    if not db:\n        db = 1\n    return db"],
    ],
    ids=[
        "called",
        "called in an argument",
        "called by what is called",
        "called by who reads",
        "with",
        "import",
        "changed then",
        "NameError",
        "globals",
        "not read",
        "set at the top",
    ],
)
def test_what_a_function_has_set_for_sure_is_set(script: Script, cells: list[str]):
    assert "db" in script(*cells, f"+{AGENT}")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([f"+{SETUP}", "setup()", f"+{USE}"], "which code cell 2 sets"),
        ([f"+{SETUP}", "db = 1", f"+{USE}"], "which code cell 2 sets"),
        ([f"+{SETUP}", f"+{USE}"], "which only a function sets"),
        ([f"+{SETUP}\nif __name__ == '__main__':\n    setup()", f"+{USE}"], "which only a function sets"),
        ([f"+{SETUP}\nfor _ in range(0):\n    setup()", f"+{USE}"], "which only a function sets"),
        ([f"+{SETUP}\nNONE and setup()", f"+{USE}"], "which only a function sets"),
        ([f"+{SETUP}", f"+{USE} if setup() else db"], "which only a function sets"),
        ([f"+{SETUP}", "+def tool(row):\n    if row:\n        setup()\n    return db"], "which only a function sets"),
        (["+def tool(row):\n    global db\n    if row:\n        db = 1\n    return db"], "which only a function sets"),
        (["+def tool():\n    global db\n    db = db or 1"], "which only a function sets"),
        (["+def tool():\n    global db\n    db += 1\n    db = 1"], "which only a function sets"),
    ],
)
def test_what_no_function_has_set_for_sure_is_missing(script: Script, cells: list[str], reason: str):
    with pytest.raises(MlflowException, match=f"marked cells use 'db', {reason}"):
        script(*cells, f"+{AGENT}")


SET = "def setup():\n    global db\n    db = 1\n\n"
READ = "def tool():\n    return db\n\n"


@pytest.mark.parametrize(
    "source",
    [
        f"{SET}{READ}setup()\n{AGENT}",
        f"{SET}def tool(again=False):\n    if again:\n        setup()\n    return db\n\nsetup()\n{AGENT}",
        f"from tests.mlflow_flavor.agents import *\n{SET}{READ}{AGENT}\ndef main():\n    setup()\n\nmain()",
        f"{READ}{AGENT}\nvars()['db'] = 1",
    ],
    ids=["called at the top", "called by a step at times", "star import", "by name"],
)
def test_a_script_that_would_miss_a_variable_is_refused(module: Import, tmp_path: Path, source: str):
    with pytest.raises(MlflowException, match=r"\(it uses db, which no top-level statement of .*\.py sets; set it by"):
        save(module(source).agent, tmp_path)


async def test_a_script_whose_functions_set_what_they_read_is_logged(module: Import, tmp_path: Path):
    reading = "def tool():\n    setup()\n    return db\n\n"
    assert await mlflow_flavor.load_model(save(module(SET + reading + AGENT).agent, tmp_path)).run() == 1


STEPS = (
    HEAD
    + """
from workflows.events import Event

class Next(Event):
    pass

def tool():
    return db

class Agent(Workflow):
    @step
    async def connect(self, ev: StartEvent) -> Next:
        global db
        db = 1
        return Next()

    @step(num_workers=2)
    async def answer(self, ev: Next) -> StopEvent:
        return StopEvent(result=tool())

agent = Agent()
"""
)


@pytest.mark.parametrize("take", ["agent", "Agent"])
async def test_what_only_a_step_sets_was_set_by_a_run_and_is_set_by_the_next(module: Import, tmp_path: Path, take: str):
    found = module(STEPS)
    await found.agent.run()
    assert await mlflow_flavor.load_model(save(vars(found)[take], tmp_path)).run() == 1


def test_what_only_a_step_of_a_notebook_sets_needs_no_cell(script: Script):
    assert "db = 1" in script(f"+{STEPS}", "%ls")


def test_what_many_functions_set_by_calling_each_other_is_known(script: Script):
    chain = [f"def f{n}():\n    global g{n}\n    g{n} = {n}\n    f{n - 1}()\n" for n in range(1, 600)]
    first = "def f0():\n    global db\n    db = 1\n    f599()\n"  # and round again
    tool = "def tool():\n    f599()\n    return db\n"
    # Asking every function anew for each link of the chain takes minutes.
    assert "return db" in script("+" + "".join([*chain, first, tool, AGENT]), "%ls")


def test_what_a_function_sets_as_well_may_not_be_of_a_run(module: Import, tmp_path: Path):
    found = module(SET + STEPS)
    found.setup()
    with pytest.raises(MlflowException, match=r"\(it uses db, which no top-level statement of"):
        save(found.agent, tmp_path)


@pytest.mark.parametrize(
    "found",
    ["any((hit := n) > 1 for n in (1, 2, 3))", "{n: n for n in (1, 2) if (hit := n)}", "(lambda: 0)(), (hit := 2)"],
)
def test_what_a_line_at_the_top_sets_beside_its_value_belongs_to_the_source(module: Import, tmp_path: Path, found: str):
    source = f"_ = {found}\ndef tool():\n    return hit\n{AGENT}"
    assert "hit :=" in Path(save(module(source).agent, tmp_path), "workflow.py").read_text()
