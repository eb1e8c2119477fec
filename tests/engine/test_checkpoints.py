"""A checkpoint after each step, and new runs that start from one."""

from __future__ import annotations

from typing import ClassVar

import pytest

from workflows import Context, Workflow, step
from workflows.checkpointer import Checkpoint, WorkflowCheckpointer
from workflows.errors import WorkflowStepDoesNotExistError
from workflows.events import Event, StartEvent, StopEvent


class Joke(Event):
    text: str


class JokeFlow(Workflow):
    ran: ClassVar[list[str]] = []

    @step
    async def generate(self, ctx: Context, ev: StartEvent) -> Joke:
        self.ran.append("generate")
        await ctx.store.set("topic", ev.topic)
        return Joke(text=f"About {ev.topic}")

    @step
    async def critique(self, ctx: Context, ev: Joke) -> StopEvent:
        self.ran.append("critique")
        return StopEvent(result=f"{ev.text}: {await ctx.store.get('topic')}")


@pytest.fixture
def checkpointer() -> WorkflowCheckpointer:
    JokeFlow.ran.clear()
    return WorkflowCheckpointer(workflow=JokeFlow())


async def test_each_step_leaves_a_checkpoint(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    await handler
    kept = checkpointer.checkpoints[handler.run_id]
    assert [(c.last_completed_step, type(c.input_event), type(c.output_event)) for c in kept] == [
        ("generate", StartEvent, Joke),
        ("critique", Joke, StopEvent),
    ]


async def test_a_run_starts_from_a_checkpoint_without_repeating_its_step(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    await handler
    again = checkpointer.run_from(checkpoint=checkpointer.checkpoints[handler.run_id][0], topic="ignored")
    assert await again == "About pirates: pirates"
    assert JokeFlow.ran == ["generate", "critique", "critique"]
    assert again.run_id != handler.run_id


async def test_a_run_from_the_last_checkpoint_ends_at_once(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="pirates")
    result = await handler
    assert await checkpointer.run_from(checkpointer.checkpoints[handler.run_id][-1]) == result
    assert JokeFlow.ran == ["generate", "critique"]


async def test_checkpoints_are_filtered(checkpointer: WorkflowCheckpointer) -> None:
    checkpointer.disable_checkpoint("critique")
    for topic in ("pirates", "ships"):
        await checkpointer.run(topic=topic)
    assert len(checkpointer.filter_checkpoints(output_event_type=Joke)) == 2
    assert checkpointer.filter_checkpoints(last_completed_step="critique") == []
    with pytest.raises(ValueError, match="specify a filter"):
        checkpointer.filter_checkpoints()
    with pytest.raises(WorkflowStepDoesNotExistError, match="has no step 'sing'"):
        checkpointer.enable_checkpoint("sing")


async def test_a_checkpoint_can_be_kept_as_text(checkpointer: WorkflowCheckpointer) -> None:
    handler = checkpointer.run(topic="cats")
    await handler
    text = checkpointer.checkpoints[handler.run_id][0].model_dump_json()
    kept = Checkpoint.model_validate_json(text)
    assert kept.output_event == Joke(text="About cats")
    assert await checkpointer.run_from(kept) == "About cats: cats"
