"""A run that is suspended and goes on: one trace, one span a segment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation.redaction import MASK
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


async def suspended() -> dict[str, Any]:
    """The snapshot of a run that has waited for a second, as it would be stored."""
    handler = AskPerson(timeout=None).run(patience=None)
    await asyncio.sleep(1)
    return json.loads(json.dumps(await handler.suspend()))


async def answered(snapshot: dict[str, Any]) -> str:
    """What the run gives when it goes on, and is answered after a second."""
    workflow = AskPerson(timeout=None)
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    handler.ctx.send_event(Answer(text="yes"))
    return await handler


async def test_a_resumed_run_continues_its_trace(clock: VirtualClockLoop, spans: SpanLog) -> None:
    assert await answered(await suspended()) == "yes"
    assert spans.outline()[0] == "invoke_workflow AskPerson UNSET suspended"
    first, second = spans.all_named("invoke_workflow AskPerson")
    assert spans.parent(second) == "invoke_workflow AskPerson"
    assert spans.links(second) == [("resumed_from", "invoke_workflow AskPerson")]
    assert [about(span)["workflow.run.segment"] for span in (first, second)] == [0, 1]
    assert about(first)["workflow.run.id"] == about(second)["workflow.run.id"]


async def test_every_segment_is_a_child_of_the_first(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = AskPerson(timeout=None)
    handler = workflow.run(ctx=Context.from_dict(workflow, await suspended()))
    await asyncio.sleep(1)
    await answered(await handler.suspend())
    first, second, third = spans.all_named("invoke_workflow AskPerson")
    assert first.context is not None
    assert second.context is not None
    assert [span.parent.span_id for span in (second, third) if span.parent] == [first.context.span_id] * 2
    assert [link.context.span_id for link in third.links] == [second.context.span_id]


class Tries(Workflow):
    """Fails twice, and waits ten seconds before it tries again."""

    @step(retry_policy=retry_policy(wait=wait_fixed(10), stop=stop_after_attempt(4)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number < 2:
            raise ConnectionError("not yet")
        return StopEvent()


async def test_an_attempt_after_a_suspension_is_linked_to_the_one_before(
    clock: VirtualClockLoop, spans: SpanLog
) -> None:
    workflow = Tries(timeout=None)
    handler = workflow.run()
    for seconds in (1, 1):  # the second suspension is in the same backoff
        await asyncio.sleep(seconds)
        snapshot = json.loads(json.dumps(await handler.suspend()))
        handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await handler
    first, second, third = spans.all_named("attempt fetch")
    assert [spans.links(attempt) for attempt in (first, second, third)] == [
        [],
        [("retry_of", "attempt fetch")],
        [("retry_of", "attempt fetch")],
    ]
    assert first.context is not None
    assert second.links[0].context.span_id == first.context.span_id
    assert ("retry_of", "attempt fetch") in spans.links(spans.all_named("run_step fetch")[-1])


async def test_attempts_before_a_suspension_count(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = Tries(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)  # in the backoff after the first attempt
    await workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    assert [about(span)["workflow.step.attempts"] for span in spans.all_named("run_step fetch")] == [1, 3]


async def test_no_span_is_open_while_a_run_is_suspended(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await suspended()
    assert [span.name for span in spans.finished] == ["run_step ask", "invoke_workflow AskPerson"]


async def test_a_wait_is_drawn_once_with_its_whole_length(clock: VirtualClockLoop, spans: SpanLog) -> None:
    snapshot = await suspended()
    await asyncio.sleep(3600)
    await answered(snapshot)
    wait = about(spans.named("wait Answer"))
    assert (wait["workflow.wait.duration_s"], wait["workflow.wait.crossed_process"]) == (3602.0, True)
    segment = spans.all_named("invoke_workflow AskPerson")[-1]
    assert spans.named("wait Answer").parent == segment.context  # the step that runs again began later than it


@pytest.mark.parametrize(
    ("resume_trace", "days", "same"), [("auto", 2, False), ("continue", 2, True), ("link", 0, False)]
)
async def test_resume_trace(
    clock: VirtualClockLoop, records: RecordLog, resume_trace: Any, days: int, same: bool
) -> None:
    spans = SpanLog()
    workflows_otel.instrument(spans.provider, resume_trace=resume_trace)
    snapshot = await suspended()
    await asyncio.sleep(days * 24 * 3600)
    await answered(snapshot)
    workflows_otel.uninstrument()
    first, second = spans.all_named("invoke_workflow AskPerson")
    assert first.context is not None
    assert second.context is not None
    assert (first.context.trace_id == second.context.trace_id) is same
    assert spans.links(second) == [("resumed_from", "invoke_workflow AskPerson")]


async def test_a_resumed_run_keeps_its_session_and_its_user(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with workflows_otel.context(session_id="visit 7, late", user_id="ann=1"):
        snapshot = await suspended()
    await answered(snapshot)
    assert {(about(span)["session.id"], about(span)["user.id"]) for span in spans.finished} == {
        ("visit 7, late", "ann=1")
    }


async def test_a_resumed_run_keeps_its_tags_and_its_metadata(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with workflows_otel.context(tags=["vip", "beta, new"], metadata={"plan": "gold", "seats": 3, "api_key": "xyz"}):
        snapshot = await suspended()
    with workflows_otel.context(tags=["evening", "vip"], metadata={"seats": 4}):
        await answered(snapshot)
    first, second = (about(span) for span in spans.all_named("invoke_workflow AskPerson"))
    assert first["tag.tags"] == ("vip", "beta, new")
    assert second["tag.tags"] == ("vip", "beta, new", "evening")
    assert json.loads(second["metadata"]) == {"plan": "gold", "seats": 4, "api_key": MASK}
    assert "xyz" not in json.dumps(snapshot["telemetry"])


async def test_who_resumes_a_run_may_say_whose_it_is_now(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with workflows_otel.context(session_id="before"):
        snapshot = await suspended()
    with workflows_otel.context(session_id="now"):
        await answered(snapshot)
    sessions = [about(span)["session.id"] for span in spans.all_named("invoke_workflow AskPerson")]
    assert sessions == ["before", "now"]
