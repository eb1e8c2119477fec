"""Joins that are retried, waits that follow waits, child runs that clean up: what random plans and a hunt found."""

from __future__ import annotations

import asyncio
import gc
from copy import deepcopy
from typing import Any

import pytest

from tests.engine.flows import A, Ask, B, Reply
from workflows import Context, Workflow, step
from workflows.errors import ContextStateError, WorkflowDeadlockError, WorkflowRuntimeError, WorkflowTimeoutError
from workflows.events import Event, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import EventSent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop

ONCE_MORE = retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2))


class Later(Event):
    pass


class Pair(Workflow):
    """Joins two events, the second of which comes 10 s after the first."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | Later:
        ctx.send_event(A(n=0))
        return Later()

    @step
    async def later(self, ev: Later) -> A:
        await asyncio.sleep(10)
        return A(n=1)


async def test_a_retry_does_not_count_its_event_again(clock: VirtualClockLoop) -> None:
    class Retried(Pair):
        @step(retry_policy=ONCE_MORE)
        async def join(self, ctx: Context, ev: A) -> StopEvent | None:
            both = ctx.collect_events(ev, [A, A])
            if ctx.retry_info().retry_number == 0:
                raise ValueError("after it was kept")
            return StopEvent(result=[e.n for e in both]) if both else None

    assert await Retried().run() == [0, 1]


async def test_a_join_that_fails_gets_its_events_again(clock: VirtualClockLoop) -> None:
    class Retried(Pair):
        @step(retry_policy=ONCE_MORE)
        async def join(self, ctx: Context, ev: A) -> StopEvent | None:
            both = ctx.collect_events(ev, [A, A])
            if both is None:
                return None
            if ctx.retry_info().retry_number == 0:
                raise ValueError("model overloaded")
            return StopEvent(result=[e.n for e in both])

    assert await Retried().run() == [0, 1]


@pytest.mark.parametrize("pause", [1, 11])
async def test_a_resumed_join_does_not_count_its_event_again(clock: VirtualClockLoop, pause: int) -> None:
    class Slow(Pair):
        @step
        async def join(self, ctx: Context, ev: A) -> StopEvent | None:
            both = ctx.collect_events(ev, [A, A])
            await asyncio.sleep(2)
            return StopEvent(result=[e.n for e in both]) if both else None

    workflow = Slow()
    handler = workflow.run()
    await asyncio.sleep(pause)
    snapshot = await handler.suspend()
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == [0, 1]


async def test_a_wait_after_a_wait_that_was_given_up_leaves_the_run_idle(clock: VirtualClockLoop) -> None:
    class GivesUp(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=0))
            ctx.send_event(A(n=1))
            return None

        @step(num_workers=1)
        async def work(self, ctx: Context, ev: A) -> StopEvent | None:
            if ev.n == 1:
                await asyncio.sleep(3)
                return None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ctx.wait_for_event(B, timeout=None), 1)
            with pytest.raises(TimeoutError):
                await ctx.wait_for_event(B, timeout=5)
            return None

    with pytest.raises(WorkflowDeadlockError):
        await GivesUp(timeout=None).run()
    assert clock.time() < 7


class Cleans(Workflow):
    cleaned = 0

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.3)
            type(self).cleaned += 1
        return StopEvent()


async def test_a_cancelled_run_is_over_when_its_child_runs_are(clock: VirtualClockLoop) -> None:
    class Outer(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Cleans(timeout=None).run())

    Cleans.cleaned = 0
    handler = Outer(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    assert Cleans.cleaned == 1


async def test_four_hundred_runs_within_each_other_can_be_cancelled(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    class Deep(Workflow):
        @step
        async def go(self, ev: StartEvent) -> StopEvent:
            if ev.n == 0:
                await asyncio.sleep(1000)
            return StopEvent(result=await Deep(timeout=None).run(n=ev.n - 1))

    handler = Deep(timeout=None).run(n=400)
    await asyncio.sleep(1)
    await handler.cancel_run()
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []


async def test_a_context_of_another_workflow_is_refused(clock: VirtualClockLoop) -> None:
    class Other(Workflow):
        @step
        async def other(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    handler = Cleans(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    with pytest.raises(ContextStateError, match="Cleans"):
        Other().run(ctx=handler.ctx)


async def test_collecting_for_a_step_that_has_ended_is_refused() -> None:
    class Late(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A:
            self.kept = ctx
            return A()

        @step
        async def end(self, ev: A) -> StopEvent:
            with pytest.raises(WorkflowRuntimeError, match="start"):
                self.kept.collect_events(A(), [A, A])
            return StopEvent(result="refused")

    assert await Late().run() == "refused"


def test_a_wait_on_another_event_loop_is_refused() -> None:
    class Foreign(Workflow):
        @step
        def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def ask() -> None:
                await ctx.wait_for_event(Reply, timeout=5)

            with pytest.raises(WorkflowRuntimeError, match="start"):
                asyncio.run(ask())
            return StopEvent(result="refused")

    assert Foreign().run_sync() == "refused"


async def test_a_requirement_that_cannot_be_compared_does_not_match(clock: VirtualClockLoop) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("ambiguous")

        __hash__ = object.__hash__

    class Waits(Workflow):
        @step
        async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(Reply, requirements={"what": "this"})).n)

    handler = Waits().run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply(n=1, what=Odd()))  # type: ignore[call-arg]
    handler.ctx.send_event(Reply(n=2, what="this"))  # type: ignore[call-arg]
    assert await handler == 2


async def test_a_base_exception_is_not_told_as_never_retrieved() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    class Raises(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            raise BaseExceptionGroup("two", [ValueError(), GeneratorExit()])

    with pytest.raises(BaseExceptionGroup):
        await Raises().run()
    await asyncio.sleep(0)
    gc.collect()
    assert told == []


class Thinks(Workflow):
    """Works for 3 s, asks, and works again."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(3)
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(), timeout=None)
        await asyncio.sleep(ev.after)
        return StopEvent(result=reply.n)


