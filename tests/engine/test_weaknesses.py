"""What users of the peer ran into, letter by letter; each test is the scenario that was seen there.

| letter | claim | also shown by |
| --- | --- | --- |
| A | a context can be used for ever | `test_edges`, `test_properties_gardens` |
| B | two waits of one type get their own answers | `test_waits` |
| C | an answer that comes early is kept | `test_waits` |
| D | who stops awaiting leaves the run alone | `test_steps` |
| E | resources are made once and never mixed up | `tests/definition/test_resources` |
| F | sync steps and threads can send | `test_steps` |
| G | a leaked cancellation fails the step | `test_steps` |
| H | a join drops nothing and repeats nothing | `test_fan_in`, `test_properties` |
| I | events keep the order in which they were sent | |
| J | a run that nothing can wake says so at once | `test_waits`, `test_fan_in`, `test_edges` |
| K | no failure is silent | `test_steps`, `test_waits` |
| L | a stream has any number of readers and always ends | `test_steps`, `test_promises` |
| M | values keep their type in a snapshot | `test_state` |
| N | steps run as they are written | `tests/definition/test_attached_steps`, `test_steps` |
| O | a person's time need not count | `test_waits` |
"""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tests.engine.flows import A, Ask, B, Nap, Reply, SubA
from workflows import Context, Workflow, step
from workflows.errors import (
    StepCancelledError,
    WorkflowCancelledByUser,
    WorkflowDeadlockError,
    WorkflowTimeoutError,
)
from workflows.events import (
    StartEvent,
    StopEvent,
    WorkflowCancelledEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_none
from workflows.testing import VirtualClockLoop


async def test_a_context_serves_turn_after_turn_without_using_up_the_timeout(clock: VirtualClockLoop) -> None:
    """A: the peer added up the time of all runs of a context; turn 3 of 0.4 s each failed a timeout of 1 s."""
    workflow = Nap(timeout=1)
    ctx = Context(workflow)
    assert [await workflow.run(ctx=ctx, seconds=0.4) for _ in range(100)] == list(range(1, 101))


async def test_a_run_that_timed_out_is_not_repeated_by_the_next_turn(clock: VirtualClockLoop) -> None:
    """A: there the event that had timed out ran again, beside the new one."""
    workflow = Nap(timeout=1)
    ctx = Context(workflow)
    Nap.naps = 0
    with pytest.raises(WorkflowTimeoutError):
        await workflow.run(ctx=ctx, seconds=5)
    assert await workflow.run(ctx=ctx, seconds=0.5) == 2
    assert Nap.naps == 2


async def test_a_client_that_goes_away_leaves_run_and_stream_alone(clock: VirtualClockLoop) -> None:
    """D: there `wait_for(handler)` killed the run, left its step running, and the stream never ended."""
    workflow = Nap(timeout=None)
    handler = workflow.run(seconds=10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler, 1)
    request = asyncio.ensure_future(handler)
    await asyncio.sleep(1)
    request.cancel()
    assert [type(e) async for e in handler.stream_events()] == [StopEvent]
    assert await handler == 1


async def test_the_older_cancel_stops_the_step_and_ends_the_stream(clock: VirtualClockLoop) -> None:
    """D: there `handler.cancel()` published no terminal event, and the step finished as an orphan."""
    handler = Nap(timeout=None).run(seconds=10)
    await asyncio.sleep(1)
    with pytest.deprecated_call():
        handler.cancel()
    assert [type(e) async for e in handler.stream_events()] == [WorkflowCancelledEvent]
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_leaked_cancellation_fails_the_step_and_is_retried() -> None:
    """G: there the step stayed active for ever with `timeout=None`."""

    class Leaks(Workflow):
        @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
        async def leak(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number or ev.always:
                inner = asyncio.create_task(asyncio.sleep(10))
                inner.cancel()
                await inner if ev.always else None
                return StopEvent(result=type(ctx.retry_info().last_exception))
            raise asyncio.CancelledError

    assert await Leaks(timeout=None).run(always=False) is StepCancelledError

    class CancelsItself(Workflow):
        @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
        async def stop(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if not ctx.retry_info().retry_number:
                asyncio.get_running_loop().call_soon(cast("asyncio.Task[None]", asyncio.current_task()).cancel)
                await asyncio.sleep(10)
            return StopEvent(result=type(ctx.retry_info().last_exception))

    assert await CancelsItself(timeout=None).run() is StepCancelledError
    with pytest.raises(StepCancelledError, match="leak raised CancelledError"):
        await Leaks(timeout=None).run(always=True)


async def _send_subclass(ctx: Context) -> Any:
    ctx.send_event(SubA(n=1))


async def _return_undeclared(ctx: Context) -> Any:
    return B(n=1)


@pytest.mark.parametrize(
    ("body", "said"), [(_send_subclass, "Nobody took 1x SubA"), (_return_undeclared, "Nobody took 1x B")]
)
async def test_an_event_that_no_step_takes_ends_the_run_with_its_name(
    clock: VirtualClockLoop, body: Callable[[Context], Any], said: str
) -> None:
    """J: there a subclass of an accepted class, or an undeclared class, hung until the timeout."""

    class Lost(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | None:
            return await body(ctx)

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowDeadlockError, match=said):
        await Lost(timeout=None).run()
    assert clock.time() < 1


async def test_a_list_producer_that_gives_none_is_a_deadlock_at_once(clock: VirtualClockLoop) -> None:
    """J: there the join never fired, and nothing was said."""

    class Empty(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A] | None:
            return None

        @step
        async def work(self, ev: A) -> B:
            return B()

        @step
        async def join(self, evs: list[B]) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowDeadlockError, match="can never end"):
        await Empty(timeout=None).run()
    assert clock.time() < 1


async def test_a_failed_run_that_nobody_awaits_is_logged(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """K: there it was completely silent."""

    class Fails(Workflow):
        @step
        async def fail(self, ev: StartEvent) -> StopEvent:
            raise ValueError("nobody looks")

    handler = Fails().run(run_id="dropped")
    async for _ in handler.stream_events():
        pass
    del handler
    await asyncio.sleep(1)
    gc.collect()
    await asyncio.sleep(1)
    (told,) = [r for r in caplog.records if getattr(r, "run_id", None) == "dropped"]
    assert "failed in step fail and nobody awaited it" in told.message
    assert told.exc_info is not None


async def test_a_second_reader_is_served_while_the_first_is_half_way(clock: VirtualClockLoop) -> None:
    """L: there it hung while the first generator was alive."""

    class Tells(Workflow):
        @step
        async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(3):
                ctx.write_event_to_stream(A(n=n))
                await asyncio.sleep(1)
            return StopEvent()

    handler = Tells().run()
    first = handler.stream_events()
    assert (await anext(first)).n == 0
    assert [e.n async for e in handler.stream_events() if isinstance(e, A)] == [0, 1, 2]
    assert [e.n async for e in first if isinstance(e, A)] == [1, 2]


class Thinks(Workflow):
    """Works for 3 s, asks a person, and works again."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(3)
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="?"), timeout=None)
        await asyncio.sleep(ev.after)
        return StopEvent(result=reply.text)


async def test_a_timeout_while_a_person_thinks_names_the_open_wait(clock: VirtualClockLoop) -> None:
    """O: there nothing said that the time had passed in waiting for a person."""
    with pytest.raises(WorkflowTimeoutError, match="Open waits: ask for Reply"):
        await Thinks().run(after=0)
    assert clock.time() == 45


async def test_a_person_may_think_for_ever_where_idle_time_does_not_count(clock: VirtualClockLoop) -> None:
    """O: there only `timeout=None` helped, which also lets a step hang for ever."""
    handler = Thinks(timeout=5, idle_counts=False).run(after=1)
    await asyncio.sleep(1000)
    handler.ctx.send_event(Reply(text="at last"))
    assert await handler == "at last"


async def test_the_time_of_steps_counts_where_idle_time_does_not(clock: VirtualClockLoop) -> None:
    """O."""
    handler = Thinks(timeout=5, idle_counts=False).run(after=3)
    await asyncio.sleep(1000)
    handler.ctx.send_event(Reply(text="at last"))
    with pytest.raises(WorkflowTimeoutError):
        await handler
    assert clock.time() == 1002


def test_every_test_that_the_page_names_is_there() -> None:
    page = (Path(__file__).parents[2] / "docs" / "why-not-the-peer.md").read_text()
    code = "".join(file.read_text() for file in Path(__file__).parent.glob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named
    assert named - set(re.findall(r"def (test_\w+)", code)) == set()
