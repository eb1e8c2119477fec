"""What counts as only waiting: a body that does nothing else, in whichever tasks; all else is work that is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.engine.flows import A, B, Reply
from workflows import Context, Workflow, step
from workflows.errors import StepTimeoutError, WorkflowTimeoutError
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop

Way = Callable[[Context], Awaitable[object]]


class Stop(HumanResponseEvent):
    pass


class Does(Workflow):
    """One step that waits in some way."""

    @step
    async def do(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ev.way(ctx)
        return StopEvent(result="done")


class DoesInTime(Does):
    @step(timeout=5)
    async def do(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return await Does.do(self, ctx, ev)


class AsksAlone(Workflow):
    """Works a second before and after it asks somebody, who answers at second 100."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        asyncio.get_running_loop().call_at(100, ctx.send_event, Reply())
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply, timeout=None)
        await asyncio.sleep(1)
        return StopEvent()


async def reply(ctx: Context) -> None:
    await ctx.wait_for_event(Reply, timeout=None)


def listening(ctx: Context) -> asyncio.Task[None]:
    return asyncio.create_task(reply(ctx))


async def alone(ctx: Context) -> None:
    await reply(ctx)


async def in_a_task(ctx: Context) -> None:
    await listening(ctx)


async def gathered(ctx: Context) -> None:
    await asyncio.gather(reply(ctx), asyncio.gather(reply(ctx), reply(ctx)))


async def all_of_some(ctx: Context) -> None:
    await asyncio.wait([listening(ctx), listening(ctx)])


async def polled(ctx: Context) -> None:
    listener = listening(ctx)
    while not listener.done():
        await asyncio.wait([listener], timeout=3)


async def limited(ctx: Context) -> None:
    await asyncio.wait_for(reply(ctx), 1000)


async def limited_task(ctx: Context) -> None:
    await asyncio.wait_for(listening(ctx), 1000)


async def in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(reply(ctx))


async def after_work(ctx: Context) -> None:
    listener = listening(ctx)
    await asyncio.sleep(3)
    await listener


async def beside_short_work(ctx: Context) -> None:
    await asyncio.gather(reply(ctx), asyncio.sleep(3))


async def for_a_run(ctx: Context) -> None:
    await AsksAlone(timeout=None).run()


async def for_runs(ctx: Context) -> None:
    await asyncio.gather(*(asyncio.wait_for(AsksAlone(timeout=None).run(), 1000) for _ in range(3)))


async def for_a_run_below_a_run(ctx: Context) -> None:
    await Does(timeout=None).run(way=for_a_run)


async def for_a_run_that_streams(ctx: Context) -> None:
    handler = AsksAlone(timeout=None).run()
    async for _ in handler.stream_events():
        pass
    await handler


async def for_a_run_and_a_reply(ctx: Context) -> None:
    await asyncio.gather(AsksAlone(timeout=None).run(), reply(ctx))


async def for_a_run_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(AsksAlone(timeout=None).run().stop_event_result())


WAITS: list[Way] = [
    alone, in_a_task, gathered, all_of_some, polled, limited, limited_task, in_a_group, after_work, beside_short_work,
]  # fmt: skip
AWAITS: list[Way] = [
    for_a_run, for_runs, for_a_run_below_a_run, for_a_run_that_streams, for_a_run_and_a_reply, for_a_run_in_a_group,
]  # fmt: skip


async def working(ctx: Context) -> None:
    listener = listening(ctx)
    await asyncio.sleep(100)
    listener.cancel()


async def working_in_pieces(ctx: Context) -> None:
    listener = listening(ctx)
    for _ in range(100):
        await asyncio.sleep(1)
    listener.cancel()


async def working_beside(ctx: Context) -> None:
    await asyncio.wait([listening(ctx), asyncio.create_task(asyncio.sleep(100))], return_when="FIRST_COMPLETED")


async def working_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(reply(ctx))
        group.create_task(asyncio.sleep(100))


async def working_in_a_task_that_came_later(ctx: Context) -> None:
    async def more(group: asyncio.TaskGroup) -> None:
        await asyncio.sleep(1)
        group.create_task(asyncio.sleep(100))

    async with asyncio.TaskGroup() as group:
        group.create_task(reply(ctx))
        group.create_task(more(group))


async def working_beside_a_run(ctx: Context) -> None:
    handler = AsksAlone(timeout=None).run()
    await asyncio.sleep(100)
    await handler.cancel_run()


async def awaiting_a_run_that_works(ctx: Context) -> None:
    await asyncio.gather(reply(ctx), Does(timeout=None).run(way=working))


async def awaiting_a_run_beside_one_that_works(ctx: Context) -> None:
    await asyncio.gather(AsksAlone(timeout=None).run(), Does(timeout=None).run(way=working))


WORKS: list[Way] = [
    working, working_in_pieces, working_beside, working_in_a_group, working_in_a_task_that_came_later,
    working_beside_a_run, awaiting_a_run_that_works, awaiting_a_run_beside_one_that_works,
]  # fmt: skip


@pytest.mark.parametrize("way", [*WAITS, *AWAITS])
async def test_the_time_in_which_a_run_only_waits_does_not_count(clock: VirtualClockLoop, way: Way) -> None:
    handler = Does(timeout=5, idle_counts=False).run(way=way)
    for second in (100, 200, 300):
        clock.call_at(second, handler.ctx.send_event, Reply())
    assert await handler == "done"


@pytest.mark.parametrize("way", [*WAITS, *AWAITS])
async def test_the_time_in_which_a_step_only_waits_does_not_count(clock: VirtualClockLoop, way: Way) -> None:
    handler = DoesInTime(timeout=None, idle_counts=False).run(way=way)
    for second in (100, 200, 300):
        clock.call_at(second, handler.ctx.send_event, Reply())
    assert await handler == "done"


