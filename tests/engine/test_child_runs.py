"""Runs that steps start are children of those steps: they end with them, before anything follows, and never after."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from workflows import Context, Workflow, step
from workflows.errors import StepCancelledError, StepTimeoutError, WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import RunEnded, RunStarted, StepEnded
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_none
from workflows.testing import RecordLog, VirtualClockLoop


class Middle(Event):
    pass


class Inner(Workflow):
    """Sleeps 100 s, and takes half a second to clean up."""

    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.3)
        return StopEvent(result="slept")


class Slow(Workflow):
    @step(timeout=5, retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
    async def call(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Inner(timeout=None).run())


class Fails(Workflow):
    @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
    async def call(self, ev: StartEvent) -> StopEvent:
        Inner(timeout=None).run()
        await asyncio.sleep(1)
        if ev.get("leaks"):
            raise asyncio.CancelledError
        raise ValueError("broken")


class Forgets(Workflow):
    """Starts a run that it does not await."""

    @step
    async def start(self, ev: StartEvent) -> Middle:
        Inner(timeout=None).run()
        return Middle()

    @step
    async def end(self, ev: Middle) -> StopEvent:
        await asyncio.sleep(1)
        return StopEvent(result="done")


def _timeline(records: RecordLog) -> list[str]:
    names = {r.run_id: r.workflow for r in records.of(RunStarted)}
    lines: list[str] = []
    for record in records.records:
        if isinstance(record, RunStarted):
            lines.append(f"{record.workflow} starts")
        elif isinstance(record, RunEnded):
            lines.append(f"{names[record.run_id]} {record.outcome}")
        elif isinstance(record, StepEnded) and record.step == "call":
            lines.append(f"call#{record.attempt} {record.outcome}")
    return lines


async def test_a_step_that_times_out_ends_its_child_runs_before_it_is_tried_again(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    with pytest.raises(StepTimeoutError):
        await Slow().run()
    once = ["Inner starts", "Inner cancelled"]
    assert _timeline(records) == [
        "Slow starts", *once, "call#1 retrying", *once, "call#2 timed_out", "Slow failed"
    ]  # fmt: skip
    assert clock.time() == pytest.approx(10.6)


@pytest.mark.parametrize("leaks", [False, True])
async def test_a_step_that_fails_ends_its_child_runs_before_it_is_tried_again(
    clock: VirtualClockLoop, records: RecordLog, leaks: bool
) -> None:
    with pytest.raises(StepCancelledError if leaks else ValueError):
        await Fails().run(leaks=leaks)
    once = ["Inner starts", "Inner cancelled"]
    assert _timeline(records) == [
        "Fails starts", *once, "call#1 retrying", *once, "call#2 failed", "Fails failed"
    ]  # fmt: skip


async def test_the_end_of_a_child_run_says_that_its_step_failed(clock: VirtualClockLoop, records: RecordLog) -> None:
    with pytest.raises(ValueError, match="broken"):
        await Fails().run()
    (first, *_) = [r for r in records.of(RunEnded) if r.outcome == "cancelled"]
    assert first.reason == "step call, which started it, was stopped or failed"


async def test_a_run_that_is_cancelled_while_a_failed_step_ends_its_children_is_cancelled(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    handler = Fails().run()
    await asyncio.sleep(1.1)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert _timeline(records)[1:] == ["Inner starts", "call#1 cancelled", "Inner cancelled", "Fails cancelled"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_child_run_that_no_step_awaits_ends_with_its_parent(
    clock: VirtualClockLoop, records: RecordLog, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Forgets().run() == "done"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert _timeline(records)[-2:] == ["Inner cancelled", "Forgets completed"]
    inner, outer = records.of(RunEnded)
    assert inner.reason == f"run {outer.run_id}, whose step start started it, is over"
    assert "nobody awaited it" in caplog.text


async def test_a_child_run_may_be_awaited_by_a_later_step(clock: VirtualClockLoop) -> None:
    handlers: list[WorkflowHandler] = []

    class Hands(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Middle:
            handlers.append(Inner(timeout=None).run())
            return Middle()

        @step
        async def end(self, ev: Middle) -> StopEvent:
            return StopEvent(result=await handlers[0])

    assert await Hands(timeout=None).run() == "slept"


async def test_a_run_that_is_started_in_a_context_of_its_own_is_no_child(clock: VirtualClockLoop) -> None:
    handlers: list[WorkflowHandler] = []

    class Lets(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            handlers.append(contextvars.Context().run(Inner(timeout=None).run))
            return StopEvent(result="done")

    assert await Lets().run() == "done"
    assert await handlers[0] == "slept"


class Word(Event):
    pass


class Writes(Workflow):
    """Streams one word, and ends when somebody has read it."""

    def __init__(self, was_read: threading.Event) -> None:
        super().__init__(timeout=None)
        self.was_read = was_read

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Word())
        return StopEvent(result=await asyncio.to_thread(self.was_read.wait, 5))


class Page(Workflow):
    @step
    def plain(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=Writes(ev.was_read).run_sync())


class PageInAThread(Workflow):
    @step
    async def hands_over(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await asyncio.to_thread(Writes(ev.was_read).run_sync))


class Book(Workflow):
    @step
    async def print(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Page(timeout=None).run(was_read=ev.was_read))


@pytest.mark.parametrize("workflow", [Page, PageInAThread, Book])
async def test_what_a_child_run_on_another_loop_streams_is_read_at_once(workflow: type[Workflow]) -> None:
    asyncio.get_running_loop().set_debug(False)  # in which a reader that another thread wakes would hang for ever
    was_read = threading.Event()
    handler = workflow(timeout=None).run(was_read=was_read)
    async for event in handler.stream_events(include_children=True):
        if isinstance(event, Word):
            was_read.set()
    assert await handler is True


class Reply(HumanResponseEvent):
    pass


class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply, timeout=None)
        await asyncio.sleep(1)
        return StopEvent(result="answered")


class Leads(Workflow):
    """Awaits a run that asks a person, and may work beside it."""

    asking: WorkflowHandler

    @step
    async def start(self, ev: StartEvent) -> StopEvent:
        self.asking = Asks(timeout=None).run()
        return StopEvent(result=await self.asking)

    @step
    async def work(self, ev: StartEvent) -> None:
        await asyncio.sleep(ev.seconds)


async def test_a_run_that_only_awaits_a_child_run_that_waits_need_not_pay_for_the_time(
    clock: VirtualClockLoop,
) -> None:
    workflow = Leads(timeout=5, idle_counts=False)
    handler = workflow.run(seconds=2)
    await asyncio.sleep(100)
    await workflow.asking.send_event(Reply())
    assert await handler == "answered"


async def test_a_run_that_works_beside_a_child_run_that_waits_pays_for_the_time(clock: VirtualClockLoop) -> None:
    handler = Leads(timeout=5, idle_counts=False).run(seconds=10)
    with pytest.raises(WorkflowTimeoutError):
        await handler
    assert clock.time() == pytest.approx(5)


async def test_a_timeout_names_the_open_waits_of_child_runs(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowTimeoutError, match="Open waits: ask of Asks for Reply"):
        await Leads(timeout=5).run(seconds=0)
