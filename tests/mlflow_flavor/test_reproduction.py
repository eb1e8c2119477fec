"""Running the model version that made a trace once more: same input, and what came out otherwise."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException

import mlflow_flavor
from mlflow_flavor import Difference, IncompleteInputError
from tests.mlflow_flavor.agents import Answer
from tests.mlflow_flavor.versions import needs_links
from workflows import Context
from workflows.events import HumanResponseEvent
from workflows.testing import VirtualClockLoop

WEATHER = """
import os
from mlflow_flavor import set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

class Place(StartEvent):
    name: str

class Sky(Event):
    text: str

class Weather(Workflow):
    @step
    async def look(self, ev: Place) -> Sky:
        return Sky(text=os.environ["SKY"])

    @step
    async def tell(self, ev: Sky) -> StopEvent:
        if ev.text == "hail":
            raise OSError("no roof")
        return StopEvent(result=f"It is {ev.text}.")

set_model(Weather())
"""


@pytest.fixture
def weather(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a model that says what the variable SKY holds."""
    monkeypatch.setenv("SKY", "blue")
    (tmp_path / "agent.py").write_text(WEATHER)
    return mlflow_flavor.log_model(tmp_path / "agent.py", name="weather", pip_requirements=["mlflow"]).model_uri


async def traced(uri: str, name: str = "Rome") -> str:
    """The trace of a run of the model."""
    handler = mlflow_flavor.load_model(uri).run(name=name)
    await handler
    return str(mlflow_flavor.trace_id(handler))


async def test_the_same_again_differs_in_nothing(weather: str):
    again = mlflow_flavor.reproduce(await traced(weather))
    assert (again.result, again.error, again.differences) == ("It is blue.", None, [])


async def test_a_step_that_made_something_else_of_the_same_input_is_named(weather: str):
    trace_id = await traced(weather)
    os.environ["SKY"] = "grey"
    then, now = {"Sky": {"text": "blue"}}, {"Sky": {"text": "grey"}}
    assert mlflow_flavor.reproduce(trace_id).differences == [
        Difference("output", "look#1", then, now),
        Difference("input", "tell#1", then, now),
        Difference("result", "Weather.run", "It is blue.", "It is grey."),
    ]


async def test_a_run_that_fails_this_time_says_so(weather: str):
    trace_id = await traced(weather)
    os.environ["SKY"] = "hail"
    again = mlflow_flavor.reproduce(trace_id)
    assert isinstance(again.error, OSError)
    assert again.differences[-1] == Difference("result", "Weather.run", "It is blue.", "OSError: no roof")


async def test_a_cut_input_is_refused_unless_another_is_given(weather: str):
    trace_id = await traced(weather, name="x" * 100_000)
    with pytest.raises(IncompleteInputError, match=r"Pass input=, or call .*\(record_inputs=True\)"):
        mlflow_flavor.reproduce(trace_id)
    assert mlflow_flavor.reproduce(trace_id, input={"name": "Rome"}).result == "It is blue."


async def test_a_recorded_input_is_whole(weather: str, trace: Callable[[], Trace]):
    mlflow_flavor.autolog(record_inputs=True, publish_after_seconds=None)
    trace_id = await traced(weather, name="x" * 100_000)
    assert len(str(trace().data.to_dict())) < 200_000
    assert mlflow_flavor.reproduce(trace_id).result == "It is blue."


TYPED = """
from mlflow_flavor import set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Typed(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[type(ev.day).__name__, type(ev.tags).__name__, type(ev.raw).__name__])

set_model(Typed())
"""


async def test_a_recorded_input_keeps_its_types(autolog: str, tmp_path: Path):
    mlflow_flavor.autolog(record_inputs=True, publish_after_seconds=None)
    (tmp_path / "agent.py").write_text(TYPED)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="typed", pip_requirements=["mlflow"])
    handler = mlflow_flavor.load_model(info.model_uri).run(day=date(2026, 1, 2), tags={"a"}, raw=b"1")
    assert await handler == ["date", "set", "bytes"]
    again = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    assert (again.result, again.differences) == (["date", "set", "bytes"], [])


ALIASED = """
from pydantic import Field
from mlflow_flavor import set_model
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Ask(StartEvent):
    number: int = Field(alias="the-number")

class Counts(Workflow):
    @step
    async def count(self, ev: Ask) -> StopEvent:
        return StopEvent(result=ev.number)

set_model(Counts())
"""


async def test_a_run_whose_start_event_has_aliases_is_repeated(autolog: str, tmp_path: Path):
    (tmp_path / "agent.py").write_text(ALIASED)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="counts", pip_requirements=["mlflow"])
    fields: dict[str, Any] = {"the-number": 4}
    handler = mlflow_flavor.load_model(info.model_uri).run(**fields)
    assert await handler == 4
    again = mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    assert (again.result, again.differences) == (4, [])


ASKING = """
import os
from mlflow_flavor import set_model
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Asking(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix=f"{ev.what}{os.environ.get('SIGN', '?')}")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        return StopEvent(result=answer.response)

set_model(Asking(timeout=None))
"""


