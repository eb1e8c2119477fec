"""Runs that steps of other runs start."""

import asyncio

from tests.compat.case import case, outcome
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class Inner(Workflow):
    """Notes that it came to its end, soon."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.02)
        ev.seen.append("finished")
        return StopEvent(result="slept")


class Outer(Workflow):
    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        inner = Inner().run(seen=ev.seen)
        if ev.get("awaits"):
            return StopEvent(result=await inner)
        await asyncio.sleep(0)
        if ev.get("fails"):
            raise ValueError("broken")
        return StopEvent(result="done")


@case(["slept", ["finished"]])
async def a_child_run_gives_its_result():
    seen: list[str] = []
    return [await Outer().run(seen=seen, awaits=True), seen]


@case(["done", []], peer_gives=["done", ["finished"]], because="child-runs-end-with-their-step")
async def a_child_run_that_nobody_awaits():
    seen: list[str] = []
    result = await Outer().run(seen=seen)
    await asyncio.sleep(0.1)
    return [result, seen]


@case(["!ValueError", []], peer_gives=["!ValueError", ["finished"]], because="child-runs-end-with-their-step")
async def a_child_run_of_a_step_that_fails():
    seen: list[str] = []
    result = await outcome(Outer().run(seen=seen, fails=True))
    await asyncio.sleep(0.1)
    return [result, seen]
