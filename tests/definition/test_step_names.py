"""Everything that tells of a step names its attribute, also where its function is called otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import pytest

from workflows import Workflow, step
from workflows.checkpointer import WorkflowCheckpointer
from workflows.events import Event, StartEvent, StopEvent
from workflows.instrumentation.records import StepStarted
from workflows.representation import get_workflow_representation
from workflows.testing import RecordLog


class Asked(Event):
    text: str


class Private(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Asked:
        return Asked(text=ev.text)

    @step
    async def __answer(self, ev: Asked) -> StopEvent:
        return StopEvent(result=ev.text)


class Again(Private):
    first = Private.ask

    @step
    async def ask(self, ev: StartEvent) -> Asked:
        return Asked(text="again")


@pytest.mark.parametrize("workflow", [Again, Again()], ids=["class", "instance"])
def test_the_graph_has_a_node_for_each_name(workflow: Any) -> None:
    graph = get_workflow_representation(workflow)
    assert [n.id for n in graph.nodes if n.node_type == "step"] == ["ask", "_Private__answer", "first"]
    assert ("Asked", "_Private__answer") in [(edge.source, edge.target) for edge in graph.edges]


async def test_records_name_the_attribute(records: RecordLog) -> None:
    await Private().run(text="hi")
    assert [r.step for r in records.records if isinstance(r, StepStarted)] == ["ask", "_Private__answer"]


async def test_checkpoints_go_by_the_attribute() -> None:
    checkpointer = WorkflowCheckpointer(Private(), disabled_steps=["ask"])
    handler = checkpointer.run(text="hi")
    await handler
    (made,) = checkpointer.checkpoints[handler.run_id]
    assert made.last_completed_step == "_Private__answer"
    checkpointer.disable_checkpoint("_Private__answer")
    assert await checkpointer.run_from(made) == "hi"


async def test_a_run_by_hand_runs_each_name() -> None:
    handler = Again().run(text="hi", stepwise=True)
    produced = await handler.run_step() or []
    assert produced == [Asked(text="again"), Asked(text="hi")]
    handler.ctx.send_event(produced[1])
    assert await handler.run_step() is None
    assert await handler == "hi"


class Later(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> DefinedBelow:
        return DefinedBelow(text=ev.text)

    @step
    async def __answer(self, ev: DefinedBelow) -> StopEvent:
        return StopEvent(result=ev.text)


class DefinedBelow(Event):
    text: str


async def test_a_step_whose_annotations_are_defined_later_goes_by_the_attribute() -> None:
    assert await Later().run(text="hi") == "hi"


class Loud:
    """A decorator that is a class."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.function = function

    async def __call__(self, *args: Any, **kwargs: Any) -> StopEvent:
        return StopEvent(result=(await self.function(*args, **kwargs)).result.upper())


async def test_a_decorated_function_that_is_attached_to_a_class_is_called_with_its_decorator() -> None:
    class Plain(Workflow):
        pass

    class Decorated(Workflow):
        pass

    @step(workflow=Plain)
    async def answer(ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.text)

    Decorated.add_step(Loud(answer))
    assert [await Plain().run(text="hi"), await Decorated().run(text="hi")] == ["hi", "HI"]
