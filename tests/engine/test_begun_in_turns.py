"""Of calls that are to begin at once, some begin in each turn of the event loop, in order, and none is lost."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest

from tests.engine.flows import A
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import RunRecorder, add_handler
from workflows.instrumentation.records import RunEnded, StepStarted

RUNS = 400
AT_ONCE = 125  # bodies that begin in one turn, of however many runs


class Numbered(Workflow):
    """Notes which body began in which turn of the event loop."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.begun: list[int] = []
        self.turns: list[int] = []
        self._in_this_turn = 0

    def _next_turn(self) -> None:
        self.turns.append(self._in_this_turn)
        self._in_this_turn = 0

    @step
    async def first(self, ev: StartEvent) -> A:
        if not self._in_this_turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._in_this_turn += 1
        self.begun.append(ev.n)
        return A(n=ev.n)

    @step
    async def second(self, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)


@pytest.fixture
def recorder() -> Iterator[RunRecorder]:
    """What is told meanwhile."""
    recorder = RunRecorder()
    remove = add_handler(recorder)
    yield recorder
    remove()


async def test_runs_at_once_begin_in_order_some_in_each_turn() -> None:
    workflow = Numbered()
    assert await asyncio.gather(*[workflow.run(n=n) for n in range(RUNS)]) == list(range(RUNS))
    assert workflow.begun == list(range(RUNS))
    assert max(workflow.turns) <= AT_ONCE


async def test_a_run_that_ends_before_its_turn_begins_no_step(recorder: RunRecorder) -> None:
    workflow = Numbered()
    handlers = [workflow.run(n=n, run_id=f"run {n}") for n in range(RUNS)]
    await handlers[-1].cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handlers[-1]
    assert [await handler for handler in handlers[:-1]] == list(range(RUNS - 1))
    assert workflow.begun == list(range(RUNS - 1))
    told = [record for record in recorder.records if record.run_id == f"run {RUNS - 1}"]
    assert [record.outcome for record in told if isinstance(record, RunEnded)] == ["cancelled"]
    assert not [record for record in told if isinstance(record, StepStarted)]


async def test_a_run_that_is_suspended_before_its_turn_goes_on_with_its_step() -> None:
    workflow = Numbered()
    handlers = [workflow.run(n=n) for n in range(RUNS)]
    snapshot = await handlers[-1].suspend()
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == RUNS - 1
    await asyncio.gather(*handlers[:-1])
    assert sorted(workflow.begun) == list(range(RUNS))


def test_runs_that_have_not_begun_when_the_loop_ends_are_interrupted(recorder: RunRecorder) -> None:
    workflow = Numbered()

    async def leave() -> None:
        for n in range(RUNS):
            workflow.run(n=n)

    asyncio.run(leave())
    outcomes = [record.outcome for record in recorder.records if isinstance(record, RunEnded)]
    assert outcomes == ["interrupted"] * RUNS
    assert len(workflow.begun) <= AT_ONCE


class Payload:
    """Something large."""


async def test_a_run_lets_go_of_its_start_event_when_the_step_that_took_it_is_over() -> None:
    payloads: list[ref[Payload]] = []

    class Long(Workflow):
        @step
        async def first(self, ev: StartEvent) -> A:
            payloads.append(ref(ev.payload))
            return A()

        @step
        async def second(self, ev: A) -> StopEvent:
            gc.collect()
            return StopEvent(result=payloads[0]())

    assert await Long().run(payload=Payload()) is None


class Busy(Workflow):
    """Waits for the start, then goes from step to step until the end."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.starts, self.ends = asyncio.Event(), asyncio.Event()

    @step
    async def first(self, ev: StartEvent) -> A:
        await self.starts.wait()
        return A()

    @step
    async def again(self, ev: A) -> A | StopEvent:
        return StopEvent() if self.ends.is_set() else A()


class Named(Workflow):
    """Wakes the others when it begins."""

    def __init__(self, others: Busy) -> None:
        super().__init__(timeout=None)
        self.others = others

    @step
    async def first(self, ev: StartEvent) -> A:
        self.others.starts.set()
        return A()

    @step
    async def second(self, ev: A) -> StopEvent:
        return StopEvent(result="over")


async def test_a_run_that_is_over_is_let_go_though_others_always_begin_something() -> None:
    busy = Busy()
    others = [busy.run() for _ in range(RUNS)]
    await asyncio.sleep(0.01)
    assert await Named(busy).run(run_id="one of many") == "over"
    gc.collect()
    assert await Named(busy).run(run_id="one of many") == "over"  # else the id is taken
    busy.ends.set()
    await asyncio.gather(*others)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine")  # that call's
def test_runs_begin_after_one_whose_beginning_was_interrupted() -> None:
    made = 0

    def tasks(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        if made == RUNS + 160:  # in a later turn than the one in which the runs start
            raise KeyboardInterrupt
        return asyncio.Task(coroutine, loop=loop, **options)

    loop = asyncio.new_event_loop()
    loop.set_task_factory(tasks)

    async def start(runs: int) -> list[int]:
        return await asyncio.gather(*[Numbered().run(n=n) for n in range(runs)])

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(start(RUNS))
    assert loop.run_until_complete(start(1)) == [0]
    assert loop.run_until_complete(start(RUNS)) == list(range(RUNS))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
