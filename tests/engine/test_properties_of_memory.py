"""What runs leave behind: a process that runs for ever does not grow, and a long run costs little for each step."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tracemalloc

import pytest

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

pytestmark = pytest.mark.slow

# Five kinds of runs in turn, in one process with one event loop; prints how many KiB it had grown to at each mark.
MANY_RUNS = """
import asyncio, gc, resource

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent


class Work(Event):
    n: int


class Done(Event):
    n: int


class Reply(HumanResponseEvent):
    pass


class Flow(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> list[Work]:
        await ctx.store.set("turn", await ctx.store.get("turn", 0) + 1)
        if ev.kind == "fails":
            raise ValueError("as it should")
        if ev.kind == "waits":
            await ctx.wait_for_event(Reply)
        return [Work(n=n) for n in range(3)]

    @step
    async def work(self, ctx: Context, ev: Work) -> Done:
        ctx.write_event_to_stream(ev)
        return Done(n=ev.n)

    @step
    async def gather(self, evs: list[Done]) -> StopEvent:
        return StopEvent(result=len(evs))


async def one(workflow, kind, chat):
    handler = workflow.run(ctx=chat if kind == "chats" else None, kind=kind)
    if kind == "waits":
        handler.ctx.send_event(Reply())
    elif kind == "cancelled":
        await handler.cancel_run()
    elif kind == "streams":
        assert len([event async for event in handler.stream_events()]) == 4
    try:
        await handler
    except Exception as error:
        assert kind in ("fails", "cancelled"), error


async def main():
    workflow = Flow()
    chat = Context(workflow)
    for n in range(10_001):
        await one(workflow, ("plain", "chats", "waits", "streams", "fails", "cancelled")[n % 6], chat)
        if n in (2_000, 10_000):
            gc.collect()
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


asyncio.run(main())
"""


def test_ten_thousand_runs_leave_the_process_as_large_as_two_thousand() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_RUNS],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    early, late = map(int, done.stdout.split())
    assert late - early < 4096  # KiB; 8,000 runs that left 1 KiB each would be twice that


class Tick(Event):
    n: int


class Loop(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Tick:
        return Tick(n=ev.n)

    @step
    async def tick(self, ev: Tick) -> Tick | StopEvent:
        return Tick(n=ev.n - 1) if ev.n else StopEvent(result="done")


async def _bytes_kept_after(steps: int) -> int:
    handler = Loop(timeout=None).run(n=steps)
    assert await handler == "done"
    await asyncio.sleep(0)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    assert handler.is_done()  # and so is still held
    return kept


async def test_a_run_that_is_held_keeps_less_than_half_a_kibibyte_for_each_step() -> None:
    asyncio.get_running_loop().set_debug(False)
    await _bytes_kept_after(10)
    tracemalloc.start()
    try:
        before = await _bytes_kept_after(10)
        steps = 3_000
        after = await _bytes_kept_after(steps)
    finally:
        tracemalloc.stop()
    assert (after - before) / steps < 512
