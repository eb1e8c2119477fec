"""Events and workflows that several files of tests use."""

from __future__ import annotations

import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class A(Event):
    n: int = 0


class SubA(A):
    pass


class B(Event):
    n: int = 0


class Reply(HumanResponseEvent):
    n: int = 0
    text: str = ""


class Ask(InputRequiredEvent):
    n: int = 0
    prompt: str = ""


class Nap(Workflow):
    """Sleeps as long as it is told, and counts its runs in the state."""

    naps = 0

    @step
    async def nap(self, ctx: Context, ev: StartEvent) -> StopEvent:
        type(self).naps += 1
        turn = await ctx.store.get("turn", 0) + 1
        await ctx.store.set("turn", turn)
        await asyncio.sleep(ev.seconds)
        return StopEvent(result=turn)
