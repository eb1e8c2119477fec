"""`WorkflowTestRunner`: one run, and everything that it streamed."""

from tests.compat.case import case, names, outcome
from tests.compat.flows import Echo, Progress, Streaming
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StepStateChanged, StopEvent
from workflows.testing import WorkflowTestRunner


def counted(result):
    return sorted([kind.__name__, count] for kind, count in result.event_types.items())


@case([[["Progress", 4], ["StepStateChanged", 4], ["StopEvent", 1]], "done", 9])
async def a_run_is_collected_with_internal_events():
    result = await WorkflowTestRunner(Streaming()).run()
    return counted(result), result.result, len(result.collected)


@case([["Progress", 4], ["StopEvent", 1]])
async def internal_events_can_be_left_out():
    return counted(await WorkflowTestRunner(Streaming()).run(expose_internal=False))


@case(["StopEvent"])
async def classes_can_be_left_out():
    result = await WorkflowTestRunner(Streaming()).run(exclude_events=[Progress, StepStateChanged])
    return names(result.collected)


@case([3, 3])
async def a_start_event_and_a_context_can_be_given():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await ctx.store.get("n") + ev.x)

    flow = W()
    ctx = Context(flow)
    await ctx.store.set("n", 1)
    result = await WorkflowTestRunner(flow).run(start_event=StartEvent(x=2), ctx=ctx)
    return result.result, await result.ctx.store.get("n") + 2


@case("!ValueError")
async def a_failure_is_raised():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError

    return await outcome(WorkflowTestRunner(W()).run())


@case([None, ["StepStateChanged", "StepStateChanged", "StopEvent"]])
async def an_empty_start_event_is_the_default():
    result = await WorkflowTestRunner(Echo()).run()
    return result.result, names(result.collected)
