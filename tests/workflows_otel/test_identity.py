"""Whose run it is, on every span of it, whoever said so and whoever made the span."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows_otel import otlp


class CallsClient(Workflow):
    """Its step calls an instrumented client."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with trace.get_tracer("some.client").start_as_current_span("GET", attributes={"user.id": "theirs"}):
            trace.get_tracer("other.client").start_span("SELECT").end()
        return StopEvent()


@contextmanager
def values(**entries: Any) -> Iterator[None]:
    """What OpenInference's and Langfuse's context managers leave in the OpenTelemetry context."""
    context = otel_context.get_current()
    for key, value in entries.items():
        context = otel_context.set_value(key, value, context)
    token = otel_context.attach(context)
    yield
    otel_context.detach(token)


@contextmanager
def in_baggage(**entries: str) -> Iterator[None]:
    context = otel_context.get_current()
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    token = otel_context.attach(context)
    yield
    otel_context.detach(token)


WAYS = {
    "ours": lambda: workflows_otel.context(session_id="s1", user_id="u1", tags=["a", "b"], metadata={"plan": "pro"}),
    "openinference": lambda: values(
        **{"session.id": "s1", "user.id": "u1", "tag.tags": ["a", "b"], "metadata": '{"plan": "pro"}'}
    ),
    "langfuse": lambda: values(
        **{
            f"langfuse.propagated.{key}": value
            for key, value in (
                ("session_id", "s1"),
                ("user_id", "u1"),
                ("tags", ["a", "b"]),
                ("metadata", {"plan": "pro"}),
            )
        }
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_belongs_to_whom_its_caller_says(way: str, spans: SpanLog) -> None:
    enter: AbstractContextManager[Any] = WAYS[way]()
    with enter:
        await Echo().run()
    run, reply = about(spans.named("invoke_workflow Echo")), about(spans.named("run_step reply"))
    assert [(span["session.id"], span["user.id"]) for span in (run, reply)] == [("s1", "u1")] * 2
    assert run["tag.tags"] == ("a", "b")
    assert run["metadata"] == '{"plan":"pro"}'


async def test_baggage_of_another_process_names_session_user_and_tags_only(spans: SpanLog) -> None:
    with in_baggage(**{"session.id": "s1", "langfuse_user_id": "u1", "tag.tags": "a,b", "metadata": "x", "other": "y"}):
        await Echo().run()
    run = about(spans.named("invoke_workflow Echo"))
    assert (run["session.id"], run["user.id"], run["tag.tags"]) == ("s1", "u1", ("a", "b"))
    assert {"metadata", "other"}.isdisjoint(run)


async def test_our_own_words_win(spans: SpanLog) -> None:
    with values(**{"session.id": "theirs"}), workflows_otel.context(session_id="ours"):
        await Echo().run()
    assert about(spans.named("invoke_workflow Echo"))["session.id"] == "ours"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"tags": "vip"}, "Write tags=\\['vip'\\]"), ({"metadata": ["plan"]}, "takes a mapping .* got list")],
)
def test_a_context_says_what_it_takes(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message), workflows_otel.context(**wrong):
        pass


def test_the_context_goes_into_baggage_without_metadata() -> None:
    with workflows_otel.context(session_id="s1", user_id="ü", tags=["a", "b,c"], metadata={"plan": "pro"}):
        assert dict(baggage.get_all()) == {"session.id": "s1", "tag.tags": "a"}
    assert dict(baggage.get_all()) == {}


@pytest.mark.usefixtures("no_provider")
async def test_spans_of_other_libraries_below_a_step_say_whose_run_it_is(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    with workflows_otel.context(session_id="s1", user_id="u1"):
        handler = CallsClient().run()
        await handler
    telemetry.shutdown()
    stamp = {"workflow.run.id": handler.run_id, "session.id": "s1"}
    assert sink.named("GET").attributes == {**stamp, "user.id": "theirs"}
    assert sink.named("SELECT").attributes == {**stamp, "user.id": "u1"}


@pytest.mark.usefixtures("no_provider")
async def test_an_applications_own_provider_is_stamped_once(sink: OtlpSink) -> None:
    trace.set_tracer_provider(mine := TracerProvider(shutdown_on_exit=False))
    setups = [workflows_otel.setup(otlp(sink.endpoint)) for _ in range(2)]
    processors = mine._active_span_processor._span_processors  # pyright: ignore[reportPrivateUsage]  # no public way
    assert [type(p).__name__ for p in processors] == ["StampingProcessor", "Feeding", "Feeding"]
    for made in setups:
        made.shutdown()


@pytest.mark.usefixtures("no_provider")
async def test_spans_outside_every_run_are_left_alone(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    trace.get_tracer("some.client").start_span("GET").end()
    telemetry.shutdown()
    assert sink.named("GET").attributes == {}


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_spans_of_other_libraries_have_it_with_instrument_alone(when: str) -> None:
    log = SpanLog()
    if when == "before":
        trace.set_tracer_provider(log.provider)
    workflows_otel.instrument(start_marker=False)
    if when == "after":
        trace.set_tracer_provider(log.provider)
    with workflows_otel.context(session_id="s1"):
        handler = CallsClient().run()
        await handler
    for span in (log.named("GET"), log.named("SELECT")):
        assert (about(span)["workflow.run.id"], about(span)["session.id"]) == (handler.run_id, "s1")


async def test_a_user_may_be_a_number(spans: SpanLog) -> None:
    with workflows_otel.context(user_id=42, session_id=7):
        await Echo().run()
    run = about(spans.named("invoke_workflow Echo"))
    assert (run["user.id"], run["session.id"]) == ("42", "7")


async def test_tags_of_another_process_stay_beside_those_of_a_block(spans: SpanLog) -> None:
    with in_baggage(**{"tag.tags": "theirs"}), workflows_otel.context(tags=["ours"]):
        await Echo().run()
    assert set(about(spans.named("invoke_workflow Echo"))["tag.tags"]) == {"theirs", "ours"}