async def test_a_timeout_does_not_propose_what_is_set_already(clock: VirtualClockLoop) -> None:
    class Busy(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | Later | None:
            ctx.send_event(A())
            ctx.send_event(Later())
            return None

        @step
        async def wait(self, ctx: Context, ev: A) -> StopEvent:
            return StopEvent(result=await ctx.wait_for_event(Reply))

        @step
        async def work(self, ev: Later) -> None:
            await asyncio.sleep(10)

    with pytest.raises(WorkflowTimeoutError, match=r"Open waits: wait for Reply\. Give it more with") as caught:
        await Busy(timeout=3, idle_counts=False).run()
    assert "idle_counts" not in str(caught.value)


async def test_a_timeout_while_a_person_thinks_names_the_option(clock: VirtualClockLoop) -> None:
    """O"""
    with pytest.raises(WorkflowTimeoutError, match=r"Open waits: ask for Reply.*idle_counts=False"):
        await Thinks(timeout=5).run(after=0)


async def test_a_timeout_of_a_run_that_asked_and_stopped_names_the_question(clock: VirtualClockLoop) -> None:
    class Form(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> Ask:
            return Ask()

        @step
        async def answer(self, ev: Reply) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowTimeoutError, match=r"Ask.*idle_counts=False"):
        await Form(timeout=5).run()


async def test_a_deadlock_says_what_a_join_still_needs(clock: VirtualClockLoop) -> None:
    """J"""

    class Stuck(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))
            return None

        @step
        async def gather(self, ctx: Context, ev: A | B) -> StopEvent | None:
            return StopEvent() if ctx.collect_events(ev, [A, B]) else None

    with pytest.raises(WorkflowDeadlockError, match="needs 1x B") as caught:
        await Stuck(timeout=None).run()
    assert caught.value.last_events[-2:] == ("start -> A", "start -> A")
    assert [fan_in.step for fan_in in caught.value.fan_ins] == ["gather"]


class Branch(Event):
    n: int = 0


class Result(Event):
    n: int = 0


