"""What follows a failure: a handler, a typed error, and never a hanging or harmed run."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Annotated

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.errors import StepTimeoutError, WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent, WorkflowFailedEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import EventSent, Record, RunEnded, RunStarted, StepEnded, StepStarted
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Middle(Event):
    n: int = 0


class Recovers(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def breaks(self, ev: StartEvent) -> StopEvent:
        raise ValueError("broken")

    @catch_error
    async def mend(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=(ev.step_name, ev.attempts, str(ev.exception), ev.elapsed_seconds))


async def test_a_handler_takes_what_retries_could_not_mend(clock: VirtualClockLoop, records: RecordLog) -> None:
    assert await Recovers().run() == ("breaks", 2, "broken", 1.0)
    assert records.steps()[-3:] == [
        "1 StepEnded breaks#2 failed handled by mend",
        "1 StepStarted mend#1",
        "1 StepEnded mend#1 completed",
    ]


async def test_recoveries_are_counted_in_the_lineage_of_an_event() -> None:
    class Loops(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Middle:
            return Middle()

        @step
        async def breaks(self, ev: Middle) -> StopEvent:
            raise ValueError(f"broken {ev.n}")

        @catch_error(for_steps=["breaks"], max_recoveries=2)
        async def again(self, ev: StepFailedEvent) -> Middle:
            return Middle(n=ev.input_event.n + 1)

    with pytest.raises(ValueError, match="broken 2"):
        await Loops().run()


async def test_a_handler_that_raises_fails_the_run_with_its_own_error() -> None:
    class Worse(Recovers):
        @catch_error
        async def mend(self, ev: StepFailedEvent) -> StopEvent:
            raise KeyError("worse")

    with pytest.raises(KeyError, match="worse"):
        await Worse().run()


class Order(Event):
    pass


class Payment(Event):
    pass


class Ships(Workflow):
    @step
    async def order(self, ctx: Context, ev: StartEvent) -> Order | Payment | None:
        for event in (Order(), Payment()) if ev.order_first else (Payment(), Order()):
            ctx.send_event(event)

    @step
    async def ship(self, order: Order, payment: Payment) -> StopEvent:
        raise ValueError("broken")

    @catch_error
    async def mend(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=type(ev.input_event))


@pytest.mark.parametrize(("order_first", "last"), [(True, Payment), (False, Order)])
async def test_a_step_of_several_events_failed_for_the_one_that_came_last(order_first: bool, last: type[Event]) -> None:
    assert await Ships().run(order_first=order_first) is last


def test_a_handler_for_an_unknown_step_is_refused() -> None:
    class Bad(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @catch_error(for_steps=["two"])
        async def mend(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowValidationError, match="'mend' covers 'two', which is no step of Bad"):
        Bad().validate()


async def test_a_step_timeout_goes_to_the_retry_policy(clock: VirtualClockLoop, records: RecordLog) -> None:
    class Hangs(Workflow):
        @step(timeout=3, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def hang(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(100 if ctx.retry_info().retry_number == 0 else 1)
            return StopEvent(result=type(ctx.retry_info().last_exception))

    assert await Hangs().run() is StepTimeoutError
    assert records.steps()[1:3] == ["3 StepEnded hang#1 retrying", "3 RetryScheduled hang#2 1s"]


async def test_a_step_timeout_counts_the_making_of_its_resources(clock: VirtualClockLoop) -> None:
    made = 0

    async def model() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(100 if made == 1 else 2)
        return made

    class Needs(Workflow):
        @step(timeout=3, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def ask(self, ev: StartEvent, model: Annotated[int, Resource(model)]) -> StopEvent:
            await asyncio.sleep(0.5)
            return StopEvent(result=model)

    result = await Needs(timeout=None).run()
    assert (result, clock.time()) == (2, 6.5)


async def test_what_a_given_up_attempt_of_a_plain_function_gives_later_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    second_runs, first_gave = threading.Event(), threading.Event()

    class Late(Workflow):
        @step(timeout=0.05, retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
        def work(self, ctx: Context, ev: StartEvent) -> Middle | None:
            if ctx.retry_info().retry_number == 0:
                second_runs.wait(10)
                ctx.send_event(Middle(n=1))
                ctx.write_event_to_stream(Middle(n=1))
                first_gave.set()
                return None
            second_runs.set()
            first_gave.wait(10)
            return Middle(n=2)

        @step
        async def end(self, ev: Middle) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Late().run()
    streamed = [ev async for ev in handler.stream_events()]
    assert (await handler, len(streamed)) == (2, 1)
    assert caplog.text.count("step work gave Middle in attempt 1, which was given up") == 2


async def test_a_failed_run_ends_its_stream_with_the_failure() -> None:
    class Fails(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            raise ValueError("broken")

    handler = Fails().run()
    events = [event async for event in handler.stream_events()]
    assert [(type(e), e.step_name, str(e.exception)) for e in events] == [(WorkflowFailedEvent, "one", "broken")]
    with pytest.raises(ValueError, match="broken"):
        await handler


async def test_what_is_no_exception_leaves_the_run_as_itself() -> None:
    class Strange(BaseException):
        pass

    class Raises(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            raise Strange

    handler = Raises().run()
    with pytest.raises(Strange):
        await handler


async def test_a_raising_record_handler_never_hurts_a_run(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"
        destination = None

        def handle(self, record: Record) -> None:
            raise RuntimeError("handler bug")

        def carrier(self, run_id: str) -> dict[str, str]:
            raise RuntimeError("handler bug")

    remove = add_handler(Broken())
    try:
        with caplog.at_level(logging.ERROR):
            assert await Recovers().run() is not None
    finally:
        remove()
    assert len([r for r in caplog.records if "telemetry is incomplete" in r.message]) == 1


async def test_a_run_started_in_a_step_is_its_child_and_ends_with_it(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    class Inner(Workflow):
        @step
        async def sleep(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(100)
            return StopEvent()

    class Outer(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Inner().run())

    handler = Outer().run()
    await asyncio.sleep(5)
    await handler.cancel_run()
    await asyncio.sleep(0)
    outer, inner = records.of(RunStarted)
    assert (inner.parent, inner.root_run_id) == ((outer.run_id, _exec_id(records, "call")), outer.run_id)
    assert {r.run_id: r.outcome for r in records.of(RunEnded)} == {outer.run_id: "cancelled", inner.run_id: "cancelled"}


def _exec_id(records: RecordLog, step: str) -> str:
    return next(r.exec_id for r in records.of(StepStarted) if r.step == step)


async def test_sending_what_is_no_event_is_refused() -> None:
    class Sends(Workflow):
        @step
        async def one(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event("text")  # type: ignore[arg-type]
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError, match="send_event needs an Event instance, got str"):
        await Sends().run()


async def test_a_target_that_does_not_take_the_event_is_refused() -> None:
    class Sends(Workflow):
        @step
        async def one(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Middle(), step=ev.step)
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError, match=r"Step two does not exist. Sends has: one"):
        await Sends().run(step="two")
    with pytest.raises(WorkflowRuntimeError, match="Step one does not accept event of type"):
        await Sends().run(step="one")


def test_run_sync_runs_to_the_end_without_a_loop() -> None:
    class Adds(Workflow):
        @step
        def add(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.a + ev.b)

    assert Adds().run_sync(a=1, b=2) == 3


def test_threads_of_sync_steps_end_though_somebody_keeps_their_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    class Threaded(Workflow):
        @step
        async def note(self, ev: StartEvent) -> Middle:
            loops.append(asyncio.get_running_loop())
            return Middle()

        @step
        def last(self, ev: Middle) -> StopEvent:
            return StopEvent(result=threading.current_thread())

    flow = Threaded()
    first: threading.Thread = flow.run_sync()
    flow.run_sync()
    first.join(timeout=10)
    assert not first.is_alive()


async def test_run_sync_is_refused_inside_a_loop() -> None:
    with pytest.raises(WorkflowRuntimeError, match=r"run_sync\(\) was called where an event loop runs"):
        Recovers().run_sync()


@pytest.mark.parametrize("kind", [StepStarted, StepEnded, EventSent, RunStarted])
async def test_under_test_a_raising_record_handler_ends_the_run_with_its_error(
    records: RecordLog, kind: type[Record]
) -> None:
    class Broken:
        name = "broken"
        destination = None

        def handle(self, record: Record) -> None:
            if isinstance(record, kind):
                raise RuntimeError("handler bug")

        def carrier(self, run_id: str) -> None:
            return None

    class One(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    remove = add_handler(Broken())
    try:
        with pytest.raises(RuntimeError, match="handler bug"):
            await asyncio.wait_for(One().run(), 2)
    finally:
        remove()


async def test_a_failure_can_be_sent_as_json_and_read_back() -> None:
    class Fails(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            raise ValueError("broken")

    handler = Fails().run()
    (event,) = [event async for event in handler.stream_events()]
    again = WorkflowFailedEvent.model_validate_json(event.model_dump_json())
    assert (again.step_name, type(again.exception), str(again.exception)) == ("one", ValueError, "broken")
    with pytest.raises(ValueError, match="broken"):
        await handler


async def test_a_step_timeout_after_a_task_group_that_failed_is_one_as_well(clock: VirtualClockLoop) -> None:
    class Groups(Workflow):
        @step(timeout=3, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if (error := ctx.retry_info().last_exception) is not None:
                return StopEvent(result=type(error))

            async def fails() -> None:
                raise ValueError

            with suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
            await asyncio.sleep(10)
            return StopEvent()

    assert await Groups(timeout=None).run() is StepTimeoutError
    assert clock.time() == 4


class Problems(Exception):  # as others name theirs
    """An error that is false, as one that holds a list of problems may be where that is empty."""

    def __len__(self) -> int:
        return 0


class Pending(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(5), stop=stop_after_attempt(2)))
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        error = ctx.retry_info().last_exception
        if error is None:
            raise Problems("none")
        return StopEvent(result=str(error))


async def test_an_error_that_is_false_is_in_a_snapshot_as_well(clock: VirtualClockLoop) -> None:
    workflow = Pending(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    saved = await handler.suspend()
    assert await workflow.run(ctx=Context.from_dict(workflow, saved)) == "none"
