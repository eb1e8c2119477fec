"""What is watched of a run does not outlive it."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

import pytest

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.instrumentation.backlog import backlogs
from workflows.testing import RecordLog


class Document:
    """Something large that a step holds."""


class Fails(Workflow):
    @step
    async def read(self, ctx: Context, ev: StartEvent) -> StopEvent:
        document = Document()
        ev.held.append(ref(document))
        raise ValueError("broken")


async def test_a_failed_run_that_was_listened_to_is_let_go(records: RecordLog) -> None:
    held: list[ref[Document]] = []
    with pytest.raises(ValueError, match="broken"):
        await Fails().run(held=held)
    records.records.clear()
    await asyncio.sleep(0)
    gc.collect()
    assert [reference() for reference in held] == [None]


class Streams(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for _ in range(3):
            ctx.write_event_to_stream(Event())
        ev.seen.append(backlogs())
        return StopEvent()


async def test_what_a_reader_has_not_read_is_counted_by_workflow(records: RecordLog) -> None:
    seen: list[dict[str, int]] = []
    handler = Streams().run(seen=seen)
    reader = handler.stream_events()
    await handler
    assert seen[0]["Streams"] == 3
    await reader.aclose()
