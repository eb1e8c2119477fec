"""Readers of a stream: what each gets, what none has got, and how fast a step may write."""

from __future__ import annotations

import asyncio

import pytest

from workflows import Context, Workflow, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop


class Progress(Event):
    n: int


class Ask(InputRequiredEvent):
    pass


class Reply(HumanResponseEvent):
    pass


class Asks(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(ev.n):
            ctx.write_event_to_stream(Progress(n=n))
        await ctx.wait_for_event(Reply, waiter_event=Ask())
        return StopEvent()


async def test_what_a_reader_of_questions_passed_over_is_read_when_the_run_goes_on(clock: VirtualClockLoop) -> None:
    workflow = Asks()
    handler = workflow.run(n=3)
    async for _ in handler.stream_events(types=Ask):
        break
    again = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    again.ctx.send_event(Reply())
    seen = [event async for event in again.stream_events()]
    assert [e.n for e in seen if isinstance(e, Progress)][:3] == [0, 1, 2]
    assert [type(e) for e in seen].count(Ask) == 0, "that one has been read"


async def test_a_reader_that_comes_too_late_is_told_where_to_start(clock: VirtualClockLoop) -> None:
    handler = Asks(stream_buffer=10).run(n=50)
    await handler.send_event(Reply())
    await handler
    with pytest.raises(WorkflowRuntimeError, match=r"start=(\d+)") as late:
        await anext(handler.stream_events())
    start = int(str(late.value).partition("start=")[2].partition(")")[0])
    assert [e.n async for e in handler.stream_events(start=start, types=Progress)] == list(range(start, 50))


class Pours(Workflow):
    """Streams ten events, no more than two ahead of its readers."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
        times: list[float] = []
        for n in range(10):
            await ctx.stream_event(Progress(n=n), ahead=2)
            times.append(asyncio.get_running_loop().time())
        return StopEvent(result=times)


async def test_a_step_may_stream_no_faster_than_its_reader_reads(clock: VirtualClockLoop) -> None:
    handler = Pours().run()
    async for _ in handler.stream_events():
        await asyncio.sleep(1)
    assert await handler == [0, 0, *range(8)]


async def test_a_step_does_not_wait_for_a_reader_that_has_left(clock: VirtualClockLoop) -> None:
    handler = Pours().run()
    async for event in handler.stream_events():
        await asyncio.sleep(1)
        if isinstance(event, Progress) and event.n == 3:
            break
    assert (await handler)[-1] == 4


async def test_a_step_waits_for_nobody_where_nobody_reads(clock: VirtualClockLoop) -> None:
    assert await Pours().run() == [0] * 10


async def test_a_cancel_ends_a_step_that_waits_for_its_reader(clock: VirtualClockLoop) -> None:
    handler = Pours().run()
    reader = handler.stream_events()
    await asyncio.sleep(1)
    assert not handler.is_done()
    await handler.cancel_run()
    assert [type(e).__name__ async for e in reader] == ["Progress"] * 3 + ["WorkflowCancelledEvent"]
