"""A call that holds a lock while it waits for an answer goes on, whoever has taken the workers meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.engine.flows import A
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop


class Question(InputRequiredEvent):
    number: int


class Answer(HumanResponseEvent):
    number: int


class Job(A):
    number: int


class Done(Event):
    pass


async def ask(ctx: Context, number: int) -> None:
    asked = Question(number=number)
    await ctx.wait_for_event(Answer, waiter_event=asked, waiter_id=f"job {number}", requirements={"number": number})


Way = Callable[[Context, int], Awaitable[None]]


class Jobs(Workflow):
    """Eight jobs by two workers, each of which asks in some way."""

    def __init__(self, way: Way) -> None:
        super().__init__(timeout=600)
        self.way = way

    @step
    async def start(self, ev: StartEvent) -> list[Job]:
        return [Job(number=number) for number in range(8)]

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: Job) -> Done:
        await self.way(ctx, ev.number)
        return Done()

    @step
    async def end(self, ev: list[Done]) -> StopEvent:
        return StopEvent(result=len(ev))


async def asked_of(jobs: Jobs) -> tuple[list[int], object]:
    """What is asked, each answered after a second, and the result."""
    handler = jobs.run()
    asked: list[int] = []
    async for event in handler.stream_events():
        if isinstance(event, Question):
            asked.append(event.number)
            asyncio.get_running_loop().call_later(1, handler.ctx.send_event, Answer(number=event.number))
    return asked, await handler


def within(make: Callable[[], object]) -> Way:
    """Asks with a lock, or the like, around it."""
    locks: list[object] = []

    async def way(ctx: Context, number: int) -> None:
        locks.extend([] if locks else [make()])
        async with locks[0]:  # type: ignore[attr-defined]
            await ask(ctx, number)

    return way


async def with_the_state(ctx: Context, number: int) -> None:
    async with ctx.store.edit_state():
        await ask(ctx, number)


@asynccontextmanager
async def of_pool(pool: asyncio.Queue[int]) -> AsyncIterator[int]:
    connection = await pool.get()
    yield connection
    pool.put_nowait(connection)


def from_a_pool() -> Way:
    pool: asyncio.Queue[int] = asyncio.Queue()
    pool.put_nowait(1)

    async def way(ctx: Context, number: int) -> None:
        async with of_pool(pool):
            await ask(ctx, number)

    return way


def first_asks_for_all() -> Way:
    known, begun = asyncio.Event(), set[int]()

    async def way(ctx: Context, number: int) -> None:
        if not begun:
            begun.add(number)
            await ask(ctx, number)
            known.set()
        await known.wait()

    return way


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ask(ctx, ev.number)
        return StopEvent()


def by_one_child_at_a_time() -> Way:
    child = Asks(num_concurrent_runs=1, timeout=None)

    async def way(ctx: Context, number: int) -> None:
        handler = child.run(number=number)
        async for event in handler.stream_events():
            if isinstance(event, Question):
                await ask(ctx, number)
                handler.ctx.send_event(Answer(number=number))
        await handler

    return way


class Tried:
    """A lock as processes share one: a file, a key of Redis. `async with` waits in `__aenter__`, or in `acquire()`."""

    def __init__(self) -> None:
        self.is_held = False

    async def __aenter__(self) -> None:
        while self.is_held:  # noqa: ASYNC110 - another process may hold it, and says nothing
            await asyncio.sleep(0.05)
        self.is_held = True

    async def __aexit__(self, *_: object) -> None:
        self.is_held = False


class TriedElsewhere(Tried):
    """Each try takes a while itself."""

    async def __aenter__(self) -> None:
        while self.is_held:
            await asyncio.sleep(0.05)
            await answered_in(0.031)
        self.is_held = True


async def answered_in(seconds: float) -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, answer.set_result, None)
    await answer


class TriedByName(Tried):
    async def acquire(self) -> None:
        while self.is_held:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.05)
        self.is_held = True

    async def __aenter__(self) -> None:
        await self.acquire()


def in_tasks() -> Way:
    lock = asyncio.Lock()

    async def way(ctx: Context, number: int) -> None:
        async def locked() -> None:
            async with lock:
                await ask(ctx, number)

        await asyncio.gather(locked(), asyncio.sleep(0))

    return way


def by_wait_for() -> Way:
    lock = asyncio.Lock()

    async def way(ctx: Context, number: int) -> None:
        await asyncio.wait_for(lock.acquire(), 3600)
        await ask(ctx, number)
        lock.release()

    return way


WAYS: dict[str, Callable[[], Way]] = {
    "lock": lambda: within(asyncio.Lock),
    "semaphore": lambda: within(lambda: asyncio.Semaphore(2)),
    "anyio lock": lambda: within(anyio.Lock),
    "anyio limiter": lambda: within(lambda: anyio.CapacityLimiter(1)),
    "state": lambda: with_the_state,
    "pool": from_a_pool,
    "tried": lambda: within(Tried),
    "tried elsewhere": lambda: within(TriedElsewhere),
    "tried by name": lambda: within(TriedByName),
    "tasks": in_tasks,
    "wait_for": by_wait_for,
    "child": by_one_child_at_a_time,
}


@pytest.mark.parametrize("way", WAYS)
def test_each_job_asks_and_ends(way: str):
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        asked, result = runner.run(asked_of(Jobs(WAYS[way]())))
    assert sorted(asked) == list(range(8))
    assert result == 8


def test_one_may_ask_for_all():
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(asked_of(Jobs(first_asks_for_all()))) == ([0], 8)


def test_a_wait_that_times_out_goes_on_as_well():
    lock = asyncio.Lock()

    async def way(ctx: Context, number: int) -> None:
        async with lock:
            try:
                await ctx.wait_for_event(Answer, waiter_id=f"job {number}", timeout=5)
            except TimeoutError:
                return

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(asked_of(Jobs(way))) == ([], 8)


@pytest.mark.parametrize("lock", [asyncio.Lock(), None])
def test_it_needs_a_worker_where_somebody_works_who_has_one(lock: asyncio.Lock | None):
    at_work: list[int] = []

    async def way(ctx: Context, number: int) -> None:
        await ask(ctx, number)
        at_work.append(number)
        if lock is None:
            await asyncio.sleep(5)
        else:
            async with lock:
                await asyncio.sleep(5)
        assert len(at_work) <= 2
        at_work.remove(number)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(asked_of(Jobs(way)))[1] == 8


def test_one_at_a_time_goes_on_without_a_worker():
    """Two have workers and wait for connections of a pool; six have those, and their answers."""
    pool = asyncio.Semaphore(6)
    at_work: list[int] = []
    most = 0

    async def way(ctx: Context, number: int) -> None:
        nonlocal most
        async with pool:
            await ask(ctx, number)
            at_work.append(number)
            most = max(most, len(at_work))
            await asyncio.sleep(60)
            at_work.remove(number)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(asked_of(Jobs(way)))[1] == 8
    assert most <= 2


def test_what_brings_words_from_elsewhere_is_no_lock():
    """A body that reads what a model streams waits for a queue, and works."""
    at_work: list[int] = []

    async def way(ctx: Context, number: int) -> None:
        await ask(ctx, number)
        at_work.append(number)
        assert len(at_work) <= 2
        words: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().call_later(5, words.put_nowait, "word")
        await words.get()
        at_work.remove(number)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(asked_of(Jobs(way)))[1] == 8


def test_it_is_told(caplog: pytest.LogCaptureFixture):
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(asked_of(Jobs(within(asyncio.Lock))))
    (record,) = caplog.records
    assert record.getMessage().startswith("step work: a call has its answer and no worker")
