"""An idle run that asked a person waits as a run: once, with its question, and on after a suspension."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.records import WaitCancelled, WaitRecord, WaitResolved, WaitStarted
from workflows.plugins.basic import basic_runtime
from workflows.testing import RecordLog, VirtualClockLoop


class Ask(InputRequiredEvent):
    prompt: str


class Reply(HumanResponseEvent):
    text: str


class Form(Workflow):
    """The seeds' way of asking a person."""

    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask(prompt="number?")

    @step
    async def answer(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


class Nudge(Event):
    pass


class Patient(Workflow):
    """Asks, and meanwhile waits in a step for what does not come."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Ask | Nudge:
        ctx.send_event(Nudge())
        return Ask(prompt="number?")

    @step
    async def nudge(self, ctx: Context, ev: Nudge) -> None:
        try:
            await ctx.wait_for_event(Event, timeout=10)
        except TimeoutError:
            return

    @step
    async def answer(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


def _of_the_run(records: RecordLog) -> list[WaitRecord]:
    return [record for record in records.of(WaitRecord) if record.kind == "run"]


async def _stored(handler: Any) -> dict[str, Any]:
    return json.loads(json.dumps(await handler.suspend()))


async def test_its_wait_goes_on_after_a_suspension(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Form(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(10)
    handler = workflow.run(ctx=Context.from_dict(workflow, await _stored(handler)))
    await asyncio.sleep(5)
    handler.ctx.send_event(Reply(text="42"))
    assert await handler == "42"
    began, again, resolved = _of_the_run(records)
    assert [type(record) for record in (began, again, resolved)] == [WaitStarted, WaitStarted, WaitResolved]
    assert len({(record.wait_id, record.started_at_ns) for record in (began, again, resolved)}) == 1
    assert resolved.at_ns - resolved.started_at_ns == 15 * 10**9


async def test_its_wait_is_listed_in_the_snapshot(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Form(timeout=None).run()
    await asyncio.sleep(10)
    snapshot = await _stored(handler)
    (began,) = records.of(WaitStarted)
    assert snapshot["telemetry"]["waits"] == [{"id": began.wait_id, "type": "Reply", "started_at": began.started_at_ns}]


async def test_its_wait_tells_the_question_and_the_step_that_asked(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Form(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    started, cancelled = _of_the_run(records)
    assert isinstance(cancelled, WaitCancelled)
    for record in (started, cancelled):
        assert record.question is not None
        assert (record.question.sender_step, record.question.event) == ("ask", Ask(prompt="number?"))


async def test_work_in_between_does_not_begin_another_wait(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Patient(timeout=None).run()
    await asyncio.sleep(60)
    handler.ctx.send_event(Reply(text="42"))
    assert await handler == "42"
    started, resolved = _of_the_run(records)
    assert (started.wait_id, resolved.at_ns - resolved.started_at_ns) == (resolved.wait_id, 60 * 10**9)


async def test_a_journal_knows_since_when_a_run_waits(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Form(timeout=None)
    handler = workflow.run()
    journal = basic_runtime.journal(handler.run_id)
    lines = [await anext(journal)]
    await asyncio.sleep(10)
    await handler.cancel_run()
    lines += [line async for line in journal if "CancelRequested" not in line.data]
    handler = workflow.run(ctx=basic_runtime.restore(workflow, None, lines))
    await asyncio.sleep(5)
    handler.ctx.send_event(Reply(text="42"))
    assert await handler == "42"
    *_, resolved = _of_the_run(records)
    assert resolved.at_ns - resolved.started_at_ns == 15 * 10**9


@pytest.mark.parametrize("read", [False, True])
async def test_a_cancelled_run_that_goes_on_asks_its_question_again(clock: VirtualClockLoop, read: bool) -> None:
    workflow = Form(timeout=5)
    handler = workflow.run()
    if read:
        assert isinstance(await anext(handler.stream_events()), Ask)
    await asyncio.sleep(1)
    await handler.cancel_run()
    again = workflow.run(ctx=handler.ctx)
    shown: list[type[Event]] = []
    async for event in again.stream_events():
        shown.append(type(event))
        if isinstance(event, Ask):
            await again.send_event(Reply(text="7"))
    assert (shown, await again) == ([Ask, StopEvent], "7")
