"""What one event answers in hundreds goes on in pieces: what happens in between finds every wait answered, and once."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.engine.flows import A, Reply, Told
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import StepStarted, WaitCancelled, WaitResolved, WaitStarted, WaitTimedOut
from workflows.testing import RecordLog, VirtualClockLoop

MANY = 300  # 40 go on in one turn
PATIENCE = 30


class Asking(Workflow):
    """Every branch waits for an answer, and the run ends with all that they got."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(MANY)]

    @step(num_workers=MANY)
    async def ask(self, ctx: Context, ev: A) -> Told:
        try:
            answer = await ctx.wait_for_event(Reply, waiter_id=f"{ev.n}", timeout=PATIENCE)
        except TimeoutError:
            return Told(text="nothing")
        return Told(text=answer.text)

    @step
    async def join(self, events: list[Told]) -> StopEvent:
        return StopEvent(result=Counter(event.text for event in events))


async def half_answered() -> WorkflowHandler:
    """A run in which one event has answered all waits, and some of the steps that waited go on."""
    handler = Asking(timeout=None).run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="first"))
    for _ in range(4):
        await asyncio.sleep(0)
    return handler


async def test_a_second_event_answers_nothing_again(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = await half_answered()

    await handler.send_event(Reply(text="second"))

    assert await handler == {"first": MANY}
    assert len(records.of(WaitResolved)) == MANY


async def test_a_snapshot_has_every_answer(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = await half_answered()
    assert 0 < len(records.of(WaitResolved)) < MANY
    workflow = Asking(timeout=None)

    context = Context.from_dict(workflow, handler.ctx.to_dict())

    assert await workflow.run(ctx=context) == {"first": MANY}
    assert await handler == {"first": MANY}
    assert len(records.of(WaitStarted)) == MANY, "no wait begins again"


async def test_a_run_that_is_suspended_has_every_answer(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = await half_answered()

    await handler.suspend()

    assert len(records.of(WaitResolved)) == MANY
    workflow = Asking(timeout=None)
    assert await workflow.run(ctx=Context.from_dict(workflow, handler.ctx.to_dict())) == {"first": MANY}
    assert len(records.of(WaitStarted)) == MANY, "no wait begins again"


async def test_a_wait_that_was_answered_is_not_late(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Asking(timeout=None).run()
    moment_before = clock.time() + PATIENCE - 1e-10  # the timers are due in the same turn
    clock.call_at(moment_before, lambda: handler.ctx.send_event(Reply(text="just in time")))

    assert await handler == {"just in time": MANY}
    assert not records.of(WaitTimedOut)


async def test_a_list_that_is_given_out_meanwhile(clock: VirtualClockLoop) -> None:
    class Both(Asking):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            await asyncio.sleep(2)
            return [A(n=i) for i in range(MANY)]

    handler = Both(timeout=None).run()
    await asyncio.sleep(2)
    for _ in range(5):
        await asyncio.sleep(0)
    await handler.send_event(Reply(text="first"))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="second"))

    result = await handler
    assert sum(result.values()) == MANY
    assert result["first"] > 0
    assert result["second"] > 0


async def test_steps_that_are_cancelled_meanwhile(clock: VirtualClockLoop, records: RecordLog) -> None:
    class Hasty(Asking):
        @step(num_workers=MANY, timeout=5)
        async def ask(self, ctx: Context, ev: A) -> Told:
            waiting = asyncio.create_task(ctx.wait_for_event(Reply, waiter_id=f"{ev.n}"))
            await asyncio.sleep(1)
            waiting.cancel()
            return Told(text="gave up")

    handler = Hasty(timeout=None).run()
    clock.call_at(clock.time() + 1, lambda: handler.ctx.send_event(Reply(text="late")))

    assert await handler == {"gave up": MANY}
    ended = len(records.of(WaitResolved)) + len(records.of(WaitCancelled))
    assert ended == len(records.of(WaitStarted)) == len(records.of(StepStarted)) - 2
