"""Handlers: awaiting, cancelling, asking how a run stands."""

import asyncio
import inspect
from collections.abc import Awaitable

from tests.compat.case import case, error_of, names, outcome
from tests.compat.flows import Answer, Ask, Echo, Streaming
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler


class Slow(Workflow):
    """Takes 2 seconds the first time."""

    seconds = 2.0

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        times = await ctx.store.get("times", default=0) + 1
        await ctx.store.set("times", times)
        await asyncio.sleep(self.seconds if times == 1 else 0)
        return StopEvent(result=[times, ev.get("x")])


class Fails(Workflow):
    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        raise ValueError("x")


@case([True, True, True])
async def a_handler_is_awaitable():
    handler = Echo().run()
    found = isinstance(handler, WorkflowHandler), inspect.isawaitable(handler), isinstance(handler, Awaitable)
    await handler
    return found


@case([1, 1, 1])
async def awaiting_again_gives_the_same():
    handler = Echo().run(x=1)
    return await handler, await handler, await asyncio.ensure_future(handler)


@case([[1, 2], 3, 4])
async def a_handler_works_with_gather_wait_for_and_shield():
    flow = Echo()
    both = await asyncio.gather(flow.run(x=1), flow.run(x=2))
    return both, await asyncio.wait_for(flow.run(x=3), 1), await asyncio.shield(flow.run(x=4))


@case(["!ValueError", "!ValueError"])
async def a_failure_is_raised_each_time():
    handler = Fails().run()
    return await outcome(handler), await outcome(handler)


@case([False, None, True, "StopEvent(result=1)", "StopEvent(result=1)"])
async def a_handler_knows_the_stop_event_when_the_run_is_done():
    handler = Echo().run(x=1)
    before = handler.is_done(), handler.get_stop_event()
    await handler
    return *before, handler.is_done(), repr(handler.get_stop_event()), repr(await handler.stop_event_result())


@case([None, "!ValueError", True])
async def a_failed_run_has_no_stop_event():
    handler = Fails().run()
    await outcome(handler)
    return handler.get_stop_event(), await outcome(handler.stop_event_result()), handler.is_done()


@case([None, "!WorkflowTimeoutError"])
async def a_run_that_timed_out_has_no_stop_event():
    flow = Slow(timeout=0.02)
    handler = flow.run()
    await outcome(handler)
    return handler.get_stop_event(), await outcome(handler.stop_event_result())


@case([["WorkflowCancelledEvent"], "!WorkflowCancelledByUser", True, "WorkflowCancelledEvent()"])
async def cancelling_ends_the_run_and_its_stream():
    handler = Slow().run()
    await asyncio.sleep(0.02)
    await handler.cancel_run()
    streamed = names([ev async for ev in handler.stream_events()])
    return streamed, await outcome(handler), handler.is_done(), repr(handler.get_stop_event())


@case([[2, 1]])
async def a_cancelled_run_goes_on_with_its_context():
    flow = Slow()
    handler = flow.run(x=1)
    await asyncio.sleep(0.02)
    await handler.cancel_run()
    await outcome(handler)
    return [await flow.run(ctx=handler.ctx, x="ignored")]


@case([1, True])
async def cancelling_a_finished_run_does_nothing():
    handler = Echo().run(x=1)
    await handler
    await handler.cancel_run()
    return await handler, handler.is_done()


@case("cleaned up")
async def a_cancelled_step_cleans_up():
    noted = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(2)
            finally:
                noted.append("cleaned up")
            return StopEvent()

    handler = W().run()
    await asyncio.sleep(0.02)
    await handler.cancel_run()
    await outcome(handler)
    return noted[0]


@case("!WorkflowCancelledByUser", peer_gives="!CancelledError", because="handler-cancel")
async def the_older_cancel_ends_the_run():
    handler = Slow().run()
    await asyncio.sleep(0.02)
    handler.cancel()
    return await outcome(handler)


@case(["!TimeoutError", [1, None]], peer_gives=["!TimeoutError", "!CancelledError"], because="waiting-detaches")
async def giving_up_waiting_leaves_the_run_alone():
    flow = Slow()
    flow.seconds = 0.1
    handler = flow.run()
    gave_up = await outcome(asyncio.wait_for(handler, 0.02))
    return gave_up, await outcome(handler)


@case(["!WorkflowCancelledByUser", "!WorkflowCancelledByUser", "WorkflowCancelledByUser", True])
async def a_cancelled_run_may_be_cancelled_and_asked_again():
    handler = Slow().run()
    await handler.cancel_run()
    await handler.cancel_run()
    found = await outcome(handler), await outcome(handler.stop_event_result())
    return *found, type(handler.exception()).__name__, handler.cancelled()


@case([None, 3])
async def the_state_can_be_changed_from_outside_while_a_run_goes_on():
    reached, changed = asyncio.Event(), asyncio.Event()

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            before = await ctx.store.get("k", default=None)
            reached.set()
            await changed.wait()
            return StopEvent(result=[before, await ctx.store.get("k")])

    handler = W().run()
    await reached.wait()
    async with handler.ctx.store.edit_state() as state:
        state.k = 3
    changed.set()
    return await handler


@case("!WorkflowCancelledByUser", peer_gives="!CancelledError", because="cancelling-a-queueing-run")
async def a_queueing_run_can_be_cancelled():
    flow = Slow(num_concurrent_runs=1)
    first, queueing = flow.run(), flow.run()
    await asyncio.sleep(0.02)
    await queueing.cancel_run(timeout=0.1)
    found = await outcome(queueing)
    await first.cancel_run()
    await outcome(first)
    return found


@case(["DeprecationWarning"])
async def an_older_name_warns_the_first_time():
    import warnings

    handler = Echo().run()
    await handler
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        handler.done()
    return [w.category.__name__ for w in caught]


@case([False, True, None, False])
async def the_older_questions_are_answered():
    handler = Echo().run()
    before = handler.done()
    await handler
    return before, handler.done(), handler.exception(), handler.cancelled()


@case([True, "!ValueError"])
async def the_older_exception_is_the_failure():
    handler = Fails().run()
    await outcome(handler)
    return handler.cancelled() is False, error_of(lambda: _raise(handler.exception()))


def _raise(error):
    raise error


class AsksOnce(Workflow):
    @step
    async def s(self, ev: StartEvent) -> Ask:
        return Ask(q="?")

    @step
    async def t(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.a)


@case(["by the handler", "by the context", "early"])
async def events_are_sent_through_the_handler_and_its_context():
    one, two, three = (AsksOnce().run() for _ in range(3))
    three.ctx.send_event(Answer(a="early"))
    await asyncio.sleep(0.02)
    await one.send_event(Answer(a="by the handler"))
    two.ctx.send_event(Answer(a="by the context"))
    return await one, await two, await three


@case(["!WorkflowRuntimeError", "!WorkflowRuntimeError", "x"])
async def a_targeted_event_must_fit():
    handler = AsksOnce().run()
    await asyncio.sleep(0.02)
    unknown = await outcome(handler.send_event(Answer(), step="no_such_step"))
    refused = await outcome(handler.send_event(Answer(), step="s"))
    await handler.send_event(Answer(a="x"), step="t")
    return unknown, refused, await handler


@case("WorkflowHandler(workflow=tests.compat.flows.Streaming, run_id=mine, result=done)")
async def the_text_of_a_handler_says_which_run():
    handler = Streaming().run(run_id="mine")
    await handler
    return str(handler)
