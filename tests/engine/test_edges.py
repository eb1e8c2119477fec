"""What happens at the edges: tasks left behind, waits given up, several event loops, names that clash."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pytest

from workflows import Context, Workflow, step
from workflows.errors import WorkflowDeadlockError, WorkflowRuntimeError, WorkflowTimeoutError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.records import RunEnded, StepEnded, StepStarted
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Work(Event):
    n: int = 0


class Done(Event):
    n: int = 0


class Reply(HumanResponseEvent):
    text: str = ""


class Ask(InputRequiredEvent):
    prompt: str = ""


class Gather(Workflow):
    """Three pieces of work, joined."""

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: Work) -> Done:
        await asyncio.sleep(0.05)
        return Done(n=ev.n)

    @step
    async def end(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * 3)
        return StopEvent(result=sorted(d.n for d in done)) if done else None


async def test_a_task_that_a_step_leaves_behind_can_still_send(clock: VirtualClockLoop, records: RecordLog) -> None:
    class Leaves(Gather):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Work | None:
            async def later() -> None:
                for n in range(3):
                    await asyncio.sleep(0.3)
                    ctx.send_event(Work(n=n))

            self.task = asyncio.create_task(later())
            return None

    assert await Leaves(timeout=50).run() == [0, 1, 2]
    assert len(records.of(StepStarted)) == len(records.of(StepEnded)) == 7


async def test_events_sent_to_a_run_that_queues_keep_their_own_ids(clock: VirtualClockLoop) -> None:
    class Waits(Gather):
        @step
        async def start(self, ev: StartEvent) -> Work | None:
            await asyncio.sleep(1)
            return None

    workflow = Waits(num_concurrent_runs=1, timeout=50)
    first, second = workflow.run(), workflow.run()
    for handler in (second, first):
        for n in range(3):
            handler.ctx.send_event(Work(n=n))
    assert await asyncio.gather(first, second) == [[0, 1, 2]] * 2


async def test_a_wait_that_its_step_gave_up_costs_no_worker(clock: VirtualClockLoop) -> None:
    class GivesUp(Gather):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(3):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=1)
        async def work(self, ctx: Context, ev: Work) -> Done:
            if ev.n == 0:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(ctx.wait_for_event(Reply, timeout=None), 2)
            elif ev.n == 1:
                await asyncio.sleep(3)
            return Done(n=ev.n)

    handler = GivesUp(timeout=30).run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply())
    assert await handler == [0, 1, 2]


async def test_a_wait_given_up_is_no_deadlock(clock: VirtualClockLoop) -> None:
    class GivesUp(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> Work | None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ctx.wait_for_event(Reply, timeout=None), 1)
            ctx.send_event(Work(n=1))
            ctx.send_event(Work(n=5))
            return None

        @step
        async def work(self, ev: Work) -> StopEvent | None:
            await asyncio.sleep(ev.n)
            return StopEvent(result="done") if ev.n == 5 else None

    assert await GivesUp(timeout=30).run() == "done"


async def test_a_retry_does_not_ask_again_what_was_answered(clock: VirtualClockLoop) -> None:
    class Fails(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="?"))
            if ctx.retry_info().retry_number < 2:
                raise ValueError("model overloaded")
            return StopEvent(result=reply.text)

    handler = Fails().run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply(text="once"))
    assert await handler == "once"
    assert len([e async for e in handler.stream_events() if isinstance(e, Ask)]) == 1


async def test_a_waiter_id_may_be_used_again() -> None:
    class Twice(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            first = await ctx.wait_for_event(Reply, waiter_id="q", waiter_event=Ask(prompt="1"))
            second = await ctx.wait_for_event(Reply, waiter_id="q", waiter_event=Ask(prompt="2"))
            return StopEvent(result=(first.text, second.text))

    handler = Twice().run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            handler.ctx.send_event(Reply(text=f"re {event.prompt}"))
    assert await handler == ("re 1", "re 2")


async def test_a_waiter_id_does_not_touch_the_timeout_of_the_run(clock: VirtualClockLoop) -> None:
    class Named(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Reply, waiter_id="run", timeout=None)
            await asyncio.sleep(100)
            return StopEvent()

    handler = Named(timeout=5).run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply())
    with pytest.raises(WorkflowTimeoutError):
        await handler


async def test_a_wait_of_a_step_that_has_ended_is_refused(clock: VirtualClockLoop) -> None:
    class Late(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Work:
            async def late() -> None:
                await asyncio.sleep(0.5)
                await ctx.wait_for_event(Reply)

            self.task = asyncio.create_task(late())
            return Work()

        @step
        async def go(self, ev: Work) -> StopEvent:
            await asyncio.sleep(1)
            return StopEvent(result="ok")

    workflow = Late()
    assert await workflow.run() == "ok"
    with pytest.raises(WorkflowRuntimeError, match="was called for step start when that had ended"):
        await workflow.task


async def test_a_sync_step_that_raises_stop_iteration_fails() -> None:
    class Empty(Workflow):
        @step
        def start(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=next(iter([])))

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await asyncio.wait_for(Empty().run(), 5)


def test_one_workflow_limits_its_runs_on_every_event_loop() -> None:
    class Short(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0)
            return StopEvent(result=1)

    workflow = Short(num_concurrent_runs=1)

    async def three() -> list[int]:
        return await asyncio.gather(*(workflow.run() for _ in range(3)))

    assert [asyncio.run(three()) for _ in range(2)] == [[1, 1, 1]] * 2


async def test_a_run_cancelled_while_it_queued_goes_on_with_its_start_event(clock: VirtualClockLoop) -> None:
    class Echo(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1)
            return StopEvent(result=ev.x)

    workflow = Echo(num_concurrent_runs=1)
    first, second = workflow.run(x=1), workflow.run(x=2)
    await asyncio.sleep(0)
    await second.cancel_run()
    assert await first == 1
    assert await workflow.run(ctx=second.ctx) == 2


async def test_one_snapshot_can_be_resumed_twice(clock: VirtualClockLoop) -> None:
    class Slow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent(result=1)

    workflow = Slow()
    snapshot = await workflow.run().suspend()
    both = [workflow.run(ctx=Context.from_dict(workflow, snapshot)) for _ in range(2)]
    assert await asyncio.gather(*both) == [1, 1]


async def test_a_snapshot_remembers_that_a_person_was_asked(clock: VirtualClockLoop) -> None:
    class Form(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Ask | Work:
            return Ask(prompt="?")

        @step
        async def got(self, ev: Work) -> StopEvent:
            return StopEvent(result="answered")

    workflow = Form(timeout=30)
    handler = workflow.run()
    await asyncio.sleep(5)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    waiting = asyncio.ensure_future(resumed)
    await asyncio.sleep(5)
    resumed.ctx.send_event(Work())
    assert await waiting == "answered"


class Idles(Workflow):
    """Writes a question as a plain event, then has nothing to do until somebody outside sends `Work`."""

    @step
    async def start(self, ctx: Context, ev: StartEvent | Done) -> Work | None:
        ctx.write_event_to_stream(Done(n=1))
        return None

    @step
    async def work(self, ev: Work) -> Done | StopEvent:
        return StopEvent(result=ev.n)


async def test_a_reader_that_answers_slowly_is_no_deadlock(clock: VirtualClockLoop) -> None:
    handler = Idles().run()
    async for event in handler.stream_events():
        if isinstance(event, Done):
            await asyncio.sleep(10)
            handler.ctx.send_event(Work(n=4))
    assert await handler == 4


async def test_an_idle_run_that_nobody_awaits_is_no_deadlock(clock: VirtualClockLoop) -> None:
    handler = Idles().run()
    await asyncio.sleep(10)
    handler.ctx.send_event(Work(n=7))
    assert await handler == 7


async def test_an_idle_run_that_is_only_awaited_is_a_deadlock(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowDeadlockError, match="can never end"):
        await Idles().run()
    assert clock.time() < 1


async def test_a_stop_event_starts_no_queued_call(records: RecordLog) -> None:
    class Queued(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Work | None:
            for n in range(3):
                ctx.send_event(Work(n=n))
            return None

        @step(num_workers=1)
        async def work(self, ev: Work) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = Queued().run()
    assert await handler == 0
    assert [r.step for r in records.of(StepEnded)] == ["start", "work"]
    assert records.of(RunEnded)[0].counts.steps == 2


async def test_a_step_that_fails_while_it_is_cancelled_is_not_retried(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    class Dirty(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1)))
        async def start(self, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(100)
            finally:
                raise ValueError("while cleaning up")
            return StopEvent()

    handler = Dirty().run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    assert [(r.outcome, type(r.error)) for r in records.of(StepEnded)] == [("cancelled", ValueError)]


async def test_a_failed_run_has_no_stop_event() -> None:
    class Fails(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Annotated[StopEvent, "never"]:
            raise ValueError("broken")

    handler = Fails().run()
    with pytest.raises(ValueError, match="broken"):
        await handler
    assert handler.get_stop_event() is None
