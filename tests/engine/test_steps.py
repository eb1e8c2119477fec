"""Events go to the steps that take them, and the run ends with what the last one returns."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from workflows import Context, Workflow, step
from workflows.errors import (
    StepCancelledError,
    WorkflowCancelledByUser,
    WorkflowConfigurationError,
    WorkflowRuntimeError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from workflows.events import Event, StartEvent, StepStateChanged, StopEvent, WorkflowCancelledEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Work(Event):
    n: int


class Done(Event):
    n: int


class Progress(Event):
    text: str


class Greeting(Workflow):
    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=f"Hello {ev.name}")


class FanOut(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Work | None:
        for n in range(ev.n):
            ctx.send_event(Work(n=n))
        await ctx.store.set("n", ev.n)
        return None

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: Work) -> Done:
        ctx.write_event_to_stream(Progress(text=f"work {ev.n}"))
        await asyncio.sleep(10)
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * await ctx.store.get("n"))
        return None if done is None else StopEvent(result=[d.n for d in done])


class Flaky(Workflow):
    def __init__(self, failures: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.failures = failures

    @step(retry_policy=retry_policy(wait=wait_fixed(30), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number < self.failures:
            raise ConnectionError("no route")
        return StopEvent(result=ctx.retry_info().retry_number)


class Slow(Workflow):
    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1000)
        return StopEvent()


async def test_run_gives_the_result_of_the_stop_event() -> None:
    assert await Greeting().run(name="Ada") == "Hello Ada"


async def test_an_event_queues_while_every_worker_is_busy(clock: VirtualClockLoop) -> None:
    assert await FanOut().run(n=6) == [0, 1, 2, 3, 4, 5]
    assert clock.time() == 30


async def test_records_tell_the_run_in_order(clock: VirtualClockLoop, records: RecordLog) -> None:
    await FanOut().run(n=1)
    assert records.timeline() == [
        "0 RunStarted FanOut",
        "0 EventSent StartEvent -> start",
        "0 StepStarted start#1",
        "0 EventSent Work -> work",
        "0 StepEnded start#1 completed",
        "0 StepStarted work#1",
        "0 EventStreamed Progress by work",
        "10 StepEnded work#1 completed",
        "10 EventSent Done -> join",
        "10 StepStarted join#1",
        "10 FanInReleased join of 1",
        "10 StepEnded join#1 completed",
        "10 RunEnded completed",
    ]


async def test_retry_waits_for_the_policy_delay(clock: VirtualClockLoop, records: RecordLog) -> None:
    assert await Flaky(failures=1, timeout=None).run() == 1
    assert records.steps() == [
        "0 StepStarted fetch#1",
        "0 StepEnded fetch#1 retrying",
        "0 RetryScheduled fetch#2 30s",
        "30 StepStarted fetch#2",
        "30 StepEnded fetch#2 completed",
    ]


async def test_the_last_failure_leaves_the_run_as_itself(clock: VirtualClockLoop, records: RecordLog) -> None:
    with pytest.raises(ConnectionError, match="no route"):
        await Flaky(failures=9, timeout=None).run()
    assert records.timeline()[-2:] == ["60 StepEnded fetch#3 failed", "60 RunEnded failed"]


async def test_timeout_names_the_active_steps(clock: VirtualClockLoop, records: RecordLog) -> None:
    with pytest.raises(WorkflowTimeoutError, match=r"after 7 seconds. Currently active steps: wait"):
        await Slow(timeout=7).run()
    assert records.timeline()[-2:] == ["7 StepEnded wait#1 timed_out", "7 RunEnded timed_out"]


async def test_cancel_ends_in_one_terminal_event(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Slow().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert [type(e) async for e in handler.stream_events()] == [WorkflowCancelledEvent]
    assert records.timeline()[-2:] == ["1 StepEnded wait#1 cancelled", "1 RunEnded cancelled"]


async def test_a_run_cancelled_before_its_step_ran_tells_the_step(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Slow().run()
    await handler.cancel_run()
    assert records.steps() == ["0 StepEnded wait#1 cancelled"]


async def test_who_stops_awaiting_leaves_the_run_alone(clock: VirtualClockLoop) -> None:
    handler = Slow(timeout=None).run()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(handler, 5)
    assert await handler is None
    assert clock.time() == 1000


async def test_stream_goes_on_after_a_break(clock: VirtualClockLoop) -> None:
    handler = FanOut().run(n=3)
    first = await anext(handler.stream_events())
    rest = [e.text async for e in handler.stream_events() if isinstance(e, Progress)]
    assert [first.text, *rest] == ["work 0", "work 1", "work 2"]


async def test_two_readers_each_get_the_whole_stream(clock: VirtualClockLoop) -> None:
    handler = FanOut().run(n=2)
    first, second = handler.stream_events(), handler.stream_events()
    seen = await asyncio.gather(*[_texts(s) for s in (first, second)])
    assert seen == [["work 0", "work 1"]] * 2


async def _texts(stream: object) -> list[str]:
    return [e.text async for e in stream if isinstance(e, Progress)]  # type: ignore[attr-defined]


async def test_runs_beyond_the_limit_wait_their_turn(clock: VirtualClockLoop) -> None:
    workflow = FanOut(num_concurrent_runs=1, timeout=15)
    assert await asyncio.gather(workflow.run(n=1), workflow.run(n=1)) == [[0], [0]]
    assert clock.time() == 20


async def test_a_queued_run_can_be_cancelled(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Slow(num_concurrent_runs=1, timeout=None)
    first, second = workflow.run(), workflow.run()
    await asyncio.sleep(1)
    await second.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await second
    assert await first is None


async def test_a_leaked_cancellation_fails_the_step() -> None:
    class Leaky(Workflow):
        @step
        async def leak(self, ev: StartEvent) -> StopEvent:
            raise asyncio.CancelledError

    with pytest.raises(StepCancelledError, match="leak raised CancelledError though nobody cancelled it"):
        await Leaky().run()


async def test_sync_steps_send_and_stream(records: RecordLog) -> None:
    class Sync(Workflow):
        @step
        def start(self, ctx: Context, ev: StartEvent) -> Work:
            ctx.write_event_to_stream(Progress(text="from a thread"))
            ctx.send_event(Work(n=1))
            return Work(n=2)

        @step
        async def end(self, ctx: Context, ev: Work) -> StopEvent | None:
            both = ctx.collect_events(ev, [Work, Work])
            return StopEvent(result=[e.n for e in both]) if both else None

    handler = Sync().run()
    assert [e.text async for e in handler.stream_events() if isinstance(e, Progress)] == ["from a thread"]
    assert await handler == [1, 2]


async def test_typed_state_survives_from_run_to_run() -> None:
    class Counter(Workflow):
        @step
        async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async with ctx.store.edit_state() as state:
                state.n = state.get("n", 0) + 1
            return StopEvent(result=await ctx.store.get("n"))

    workflow = Counter()
    ctx = Context(workflow)
    assert [await workflow.run(ctx=ctx) for _ in range(3)] == [1, 2, 3]


def test_a_step_without_annotations_is_refused() -> None:
    with pytest.raises(WorkflowValidationError, match="has no parameter annotated with an event class"):

        class Bad(Workflow):
            @step
            async def nothing(self, ev):  # type: ignore[no-untyped-def]
                return None


def test_a_step_without_return_annotation_is_refused() -> None:
    with pytest.raises(WorkflowValidationError, match="has no return annotation"):

        class Bad(Workflow):
            @step
            async def nothing(self, ev: StartEvent):  # type: ignore[no-untyped-def]
                return None


def test_a_second_start_event_class_is_refused() -> None:
    class OtherStart(StartEvent):
        pass

    class Bad(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def two(self, ev: OtherStart) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowConfigurationError, match=r"accepts 2 classes .*StartEvent in one; OtherStart in two"):
        Bad()


async def test_an_event_that_no_step_takes_is_refused_before_the_run() -> None:
    class Bad(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent | Work:
            return StopEvent()

    with pytest.raises(WorkflowValidationError, match=r"never consumed: Work \(returned by step 'one'\)"):
        Bad().run()


async def test_an_event_sent_to_nobody_is_told_and_logged(records: RecordLog, caplog: pytest.LogCaptureFixture) -> None:
    class Sends(Workflow):
        @step
        async def one(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Work(n=1))
            return StopEvent()

    await Sends().run()
    assert "1" not in records.timeline()
    assert [line for line in records.timeline() if "Unhandled" in line]
    assert "no step of Sends accepts Work, sent by one" in caplog.text


async def test_a_start_event_that_does_not_fit_is_refused_with_the_field() -> None:
    class Begin(StartEvent):
        topic: str

    class Typed(Workflow):
        @step
        async def one(self, ev: Begin) -> StopEvent:
            return StopEvent(result=ev.topic)

    with pytest.raises(WorkflowRuntimeError, match=r"type 'Begin' .* topic: Field required"):
        Typed().run(tpoic="x")
    assert await Typed().run(topic="x") == "x"


async def test_a_step_that_returns_no_event_fails_the_run() -> None:
    class Wrong(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return "text"  # type: ignore[return-value]

    with pytest.raises(WorkflowRuntimeError, match="one returned str instead of an Event instance"):
        await Wrong().run()


async def test_a_failure_that_nobody_awaits_is_logged_once(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    Flaky(failures=9, timeout=None).run(run_id="never awaited")
    await asyncio.sleep(100)
    gc.collect()  # which may also find runs that other tests dropped
    told = [r.message for r in caplog.records if getattr(r, "run_id", None) == "never awaited"]
    assert told == ["run never awaited of Flaky failed in step fetch and nobody awaited it"]


async def test_a_stream_may_show_what_the_engine_does(clock: VirtualClockLoop) -> None:
    handler = FanOut().run(n=3)
    shown = [
        (e.step_state.value, e.name, e.input_event_name, e.output_event_name)
        async for e in handler.stream_events(expose_internal=True)
        if isinstance(e, StepStateChanged) and e.name in ("start", "work")
    ]
    assert shown[:5] == [
        ("running", "start", "StartEvent", None),
        ("preparing", "work", "Work", None),
        ("not_running", "start", "StartEvent", "NoneType"),
        ("running", "work", "Work", None),
        ("running", "work", "Work", None),
    ]