class Split(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> B | None:
        ctx.send_event(B(n=600))
        ctx.send_event(B(n=300))

    @step
    async def split(self, ev: B) -> list[Branch]:
        return [Branch(n=n) for n in range(ev.n)]

    @step
    async def work(self, ev: Branch) -> Result:
        return Result(n=ev.n)

    @step
    async def join(self, ctx: Context, ev: list[Result]) -> StopEvent | None:
        async with ctx.store.edit_state() as state:
            sizes = state.sizes = [*state.get("sizes", []), len(ev)]
        return StopEvent(result=sorted(sizes)) if len(sizes) == 2 else None


async def test_two_long_lists_at_once_are_both_delivered(clock: VirtualClockLoop) -> None:
    assert await Split(timeout=60).run() == [300, 600]


class TwoWaits(Workflow):
    """Waits for two answers at once, gives the first up after 10 s; another call has the worker when they come."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A(n=1))
        await asyncio.sleep(1)
        ctx.send_event(A(n=2))

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: A) -> StopEvent | None:
        if ev.n == 2:
            await asyncio.sleep(100)
            return None
        return StopEvent(result=await asyncio.gather(self.given_up(ctx), self.answered(ctx)))

    async def given_up(self, ctx: Context) -> int | None:
        try:
            async with asyncio.timeout(10):
                return (await ctx.wait_for_event(Reply, requirements={"n": 1})).n
        except TimeoutError:
            return None

    async def answered(self, ctx: Context) -> int:
        return (await ctx.wait_for_event(Reply, requirements={"n": 2})).n


async def test_an_answer_is_not_lost_when_another_wait_of_the_call_is_given_up(clock: VirtualClockLoop) -> None:
    handler = TwoWaits(timeout=400).run()
    await asyncio.sleep(5)
    await handler.send_event(Reply(n=1))
    await handler.send_event(Reply(n=2))
    assert await handler == [None, 2]


async def test_a_snapshot_of_a_resumed_run_at_its_gate_does_not_change_it(clock: VirtualClockLoop) -> None:
    seen: list[int] = []

    class Gated(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(50)
            return StopEvent(result=seen)

        @step
        async def replied(self, ev: Reply) -> None:
            seen.append(ev.n)

    workflow = Gated(timeout=None, num_concurrent_runs=1)
    interrupted = workflow.run()
    await asyncio.sleep(1)
    snapshot = await interrupted.suspend()
    first = workflow.run()
    await asyncio.sleep(1)
    queued = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    await queued.send_event(Reply(n=1))
    assert queued.ctx.to_dict() == queued.ctx.to_dict()
    await first.cancel_run()
    assert await queued == [1]


async def test_a_copy_of_a_workflow_does_not_wait_for_the_runs_of_the_original(clock: VirtualClockLoop) -> None:
    class Slow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent(result=clock.time())

    workflow = Slow(num_concurrent_runs=1)
    began = clock.time()
    original = workflow.run()
    await asyncio.sleep(1)
    copy = deepcopy(workflow).run()
    assert [await original - began, await copy - began] == [5, 6]


async def test_a_task_that_sends_while_a_long_list_is_returned_gets_ids_of_its_own(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    class Chatty(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> list[A] | A:
            self.chatter = asyncio.create_task(self.chat(ctx))
            return [A(n=n) for n in range(3000)]

        async def chat(self, ctx: Context) -> None:
            for _ in range(5):
                ctx.send_event(A(n=-1))
                await asyncio.sleep(0)

        @step
        async def work(self, ev: A) -> B | None:
            return B() if ev.n >= 0 else None

        @step
        async def join(self, ev: list[B]) -> StopEvent:
            return StopEvent(result=len(ev))

    assert await Chatty(timeout=60).run() == 3000
    ids = [record.envelope.event_id for record in records.records if isinstance(record, EventSent)]
    assert len(ids) == len(set(ids))


async def by_hand(handler: WorkflowHandler) -> Any:
    while (events := await handler.run_step()) is not None:
        for event in events:
            handler.ctx.send_event(event)
    return await handler


async def test_by_hand_an_object_that_a_step_returned_twice_counts_twice(clock: VirtualClockLoop) -> None:
    class Twice(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[Branch]:
            return [Branch()] * 2

        @step
        async def work(self, ev: Branch) -> Result:
            return Result()

        @step
        async def join(self, ev: list[Result]) -> StopEvent:
            return StopEvent(result=len(ev))

    assert await by_hand(Twice(timeout=20).run(stepwise=True)) == 2


async def test_a_run_that_was_stopped_in_a_second_attempt_goes_on_by_hand(clock: VirtualClockLoop) -> None:
    class Retried(Workflow):
        @step(retry_policy=ONCE_MORE)
        async def start(self, ctx: Context, ev: StartEvent) -> A:
            if ctx.retry_info().retry_number == 0:
                raise ValueError("once")
            await asyncio.sleep(20)
            return A()

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent(result="done")

    workflow = Retried(timeout=30)
    handler = workflow.run()
    await asyncio.sleep(5)
    context = Context.from_dict(workflow, await handler.suspend())
    assert await by_hand(workflow.run(ctx=context, stepwise=True)) == "done"


async def test_what_was_sent_to_a_run_at_its_gate_is_there_when_that_goes_on(clock: VirtualClockLoop) -> None:
    class Gated(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=20)).n)

    workflow = Gated(num_concurrent_runs=1)
    first = workflow.run()
    await asyncio.sleep(1)
    context = Context(workflow)
    queued = workflow.run(ctx=context)
    await queued.send_event(Reply(n=7))
    await queued.cancel_run()
    await first.cancel_run()
    assert await workflow.run(ctx=context) == 7