@pytest.mark.parametrize("way", WORKS)
async def test_the_time_in_which_a_run_works_beside_a_wait_counts(clock: VirtualClockLoop, way: Way) -> None:
    with pytest.raises(WorkflowTimeoutError):
        await Does(timeout=5, idle_counts=False).run(way=way)
    assert clock.time() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("way", WORKS)
async def test_the_time_in_which_a_step_works_beside_a_wait_counts(clock: VirtualClockLoop, way: Way) -> None:
    with pytest.raises(StepTimeoutError, match="took longer than 5 seconds"):
        await DoesInTime(timeout=None, idle_counts=False).run(way=way)
    assert clock.time() == pytest.approx(5, abs=0.1)


async def given_up(ctx: Context) -> None:
    for way in (reply, in_a_group, for_a_run):
        with suppress(TimeoutError):
            await asyncio.wait_for(way(ctx), 50)


@pytest.mark.parametrize("of_run", [True, False])
@pytest.mark.parametrize("way", [*WAITS, *AWAITS, given_up])
async def test_what_follows_waits_counts(clock: VirtualClockLoop, way: Way, of_run: bool) -> None:
    waited: list[float] = []

    async def waits_then_works(ctx: Context) -> None:
        await way(ctx)
        waited.append(clock.time())
        await asyncio.sleep(100)

    workflow = Does(timeout=5, idle_counts=False) if of_run else DoesInTime(timeout=None, idle_counts=False)
    handler = workflow.run(way=waits_then_works)
    if way is not given_up:
        for second in (100, 200, 300):
            clock.call_at(second, handler.ctx.send_event, Reply())
    with pytest.raises(WorkflowTimeoutError):
        await handler
    assert waited[0] < clock.time() <= waited[0] + 5.1


async def test_a_step_pays_for_what_a_run_that_it_awaits_does_between_its_waits(clock: VirtualClockLoop) -> None:
    async def talks(ctx: Context) -> None:
        for _ in range(4):
            await AsksAlone(timeout=None).run()

    with pytest.raises(StepTimeoutError):
        await DoesInTime(timeout=None, idle_counts=False).run(way=talks)
    assert clock.time() == pytest.approx(104)


async def test_a_later_step_pays_while_a_run_of_an_earlier_one_waits(clock: VirtualClockLoop) -> None:
    class Leaves(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            AsksAlone(timeout=None).run()
            return A()

        @step
        async def work(self, ev: A) -> StopEvent:
            await asyncio.sleep(100)
            return StopEvent()

    with pytest.raises(WorkflowTimeoutError):
        await Leaves(timeout=5, idle_counts=False).run()
    assert clock.time() == pytest.approx(5)


async def test_the_timeout_of_a_step_names_the_waits_of_the_runs_that_it_awaits(clock: VirtualClockLoop) -> None:
    with pytest.raises(StepTimeoutError, match=r"Open waits of runs .* ask of AsksAlone for Reply \(3 times\).*idle_"):
        await DoesInTime(timeout=None).run(way=for_runs)


async def test_a_step_that_waits_while_it_works_keeps_its_worker(clock: VirtualClockLoop) -> None:
    class OneAtATime(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(4)]

        @step(num_workers=1)
        async def work(self, ctx: Context, ev: A) -> B:
            await working(ctx)
            return B()

        @step
        async def end(self, evs: list[B]) -> StopEvent:
            return StopEvent(result=asyncio.get_running_loop().time())

    assert await OneAtATime(timeout=None).run() == pytest.approx(400)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("loser_awaited", [True, False])
async def test_a_race_that_is_won_has_the_worker_for_what_follows(
    clock: VirtualClockLoop, loser_awaited: bool, early: bool
) -> None:
    spans: list[tuple[float, float]] = []

    class Races(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(3)]

        @step(num_workers=1)
        async def race(self, ctx: Context, ev: A) -> B:
            answer = asyncio.create_task(ctx.wait_for_event(Reply, requirements={"n": ev.n}))
            tasks = [answer, asyncio.create_task(ctx.wait_for_event(Stop))]
            await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            tasks[1].cancel()
            if loser_awaited:
                await asyncio.gather(tasks[1], return_exceptions=True)
            begun = clock.time()
            await asyncio.sleep(10)
            spans.append((begun, clock.time()))
            return B()

        @step
        async def end(self, evs: list[B]) -> StopEvent:
            return StopEvent()

    handler = Races(timeout=None).run()
    if not early:
        await asyncio.sleep(5)
    for n in range(3):
        handler.ctx.send_event(Reply(n=n))
    await handler
    assert spans == ([(0, 10), (10, 20), (20, 30)] if early else [(5, 15), (15, 25), (25, 35)])


async def test_a_step_that_works_again_has_its_worker_back(clock: VirtualClockLoop) -> None:
    spans: list[tuple[float, float]] = []

    class Polls(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(2)]

        @step(num_workers=1)
        async def poll(self, ctx: Context, ev: A) -> B:
            listener = listening(ctx)
            await asyncio.wait([listener], timeout=3 + 20 * ev.n)
            begun = asyncio.get_running_loop().time()
            await asyncio.sleep(10)
            spans.append((begun, asyncio.get_running_loop().time()))
            listener.cancel()
            return B()

        @step
        async def end(self, evs: list[B]) -> StopEvent:
            return StopEvent()

    await Polls(timeout=None).run()
    assert spans == [(3, 13), (23, 33)]
