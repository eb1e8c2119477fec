"""Events and workflows that several files of tests use."""

from __future__ import annotations

import asyncio
import json
from typing import Any

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


class Told(Event):
    """What a branch got."""

    text: str


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


async def result_after_a_suspension(flow: type[Workflow], held: object) -> Any:
    """What a run of `flow(held=)` gives that was suspended at its question, written as JSON, resumed and answered."""
    handler = flow().run(held=held)
    async for _event in handler.stream_events(types=Ask):
        break
    snapshot = json.loads(json.dumps(await handler.suspend()))
    again = flow()
    resumed = again.run(ctx=Context.from_dict(again, snapshot))
    resumed.ctx.send_event(Reply(n=1))
    return await resumed
