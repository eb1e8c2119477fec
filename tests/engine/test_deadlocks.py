"""A run is called stuck when nothing can wake it: not before, and as soon as whoever could has left."""

from __future__ import annotations

import asyncio
import logging

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowDeadlockError, WorkflowTimeoutError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent, UnhandledEvent
from workflows.handler import WorkflowHandler
from workflows.testing import VirtualClockLoop


class Work(Event):
    n: int = 0


class Part(Event):
    n: int = 0


class Stuck(Workflow):
    """Its first step gives nothing, so that nobody sends `Work`; it may leave a task behind that does, or tries to."""

    def __init__(self, delay: float | None = None, sends: bool = False) -> None:
        super().__init__(timeout=None)
        self.left: asyncio.Task[None] | None = None
        self.delay = delay
        self.sends = sends

    async def later(self, delay: float) -> None:
        await asyncio.sleep(delay)
        if self.sends:
            Context.get_step_context().send_event(Work(n=3))

    @step
    async def start(self, ev: StartEvent) -> Work | None:
        if self.delay is not None:
            self.left = asyncio.create_task(self.later(self.delay))
        return None

    @step
    async def end(self, ev: Work) -> StopEvent:
        return StopEvent(result=ev.n)


async def test_a_task_that_a_step_left_behind_may_ask_for_its_context_later(clock: VirtualClockLoop) -> None:
    assert await Stuck(delay=5, sends=True).run() == 3


async def test_a_run_is_stuck_when_the_task_that_a_step_left_behind_has_ended(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowDeadlockError):
        await Stuck(delay=5).run()
    assert clock.time() == pytest.approx(5.1)


async def test_a_task_that_another_run_left_behind_keeps_nobody_waiting(clock: VirtualClockLoop) -> None:
    other = Stuck(delay=5)
    handler = other.run()
    await asyncio.sleep(0)
    with pytest.raises(WorkflowDeadlockError):
        await Stuck().run()
    assert clock.time() == pytest.approx(0.1)
    with pytest.raises(WorkflowDeadlockError):
        await handler


async def test_a_run_is_stuck_when_its_last_reader_has_left(clock: VirtualClockLoop) -> None:
    handler = Stuck().run()
    clock.call_later(10, asyncio.create_task(_read(handler)).cancel)
    with pytest.raises(WorkflowDeadlockError):
        await handler
    assert clock.time() == pytest.approx(10.1)


async def _read(handler: WorkflowHandler) -> None:
    async for _ in handler.stream_events():
        pass


