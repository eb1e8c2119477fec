"""What happens to hundreds of calls at one time is spread over turns of the event loop, which is free in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from time import thread_time
from typing import Any

import pytest

from tests.engine.flows import A, B, Reply
from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.dispatcher import add_handler
from workflows.instrumentation.records import (
    Record,
    RetryScheduled,
    RunEnded,
    StepEnded,
    StepStarted,
    WaitCancelled,
    WaitResolved,
    WaitTimedOut,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop

pytestmark = pytest.mark.slow

MANY = 700
AT_ONCE = 250  # of one kind; the engine does 40 to 200 in a turn


class Turns:
    """How many records of each class at most are told in one turn of the event loop."""

    name = "turns"
    destination = None

    def __init__(self) -> None:
        self.most: Counter[type[Record]] = Counter()
        self._now: Counter[type[Record]] = Counter()

    def handle(self, record: Record) -> None:
        if not self._now:
            asyncio.get_running_loop().call_soon(self._next)
        self._now[type(record)] += 1

    def carrier(self, run_id: str) -> None:
        return None

    def _next(self) -> None:
        self.most |= self._now
        self._now.clear()


@pytest.fixture
def turns() -> Iterator[Turns]:
    """Counts what is told in the turns of this test."""
    counted = Turns()
    remove = add_handler(counted)
    yield counted
    remove()


class Many(Workflow):
    """A branch for each of `MANY` events; what one does is for a subclass to say."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(MANY)]

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent(result=len(events))


class Asking(Many):
    @step(num_workers=MANY)
    async def ask(self, ctx: Context, ev: A) -> B:
        await ctx.wait_for_event(Reply, waiter_id=f"{ev.n}", timeout=30)
        return B(n=ev.n)

    @catch_error
    async def unanswered(self, ev: StepFailedEvent) -> B:
        return B(n=-1)


async def waiting() -> WorkflowHandler:
    """A run in which every branch waits."""
    handler = Asking().run()
    await asyncio.sleep(1)
    return handler


