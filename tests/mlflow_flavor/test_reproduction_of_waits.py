"""Running a run again that waits: for a person, at whose question it ends, or for what another step sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import mlflow_flavor
from mlflow_flavor import Difference, Reproduction
from workflows.events import HumanResponseEvent, WorkflowIdleEvent

Again = Callable[..., Awaitable[Reproduction]]

SCRIPT = """
import os
from mlflow_flavor import set_model
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

class Door(Event):
    pass

class Key(Event):
    it: str

class Token(Event):
    delta: str

class Opens(Workflow):
    @step
    async def open(self, ctx: Context, ev: StartEvent) -> Door | StopEvent:
        ctx.send_event(Door())
        await ctx.wait_for_event(Key)
        return StopEvent(result="open")

    @step
    async def find(self, ctx: Context, ev: Door) -> None:
        ctx.send_event(Key(it=os.environ["RUN"]))

class Asks(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if await ctx.store.get("attempts", default=0) == 0:
            await ctx.store.set("attempts", 1)
            raise OSError("busy")
        ctx.write_event_to_stream(Token(delta="I "))
        question = InputRequiredEvent(prefix="sure?") if ev.asks else None
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        ctx.write_event_to_stream(Token(delta="will"))
        return StopEvent(result="done")

class Returns(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="sure?")

    @step
    async def tell(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="done")

set_model(%s(timeout=None))
"""


@pytest.fixture
def again(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Logs one of the workflows, runs it as run 1, which a person answers, and again as run 2, which nobody does."""

    async def reproduced(workflow: str, *, asks: bool = True) -> Reproduction:
        monkeypatch.setenv("RUN", "1")
        (tmp_path / "agent.py").write_text(SCRIPT % workflow)
        info = mlflow_flavor.log_model(tmp_path / "agent.py", name="agent", pip_requirements=["mlflow"])
        handler = mlflow_flavor.load_model(info.model_uri).run(asks=asks)
        async for event in handler.stream_events(expose_internal=True):
            if isinstance(event, WorkflowIdleEvent):
                handler.ctx.send_event(HumanResponseEvent())
        await handler
        monkeypatch.setenv("RUN", "2")
        return await asyncio.to_thread(mlflow_flavor.reproduce, str(mlflow_flavor.trace_id(handler)))

    return reproduced


@pytest.mark.parametrize("asks", [True, False])
async def test_a_step_that_went_on_after_its_wait_is_compared_up_to_there(again: Again, asks: bool):
    found = await again("Asks", asks=asks)
    assert (found.differences, found.not_compared) == ([], ("ask#1", "Asks.run"))


async def test_steps_that_came_after_the_answer_are_not_compared(again: Again):
    found = await again("Returns")
    assert (found.differences, found.not_compared) == ([], ("Returns.run",))


async def test_another_event_that_a_step_waited_for_is_told(again: Again):
    found = await again("Opens")
    then, now = {"Key": {"it": "1"}}, {"Key": {"it": "2"}}
    assert found.differences == [
        Difference("output", "open#1/wait_for_event#1", then, now),
        Difference("output", "find#1", then, now),
    ]
