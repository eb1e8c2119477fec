"""Copies of a workflow: an agent for each request is a copy of a template."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import pytest
from pydantic import BaseModel, PrivateAttr

from workflows import Workflow, step
from workflows.drawing import draw_most_recent_execution_mermaid
from workflows.errors import WorkflowRuntimeError, WorkflowValidationError
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop
from workflows.workflow import WorkflowMeta


class ModelMeta(WorkflowMeta, type(BaseModel)):
    pass


class Agent(Workflow, BaseModel, metaclass=ModelMeta):  # pyright: ignore[reportIncompatibleMethodOverride]
    name: str
    tools: list[str] = []
    _uses: int = PrivateAttr(default=0)

    def __init__(self, **fields: Any) -> None:
        BaseModel.__init__(self, **fields)
        Workflow.__init__(self, num_concurrent_runs=1)

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        self._uses += 1
        await asyncio.sleep(ev.get("seconds", 0))
        return StopEvent(result=(self.name, self.tools, self._uses))


def deep_model_copy(agent: Agent) -> Agent:
    return agent.model_copy(deep=True)


COPIES = [copy, deepcopy, Agent.model_copy, deep_model_copy]
copied_by = pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "model_copy", "model_copy deep"])
CopyOf = Callable[[Agent], Agent]


@copied_by
async def test_a_copy_of_a_workflow_that_is_a_model_runs(copied: CopyOf) -> None:
    agent = Agent(name="a", tools=["add"])
    await agent.run()
    assert await copied(agent).run() == ("a", ["add"], 2)


@copied_by
def test_a_copy_of_a_workflow_that_is_a_model_is_equal_to_it(copied: CopyOf) -> None:
    agent = Agent(name="a", tools=["add"])
    other = copied(agent)
    assert (other, other.model_dump(), other.model_fields_set) == (agent, agent.model_dump(), agent.model_fields_set)


@pytest.mark.parametrize("copied", [deepcopy, deep_model_copy])
async def test_a_deep_copy_has_fields_of_its_own(copied: CopyOf) -> None:
    agent = Agent(name="a", tools=["add"])
    copied(agent).tools.append("sub")
    assert agent.tools == ["add"]


@copied_by
async def test_a_copy_has_places_for_runs_of_its_own(copied: CopyOf, clock: VirtualClockLoop) -> None:
    agent = Agent(name="a")
    running = agent.run(seconds=5)
    await copied(agent).run(seconds=1)
    assert (clock.time(), running.is_done()) == (1, False)
    await running


@copied_by
async def test_a_copy_has_not_run(copied: CopyOf) -> None:
    agent = Agent(name="a")
    await agent.run()
    with pytest.raises(WorkflowRuntimeError, match="has no run to draw"):
        draw_most_recent_execution_mermaid(copied(agent))


@copied_by
def test_a_step_that_is_attached_to_a_copy_is_its_own(copied: CopyOf) -> None:
    agent = Agent(name="a")
    other = copied(agent)

    @step(workflow=other)
    async def more(ev: StartEvent) -> None:
        pass

    assert (list(agent._get_steps()), list(other._get_steps())) == (["answer"], ["answer", "more"])


async def test_a_copy_of_a_copy_keeps_the_attached_steps() -> None:
    flow = Workflow()

    @step(workflow=flow)
    async def answer(ev: StartEvent) -> StopEvent:
        return StopEvent(result="attached")

    assert await deepcopy(copy(flow)).run() == "attached"


async def test_a_copy_of_a_workflow_that_has_run_takes_no_more_steps() -> None:
    agent = Agent(name="a")
    await agent.run()
    with pytest.raises(WorkflowValidationError, match="Agent has run already"):

        @step(workflow=deepcopy(agent))
        async def more(ev: StartEvent) -> None:
            pass
