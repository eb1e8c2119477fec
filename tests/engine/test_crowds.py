"""What bodies returned that wait for their turn to end, since hundreds of them ended together."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.engine.flows import A, B
from workflows import Context, Workflow, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import StepEnded
from workflows.testing import RecordLog, VirtualClockLoop

MANY = 700


class Crowd(Workflow):
    """All branches end in one turn of the event loop."""

    def __init__(self, wrong: int | None = None) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.ran = Counter[int]()
        self.wrong = wrong

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(MANY)]

    @step(num_workers=MANY)
    async def work(self, ev: A) -> B:
        await self.gate.wait()
        self.ran[ev.n] += 1
        if ev.n == self.wrong:
            return {"n": ev.n}  # type: ignore[return-value]
        return B(n=ev.n)

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent(result=sorted(ev.n for ev in events))


async def at_the_gate(workflow: Crowd) -> WorkflowHandler:
    handler = workflow.run()
    await asyncio.sleep(1)
    workflow.gate.set()
    return handler


@pytest.mark.parametrize("turns_later", range(4))
async def test_a_snapshot_has_what_they_returned(clock: VirtualClockLoop, turns_later: int) -> None:
    workflow = Crowd()
    handler = await at_the_gate(workflow)
    for _ in range(turns_later):
        await asyncio.sleep(0)
    ended = set(workflow.ran)

    snapshot = handler.ctx.to_dict()

    assert await handler == list(range(MANY))
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == list(range(MANY))
    assert {n for n, times in workflow.ran.items() if times == 1} == ended


async def test_a_snapshot_changes_no_id_of_an_event(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = await at_the_gate(Crowd())
    for _ in range(3):
        await asyncio.sleep(0)
        handler.ctx.to_dict()
    await handler

    ended = [record for record in records.of(StepEnded) if record.step == "work"]
    emitted = [envelope.event_id for record in ended for envelope in record.emitted]
    assert len(emitted) == MANY
    assert {event_id.rpartition(".")[2] for event_id in emitted} == {"0"}


@pytest.mark.parametrize("wrong", [0, MANY - 1])
@pytest.mark.parametrize("snapshots", range(3))
async def test_what_is_no_event_fails_the_run(clock: VirtualClockLoop, wrong: int, snapshots: int) -> None:
    handler = await at_the_gate(Crowd(wrong))
    for _ in range(snapshots):
        await asyncio.sleep(0)
        handler.ctx.to_dict()

    with pytest.raises(WorkflowRuntimeError, match="work returned dict instead of an Event"):
        await handler
