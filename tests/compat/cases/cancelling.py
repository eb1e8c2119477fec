"""Runs that are cancelled and taken up again."""

import asyncio

from tests.compat.case import case
from tests.compat.flows import Answer, Ask
from workflows import Context, Workflow, step
from workflows.events import InputRequiredEvent, StartEvent, StopEvent


class Asking(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(Answer, waiter_event=Ask(q="name?"))
        return StopEvent(result=answer.a)


@case(["asked", "asked", "Ada"])
async def an_open_question_is_asked_again_by_a_run_that_goes_on_after_a_cancel():
    w = Asking(timeout=1)
    told = []
    handler = w.run()
    async for ev in handler.stream_events():
        if isinstance(ev, InputRequiredEvent):
            told.append("asked")
            await handler.cancel_run()
    again = w.run(ctx=handler.ctx)
    async for ev in again.stream_events():
        if isinstance(ev, InputRequiredEvent):
            told.append("asked")
            again.ctx.send_event(Answer(a="Ada"))
    await asyncio.sleep(0)
    return [*told, await again]
