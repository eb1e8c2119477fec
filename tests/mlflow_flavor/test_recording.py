"""Answers of models and tools that are kept with a trace, compared with what they are now, or given again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

import mlflow_flavor
from mlflow_flavor import Difference
from tests.mlflow_flavor.trees import lines
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

# A model that answers with what the variable SAID holds, and a tool that counts how often it is called.
ASSISTANT = """
import os
from pathlib import Path
from pydantic import BaseModel
from mlflow_flavor import config, recorded, set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

POLITE = config({"polite": False})["polite"]

class Question(StartEvent):
    text: str

class Draft(Event):
    text: str

class Completion(BaseModel):
    id: str
    text: str

class Client:
    async def complete(self, prompt: str) -> Completion:
        with Path(os.environ["CALLS"]).open("a") as calls:
            calls.write("m")
        return Completion(id=os.urandom(4).hex(), text=f"{prompt}: {os.environ['SAID']}")

@recorded(name="search")
def search(words: str) -> list[str]:
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write("t")
    return [words, os.environ["FOUND"]]

complete = recorded(Client().complete)

class Assistant(Workflow):
    @step
    async def draft(self, ev: Question) -> Draft:
        first = await complete(ev.text)
        second = await complete(prompt=ev.text)
        return Draft(text=f"{first.text} / {second.text}")

    @step
    def polish(self, ev: Draft) -> StopEvent:
        text = ", ".join(search(ev.text))
        return StopEvent(result=f"{text}, please" if POLITE else text)

set_model(Assistant())
"""

ANSWER = "hi: yes / hi: yes, a page"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What was called since: `m` for the model, `t` for the tool."""
    for name, value in (("SAID", "yes"), ("FOUND", "a page"), ("CALLS", str(tmp_path / "calls"))):
        monkeypatch.setenv(name, value)

    def made() -> str:
        text = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
        (tmp_path / "calls").write_text("")
        return text

    return made


@pytest.fixture
def uri(autolog: str, calls: Callable[[], str], tmp_path: Path) -> str:
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(ASSISTANT)
    return mlflow_flavor.log_model(
        tmp_path / "agent.py", name="assistant", pip_requirements=["mlflow"], model_config={"polite": False}
    ).model_uri


Traced = Callable[[], Awaitable[str]]


@pytest.fixture
def traced(uri: str) -> Traced:
    """Runs the model once; gives the trace."""

    async def run() -> str:
        handler = mlflow_flavor.load_model(uri).run(text="hi")
        assert await handler == ANSWER
        return str(mlflow_flavor.trace_id(handler))

    return run


async def test_recorded_answers_are_given_again_and_nobody_is_called(traced: Traced, calls: Callable[[], str]):
    trace_id = await traced()
    assert calls() == "mmt"
    os.environ["SAID"], os.environ["FOUND"] = "no", "nothing"
    again = mlflow_flavor.reproduce(trace_id, recorded=True)
    assert (again.result, again.differences) == (ANSWER, [])
    assert (again.replayed, again.made, calls()) == (3, (), "")


async def test_a_model_that_answers_otherwise_is_told_apart_from_the_code(traced: Traced):
    trace_id = await traced()
    os.environ["SAID"] = "no"
    found = mlflow_flavor.reproduce(trace_id).differences
    assert [(d.kind, d.where) for d in found] == [
        ("call", "Client.complete#1"),
        ("call", "Client.complete#2"),
        ("output", "draft#1"),
        ("input", "polish#1"),
        ("result", "Assistant.run"),
    ]
    assert found[0] == Difference("call", "Client.complete#1", {"text": "hi: yes"}, {"text": "hi: no"})


async def test_the_same_answers_with_other_ids_are_no_difference(traced: Traced):
    assert mlflow_flavor.reproduce(await traced()).differences == []


async def test_what_was_not_asked_then_is_called_and_named(traced: Traced, calls: Callable[[], str]):
    trace_id = await traced()
    calls()
    again = mlflow_flavor.reproduce(trace_id, input={"text": "other"}, recorded=True)
    assert (again.replayed, again.made, calls()) == (0, ("Client.complete", "Client.complete", "search"), "mmt")


