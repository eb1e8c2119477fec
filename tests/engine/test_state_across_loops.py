"""Writers of the state take turns, whichever event loop and thread they are on."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.states import Store
from workflows import Context, Workflow, step
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.events import Event, StartEvent, StopEvent


class Part(Event):
    pass


class Done(Event):
    pass


class Counts(Workflow):
    """Eight steps count up, those that are plain functions on event loops of their own."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> list[Part]:
        await ctx.store.set("n", 0)
        return [Part() for _ in range(8)]

    @step(num_workers=8)
    def in_thread(self, ctx: Context, ev: Part) -> Done:
        asyncio.run(_count_up(ctx))
        return Done()

    @step(num_workers=8)
    async def on_loop(self, ctx: Context, ev: Part) -> Done:
        await _count_up(ctx)
        return Done()

    @step
    async def end(self, ctx: Context, evs: list[Done]) -> StopEvent:
        return StopEvent(result=[len(evs), await ctx.store.get("n")])


async def _count_up(ctx: Context) -> None:
    async with ctx.store.edit_state() as state:
        n = state.n
        for _ in range(5):
            await asyncio.sleep(0)
        state.n = n + 1


async def test_no_update_is_lost_between_steps_and_threads() -> None:
    assert await Counts().run() == [16, 16]


async def test_a_writer_that_is_cancelled_while_it_waits_passes_its_turn_on() -> None:
    store: Store = InMemoryStateStore(DictState(n=0))
    async with store.edit_state():
        waiting = [asyncio.create_task(store.set("n", n)) for n in (1, 2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.wait(waiting)
    assert await store.get("n") == 2


async def test_a_writer_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    store: Store = InMemoryStateStore(DictState(n=0))
    async with store.edit_state():
        waiting = [asyncio.create_task(store.set("n", n)) for n in (1, 2)]
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert await store.get("n") == 2


def test_a_writer_whose_loop_is_gone_holds_nobody_up() -> None:
    store: Store = InMemoryStateStore(DictState(n=0))
    loop = asyncio.new_event_loop()
    editing = store.edit_state()
    loop.run_until_complete(editing.__aenter__())
    loop.close()
    asyncio.run(store.set("n", 1))
    assert asyncio.run(store.get("n")) == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_runs_of_several_event_loops_may_share_a_context(threads: int) -> None:
    store: Store = InMemoryStateStore(DictState(n=0))

    async def count() -> None:
        async with store.edit_state() as state:
            state.n += 1

    async def spread() -> None:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, count()) for _ in range(5 * threads)))

    asyncio.run(spread())
    assert asyncio.run(store.get("n")) == 5 * threads
