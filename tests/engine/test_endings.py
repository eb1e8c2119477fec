"""How runs end: nothing is left behind in silence, nothing is told after the end, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.checkpointer import WorkflowCheckpointer
from workflows.errors import RunInterruptedError, WorkflowCancelledByUser, WorkflowRuntimeError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import RunEnded, StepEnded
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Part(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Reply(HumanResponseEvent):
    key: int = 0


class Ask(InputRequiredEvent):
    pass


async def test_what_a_step_gives_that_swallows_its_cancellation_is_there_when_the_run_goes_on(
    clock: VirtualClockLoop,
) -> None:
    class Saves(Workflow):
        ran = 0

        @step
        async def work(self, ev: StartEvent) -> Done:
            self.ran += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return Done(n=self.ran)
            return Done()

        @step
        async def end(self, ev: Done) -> StopEvent:
            return StopEvent(result=ev.n)

    workflow = Saves()
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler

    assert await workflow.run(ctx=handler.ctx) == 1
    assert workflow.ran == 1


async def test_a_step_that_ignores_its_cancellation_is_left_behind(
    clock: VirtualClockLoop, records: RecordLog, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            while clock.time() < 100:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue
            return StopEvent()

    handler = Stubborn(timeout=None, grace=2).run()
    await asyncio.sleep(1)
    await handler.cancel_run(timeout=60)
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert clock.time() < 30
    assert "go on although they were cancelled" in caplog.text
    await asyncio.sleep(200)
    ended = [r for r in records.records if isinstance(r, StepEnded | RunEnded)]
    assert [type(r).__name__ for r in ended] == ["StepEnded", "RunEnded"], "and nothing is told after the end"


async def test_a_run_ends_only_when_its_child_has_cleaned_up(clock: VirtualClockLoop) -> None:
    cleaned: list[float] = []

    class Child(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.3)
                cleaned.append(clock.time())
            return StopEvent()

    class Parent(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Child().run())

    handler = Parent().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    assert cleaned == [pytest.approx(1.3)]


async def test_hundreds_of_nested_runs_are_cancelled_together(clock: VirtualClockLoop) -> None:
    class Nested(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            if ev.depth:
                return StopEvent(result=await self.run(depth=ev.depth - 1))
            await asyncio.sleep(100)
            return StopEvent()

    handler = Nested(timeout=None).run(depth=300)
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler


def test_a_run_whose_loop_closes_before_its_first_turn_is_interrupted() -> None:
    class Never(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    async def leave() -> object:
        handler = Never().run()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return handler

    handler = asyncio.run(leave())
    assert handler.is_done()  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match="older versions"):
        assert isinstance(handler.exception(), RunInterruptedError)  # type: ignore[attr-defined]


def test_a_run_whose_step_makes_another_error_of_the_end_of_its_loop_is_interrupted() -> None:
    class Converts(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError from None
            return StopEvent()

        @catch_error
        async def mend(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="mended")

    async def leave() -> list[WorkflowHandler]:
        handlers = [Converts().run() for _ in range(10)]  # asyncio cancels tasks in an order that nobody knows
        for _ in range(3):
            await asyncio.sleep(0)
        return handlers

    for handler in asyncio.run(leave()):
        with pytest.warns(DeprecationWarning, match="older versions"):
            assert isinstance(handler.exception(), RunInterruptedError)
        assert handler.ctx.to_dict()["is_running"]


async def test_a_run_whose_task_is_cancelled_before_its_first_turn_lets_go_of_its_resources(
    clock: VirtualClockLoop,
) -> None:
    told: list[str] = []

    @asynccontextmanager
    async def opened() -> AsyncGenerator[str]:
        told.append("opened")
        try:
            yield "value"
        finally:
            await asyncio.sleep(1)
            told.append("closed")

    class Uses(Workflow):
        @step
        async def start(self, ev: StartEvent, value: Annotated[str, Resource(opened, cache=False)]) -> StopEvent:
            return StopEvent(result=value)

    handler = Uses().run()
    for task in asyncio.all_tasks():
        if task.get_name() == handler.run_id:
            task.cancel()
    await asyncio.gather(handler, return_exceptions=True)
    assert told == ["opened", "closed"]


@pytest.mark.parametrize("verdict", [float("nan"), float("inf"), "soon"])
async def test_a_retry_policy_must_say_seconds(verdict: object) -> None:
    class Policy:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> object:
            return verdict

    class Fails(Workflow):
        @step(retry_policy=Policy())  # type: ignore[arg-type]  # that is the point
        async def start(self, ev: StartEvent) -> StopEvent:
            raise ConnectionError("down")

    with pytest.raises(WorkflowRuntimeError, match="retry policy of step start returned") as wrong:
        await Fails().run()
    assert isinstance(wrong.value.__cause__, ConnectionError)


async def test_a_failing_join_gets_its_events_again(clock: VirtualClockLoop) -> None:
    class Join(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Part | None:
            for n in range(3):
                ctx.send_event(Part(n=n))
            return None

        @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
        async def join(self, ctx: Context, ev: Part) -> StopEvent | None:
            parts = ctx.collect_events(ev, [Part] * 3)
            if ctx.retry_info().retry_number < 1:
                raise ConnectionError("the first attempt of each call fails")
            return StopEvent(result=sorted(p.n for p in parts)) if parts else None

    assert await Join(timeout=20).run() == [0, 1, 2]


async def test_a_long_list_leaves_the_loop_its_turns(clock: VirtualClockLoop) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Wide(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Part]:
            self.before = turns
            return [Part(n=n) for n in range(2000)]

        @step(num_workers=1)
        async def work(self, ev: Part) -> Done:
            if ev.n == 0:
                self.at_first = turns
            return Done(n=ev.n)

        @step
        async def join(self, evs: list[Done]) -> StopEvent:
            return StopEvent(result=sum(e.n for e in evs))

    other = asyncio.create_task(count())
    assert await Wide(timeout=None).run() == sum(range(2000))
    assert turns > 2000 / 250
    other.cancel()


async def test_an_answer_finds_its_wait_among_many(clock: VirtualClockLoop) -> None:
    class Asks(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Part]:
            return [Part(n=n) for n in range(50)]

        @step(num_workers=50)
        async def ask(self, ctx: Context, ev: Part) -> Done:
            reply = await ctx.wait_for_event(Reply, requirements={"key": ev.n})
            return Done(n=reply.key)

        @step
        async def join(self, evs: list[Done]) -> StopEvent:
            return StopEvent(result=[e.n for e in evs])

    handler = Asks(timeout=50).run()
    await asyncio.sleep(0.1)
    for key in reversed(range(50)):
        handler.ctx.send_event(Reply(key=key))
    assert await handler == list(reversed(range(50)))


async def test_waiting_for_a_person_need_not_cost_the_runs_time(clock: VirtualClockLoop) -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            reply = await ctx.wait_for_event(Reply, timeout=None)
            await asyncio.sleep(3)
            return StopEvent(result=reply.key)

    handler = Asks(timeout=5, idle_counts=False).run()
    await asyncio.sleep(1000)
    handler.ctx.send_event(Reply(key=4))
    assert await handler == 4


async def test_a_reader_may_follow_child_runs(clock: VirtualClockLoop) -> None:
    class Child(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Part(n=2))
            return StopEvent(result="child")

    class Parent(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Part(n=1))
            return StopEvent(result=await Child().run())

    handler = Parent().run()
    assert [e.get("n") async for e in handler.stream_events(include_children=True)] == [1, 2, None]
    assert [e.get("n") async for e in handler.stream_events()] == [1, None]


async def test_a_reader_may_choose_classes_and_come_back() -> None:
    class Streams(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(3):
                ctx.write_event_to_stream(Part(n=n))
                ctx.write_event_to_stream(Done(n=n))
            return StopEvent()

    handler = Streams().run()
    first = handler.stream_events(types=Done)
    assert (await anext(first)).get("n") == 0
    position = first.position
    assert [e.get("n") async for e in handler.stream_events(types=(Part, Done), start=position)] == [1, 1, 2, 2]


async def test_what_is_no_exception_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            raise BaseExceptionGroup("odd", [GeneratorExit()])

    with caplog.at_level(logging.ERROR), pytest.raises(BaseExceptionGroup):
        await Odd().run()
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text


async def test_sync_steps_that_run_workflows_do_not_take_the_threads_of_those() -> None:
    class Inner(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    class Outer(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=Inner(timeout=5).run_sync())

    runs = [Outer(timeout=20).run() for _ in range(40)]  # more than a pool has threads
    assert sum(await asyncio.gather(*runs)) == 40


async def test_a_child_run_in_a_sync_step_is_cancelled_in_its_own_thread(caplog: pytest.LogCaptureFixture) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Inner(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            loop.call_soon_threadsafe(began.set)
            await asyncio.Event().wait()
            return StopEvent()

    class Outer(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            try:
                return StopEvent(result=Inner(timeout=20).run_sync())
            finally:
                loop.call_soon_threadsafe(ended.set)

    handler = Outer().run()
    await began.wait()
    await handler.cancel_run()
    async with asyncio.timeout(10):
        await ended.wait()
    gc.collect()
    assert not caplog.records, "no task of the engine failed"


async def test_a_run_that_goes_on_only_to_end_tells_nothing_after_its_end(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    class Asks(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(Ask())
            return StopEvent(result="done")

    workflow = Asks()
    checkpointer = WorkflowCheckpointer(workflow=workflow)
    await checkpointer.run()
    (checkpoints,) = checkpointer.checkpoints.values()
    records.records.clear()
    assert await workflow.run_from(checkpoints[-1]) == "done"
    assert isinstance(records.records[-1], RunEnded)


class Breaks(Workflow):
    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.get("seconds", 0))
        raise ValueError("broken")


async def test_a_run_that_times_out_and_that_nobody_awaits_is_logged(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    Breaks(timeout=5, workflow_name="late").run(seconds=10)
    await asyncio.sleep(6)
    (told,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert told.message.endswith("of late timed out and nobody awaited it")


async def test_the_traceback_of_a_failed_run_is_the_same_for_everybody_who_awaits_it() -> None:
    handler = Breaks().run()
    lengths: list[int] = []
    for _ in range(4):
        with pytest.raises(ValueError, match="broken") as caught:
            await handler
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1
