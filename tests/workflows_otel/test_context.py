"""Whose child is what: the caller's span, the step's own, what a step calls, child runs, and links from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, FanOut, Flaky
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.events import InputRequiredEvent, StartEvent, StopEvent
from workflows.testing import RecordLog, VirtualClockLoop


class Calls(Workflow):
    """Its step does `what`, inside a span of its own."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with ev.get("tracer").start_as_current_span("inside"):
            what = ev.get("what")
            return StopEvent(result=await what() if what else None)


class InThread(Workflow):
    @step
    def call(self, ev: StartEvent) -> StopEvent:
        with ev.get("tracer").start_as_current_span("inside"):
            return StopEvent()


class TakesOrders(Workflow):
    """Ends with the first answer from outside."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def take(self, ev: Answer) -> StopEvent:
        return StopEvent()


@pytest.fixture
def tracer(spans: SpanLog) -> trace.Tracer:
    return spans.provider.get_tracer("the.application")


async def test_what_a_step_calls_is_its_child(spans: SpanLog, tracer: trace.Tracer) -> None:
    await Calls().run(tracer=tracer, what=None)
    assert spans.parent(spans.named("inside")) == "run_step call"


async def test_what_a_synchronous_step_calls_is_its_child(spans: SpanLog, tracer: trace.Tracer) -> None:
    await InThread().run(tracer=tracer)
    assert spans.parent(spans.named("inside")) == "run_step call"


async def test_what_a_retried_step_calls_is_a_child_of_the_attempt(spans: SpanLog, tracer: trace.Tracer) -> None:
    await Flaky(failures=0).run()
    assert spans.parent(spans.named("attempt fetch")) == "run_step fetch"


async def test_a_run_is_a_child_of_the_callers_span(spans: SpanLog, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("request"):
        await Echo().run()
    assert spans.parent(spans.named("invoke_workflow Echo")) == "request"


async def test_a_child_run_is_a_child_of_the_step_that_calls_it(spans: SpanLog, tracer: trace.Tracer) -> None:
    await Calls().run(tracer=tracer, what=lambda: Echo().run())
    echo = spans.named("invoke_workflow Echo")
    assert spans.parent(echo) == "inside"
    assert about(echo)["gen_ai.workflow.nested"] is True
    assert about(echo)["workflow.parent_run.id"] == _run_id(spans, "invoke_workflow Calls")
    assert about(echo)["workflow.root_run.id"] == _run_id(spans, "invoke_workflow Calls")


async def test_the_callers_span_is_current_again_after_a_run(
    clock: VirtualClockLoop, spans: SpanLog, tracer: trace.Tracer
) -> None:
    with tracer.start_as_current_span("request") as request:
        await FanOut().run(n=2)
        assert trace.get_current_span() is request


async def test_runs_side_by_side_do_not_share_spans(spans: SpanLog, tracer: trace.Tracer) -> None:
    await asyncio.gather(*(Calls().run(tracer=tracer, what=None) for _ in range(3)))
    assert len({span.context.trace_id for span in spans.all_named("inside") if span.context}) == 3


async def test_an_answer_from_outside_links_to_the_senders_span(
    clock: VirtualClockLoop, spans: SpanLog, tracer: trace.Tracer
) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(1)
    with tracer.start_as_current_span("webhook"):
        handler.ctx.send_event(Answer(text="yes"))
    await handler
    assert spans.links(spans.named("wait Answer")) == [("wait_resolved_by", "webhook")]


async def test_a_step_triggered_from_outside_links_to_the_senders_span(
    clock: VirtualClockLoop, spans: SpanLog, tracer: trace.Tracer
) -> None:
    handler = TakesOrders().run()
    await asyncio.sleep(1)
    with tracer.start_as_current_span("webhook"):
        handler.ctx.send_event(Answer(text="yes"))
    await handler
    assert spans.links(spans.named("run_step take")) == [("external_sender", "webhook")]
    assert about(spans.named("run_step take"))["workflow.event.source"] == "external"


@pytest.mark.parametrize(
    ("run_parent", "parent", "links"),
    [
        ("child", "request", []),
        ("link", None, [("spawned_by", "request")]),
        ("root", None, []),
        ("auto", "request", []),
    ],
)
async def test_run_parent(records: RecordLog, run_parent: Any, parent: str | None, links: list[Any]) -> None:
    spans = SpanLog()
    workflows_otel.instrument(spans.provider, run_parent=run_parent)
    with spans.provider.get_tracer("app").start_as_current_span("request"):
        await Echo().run()
    workflows_otel.uninstrument()
    run = spans.named("invoke_workflow Echo")
    assert (spans.parent(run), spans.links(run)) == (parent, links)


async def test_identity_is_on_every_span(spans: SpanLog) -> None:
    with workflows_otel.context(session_id="s1", user_id="u1", tags=["beta"], metadata={"plan": "free"}):
        await Flaky(failures=0).run()
    assert {about(span)["session.id"] for span in spans.finished} == {"s1"}
    assert {about(span)["user.id"] for span in spans.finished} == {"u1"}
    run = about(spans.named("invoke_workflow Flaky"))
    assert (run["tag.tags"], run["metadata"]) == (("beta",), '{"plan":"free"}')


async def test_identity_can_come_from_baggage(spans: SpanLog) -> None:
    token = otel_context.attach(baggage.set_baggage("session.id", "from-the-edge"))
    await Echo().run()
    otel_context.detach(token)
    assert {about(span)["session.id"] for span in spans.finished} == {"from-the-edge"}


async def test_a_run_that_is_not_sampled_draws_nothing(clock: VirtualClockLoop, records: RecordLog) -> None:
    spans = SpanLog(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    workflows_otel.instrument(spans.provider, content="full", redact=_must_not_be_called)
    assert await FanOut().run(n=2) == 1
    workflows_otel.uninstrument()
    assert spans.finished == ()


async def test_the_start_marker_is_exported_before_the_run_ends(records: RecordLog) -> None:
    spans = SpanLog()
    workflows_otel.instrument(spans.provider)
    await Echo().run()
    workflows_otel.uninstrument()
    assert [span.name for span in spans.finished] == ["workflow.started", "run_step reply", "invoke_workflow Echo"]


async def test_uninstrument_closes_open_spans_as_interrupted(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(1)
    workflows_otel.uninstrument(spans.provider)
    await handler.cancel_run()
    assert spans.outline() == [
        "invoke_workflow AskPerson UNSET interrupted",
        "  run_step ask UNSET interrupted",
    ]


def _run_id(spans: SpanLog, name: str) -> Any:
    return about(spans.named(name))["workflow.run.id"]


def _must_not_be_called(path: str, value: Any) -> Any:
    raise AssertionError(f"{path} was looked at")


class Chains(Workflow):
    """Two steps, of which the first runs a child."""

    @step
    async def first(self, ev: StartEvent) -> Answer:
        await Echo().run()
        return Answer(text="on")

    @step
    async def second(self, ev: Answer) -> StopEvent:
        return StopEvent()


async def test_two_providers_draw_a_tree_each(spans: SpanLog) -> None:
    other = SpanLog()
    workflows_otel.instrument(other.provider, start_marker=False)
    await Chains().run()
    workflows_otel.uninstrument(other.provider)
    outline = [
        "invoke_workflow Chains OK completed",
        "  run_step first OK completed",
        "    invoke_workflow Echo OK completed",
        "      run_step reply OK completed",
        "  run_step second OK completed",
    ]
    assert [spans.outline(), other.outline()] == [outline, outline]
    for log in (spans, other):
        assert log.links(log.named("run_step second")) == [("trigger", "run_step first")]