async def test_a_run_whose_failed_step_was_handled_is_stuck_at_once(clock: VirtualClockLoop) -> None:
    class Handles(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            raise ValueError("broken")

        @catch_error
        async def mend(self, ctx: Context, ev: StepFailedEvent) -> StopEvent | None:
            return None

    with pytest.raises(WorkflowDeadlockError):
        await Handles(timeout=None).run()
    assert clock.time() == pytest.approx(0.1)


async def _send_later(handler: WorkflowHandler) -> None:
    await asyncio.sleep(5)
    await handler.send_event(Work(n=4))


async def test_whoever_holds_the_handler_may_send_later(clock: VirtualClockLoop) -> None:
    handler = Stuck().run()
    sending = asyncio.create_task(_send_later(handler))
    assert await handler == 4
    await sending


async def test_a_handler_that_is_kept_for_others_may_send_later(clock: VirtualClockLoop) -> None:
    kept = {"one": Stuck().run()}
    clock.call_later(5, lambda: kept["one"].ctx.send_event(Work(n=5)))
    assert await kept["one"] == 5


async def test_whoever_holds_the_context_that_a_run_was_given_may_send_later(clock: VirtualClockLoop) -> None:
    workflow = Stuck()
    ctx = Context(workflow)
    clock.call_later(5, lambda: ctx.send_event(Work(n=6)))
    assert await workflow.run(ctx=ctx) == 6


async def test_a_step_that_holds_the_handler_of_a_child_run_may_send_to_it_later(clock: VirtualClockLoop) -> None:
    class Parent(Workflow):
        child: WorkflowHandler

        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Work | StopEvent:
            ctx.send_event(Work(n=7))
            self.child = Stuck().run()
            return StopEvent(result=await self.child)

        @step
        async def feed(self, ev: Work) -> None:
            await asyncio.sleep(5)
            await self.child.send_event(ev)

    assert await Parent(timeout=None).run() == 7


async def test_a_handler_that_only_the_one_who_awaits_holds_keeps_nobody_waiting(clock: VirtualClockLoop) -> None:
    workflow = Stuck()
    ctx = Context(workflow)
    handler = workflow.run(ctx=ctx)
    with pytest.raises(WorkflowDeadlockError):
        await handler
    with pytest.raises(WorkflowDeadlockError):
        await asyncio.wait_for(Stuck().run(), 10)
    assert clock.time() == pytest.approx(0.2)


class Misses(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Work:
        return Work()

    @step
    async def end(self, ctx: Context, ev: Work) -> StopEvent | None:
        return None if ctx.collect_events(ev, [Work, Work]) is None else StopEvent()


async def test_the_deadlock_of_a_child_run_says_what_the_steps_of_the_child_gave(clock: VirtualClockLoop) -> None:
    class Parent(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Misses(timeout=None).run())

    with pytest.raises(WorkflowDeadlockError) as caught:
        await Parent(timeout=None).run()
    assert caught.value.last_events == ("start -> Work",)


async def test_what_a_run_misses_is_logged_where_somebody_may_still_send(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Misses(timeout=2).run()
    with caplog.at_level(logging.WARNING):
        assert [type(e).__name__ async for e in handler.stream_events()] == ["WorkflowTimedOutEvent"]
    (told,) = [r for r in caplog.records if "can never end" in r.message]
    assert "Step 'end' still needs 1x Work" in told.message
    await asyncio.gather(handler, return_exceptions=True)


async def test_the_timeout_of_an_idle_run_says_what_it_misses(clock: VirtualClockLoop) -> None:
    handler = Misses(timeout=2).run()
    assert [type(e).__name__ async for e in handler.stream_events()] == ["WorkflowTimedOutEvent"]
    with pytest.raises(WorkflowTimeoutError, match=r"(?s)No steps active. Run .*Step 'end' still needs 1x Work"):
        await handler


async def test_work_of_a_step_that_is_gone_is_left_out_of_a_resumed_run_and_named(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Before(Workflow):
        @step
        async def older(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(10)
            return StopEvent()

    handler = Before().run()
    await asyncio.sleep(1)
    snapshot = await handler.suspend()
    with caplog.at_level(logging.WARNING), pytest.raises(WorkflowDeadlockError):
        await Stuck().run(ctx=Context.from_dict(Stuck(), snapshot))
    assert "has work of older, which Stuck does not have" in caplog.text


async def test_what_a_join_has_that_is_gone_is_left_out_of_a_resumed_run(clock: VirtualClockLoop) -> None:
    class Before(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Work:
            return Work()

        @step
        async def older(self, ctx: Context, ev: Work) -> StopEvent | None:
            return None if ctx.collect_events(ev, [Work, Work]) is None else StopEvent()

    handler = Before(timeout=None).run()
    await asyncio.sleep(1)
    snapshot = await handler.suspend()
    with pytest.raises(WorkflowDeadlockError) as caught:
        await Stuck().run(ctx=Context.from_dict(Stuck(), snapshot))
    assert not caught.value.fan_ins


class OfNoList(Workflow):
    """Gives back what its join takes of a list alone, as one event."""

    @step
    async def split(self, ev: StartEvent) -> list[Part] | Work:
        return Work(n=1)

    @step
    async def look(self, ev: Part) -> Work:
        return Work(n=2)

    @step
    async def join(self, evs: list[Work]) -> StopEvent:
        return StopEvent(result=len(evs))


async def test_what_a_join_takes_of_a_list_alone_is_unhandled_where_it_is_of_none(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(WorkflowDeadlockError, match="1x Work: step 'join' takes it only of a list that a step"):
        await OfNoList(timeout=None).run()
    assert "accepts Work, sent by split, but of a list that a step returned (join)" in caplog.text
    handler = OfNoList(timeout=5).run()
    events = handler.stream_events(expose_internal=True)
    assert [ev.event_type async for ev in events if isinstance(ev, UnhandledEvent)] == ["Work"]
    with pytest.raises(WorkflowTimeoutError, match="1x Work: step 'join' takes it only of a list"):
        await handler


class Counts(Workflow):
    """Splits its work into two parts, one of which takes long."""

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(n=0), Part(n=100)]

    @step
    async def look(self, ev: Part) -> Work:
        await asyncio.sleep(ev.n)
        return Work()

    @step
    async def count(self, evs: list[Work]) -> StopEvent:
        return StopEvent(result=len(evs))


class CountsUnderAnotherName(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part()]

    @step
    async def look_up(self, ev: Part) -> Work:
        return Work()

    @step
    async def count(self, evs: list[Work]) -> StopEvent:
        return StopEvent(result=len(evs))


async def test_a_list_whose_work_is_of_a_step_that_is_gone_is_named(clock: VirtualClockLoop) -> None:
    handler = Counts(timeout=None).run()
    await asyncio.sleep(1)
    workflow = CountsUnderAnotherName(timeout=None)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    missing = r"'count' waits for the end of the list that 'split' returned \(branches left: 1\); it has 1x Work"
    with pytest.raises(WorkflowDeadlockError, match=missing):
        await resumed