@pytest.fixture
async def asked(autolog: str, tmp_path: Path) -> list[str]:
    """The traces of a model's run that stopped to ask a person, of the same run when it was answered, and of another
    that was answered at once."""
    (tmp_path / "agent.py").write_text(ASKING)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="asking", pip_requirements=["mlflow"])
    model = mlflow_flavor.load_model(info.model_uri)
    first = model.run(what="deploy")
    await anext(first.stream_events())
    asking = str(mlflow_flavor.trace_id(first))
    second = model.run(ctx=Context.from_dict(model, await first.suspend()))
    second.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
    third = model.run(what="deploy")
    await anext(third.stream_events())
    third.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
    assert [await second, await third] == ["yes", "yes"]
    return [asking, *(str(mlflow_flavor.trace_id(run)) for run in (second, third))]


async def test_a_run_that_stopped_to_ask_a_person_stops_there_again(asked: list[str]):
    again = mlflow_flavor.reproduce(asked[0])
    assert (again.result, again.error, again.differences) == (None, None, [])


async def test_another_question_than_was_asked_is_told(asked: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGN", "!")
    (found,) = mlflow_flavor.reproduce(asked[0]).differences
    then, now = ([{"InputRequiredEvent": f'{{"prefix":"deploy{sign}"}}'}] for sign in "?!")
    assert found == Difference("output", "ask#1", then, now)


async def test_a_run_that_went_on_after_the_answer_is_compared_up_to_the_question(asked: list[str]):
    again = mlflow_flavor.reproduce(asked[2])
    assert (again.differences, again.not_compared) == ([], ("ask#1", "Asking.run"))


async def test_another_question_of_a_run_that_went_on_is_told(asked: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIGN", "!")
    (found,) = mlflow_flavor.reproduce(asked[2]).differences
    assert (found.kind, found.where) == ("output", "ask#1")


@needs_links
async def test_the_answered_part_of_a_run_is_refused_with_the_trace_in_which_it_began(asked: list[str]):
    with pytest.raises(MlflowException, match=f"began in trace {asked[0]}: reproduce that one"):
        mlflow_flavor.reproduce(asked[1])


@needs_links
async def test_so_is_one_that_was_suspended_more_than_once(autolog: str, tmp_path: Path):
    (tmp_path / "agent.py").write_text(ASKING)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="asking", pip_requirements=["mlflow"])
    model = mlflow_flavor.load_model(info.model_uri)
    run = model.run(what="deploy")
    first = str(mlflow_flavor.trace_id(run))
    for _ in range(2):
        await asyncio.sleep(0)
        run = model.run(ctx=Context.from_dict(model, await run.suspend()))
    run.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
    assert await run == "yes"
    with pytest.raises(MlflowException, match=f"began in trace {first}: reproduce that one"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(run)))


LONG = """
import asyncio, itertools
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

answers = itertools.count()

class Next(Event):
    text: str

@recorded(name="ask")
def ask() -> int:
    return next(answers)

class Long(Workflow):
    @step
    async def first(self, ev: StartEvent) -> Next:
        await asyncio.sleep(10)
        return Next(text=str(ask()))

    @step
    async def second(self, ev: Next) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent(result=f"{ev.text} {ask()}")

set_model(Long(timeout=None))
"""


@pytest.fixture
async def cut(autolog: str, tmp_path: Path, clock: VirtualClockLoop, traces: Callable[[], list[Trace]]) -> list[str]:
    """The traces of a model's run that was open for so long that it went on in a second one."""
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None, max_open_seconds=5)
    script = LONG.replace("asyncio.sleep(10)", "asyncio.sleep(10 if not hasattr(asyncio, 'no_time') else 0)")
    (tmp_path / "agent.py").write_text(script)
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="long", pip_requirements=["mlflow"])
    assert await mlflow_flavor.load_model(info.model_uri).run() == "0 1"
    first, second = traces()
    return [first.info.trace_id, second.info.trace_id]


async def test_a_run_in_several_traces_is_repeated_whole(cut: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asyncio, "no_time", True, raising=False)  # the second run is on a loop with a real clock
    again = mlflow_flavor.reproduce(cut[0], recorded=True)
    assert (again.result, again.differences, again.replayed, again.made) == ("0 1", [], 2, ())


async def test_a_later_trace_of_a_run_is_refused_with_the_first(cut: list[str]):
    with pytest.raises(MlflowException, match=f"began in trace {cut[0]}: reproduce that one"):
        mlflow_flavor.reproduce(cut[1])


async def test_a_trace_of_another_workflow_than_its_model_is_refused(weather: str):
    mlflow_flavor.load_model(weather)  # it becomes MLflow's active model, unless there is one
    mlflow.set_active_model(model_id=weather.rpartition("/")[2])
    handler = Answer().run(question="x")
    await handler
    with pytest.raises(MlflowException, match="is of Answer, but the model it names is Weather"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))


async def test_what_cannot_be_repeated_is_refused(autolog: str):
    mlflow.clear_active_model()
    handler = Answer().run(question="x")
    await handler
    with pytest.raises(MlflowException, match="names no logged model"):
        mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))
    with pytest.raises(MlflowException, match="There is no trace 'tr-0'"):
        mlflow_flavor.reproduce("tr-0")
    with mlflow.start_span("other") as span:
        pass
    with pytest.raises(MlflowException, match="is of no workflow run"):
        mlflow_flavor.reproduce(span.trace_id)
