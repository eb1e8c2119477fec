"""What the engine takes beside throughput: turns of the event loop, snapshots, memory, the import.

usage: python bench/footprint.py [--rounds N]

A turn's time is CPU time of the loop's thread with the garbage collector off, as a snapshot's is; the longest turn of a
run, and the median of the rounds. "with spans" makes every span and forgets it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from telemetry_runs import traced

from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler

BRANCHES, WOKEN, WAITS, LISTED, QUESTIONS = 2000, 2000, 3000, 10_000, 1000
UNBOUNDED = 100_000  # workers
SETTLED = 1000  # turns
WAIT_SECONDS = 2000  # the usual timeout of a wait
FEW, RETAINED, HISTORY = 10, 200, 5000  # steps that are over; a run keeps the history of its last 250
IMPORTS = 15
BARE_PROGRAM = "import asyncio, pydantic\nclass M(pydantic.BaseModel):\n    a: int = 0"
IMPORT_TIME = "import time\nt = time.perf_counter()\n{}\nprint(time.perf_counter() - t)"

Figure = TypeVar("Figure")


class Part(Event):
    n: int


class Done(Event):
    n: int


class Go(HumanResponseEvent):
    pass


class Ask(InputRequiredEvent):
    n: int


class Fan(Workflow):
    """A branch for each of `width` events that are made before, each of which waits for `gate`."""

    def __init__(self, width: int, gate: asyncio.Event | None = None) -> None:
        super().__init__(timeout=None)
        self.parts, self.gate = [Part(n=n) for n in range(width)], gate

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return self.parts

    @step(num_workers=UNBOUNDED)
    async def work(self, ev: Part) -> Done:
        if self.gate is not None:
            await self.gate.wait()
        return Done(n=ev.n)

    @step
    async def join(self, done: list[Done]) -> StopEvent:
        return StopEvent(result=len(done))


class Waiting(Workflow):
    """As many open waits as it is told, which one event ends."""

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(n=n) for n in range(ev.n)]

    @step(num_workers=UNBOUNDED)
    async def wait(self, ctx: Context, ev: Part) -> Done:
        await ctx.wait_for_event(Go)
        return Done(n=ev.n)

    @step
    async def join(self, done: list[Done]) -> StopEvent:
        return StopEvent(result=len(done))


class Asking(Workflow):
    """As many open questions as it is told, which one event answers."""

    @step
    async def ask(self, ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(ev.n)]

    @step
    async def answered(self, ev: Go) -> StopEvent:
        return StopEvent()


class Chain(Workflow):
    """One step after another, as many as it is told, and then a wait."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.arrived = asyncio.Event()

    @step
    async def begin(self, ev: StartEvent) -> Part:
        return Part(n=ev.n)

    @step
    async def go_on(self, ctx: Context, ev: Part) -> Part | StopEvent:
        if ev.n:
            return Part(n=ev.n - 1)
        self.arrived.set()
        await ctx.wait_for_event(Go)
        return StopEvent()


class Turns:
    """Watches the event loop: `longest` is the most that one turn took since `begin`, in CPU seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now

    def begin(self) -> None:
        """Forget what was before."""
        self.longest = 0.0

    async def end(self) -> float:
        """The longest turn, in milliseconds."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return self.longest * 1000


async def settled() -> None:
    """Give the loop away until a run of these sizes has come to its waits."""
    for _ in range(SETTLED):
        await asyncio.sleep(0)


async def branches(turns: Turns) -> None:
    await Fan(BRANCHES).run()


async def listed(turns: Turns) -> None:
    await Fan(LISTED).run()


async def woken(turns: Turns) -> None:
    gate = asyncio.Event()
    handler = Fan(WOKEN, gate).run()
    await settled()
    turns.begin()
    gate.set()
    await handler


async def woken_bare(turns: Turns) -> None:
    gate = asyncio.Event()

    async def work(n: int) -> Done:
        await gate.wait()
        return Done(n=n)

    tasks = [asyncio.ensure_future(work(n)) for n in range(WOKEN)]
    await settled()
    turns.begin()
    gate.set()
    await asyncio.gather(*tasks)


async def answered(turns: Turns) -> None:
    handler = Waiting(timeout=None).run(n=WAITS)
    await settled()
    turns.begin()
    await handler.send_event(Go())
    await handler


async def cancelled(turns: Turns) -> None:
    handler = Waiting(timeout=None).run(n=WAITS)
    await settled()
    turns.begin()
    await handler.cancel_run()
    with suppress(WorkflowCancelledByUser):
        await handler


async def cancelled_bare(turns: Turns) -> None:
    async def wait() -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.get_running_loop().create_future()

    tasks = [asyncio.ensure_future(wait()) for _ in range(WAITS)]
    await settled()
    turns.begin()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def resumed(turns: Turns) -> None:
    handler = Waiting(timeout=None).run(n=WOKEN)
    await settled()
    workflow, snapshot = Waiting(timeout=None), await handler.suspend()
    await settled()
    context = Context.from_dict(workflow, snapshot)
    await settled()
    turns.begin()
    handler = workflow.run(ctx=context)
    await settled()
    await handler.send_event(Go())
    await handler


