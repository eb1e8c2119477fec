"""Names of older versions, as tutorials use them; the peer has dropped most of them."""

import asyncio
import warnings

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, B, Echo, Streaming, in_a_step
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent


@case([1, 2, [1]], peer_gives="!AttributeError", because="older-context-names")
async def a_context_gets_and_sets():
    async def body(ctx):
        await ctx.set("a", 1)
        await ctx.set("items", [])
        (await ctx.get("items")).append(1)
        return [await ctx.get("a"), await ctx.get("b", default=2), await ctx.get("items")]

    return await in_a_step(body).run()


@case("!ValueError", peer_gives="!AttributeError", because="older-context-names")
async def a_context_refuses_a_missing_key():
    async def body(ctx):
        return await ctx.get("nope")

    return await in_a_step(body).run()


class Loop(Workflow):
    @step
    async def s(self, ev: StartEvent) -> A:
        return A()

    @step
    async def t(self, ev: A) -> A | StopEvent:
        return A(n=ev.n + 1) if ev.n < 2 else StopEvent(result=ev.n)


@case([["A", "A", "A"], 2], peer_gives="!AttributeError", because="stepwise-runs")
async def a_run_goes_step_by_step():
    handler = Loop().run(stepwise=True)
    produced = []
    while events := await handler.run_step():
        for ev in events:
            produced.append(type(ev).__name__)
            handler.ctx.send_event(ev)
    return produced, await handler


@case("!ValueError", peer_gives="!AttributeError", because="stepwise-runs")
async def only_a_stepwise_run_goes_step_by_step():
    return await Loop().run().run_step()


@case([["s", "t", "t", "t"], 2, 2], peer_gives="!ModuleNotFoundError", because="checkpoints")
async def a_run_starts_again_at_a_checkpoint():
    from workflows.checkpointer import WorkflowCheckpointer

    checkpointer = WorkflowCheckpointer(workflow=Loop())
    handler = checkpointer.run()
    result = await handler
    kept = checkpointer.checkpoints[handler.run_id]
    return [c.last_completed_step for c in kept], result, await checkpointer.run_from(checkpoint=kept[1])


class Lists(Workflow):
    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=1), A(n=2)]

    @step
    async def t(self, ev: A) -> B:
        return B(n=ev.n)

    @step
    async def j(self, evs: list[B]) -> StopEvent:
        return StopEvent(result=sum(ev.n for ev in evs))


@case([["s", "t", "t", "j"], [3, 3, 3, 3]], peer_gives="!ModuleNotFoundError", because="checkpoints")
async def a_run_starts_again_within_a_list():
    from workflows.checkpointer import WorkflowCheckpointer

    checkpointer = WorkflowCheckpointer(workflow=Lists())
    handler = checkpointer.run()
    await handler
    kept = list(checkpointer.checkpoints[handler.run_id])
    return [c.last_completed_step for c in kept], [await checkpointer.run_from(checkpoint=c) for c in kept]


@case([["t"], 3], peer_gives="!ModuleNotFoundError", because="checkpoints")
async def checkpoints_can_be_switched_off_and_filtered():
    from workflows.checkpointer import WorkflowCheckpointer

    checkpointer = WorkflowCheckpointer(workflow=Loop(), disabled_steps=["s"])
    await checkpointer.run()
    found = checkpointer.filter_checkpoints(last_completed_step="t")
    return sorted({c.last_completed_step for c in found}), len(found)


@case([1, "!WorkflowConfigurationError"], peer_gives="!WorkflowConfigurationError", because="steps-of-an-instance")
async def a_step_may_be_attached_to_an_instance():
    flow = Workflow(timeout=60, verbose=False)

    @step(workflow=flow)
    async def s(ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.x)

    return await flow.run(x=1), error_of(lambda: Workflow().run() and None)


@case([True, True], peer_gives=[False, False], because="older-policies-are-classes")
def older_policies_are_classes():
    from workflows.retry_policy import ConstantDelayRetryPolicy, ExponentialBackoffRetryPolicy

    return isinstance(ConstantDelayRetryPolicy, type), isinstance(ExponentialBackoffRetryPolicy, type)


@case([["DeprecationWarning"], "done"])
async def the_older_result_warns():
    handler = Streaming().run()
    await handler
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = handler.ctx.get_result()
    return [w.category.__name__ for w in caught], result


@case(
    [["done", "StopEvent"], ["!AttributeError"]],
    peer_gives=[["!AttributeError"], ["!AttributeError"]],
    because="future-like-handlers",
)
async def a_handler_works_like_a_future():
    handler, seen = Streaming().run(), []

    async def ask():
        handler.add_done_callback(seen.append)
        await handler
        await asyncio.sleep(0)
        return [handler.result(), type(handler.get_stop_event()).__name__] if seen else ["no callback"]

    found = await outcome(ask())
    await handler
    return found if isinstance(found, list) else [found], [error_of(lambda: handler.no_such_name)]


@case("draws", peer_gives="!ModuleNotFoundError", because="drawings-are-included")
async def a_workflow_can_be_drawn():
    import tempfile
    from pathlib import Path

    from workflows.drawing import draw_all_possible_flows, draw_most_recent_execution

    folder = Path(tempfile.mkdtemp())
    flow = Echo()
    await flow.run(x=1)
    draw_all_possible_flows(Echo, filename=str(folder / "all.html"))
    draw_most_recent_execution(flow, filename=str(folder / "last.html"))
    return "draws" if all("echo" in (folder / name).read_text() for name in ("all.html", "last.html")) else "empty"


@case("3", peer_gives="!AttributeError", because="run-sync")
def a_workflow_can_run_without_a_loop():
    return str(_in_a_thread(lambda: Echo().run_sync(x=3)))


def _in_a_thread(call):
    import threading

    found = []

    def run():
        try:
            found.append(call())
        except AttributeError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


@case([{"stepwise": True}, 1])
async def stepwise_is_an_ordinary_field_of_a_start_event_that_is_given():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=dict(ev.to_dict()))

    return await W().run(start_event=StartEvent(stepwise=True)), 1


@case([[1, "B"], 2])
async def a_context_is_found_below_the_handler():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent | B) -> StopEvent | None:
            return StopEvent(result=[ev.n, type(ev).__name__]) if isinstance(ev, B) else None

    handler = W(timeout=1, disable_validation=True).run()
    await asyncio.sleep(0.02)
    handler.ctx.send_event(B(n=1))
    return await handler, 2
