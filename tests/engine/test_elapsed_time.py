"""What counts as elapsed for a retry policy and a handler of failures: the time since the first attempt but waits."""

from __future__ import annotations

import asyncio

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.events import HumanResponseEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.instrumentation.records import StepEnded
from workflows.retry_policy import (
    retry_policy,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    wait_fixed,
    wait_none,
)
from workflows.testing import RecordLog, VirtualClockLoop


class Reply(HumanResponseEvent):
    text: str = ""


class Asks(Workflow):
    """Works 1 s before it asks and 1 s after, and then fails once; the answer comes 100 s later."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_delay(10)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply)
        await asyncio.sleep(1)
        info = ctx.retry_info()
        if info.retry_number == 0:
            raise ConnectionError("for a moment")
        return StopEvent(result=info.elapsed_seconds)


@pytest.mark.parametrize("idle_counts", [True, False])
async def test_a_wait_is_no_time_that_a_policy_counts(clock: VirtualClockLoop, idle_counts: bool) -> None:
    handler = Asks(timeout=None, idle_counts=idle_counts).run()
    await asyncio.sleep(101)
    handler.ctx.send_event(Reply())
    assert await handler == 5  # two attempts of two seconds, and one between them


async def test_a_policy_that_looks_ahead_counts_no_wait_either(clock: VirtualClockLoop) -> None:
    class Ahead(Asks):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_before_delay(10)))
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return await super().ask(ctx, ev)

    handler = Ahead(timeout=None).run()
    await asyncio.sleep(101)
    handler.ctx.send_event(Reply())
    assert await handler == 5


async def test_the_time_in_a_snapshot_is_none_that_a_policy_counts(clock: VirtualClockLoop) -> None:
    workflow = Asks(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(50)
    snapshot = await handler.suspend()
    await asyncio.sleep(1000)
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(10)
    again.ctx.send_event(Reply())
    assert await again == 6  # as above; the second before the wait was worked once more


async def test_the_time_in_a_snapshot_does_not_count_for_a_step_that_ran_or_was_to_be_retried(
    clock: VirtualClockLoop,
) -> None:
    class Works(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(10), stop=stop_after_attempt(2)))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(10)
            if ctx.retry_info().retry_number == 0:
                raise ConnectionError("for a moment")
            return StopEvent(result=ctx.retry_info().elapsed_seconds)

    workflow = Works(timeout=None)
    handler = workflow.run()
    for seconds in (5, 15):  # first it runs, then it is between two attempts
        await asyncio.sleep(seconds)
        snapshot = await handler.suspend()
        await asyncio.sleep(1000)
        handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    assert await handler == 20  # what a snapshot cuts off is not counted: it is worked, or waited for, anew


async def test_a_handler_of_failures_hears_how_long_a_step_has_worked(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    class Mended(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1)
            await ctx.wait_for_event(Reply)
            await asyncio.sleep(2)
            raise ValueError("broken")

        @catch_error
        async def mend(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=ev.elapsed_seconds)

    handler = Mended(timeout=None).run()
    await asyncio.sleep(100)
    handler.ctx.send_event(Reply())
    assert await handler == 3
    assert [r.retry_elapsed for r in records.of(StepEnded)] == [3, None]


async def test_work_beside_a_wait_counts(clock: VirtualClockLoop) -> None:
    class Beside(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.gather(ctx.wait_for_event(Reply), asyncio.sleep(10))
            return StopEvent(result=ctx.retry_info().elapsed_seconds)

    handler = Beside(timeout=None).run()
    await asyncio.sleep(100)
    handler.ctx.send_event(Reply())
    assert await handler == 10


async def test_a_wait_that_its_step_gave_up_does_not_count(clock: VirtualClockLoop) -> None:
    class GivesUp(Workflow):
        @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                async with asyncio.timeout(30):
                    await ctx.wait_for_event(Reply, timeout=None)
            except TimeoutError:
                await asyncio.sleep(1)
            return StopEvent(result=ctx.retry_info().elapsed_seconds)

    assert await GivesUp(timeout=None).run() == 1
