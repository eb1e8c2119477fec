"""Where events go: several takers, loops, questions and answers within the workflow, what failed steps sent."""

import asyncio

from tests.compat.case import case, error_of, names, outcome
from tests.compat.flows import A, Answer, Ask, B, C, in_a_step
from workflows import Context, Workflow, catch_error, step
from workflows.events import StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

TWICE = retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(2))


@case([1, 2])
async def an_event_goes_to_every_step_that_takes_it():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A())

        @step
        async def t(self, ev: A) -> B:
            return B(n=1)

        @step
        async def u(self, ev: A) -> B:
            return B(n=2)

        @step
        async def v(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B, B])
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    return await W().run()


@case(3)
async def a_step_may_return_the_very_event_that_it_got():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A(n=0)

        @step
        async def t(self, ev: A) -> A | StopEvent:
            ev.n += 1
            return ev if ev.n < 3 else StopEvent(result=ev.n)

    return await W().run()


@case([3, 3])
async def a_start_event_may_be_returned_or_sent_again():
    class Returns(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StartEvent | StopEvent:
            return StopEvent(result=ev.n) if ev.n > 2 else StartEvent(n=ev.n + 1)

    class Sends(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            if ev.n > 2:
                return StopEvent(result=ev.n)
            return ctx.send_event(StartEvent(n=ev.n + 1))

    return await Returns().run(n=0), await Sends().run(n=0)


@case([["Ask", "StopEvent"], "x"])
async def a_step_may_take_a_question():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Ask:
            return Ask(q="x")

        @step
        async def t(self, ev: Ask) -> StopEvent:
            await asyncio.sleep(0.02)
            return StopEvent(result=ev.q)

    handler = W().run()
    return names([ev async for ev in handler.stream_events()]), await handler


@case([True, "x"])
async def a_step_may_give_an_answer():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Answer:
            return Answer(a="x")

        @step
        async def t(self, ev: Answer) -> StopEvent:
            return StopEvent(result=ev.a)

    flow = W()
    return flow.validate(), await flow.run()


@case(4)
async def a_handler_may_send_what_goes_on():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent | A) -> StopEvent:
            if isinstance(ev, A):
                return StopEvent(result=ev.n)
            raise ValueError

        @catch_error
        async def handle(self, ctx: Context, ev: StepFailedEvent) -> A | None:
            ctx.send_event(A(n=4))

    return await W().run()


@case(1)
async def a_handler_sees_the_state():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("a", 1)
            raise ValueError

        @catch_error
        async def handle(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=await ctx.store.get("a"))

    return await W().run()


@case([0, 1])
async def what_a_failed_attempt_sent_stays_sent():
    class W(Workflow):
        @step(retry_policy=TWICE)
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=ctx.retry_info().retry_number))
            if ctx.retry_info().retry_number == 0:
                raise ValueError

        @step
        async def t(self, ctx: Context, ev: A) -> StopEvent | None:
            found = ctx.collect_events(ev, [A, A])
            return StopEvent(result=[e.n for e in found]) if found else None

    return await outcome(W(timeout=0.5).run())


@case([0, 1, None])
async def what_a_failed_attempt_streamed_stays_streamed():
    class W(Workflow):
        @step(retry_policy=TWICE)
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(A(n=ctx.retry_info().retry_number))
            if ctx.retry_info().retry_number == 0:
                raise ValueError
            return StopEvent()

    return [getattr(ev, "n", None) async for ev in W().run().stream_events()]


@case(["B", "StopEvent"])
async def what_other_steps_write_after_the_end_is_not_streamed():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | StopEvent:
            ctx.send_event(A())
            await asyncio.sleep(0.02)
            ctx.write_event_to_stream(B())
            return StopEvent()

        @step
        async def t(self, ctx: Context, ev: A) -> None:
            await asyncio.sleep(0.1)
            ctx.write_event_to_stream(C())

    events = [ev async for ev in W().run().stream_events()]
    await asyncio.sleep(0.1)
    return names(events)


@case([None, None, 1])
async def a_context_that_a_step_kept_says_nothing_after_the_run():
    kept = []

    async def body(ctx):
        kept.append(ctx)

    handler = in_a_step(body).run()
    await handler
    said = [error_of(lambda: kept[0].send_event(A())), error_of(lambda: kept[0].write_event_to_stream(A()))]
    await kept[0].store.set("x", 1)
    return [*said, await handler.ctx.store.get("x")]


@case(10)
async def steps_that_run_at_once_share_the_state_safely():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(10):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ctx: Context, ev: A) -> B:
            async with ctx.store.edit_state() as state:
                n = state.get("n", 0)
                await asyncio.sleep(0.001)
                state.n = n + 1
            return B()

        @step
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * 10)
            return StopEvent(result=await ctx.store.get("n")) if found else None

    return await W().run()


@case(["A", "Child"])
async def subclasses_may_be_collected_apart():
    class Child(A):
        pass

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> Child | A | None:
            ctx.send_event(Child())
            ctx.send_event(A())

        @step(accept_event_subclasses=True)
        async def t(self, ctx: Context, ev: A) -> StopEvent | None:
            found = ctx.collect_events(ev, [A, Child])
            return StopEvent(result=names(found)) if found else None

    return await outcome(W(timeout=0.5).run())