async def questions(turns: Turns) -> None:
    handler = Asking(timeout=None).run(n=QUESTIONS)
    await settled()
    turns.begin()
    await handler.send_event(Go())
    await handler


Scenario = Callable[[Turns], Coroutine[Any, Any, None]]
SCENARIOS: dict[str, Scenario] = {
    f"{BRANCHES:,} branches": branches,
    f"a list of {LISTED:,} events": listed,
    f"{WOKEN:,} steps woken at once": woken,
    "  bare asyncio, same bodies": woken_bare,
    f"one event ends {WAITS:,} waits": answered,
    f"{WAITS:,} waits are cancelled": cancelled,
    "  bare asyncio, as many timeouts": cancelled_bare,
    f"a run goes on with {WOKEN:,} waits": resumed,
    f"one event answers {QUESTIONS:,} questions": questions,
}


BARE = (woken_bare, cancelled_bare)


def longest_turn(scenario: Scenario) -> float:
    """Milliseconds of CPU of the longest turn."""

    async def watched() -> float:
        turns = Turns()
        await scenario(turns)
        return await turns.end()

    gc.collect()
    gc.disable()
    try:
        return asyncio.run(watched())
    finally:
        gc.enable()


def print_turns(rounds: int) -> None:
    print(f"{'longest turn of the event loop, ms':36}{'untraced':>10}{'with spans':>12}")
    for name, scenario in SCENARIOS.items():
        plain = statistics.median(longest_turn(scenario) for _ in range(rounds))
        with traced():
            spans = statistics.median(longest_turn(scenario) for _ in range(rounds))
        print(f"{name:36}{plain:10.1f}" + (f"{spans:12.1f}" if scenario not in BARE else ""))


async def at_its_wait(steps: int, work: Callable[[WorkflowHandler], Figure]) -> Figure:
    """Do something with a run that has so many steps behind it, and waits."""
    chain = Chain()
    handler = chain.run(n=steps)
    await chain.arrived.wait()
    await asyncio.sleep(0)
    try:
        return work(handler)
    finally:
        await handler.send_event(Go())
        await handler


def kept_bytes(steps: int) -> int:
    """What a run with so many steps behind it keeps."""

    def kept(_: WorkflowHandler) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        return asyncio.run(at_its_wait(steps, kept))
    finally:
        tracemalloc.stop()


def print_memory() -> None:
    kept_bytes(FEW)  # what is made once
    few, retained, many, more = (kept_bytes(steps) for steps in (FEW, RETAINED, HISTORY, 2 * HISTORY))
    print(f"{'bytes kept of one of the last steps':36}{(retained - few) / (RETAINED - FEW):10.0f}")
    print(f"{'  of one before the last 250':36}{(more - many) / HISTORY:10.1f}")


def to_dict_ms(handler: WorkflowHandler) -> float:
    """CPU milliseconds of a snapshot."""
    gc.collect()
    gc.disable()
    try:
        begun = time.thread_time()
        handler.ctx.to_dict()
        return (time.thread_time() - begun) * 1000
    finally:
        gc.enable()


async def snapshot_of_waits(waits: int) -> float:
    """CPU milliseconds of the snapshot of a run with so many open waits."""
    handler = Waiting(timeout=None).run(n=waits)
    await settled()
    took = to_dict_ms(handler)
    await handler.cancel_run()
    with suppress(WorkflowCancelledByUser):
        await handler
    return took


def print_snapshots(rounds: int) -> None:
    asyncio.run(snapshot_of_waits(FEW))  # what is imported once
    for steps in (FEW, HISTORY, 2 * HISTORY):
        took = statistics.median(asyncio.run(at_its_wait(steps, to_dict_ms)) for _ in range(rounds))
        print(f"{f'to_dict() after {steps:,} steps, ms':36}{took:10.2f}")
    for waits in (FEW, 10 * FEW, 100 * FEW):
        took = statistics.median(asyncio.run(snapshot_of_waits(waits)) for _ in range(rounds))
        print(f"{f'to_dict() with {waits:,} open waits, ms':36}{took:10.2f}")


def print_import() -> None:
    programs = {"import workflows": "import workflows", "import asyncio, pydantic; one model": BARE_PROGRAM}
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(IMPORTS):
        for name, program in programs.items():
            command = [sys.executable, "-c", IMPORT_TIME.format(program)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            took[name].append(float(done.stdout) * 1000)
    for name, times in took.items():
        print(f"{name:36}{min(times):10.0f} to {statistics.median(times):.0f}  (least and median of {IMPORTS}, ms)")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="bench/footprint.py")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print_turns(options.rounds)
    print()
    print_snapshots(options.rounds)
    print()
    print_memory()
    print()
    print_import()


if __name__ == "__main__":
    main()