async def test_one_event_that_ends_all_waits(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    handler = await waiting()

    await handler.send_event(Reply(text="all of you"))

    assert await handler == MANY
    assert len(records.of(WaitResolved)) == MANY
    assert turns.most[WaitResolved] < AT_ONCE


async def test_waits_that_time_out_together(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    assert await Asking().run() == MANY

    assert len(records.of(WaitTimedOut)) == MANY
    assert turns.most[WaitTimedOut] < AT_ONCE


async def test_waits_that_end_with_their_cancelled_run(
    clock: VirtualClockLoop, records: RecordLog, turns: Turns
) -> None:
    handler = await waiting()

    await handler.cancel_run()

    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert len(records.of(WaitCancelled)) == MANY
    assert turns.most[WaitCancelled] < AT_ONCE


async def test_waits_that_end_with_their_run_are_told_before_their_steps_end(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    with pytest.raises(WorkflowTimeoutError):
        await Asking(timeout=2).run()

    told = [(type(r), r.exec_id) for r in records.records if isinstance(r, WaitCancelled | StepEnded)]
    waits = [exec_id for kind, exec_id in told if kind is WaitCancelled]
    assert len(waits) == MANY
    assert all(told.index((WaitCancelled, w)) < told.index((StepEnded, w)) for w in waits[::50])


async def test_an_answer_that_is_still_handed_on_when_its_run_ends(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = await waiting()
    await handler.send_event(Reply(text="all of you"))

    await handler.cancel_run()

    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert len(records.of(WaitResolved)) == MANY
    assert {r.exec_id for r in records.of(StepStarted)} == {r.exec_id for r in records.of(StepEnded)}


async def test_retries_that_are_due_together(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    class Failing(Many):
        @step(num_workers=MANY, retry_policy=retry_policy(wait=wait_fixed(5), stop=stop_after_attempt(2)))
        async def fail_once(self, ctx: Context, ev: A) -> B:
            if ctx.retry_info().retry_number == 0:
                raise ConnectionError("down")
            return B(n=ev.n)

    assert await Failing().run() == MANY

    assert len(records.of(RetryScheduled)) == MANY
    assert turns.most[StepEnded] < AT_ONCE


async def test_steps_that_time_out_together(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    class Slow(Many):
        @step(num_workers=MANY, timeout=5)
        async def work(self, ev: A) -> B:
            await asyncio.sleep(3600)
            return B(n=ev.n)

        @catch_error
        async def too_slow(self, ev: StepFailedEvent) -> B:
            return B(n=-1)

    assert await Slow().run() == MANY

    assert sum(r.outcome == "timed_out" for r in records.of(StepEnded)) == MANY
    assert turns.most[StepEnded] < AT_ONCE


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Reply, timeout=None)
        return StopEvent()


class Leading(Many):
    """Each branch starts a run that asks somebody, and awaits it; the last one does something else first."""

    @step(num_workers=MANY)
    async def lead(self, ev: A) -> B | StopEvent:
        if ev.n == MANY - 1:
            await asyncio.sleep(5)
            return StopEvent(result="enough")
        await Asks(timeout=None).run()
        return B(n=ev.n)


async def test_child_runs_that_end_with_their_cancelled_run(
    clock: VirtualClockLoop, records: RecordLog, turns: Turns
) -> None:
    handler = Leading().run()
    await asyncio.sleep(1)

    await handler.cancel_run()

    assert sum(r.outcome == "cancelled" for r in records.of(RunEnded)) == MANY
    assert turns.most[RunEnded] < AT_ONCE


async def test_child_runs_that_end_with_the_result_of_their_run(
    clock: VirtualClockLoop, records: RecordLog, turns: Turns
) -> None:
    assert await Leading().run() == "enough"

    assert sum(r.outcome == "cancelled" for r in records.of(RunEnded)) == MANY - 1
    assert turns.most[RunEnded] < AT_ONCE


async def test_child_runs_of_steps_that_time_out_together(
    clock: VirtualClockLoop, records: RecordLog, turns: Turns
) -> None:
    class Hurried(Many):
        @step(num_workers=MANY, timeout=5)
        async def lead(self, ev: A) -> B:
            await Asks(timeout=None).run()
            return B(n=ev.n)

        @catch_error
        async def too_slow(self, ev: StepFailedEvent) -> B:
            return B(n=-1)

    assert await Hurried().run() == MANY

    assert sum(r.outcome == "cancelled" for r in records.of(RunEnded)) == MANY
    assert turns.most[RunEnded] < AT_ONCE


class Gated(Many):
    """Its steps all end in one turn of the event loop: when the gate is opened."""

    def __init__(self, *, failing: bool = False) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.failing = failing
        self.ran: Counter[int] = Counter()

    @step(num_workers=MANY, retry_policy=retry_policy(wait=wait_fixed(10), stop=stop_after_attempt(2)))
    async def pass_gate(self, ev: A) -> B:
        await self.gate.wait()
        self.ran[ev.n] += 1
        if self.failing and self.ran[ev.n] == 1:
            raise ConnectionError("the service is down")
        return B(n=ev.n)


async def at_the_gate(workflow: Gated) -> WorkflowHandler:
    handler = workflow.run()
    await asyncio.sleep(1)
    workflow.gate.set()
    return handler


async def test_steps_that_end_together(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    assert await (await at_the_gate(Gated())) == MANY

    assert len(records.of(StepEnded)) == MANY + 2
    assert turns.most[StepEnded] < AT_ONCE


async def test_steps_that_fail_together(clock: VirtualClockLoop, records: RecordLog, turns: Turns) -> None:
    assert await (await at_the_gate(Gated(failing=True))) == MANY

    assert len(records.of(RetryScheduled)) == MANY
    assert turns.most[RetryScheduled] < AT_ONCE
    assert turns.most[StepEnded] < AT_ONCE


@pytest.mark.parametrize("turns_later", range(4))
async def test_a_step_that_has_its_turn_before_it_is_not_run_again(clock: VirtualClockLoop, turns_later: int) -> None:
    workflow = Gated()
    handler = await at_the_gate(workflow)
    for _ in range(turns_later):
        await asyncio.sleep(0)
    ran = workflow.ran.copy()

    snapshot = await handler.suspend()

    assert workflow.ran == ran
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == MANY
    assert set(workflow.ran.values()) == {1}


@pytest.mark.parametrize("turns_later", range(4))
async def test_every_step_whose_result_a_run_goes_on_with_is_told_as_completed(
    clock: VirtualClockLoop, records: RecordLog, turns_later: int
) -> None:
    workflow = Gated()
    handler = await at_the_gate(workflow)
    for _ in range(turns_later):
        await asyncio.sleep(0)

    snapshot = await handler.suspend()
    await workflow.run(ctx=Context.from_dict(workflow, snapshot))

    completed = Counter(ended.exec_id for ended in records.of(StepEnded) if ended.outcome == "completed")
    assert len(completed) == MANY + 2
    assert set(completed.values()) == {1}


async def test_steps_of_many_runs_that_end_together(clock: VirtualClockLoop, turns: Turns) -> None:
    class Few(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=i) for i in range(10)]

        @step(num_workers=10)
        async def pass_gate(self, ev: A) -> B:
            await gate.wait()
            return B(n=ev.n)

        @step
        async def join(self, events: list[B]) -> StopEvent:
            return StopEvent(result=len(events))

    gate = asyncio.Event()
    workflow = Few()
    handlers = [workflow.run() for _ in range(MANY // 10)]
    await asyncio.sleep(1)

    gate.set()

    assert sum(await asyncio.gather(*handlers)) == MANY
    assert turns.most[StepEnded] < AT_ONCE


class TakesItsTime(Turns):
    def handle(self, record: Record) -> None:
        super().handle(record)
        if isinstance(record, StepEnded):
            burn(0.001)


async def test_of_steps_that_end_together_few_do_so_at_once_where_it_takes_long_to_tell(
    clock: VirtualClockLoop,
) -> None:
    slow = TakesItsTime()
    remove = add_handler(slow)

    assert await (await at_the_gate(Gated())) == MANY

    remove()
    assert slow.most[StepEnded] < 30


def burn(seconds: float) -> None:
    until = thread_time() + seconds
    while thread_time() < until:
        pass


async def test_who_waits_for_its_turn_to_end_is_not_called_stubborn(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(Many):
        arrived = 0

        @step(num_workers=MANY)
        async def wait(self, ev: A) -> B:
            self.arrived += 1
            if self.arrived == MANY:
                all_there.set()
            await asyncio.Event().wait()
            return B()

    all_there = asyncio.Event()
    handler = Waiting(grace=0.1).run()
    await all_there.wait()
    remove = add_handler(TakesItsTime())

    await handler.cancel_run(timeout=60)

    remove()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert "did not end within" not in caplog.text


async def test_what_else_keeps_the_loop_busy_makes_nobody_wait(clock: VirtualClockLoop) -> None:
    turns = 0

    def work() -> None:
        nonlocal turns
        turns += 1
        burn(0.01)
        if not handler.is_done():
            clock.call_soon(work)

    handler = await at_the_gate(Gated())
    clock.call_soon(work)

    assert await handler == MANY
    assert turns < 30


async def test_steps_that_would_go_on_when_their_run_is_cancelled(
    clock: VirtualClockLoop, records: RecordLog, turns: Turns
) -> None:
    workflow = Gated()
    handler = await at_the_gate(workflow)

    await handler.cancel_run()

    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert not workflow.ran
    assert sum(ended.outcome == "cancelled" for ended in records.of(StepEnded)) == MANY
    assert turns.most[StepEnded] < AT_ONCE


@pytest.mark.parametrize("turns_later", range(4))
def test_a_step_that_has_its_turn_before_it_when_the_loop_ends_is_not_run_again(turns_later: int) -> None:
    workflow = Gated()

    async def leave() -> WorkflowHandler:
        handler = await at_the_gate(workflow)
        for _ in range(turns_later):
            await asyncio.sleep(0)
        return handler

    async def go_on(snapshot: dict[str, Any]) -> int:
        return await workflow.run(ctx=Context.from_dict(workflow, snapshot))

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        handler = runner.run(leave())
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(go_on(handler.ctx.to_dict())) == MANY
    assert set(workflow.ran.values()) == {1}


@pytest.mark.parametrize("failing", [False, True])
async def test_steps_that_have_their_turn_before_them_end_with_their_run(
    clock: VirtualClockLoop, records: RecordLog, failing: bool
) -> None:
    handler = await at_the_gate(Gated(failing=failing))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await handler.cancel_run()

    with pytest.raises(WorkflowCancelledByUser):
        await handler
    outcomes = Counter(ended.outcome for ended in records.of(StepEnded) if ended.step == "pass_gate")
    assert outcomes.total() == MANY
    assert outcomes["cancelled"] > 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "pass_gate"]