FAMILY = """
import itertools
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

answers = itertools.count()

@recorded(name="ask")
def ask(words: str) -> str:
    return f"{words} {next(answers)}"

class Start(StartEvent):
    text: str

class Child(Workflow):
    @step
    async def work(self, ev: Start) -> StopEvent:
        return StopEvent(result=ask(ev.text))

class Parent(Workflow):
    @step
    async def work(self, ev: Start) -> StopEvent:
        first = ask(ev.text)
        children = [await Child().run(text=ev.text) for _ in range(2)]
        return StopEvent(result=[first, *children, ask(ev.text)])

set_model(Parent())
"""


async def test_each_run_gets_the_answers_that_it_got_though_its_children_ask_the_same(autolog: str, tmp_path: Path):
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(FAMILY)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="family", pip_requirements=["mlflow"])
    handler = mlflow_flavor.load_model(info.model_uri).run(text="hi")
    assert await handler == ["hi 0", "hi 1", "hi 2", "hi 3"]
    again = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)), recorded=True)
    assert (again.result, again.replayed, again.differences) == (["hi 0", "hi 1", "hi 2", "hi 3"], 4, [])


SLOW = """
import asyncio
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

asked = []
second = asyncio.Event()

@recorded(name="ask")
async def ask(words: str) -> int:
    asked.append(words)
    number = len(asked)
    if number == 1:
        await second.wait()  # its answer comes after the other's
    else:
        second.set()
    return number

class Asking(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await asyncio.gather(ask("a"), ask("a")))

set_model(Asking())
"""


async def test_answers_are_given_again_in_the_order_in_which_they_were_asked_for(autolog: str, tmp_path: Path):
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(SLOW)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="slow", pip_requirements=["mlflow"])
    handler = mlflow_flavor.load_model(info.model_uri).run()
    assert await handler == [1, 2]
    assert mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)), recorded=True).result == [1, 2]


async def test_a_recording_of_a_recording_is_none(traced: Traced):
    again = mlflow_flavor.reproduce(await traced(), recorded=True)
    with pytest.raises(MlflowException, match=r"holds no recorded answers\. Mark what asks models and tools"):
        mlflow_flavor.reproduce(str(again.new_trace_id), recorded=True)


async def test_a_recording_is_one_span_of_its_run(traced: Traced, trace: Callable[[], Trace]):
    await traced()
    assert lines(trace()) == [
        "Assistant.run WORKFLOW OK",
        "  draft TASK OK",
        "  polish TASK OK",
        "  workflow.recording TASK OK",
    ]


async def test_nothing_is_recorded_unless_asked_for(uri: str, trace: Callable[[], Trace]):
    mlflow_flavor.autolog(publish_after_seconds=None)
    await mlflow_flavor.load_model(uri).run(text="hi")
    assert "workflow.recording" not in str(lines(trace()))


async def test_another_configuration_is_told(uri: str):
    handler = mlflow_flavor.load_model(uri, model_config={"polite": True}).run(text="hi")
    await handler
    found = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)), recorded=True).differences
    assert [d.kind for d in found] == ["configuration", "output", "result"]


async def test_another_version_of_a_package_is_told(autolog: str, calls: Callable[[], str], tmp_path: Path):
    (tmp_path / "agent.py").write_text(ASSISTANT)
    pins = ["mlflow", "pydantic==1.0", "no-such-package==2"]
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="assistant", pip_requirements=pins)
    handler = mlflow_flavor.load_model(info.model_uri).run(text="hi")
    await handler
    found = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler))).differences
    assert [(d.kind, d.where, d.then) for d in found] == [
        ("environment", "pydantic", "1.0"),
        ("environment", "no-such-package", "2"),
    ]


def test_a_recorded_function_is_as_it_was_outside_of_runs():
    assert mlflow_flavor.recorded(str.upper)("x") == "X"


def test_a_stream_cannot_be_recorded():
    def words():
        yield "a"

    with pytest.raises(MlflowException, match=r"words is a generator, and a stream cannot be recorded"):
        mlflow_flavor.recorded(words)


