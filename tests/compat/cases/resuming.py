"""Going on: after a cancel, a failure, a timeout, and with what a snapshot does and does not hold."""

import asyncio

from tests.compat.case import case, names, outcome
from tests.compat.cases.snapshots import stopped_snapshot
from tests.compat.flows import A, Answer, Ask, Echo, Progress, in_a_step
from workflows import Context, Workflow, step
from workflows.context import PickleSerializer
from workflows.events import Event, StartEvent, StopEvent


class Shows(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A:
        ctx.write_event_to_stream(Progress(msg="1"))
        return A()

    @step
    async def t(self, ctx: Context, ev: A) -> StopEvent:
        await asyncio.sleep(0.1)
        return StopEvent()


@case(["Progress", "StopEvent"], peer_gives=["StopEvent"], because="unread-events-survive")
async def events_that_nobody_read_are_read_after_a_snapshot():
    flow = Shows()
    ctx = Context.from_dict(flow, await stopped_snapshot(Shows().run(), wait=0.03))
    return names([ev async for ev in flow.run(ctx=ctx).stream_events()])


class Waits(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            found = await ctx.wait_for_event(Answer, waiter_event=Ask(q="?"), timeout=ev.get("patience", 0.1))
        except TimeoutError:
            return StopEvent(result="timed out")
        return StopEvent(result=found.a)


@case("timed out", peer_gives="!WorkflowTimeoutError", because="wait-timeouts-survive")
async def the_timeout_of_a_wait_goes_on_after_a_snapshot():
    flow = Waits(timeout=0.5)
    return await outcome(flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(Waits().run(), wait=0.03))))


@case(["x", ["Ask", "StopEvent"]])
async def a_cancelled_run_asks_its_question_again():
    flow = Waits(timeout=1)
    handler = flow.run(patience=10)
    await asyncio.sleep(0.03)
    await handler.cancel_run()
    await outcome(handler)
    resumed = flow.run(ctx=handler.ctx)
    await asyncio.sleep(0.03)
    resumed.ctx.send_event(Answer(a="x"))
    return await resumed, names([ev async for ev in resumed.stream_events()])


class FirstIsSlow(Workflow):
    def __init__(self):
        super().__init__(timeout=0.1)
        self.seen = []

    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        self.seen.append(ev.x)
        await asyncio.sleep(0.3 if ev.x == 1 else 0)
        return StopEvent(result=ev.x)


@case(
    ["!WorkflowTimeoutError", False, 2, [1, 2]],
    peer_gives=["!WorkflowTimeoutError", False, "!WorkflowTimeoutError", [1]],
    because="timeout-per-run",
)
async def after_a_timeout_the_context_takes_the_next_run():
    flow = FirstIsSlow()
    handler = flow.run(x=1)
    first = await outcome(handler)
    return first, handler.ctx.is_running, await outcome(flow.run(ctx=handler.ctx, x=2)), flow.seen


class FirstFails(Workflow):
    @step
    async def s(self, ev: StartEvent) -> A:
        return A(n=ev.x)

    @step
    async def t(self, ctx: Context, ev: A) -> StopEvent:
        seen = [*await ctx.store.get("seen", default=[]), ev.n]
        await ctx.store.set("seen", seen)
        if ev.n == 1:
            raise ValueError
        return StopEvent(result=seen)


@case(["!ValueError", [1, 2]])
async def after_a_failure_the_context_takes_the_next_run():
    flow = FirstFails()
    handler = flow.run(x=1)
    return await outcome(handler), await flow.run(ctx=handler.ctx, x=2)


@case([True, "!WorkflowDeadlockError"], peer_gives=[True, "!WorkflowTimeoutError"], because="deadlocks-are-told")
async def work_of_a_step_that_is_gone_is_dropped():
    class Without(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent()

    flow = Without(timeout=0.3)
    ctx = Context.from_dict(flow, await stopped_snapshot(Shows().run(), wait=0.03))
    return ctx.is_running, await outcome(flow.run(ctx=ctx))


@case([[1], [2]])
async def a_serializer_may_be_given_or_belong_to_the_workflow():
    writes = in_a_step(lambda ctx: ctx.store.set("kept", {1}))
    reads = in_a_step(lambda ctx: ctx.store.get("kept"))
    handler = writes.run()
    await handler
    snapshot = handler.ctx.to_dict(PickleSerializer())
    given = await reads.run(ctx=Context.from_dict(reads, snapshot, PickleSerializer()))
    flow = Echo(serializer=PickleSerializer())
    ctx = Context(flow)
    await ctx.store.set("kept", {2})
    return sorted(given), sorted(await Context.from_dict(flow, ctx.to_dict()).store.get("kept"))


@case([["Ask", "StopEvent"], "yes"])
async def a_cancelled_run_asks_again_what_a_step_returned():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Ask:
            return Ask()

        @step
        async def t(self, ev: Answer) -> StopEvent:
            return StopEvent(result="yes")

    flow = W(timeout=1)
    handler = flow.run()
    await asyncio.sleep(0.05)
    await handler.cancel_run()
    again = flow.run(ctx=handler.ctx)
    seen = []
    async for event in again.stream_events():
        seen.append(event)
        if isinstance(event, Ask):
            again.ctx.send_event(Answer())
    return names(seen), await outcome(again)


class Found(Event):
    text: str


class Several(Workflow):
    """Three calls that wait for one answer."""

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        for n in range(3):
            ctx.send_event(A(n=n))

    @step
    async def t(self, ctx: Context, ev: A) -> Found:
        found = await ctx.wait_for_event(Answer, waiter_id=f"{ev.n}")
        return Found(text=found.a)

    @step
    async def j(self, ctx: Context, ev: Found) -> StopEvent | None:
        found = ctx.collect_events(ev, [Found] * 3)
        return StopEvent(result=[each.text for each in found]) if found else None


@case(["x", "x", "x"])
async def an_answer_right_after_a_snapshot_is_for_every_wait():
    flow = Several(timeout=2)
    resumed = flow.run(ctx=Context.from_dict(flow, await stopped_snapshot(Several().run(), wait=0.1)))
    resumed.ctx.send_event(Answer(a="x"))
    return await outcome(resumed)
