"""Phases of a context: before a run, outside it, inside a step; what each method says in a wrong one."""

import asyncio

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Echo, in_a_step
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

WRONG = "!ContextStateError"


class Slow(Workflow):
    @step
    async def slow(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.05)
        return StopEvent(result=1)


@case([WRONG, WRONG, WRONG, WRONG])
async def before_a_run_nothing_can_be_sent_or_collected():
    ctx = Context(Echo())
    return (
        error_of(lambda: ctx.send_event(A())),
        error_of(lambda: ctx.write_event_to_stream(A())),
        error_of(lambda: ctx.collect_events(A(), [A])),
        error_of(ctx.retry_info),
    )


@case([WRONG, WRONG, WRONG])
async def before_a_run_nothing_can_be_awaited_or_read():
    ctx = Context(Echo())
    return await outcome(ctx.wait_for_event(A)), error_of(ctx.stream_events), await outcome(ctx.running_steps())


@case([False, [4, 4]])
async def before_a_run_the_store_can_be_filled():
    flow = in_a_step(lambda ctx: ctx.store.get("n"))
    ctx = Context(flow)
    await ctx.store.set("n", 4)
    return ctx.is_running, [await flow.run(ctx=ctx), await ctx.store.get("n")]


@case([WRONG, WRONG, WRONG, WRONG])
async def outside_a_step_what_belongs_inside_is_refused():
    handler = Slow().run()
    found = (
        error_of(lambda: handler.ctx.write_event_to_stream(A())),
        error_of(lambda: handler.ctx.collect_events(A(), [A])),
        error_of(handler.ctx.retry_info),
        await outcome(handler.ctx.wait_for_event(A)),
    )
    await handler
    return found


@case([WRONG, WRONG, WRONG])
async def inside_a_step_what_belongs_outside_is_refused():
    async def body(ctx):
        return error_of(ctx.to_dict), error_of(ctx.stream_events), error_of(ctx.get_result)

    return await in_a_step(body).run()


@case(["only"], peer_gives=WRONG, because="running-steps-inside-a-step")
async def inside_a_step_the_running_steps_are_told():
    async def body(ctx):
        return await outcome(ctx.running_steps())

    return await in_a_step(body).run()


@case([True, False])
async def a_context_is_running_until_its_run_is_over():
    handler = Slow().run()
    before = handler.ctx.is_running
    await handler
    return before, handler.ctx.is_running


@case([True, True])
async def inside_a_step_the_run_goes_on_and_asking_is_deprecated():
    import warnings

    async def body(ctx):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            running = ctx.is_running
        return running, [w.category.__name__ for w in caught] in (["DeprecationWarning"], [])

    return await in_a_step(body).run()


@case([["slow"], []])
async def the_running_steps_are_told_outside():
    handler = Slow().run()
    await asyncio.sleep(0.02)
    running = await handler.ctx.running_steps()
    await handler
    return running, await handler.ctx.running_steps()


@case([WRONG, 1, 1])
async def a_context_has_one_run_at_a_time():
    flow = Slow()
    ctx = Context(flow)
    first = flow.run(ctx=ctx)
    refused = error_of(lambda: flow.run(ctx=ctx) and None)
    return refused, await first, await flow.run(ctx=ctx)


@case([None, None, True])
async def after_a_run_sending_does_nothing():
    flow = Echo()
    ctx = Context(flow)
    handler = flow.run(ctx=ctx, x=1)
    await handler
    return ctx.send_event(A()), await handler.send_event(A()), handler.ctx is ctx


@case([True, 3])
async def a_step_context_is_found_by_what_the_step_calls():
    async def far_below():
        ctx = Context.get_step_context()
        await ctx.store.set("n", 3)
        return ctx is not None

    async def body(ctx):
        return await far_below(), await ctx.store.get("n")

    return await in_a_step(body).run()


@case("!WorkflowRuntimeError")
async def outside_a_step_there_is_no_step_context():
    Context.get_step_context()


@case([WRONG, "done"])
async def the_result_is_known_to_the_context_of_a_finished_run():
    handler = Echo().run(x="done")
    early = error_of(handler.ctx.get_result)
    await handler
    return WRONG if early in (WRONG, "!WorkflowRuntimeError") else early, handler.ctx.get_result()


@case("!WorkflowRuntimeError")
async def a_result_that_is_not_there_yet_is_refused():
    handler = Slow().run()
    early = error_of(handler.ctx.get_result)
    await handler
    return early


@case(["yes", "yes"])
async def a_context_may_be_used_with_another_instance():
    first, second = (in_a_step(lambda ctx: ctx.store.get("n", default="no")) for _ in range(2))
    ctx = Context(first)
    await ctx.store.set("n", "yes")
    return await first.run(ctx=ctx), await second.run(ctx=ctx)
