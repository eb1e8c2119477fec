"""Random plans over every feature of the engine: a run from any of their checkpoints gives what the whole run gives."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.garden import ALONE_PLANS, PLANS, Ask, Counted, Garden, Plan, number
from tests.engine.test_properties_gardens import Person, alone, examples, run
from workflows.checkpointer import Checkpoint, WorkflowCheckpointer
from workflows.handler import WorkflowHandler

pytestmark = pytest.mark.slow

CONTINUED = 4  # checkpoints of one run that are gone on from; a run may have hundreds
few_examples = settings(examples, max_examples=10)


class Remembers(Person):
    """Knows what it was asked and has not answered yet: a run from a checkpoint does not ask that again."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Ask] = []

    def _answer(self, ask: Ask) -> None:
        self.open = [other for other in self.open if other is not ask]
        super()._answer(ask)

    def hear(self, ask: Ask) -> None:
        self.open.append(ask)
        super().hear(ask)


class Diary:
    """The checkpoints of a run, each as text, with what the person was asked by then."""

    def __init__(self, workflow: Garden, person: Remembers) -> None:
        self._checkpointer = WorkflowCheckpointer(workflow=workflow)
        self._make = self._checkpointer.new_checkpoint_callback_for_run()
        self._person = person
        self.pages: list[tuple[str, list[Ask]]] = []

    async def note(self, run_id: str, *told: Any) -> None:
        """The `checkpoint_callback`; it takes its time, so that checkpoints of other steps are made meanwhile."""
        await self._make(run_id, *told)
        made = self._checkpointer.checkpoints[run_id][-1]
        self.pages.append((made.model_dump_json(), list(self._person.open)))
        await asyncio.sleep(0.25)


async def _grown(plan: Counted, workflow: Garden) -> Diary:
    person = Remembers()
    diary = Diary(workflow, person)
    handler = workflow.run(root=plan.root, size=plan.size, checkpoint_callback=diary.note)
    reader = person.serve(handler)
    assert Counter(await handler) == plan.keys
    await reader
    return diary


async def _goes_on(handler: WorkflowHandler, asked: list[Ask]) -> list[int]:
    person = Remembers()
    reader = person.serve(handler)
    for ask in asked:
        person.hear(ask)
    result = await handler
    await reader
    return result


@few_examples
@given(PLANS, st.randoms(use_true_random=False))
def test_a_run_from_any_checkpoint_gives_what_the_whole_run_gives(planned: Plan, chance: Any) -> None:
    plan = number(planned)

    async def main() -> None:
        workflow = Garden(timeout=None)
        diary = await _grown(plan, workflow)
        for text, asked in chance.sample(diary.pages, min(CONTINUED, len(diary.pages))):
            handler = workflow.run_from(Checkpoint.model_validate_json(text))
            assert Counter(await _goes_on(handler, asked)) == plan.keys
        assert await alone()

    run(main)


async def _by_hand(handler: WorkflowHandler) -> list[int]:
    while (events := await handler.run_step()) is not None:
        for event in events:
            handler.ctx.send_event(event)
    return await handler


@few_examples
@given(ALONE_PLANS, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_runs_by_hand_and_others_go_on_from_checkpoints_of_each_other(
    planned: Plan, chance: Any, made_by_hand: bool, by_hand: bool
) -> None:
    plan = number(planned)

    async def main() -> None:
        workflow = Garden(timeout=None)
        checkpointer = WorkflowCheckpointer(workflow=workflow)
        handler = checkpointer.run(root=plan.root, size=plan.size, stepwise=made_by_hand)
        result = _by_hand(handler) if made_by_hand else handler
        assert Counter(await result) == plan.keys
        kept = checkpointer.checkpoints[handler.run_id]
        for checkpoint in chance.sample(kept, min(CONTINUED, len(kept))):
            again = workflow.run_from(checkpoint, stepwise=by_hand)
            result = _by_hand(again) if by_hand else again
            assert Counter(await result) == plan.keys
        assert await alone()

    run(main)
