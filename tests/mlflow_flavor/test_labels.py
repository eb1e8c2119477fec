"""What a trace says of its run: session, user, model and tags, also below somebody else's span and when resumed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Trace
from mlflow.tracing import context as tracing_context

import mlflow_flavor
from tests.mlflow_flavor.agents import Answer, Approve
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.instrumentation import context

pytestmark = pytest.mark.slow

Only = Callable[[], Trace]

MODEL = """
import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Named(Workflow):
    @step
    async def name(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="NAME")

mlflow_flavor.set_model(Named())
"""


@pytest.fixture
def loaded(autolog: str, tmp_path: Path) -> dict[str, Workflow]:
    """Two loaded models, by their ids."""
    models: dict[str, Workflow] = {}
    for name in ("first", "second"):
        script = tmp_path / f"{name}.py"
        script.write_text(MODEL.replace("NAME", name))
        info = mlflow_flavor.log_model(script, name=name, pip_requirements=["mlflow"])
        models[str(info.model_id)] = mlflow_flavor.load_model(info.model_uri)
    return models


def model_of(trace: Trace) -> str | None:
    return trace.info.trace_metadata.get("mlflow.modelId")


def identity_of(trace: Trace) -> tuple[str | None, str | None]:
    found = trace.info.trace_metadata
    return found.get("mlflow.trace.session"), found.get("mlflow.trace.user")


async def test_a_models_run_below_a_span_names_its_model(loaded: dict[str, Workflow], trace: Only):
    second = list(loaded)[1]
    with mlflow.start_span("request"):
        await loaded[second].run()
    assert model_of(trace()) == second


async def test_a_models_run_below_a_workflow_that_was_not_logged_names_its_model(
    loaded: dict[str, Workflow], trace: Only
):
    second = list(loaded)[1]

    class Outer(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await loaded[second].run())

    assert await Outer().run() == "second"
    assert model_of(trace()) == second


async def test_of_two_models_below_one_span_the_trace_names_the_first_and_each_run_its_own(
    loaded: dict[str, Workflow], trace: Only
):
    with mlflow.start_span("request"):
        for model in loaded.values():
            await model.run()
    assert model_of(trace()) == next(iter(loaded))
    assert [s.attributes["mlflow.modelId"] for s in trace().data.spans if s.name == "Named.run"] == list(loaded)


async def test_a_run_below_a_span_gives_the_trace_its_session_user_and_tags(autolog: str, trace: Only):
    with mlflow.start_span("request"), context(session_id="s-1", user_id="ann"):
        await Answer().run(question="why")
    assert identity_of(trace()) == ("s-1", "ann")
    assert (trace().info.tags["workflow"], trace().info.tags["outcome"]) == ("Answer", "completed")


async def test_what_the_trace_says_already_stays(autolog: str, trace: Only):
    with tracing_context(session_id="theirs"), mlflow.start_span("request"), context(session_id="ours"):
        await Answer().run(question="why")
    assert identity_of(trace()) == ("theirs", None)


async def test_the_first_of_several_runs_below_a_span_names_the_trace(autolog: str, trace: Only):
    with mlflow.start_span("request"):
        await Answer().run(question="why")
        with pytest.raises(ZeroDivisionError):
            await Failing().run()
    assert (trace().info.tags["workflow"], trace().info.tags["outcome"]) == ("Answer", "completed")


class Failing(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ZeroDivisionError("of its own")


@pytest.mark.parametrize(
    "around",
    [
        lambda: tracing_context(session_id="s-1", user="ann"),
        lambda: context(session_id="s-1", user_id="ann"),
    ],
    ids=["mlflow", "workflows"],
)
async def test_a_run_keeps_session_and_user_when_it_is_resumed(
    autolog: str, traces: Callable[[], list[Trace]], around: Callable[[], AbstractContextManager[Any]]
):
    workflow = Approve()
    with around():
        handler = workflow.run(question="a")
    await anext(handler.stream_events())
    again = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    again.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
    assert await again == "yes"
    assert [identity_of(trace) for trace in traces()] == [("s-1", "ann")] * 2


async def test_a_run_keeps_tags_and_metadata_when_it_is_resumed(autolog: str, traces: Callable[[], list[Trace]]):
    workflow = Approve()
    with context(tags=["vip"], metadata={"plan": "gold", "seats": 3}):
        handler = workflow.run(question="a")
    await anext(handler.stream_events())
    with context(tags=["late"], metadata={"seats": 4}):
        again = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    again.ctx.send_event(HumanResponseEvent(response="yes"))  # pyright: ignore[reportCallIssue]  # a dynamic field
    await again
    said = [(t.info.tags["tags"], t.info.trace_metadata["plan"], t.info.trace_metadata["seats"]) for t in traces()]
    assert sorted(said) == [("vip", "gold", "3"), ("vip, late", "gold", "4")]


async def test_a_session_that_is_a_number_is_shown_as_one(autolog: str, trace: Only):
    number: Any = 5
    with context(session_id=number, user_id=number):
        await Answer().run(question="why")
    assert identity_of(trace()) == ("5", "5")


async def test_secrets_in_what_the_caller_says_of_a_run_are_masked(autolog: str, trace: Only):
    with context(metadata={"api_key": "abc", "note": "password=hunter2"}, tags=["sk-abcdefghijklmnopqrst"]):
        await Answer().run(question="why")
    info = trace().info
    assert (info.trace_metadata["api_key"], info.trace_metadata["note"]) == ("**********", "password=**********")
    assert info.tags["tags"] == "**********"
