"""Arguments that are not what they should be, and values that come back as they were given."""

import asyncio

from tests.compat.case import case, error_of
from tests.compat.flows import A, C, Echo
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent


@case(["!WorkflowRuntimeError", []], peer_gives=["none", ["text"]], because="only-events-are-sent-and-streamed")
async def what_is_no_event_can_be_streamed():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=error_of(lambda: ctx.write_event_to_stream("text")) or "none")

    handler = W(timeout=1).run()
    seen = [ev async for ev in handler.stream_events()]
    return [await handler, [ev for ev in seen if isinstance(ev, str)]]


@case("!WorkflowRuntimeError", peer_gives="!ValidationError", because="only-events-are-sent-and-streamed")
async def what_is_no_event_cannot_be_sent():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=error_of(lambda: ctx.send_event("text")))

    return await W(timeout=1).run()


@case(
    ["!WorkflowValidationError", "!WorkflowValidationError", "!WorkflowValidationError"],
    peer_gives=["taken", "taken", "taken"],
    because="wrong-options",
)
def options_that_cannot_be_right():
    def defined(options):
        class W(Workflow):
            @step(**options)
            async def s(self, ev: StartEvent) -> StopEvent: ...

        return "taken"

    wrong = [{"skip_graph_checks": ["bogus"]}, {"num_workers": True}, {"retry_policy": 5}]
    return [error_of(lambda options=options: defined(options)) for options in wrong]


@case("!WorkflowValidationError", peer_gives="Echo", because="negative-waits")
def a_timeout_below_zero():
    return error_of(lambda: type(Echo(timeout=-1)).__name__)


@case([True, False], peer_gives=["!AttributeError", True], because="deleting-a-dynamic-field")
def a_dynamic_field_is_deleted():
    ev = A(extra=1)
    gone = error_of(lambda: delattr(ev, "extra") or True)
    return [gone, "extra" in ev]


@case(["(1, 2)", "tuple"], peer_gives=["[1, 2]", "list"], because="state-between-runs")
async def a_tuple_in_the_state_of_a_context_that_is_used_again():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if await ctx.store.get("pair", None) is None:
                await ctx.store.set("pair", (1, 2))
            pair = await ctx.store.get("pair")
            return StopEvent(result=[str(pair), type(pair).__name__])

    w = W(timeout=1)
    ctx = Context(w)
    await w.run(ctx=ctx)
    return await w.run(ctx=ctx)


@case("str", peer_gives="int", because="run-ids-are-text")
async def a_number_as_run_id():
    handler = Echo().run(run_id=5)
    await handler
    return type(handler.run_id).__name__


@case(["StopEvent"], peer_gives=["C", "StopEvent"], because="cleanup-after-the-end")
async def what_a_step_streams_while_it_is_cancelled():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            try:
                await asyncio.sleep(1)
            finally:
                ctx.write_event_to_stream(C())

        @step
        async def t(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0.01)
            return StopEvent()

    return [type(ev).__name__ async for ev in W(timeout=1).run().stream_events()]