async def test_arguments_of_any_kind_reach_a_recorded_function_as_they_are(autolog: str):
    mlflow_flavor.autolog(record_calls=True)
    itself: list[object] = []
    itself.append(itself)
    taken: list[object] = []

    @mlflow_flavor.recorded
    def take(*given: object) -> None:
        taken.extend(list(item) if isinstance(item, Iterator) else item for item in given)

    class Taking(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            take(b"\xff", iter("ab"))
            take(itself)
            return StopEvent()

    await Taking().run()
    assert taken == [b"\xff", ["a", "b"], itself]


ASKED = """
from pydantic import BaseModel
from mlflow_flavor import _recording

class Query(BaseModel):
    tags: set[str]

tags = {"red", "green", "blue"}
print(_recording.Request.of("ask", ({"tags": tags}, Query(tags=tags)), {}).digest)
"""


def test_a_set_is_the_same_argument_in_every_process():
    def digest(seed: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", ASKED], env=environment, check=True, capture_output=True).stdout

    assert digest("1") == digest("2")


FAILS = """
import os
from pathlib import Path
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class RateLimitError(Exception):
    def __init__(self, retry_after, client):
        super().__init__(client)
        self.retry_after = retry_after

    def __str__(self):
        return f"wait {self.retry_after} s"

def called():
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write("t")

@recorded(name="search")
def search(words):
    called()
    return {}[words]

@recorded(name="ask")
async def ask(words):
    called()
    raise RateLimitError(int(os.environ["SAID"]), object())

class Catches(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        said = []
        try:
            search("hi")
        except KeyError as error:
            said.append(repr(error))
        try:
            await ask("hi")
        except RateLimitError as error:
            said += [str(error), error.retry_after]
        return StopEvent(result=said)

set_model(Catches())
"""


@pytest.fixture
async def failed(autolog: str, calls: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The trace of a run whose recorded calls raised."""
    monkeypatch.setenv("SAID", "5")
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(FAILS)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="fails", pip_requirements=["mlflow"])
    handler = mlflow_flavor.load_model(info.model_uri).run()
    assert await handler == ["KeyError('hi')", "wait 5 s", 5]
    assert calls() == "tt"
    return str(mlflow_flavor.trace_id(handler))


async def test_a_recorded_error_is_raised_again_and_nobody_called(
    failed: str, calls: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SAID", "7")
    again = mlflow_flavor.reproduce(failed, recorded=True)
    assert (again.result, again.differences, again.made) == (["KeyError('hi')", "wait 5 s", 5], [], ())
    assert (again.replayed, calls()) == (2, "")


async def test_another_error_than_was_recorded_is_told(failed: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAID", "7")
    found = mlflow_flavor.reproduce(failed).differences[0]
    assert (found.kind, found.where) == ("call", "ask#1")
    assert [str(text).rpartition(": ")[2] for text in (found.then, found.now)] == ["wait 5 s", "wait 7 s"]


KINDS = """
import json
from dataclasses import dataclass
from pydantic import BaseModel, ValidationError, field_validator
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Person(BaseModel):
    age: int
    name: str = ""

    @field_validator("name")
    def check(cls, name):
        if name == "nobody":
            raise ValueError("is nobody")
        return name

@dataclass(frozen=True)
class Refused(Exception):
    code: int

def broken(kind):
    match kind:
        case "file": open("/no/such/file")
        case "type": Person(age="x")
        case "value": Person(age=1, name="nobody")
        case "json": json.loads("{")
        case "bytes": b"\\xff".decode()
        case "frozen": raise Refused(5)
        case "group": raise ExceptionGroup("several", [ValueError("a")])

@recorded(name="call")
def call(kind):
    broken(kind)

def about(error):
    more = [getattr(error, name, None) for name in ("errno", "filename", "code", "pos", "start")]
    lines = [(e["type"], e["loc"], e["msg"]) for e in error.errors()] if isinstance(error, ValidationError) else []
    return [type(error).__name__, str(error).partition("For further")[0], [str(one) for one in more], str(lines)]

class Catches(Workflow):
    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        said = []
        for kind in ("file", "type", "value", "json", "bytes", "frozen", "group"):
            try:
                call(kind)
            except (OSError, ValidationError, ValueError, Refused, ExceptionGroup) as error:
                said.append(about(error))
        return StopEvent(result=said)

set_model(Catches())
"""


async def test_errors_of_every_kind_are_raised_again_as_they_were(autolog: str, tmp_path: Path):
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(KINDS)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="kinds", pip_requirements=["mlflow"])
    handler = mlflow_flavor.load_model(info.model_uri).run()
    first = await handler
    assert [kind for kind, *_ in first] == [
        "FileNotFoundError",
        "ValidationError",
        "ValidationError",
        "JSONDecodeError",
        "UnicodeDecodeError",
        "Refused",
        "ExceptionGroup",
    ]
    again = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)), recorded=True)
    assert (again.result, again.differences, again.replayed) == (first, [], 7)
