"""`WorkflowTestRunner` collects what a run streams."""

from __future__ import annotations

import pytest

from workflows import Context, Workflow, step
from workflows.errors import WorkflowDeadlockError
from workflows.events import Event, StartEvent, StepStateChanged, StopEvent
from workflows.testing import VirtualClockLoop, WorkflowTestRunner


class Progress(Event):
    n: int


class Begin(StartEvent):
    n: int = 2


class Counting(Workflow):
    @step
    async def count(self, ctx: Context, ev: Begin) -> StopEvent:
        for n in range(ev.n):
            ctx.write_event_to_stream(Progress(n=n))
        await ctx.store.set("n", ev.n)
        return StopEvent(result=ev.n)


class Failing(Workflow):
    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("broken")


async def test_it_collects_and_counts_what_is_streamed() -> None:
    result = await WorkflowTestRunner(Counting()).run(expose_internal=False)
    assert [type(e) for e in result.collected] == [Progress, Progress, StopEvent]
    assert result.event_types == {Progress: 2, StopEvent: 1}
    assert result.result == 2
    assert await result.ctx.store.get("n") == 2


async def test_internal_events_are_collected_by_default() -> None:
    result = await WorkflowTestRunner(Counting()).run(Begin(n=0))
    assert result.event_types == {StepStateChanged: 2, StopEvent: 1}


async def test_classes_can_be_left_out() -> None:
    result = await WorkflowTestRunner(Counting()).run(expose_internal=False, exclude_events=[Progress])
    assert result.event_types == {StopEvent: 1}


async def test_a_failure_is_raised() -> None:
    with pytest.raises(ValueError, match="broken"):
        await WorkflowTestRunner(Failing()).run()


class Stuck(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Progress | None:
        return None

    @step
    async def end(self, ev: Progress) -> StopEvent:
        return StopEvent()


async def test_a_stuck_run_fails_at_once(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowDeadlockError, match="can never end"):
        await WorkflowTestRunner(Stuck(timeout=45)).run()
    assert clock.time() < 1


class Slowed(Workflow):
    """Waits for its readers."""

    @step
    async def stream(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(5):
            await ctx.stream_event(Progress(n=n), ahead=1)
        return StopEvent()


async def test_a_step_does_not_wait_for_what_is_collected(clock: VirtualClockLoop) -> None:
    result = await WorkflowTestRunner(Slowed(timeout=5)).run(expose_internal=False)
    assert result.event_types == {Progress: 5, StopEvent: 1}
