"""Waits: who asked, who answered, how long it took; also where the run itself waits, and across a suspension."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from tests.workflows_otel.flows import Answer, AskPerson, Form, Question, Work
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop


class Streams(Workflow):
    """Its question goes to the stream alone."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> None:
        ctx.write_event_to_stream(Question(text="really?"))

    @step
    async def answered(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


async def _answered(workflow: Workflow, *, suspended: bool = False) -> str:
    """What a run gives that is answered after two seconds; maybe it is stored and taken up again after one."""
    handler = workflow.run()
    await asyncio.sleep(1)
    if suspended:
        snapshot = json.loads(json.dumps(await handler.suspend()))
        handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    handler.ctx.send_event(Answer(text="yes"))
    return await handler


@pytest.mark.parametrize("workflow", [Form, Streams])
async def test_a_wait_of_the_run_says_which_step_asked(
    clock: VirtualClockLoop, spans: SpanLog, workflow: type[Workflow]
) -> None:
    assert await _answered(workflow(timeout=None)) == "yes"
    wait, ask = spans.named("wait Answer"), spans.named("run_step ask")
    assert ask.context is not None
    assert spans.parent(wait) == f"invoke_workflow {workflow.__name__}"
    assert spans.links(wait) == [("trigger", "run_step ask")]
    assert about(wait)["workflow.cause.span_ids"] == (f"{ask.context.span_id:016x}",)
    assert (about(wait)["workflow.step.name"], about(wait)["workflow.wait.question.type"]) == ("ask", "Question")


async def test_a_wait_of_the_run_names_the_question_as_the_step_that_gave_it(
    clock: VirtualClockLoop, spans: SpanLog
) -> None:
    await _answered(Form(timeout=None))
    question = about(spans.named("wait Answer"))["workflow.wait.question.id"]
    assert about(spans.named("run_step ask"))["workflow.emitted"] == (f"Question:{question}",)


class Panel(Workflow):
    """Each of three calls returns a question."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Work | None:
        for n in range(3):
            ctx.send_event(Work(n=n))

    @step(num_workers=3)
    async def ask(self, ev: Work) -> Question:
        return Question(text=str(ev.n))

    @step
    async def answered(self, ctx: Context, ev: Answer) -> StopEvent | None:
        found = ctx.collect_events(ev, [Answer] * 3)
        return StopEvent(result=[answer.text for answer in found]) if found else None


async def test_each_question_of_a_run_has_a_wait_and_its_own_answer(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = Panel(timeout=None)
    handler = workflow.run()
    for text in ("first", "second", "third"):
        await asyncio.sleep(1)
        snapshot: dict[str, Any] = json.loads(json.dumps(await handler.suspend()))
        handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
        # The one that was asked last is answered first.
        handler.ctx.send_event(Answer(text=text), wait_id=snapshot["telemetry"]["waits"][-1]["id"])
    assert await handler == ["first", "second", "third"]
    waits = [about(span) | {"length": _length(span)} for span in spans.all_named("wait Answer")]
    asked = [about(span)["workflow.emitted"] for span in spans.all_named("run_step ask")]
    assert [(f"Question:{wait['workflow.wait.question.id']}",) for wait in waits] == asked[::-1]
    assert [(wait["workflow.wait.outcome"], wait["length"]) for wait in waits] == [
        ("resolved", pytest.approx(n)) for n in (1.0, 2.0, 3.0)
    ]


def _length(wait: ReadableSpan) -> float:
    return ((wait.end_time or 0) - (wait.start_time or 0)) / 1e9


async def test_a_wait_of_the_run_is_drawn_once_with_its_whole_length(clock: VirtualClockLoop, spans: SpanLog) -> None:
    assert await _answered(Form(timeout=None), suspended=True) == "yes"
    wait = spans.named("wait Answer")
    assert _length(wait) == pytest.approx(2.0)
    assert about(wait)["workflow.wait.crossed_process"] is True
    assert about(wait)["workflow.step.name"] == "ask"


async def test_a_wait_of_the_run_may_cross_several_suspensions(clock: VirtualClockLoop, spans: SpanLog) -> None:
    workflow = Form(timeout=None)
    handler = workflow.run()
    for _ in range(3):
        await asyncio.sleep(10)
        snapshot: dict[str, Any] = json.loads(json.dumps(await handler.suspend()))
        handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    handler.ctx.send_event(Answer(text="yes"))
    await handler
    assert _length(spans.named("wait Answer")) == pytest.approx(30.0)


async def test_an_answered_wait_says_what_answered_it(clock: VirtualClockLoop, spans: SpanLog) -> None:
    await _answered(Form(timeout=None))
    wait = about(spans.named("wait Answer"))
    assert [wait[f"workflow.event.{name}"] for name in ("id", "type", "source")] == ["x1", "Answer", "external"]


async def test_a_wait_that_timed_out_was_ended_by_a_timer(clock: VirtualClockLoop, spans: SpanLog) -> None:
    with pytest.raises(TimeoutError):
        await AskPerson().run(patience=5)
    assert about(spans.named("wait Answer"))["workflow.event.source"] == "timer"


async def test_a_cancelled_run_says_why(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Form(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    run = spans.named("invoke_workflow Form")
    assert about(run)["workflow.cancel.reason"] == "workflow cancelled by user"
    assert [dict(event.attributes or {}) for event in run.events if event.name == "workflow.cancelled"] == [
        {"workflow.cancel.reason": "workflow cancelled by user"}
    ]


class Parent(Workflow):
    """Runs a child that nobody answers."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Form(timeout=None).run())


async def test_a_child_that_is_cancelled_with_its_parent_says_so(clock: VirtualClockLoop, spans: SpanLog) -> None:
    handler = Parent(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert "step call" in about(spans.named("invoke_workflow Form"))["workflow.cancel.reason"]
