"""Runs on an event loop whose tasks begin at once (`asyncio.eager_task_factory`, since Python 3.12)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.flows import A, Reply
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

EAGER: Any = getattr(asyncio, "eager_task_factory", None)

pytestmark = pytest.mark.skipif(EAGER is None, reason="eager tasks came with Python 3.12")


class Waits(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Reply)).text)


class TwoBranches(Workflow):
    """One ends the run while the other works."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A(n=0))
        ctx.send_event(A(n=1))
        return None

    @step
    async def branch(self, ev: A) -> StopEvent:
        if ev.n:
            await asyncio.sleep(3600)
        return StopEvent(result=ev.n)


async def test_a_step_that_waits_at_once_gets_its_answer() -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    handler = Waits(timeout=5).run()
    await handler.send_event(Reply(text="yes"))
    assert await handler == "yes"


async def test_a_run_ends_while_another_step_works() -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)
    assert await TwoBranches(timeout=5).run() == 0
