"""A run by hand: each step runs when asked, and its events go where the caller sends them."""

from __future__ import annotations

import pytest

from workflows import Workflow, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent


class Next(Event):
    n: int


class Countdown(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Next:
        return Next(n=ev.n)

    @step
    async def count(self, ev: Next) -> Next | StopEvent:
        if ev.n < 0:
            raise ValueError("below zero")
        return Next(n=ev.n - 1) if ev.n else StopEvent(result="done")


async def test_each_step_runs_when_asked() -> None:
    handler = Countdown().run(n=2, stepwise=True)
    seen: list[int] = []
    while produced := await handler.run_step():
        for event in produced:
            seen.append(event.n)
            handler.ctx.send_event(event)
    assert seen == [2, 1, 0]
    assert await handler == "done"


async def test_a_failure_is_raised_by_the_step() -> None:
    handler = Countdown().run(n=-1, stepwise=True)
    for event in await handler.run_step() or []:
        handler.ctx.send_event(event)
    with pytest.raises(ValueError, match="below zero"):
        await handler.run_step()


async def test_an_ordinary_run_has_no_steps_to_run() -> None:
    handler = Countdown().run(n=0)
    with pytest.raises(ValueError, match="stepwise=True"):
        await handler.run_step()
    await handler


async def test_a_workflow_that_asks_people_is_refused() -> None:
    class Asks(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def two(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError, match="not supported with stepwise"):
        Asks().run(stepwise=True)
