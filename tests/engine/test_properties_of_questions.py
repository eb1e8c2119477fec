"""Random questions, answered in any order in any process: none is lost, and none is in the way of another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.tick_log import TickLog
from workflows import Context, Workflow, step
from workflows._engine.snapshot import dump_run
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.instrumentation.records import WaitResolved, WaitStarted
from workflows.testing import RecordLog, VirtualClockLoop, recording

pytestmark = pytest.mark.slow


class Ask(InputRequiredEvent):
    key: int


class Reply(HumanResponseEvent):
    key: int


class Note(HumanResponseEvent):
    key: int


class Task(Event):
    key: int
    way: str
    sleep: int


class Desk(Workflow):
    """Each task asks one question: it returns it, streams it, or waits for the answer itself."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Task | None:
        await ctx.store.set("open", len(ev.tasks))
        for task in ev.tasks:
            ctx.send_event(Task(**task))

    @step(num_workers=4)
    async def work(self, ctx: Context, ev: Task) -> Ask | Reply | None:
        await asyncio.sleep(ev.sleep)
        ask = Ask(key=ev.key)
        if ev.way == "returned":
            return ask
        if ev.way == "waited for":
            return Reply(key=(await ctx.wait_for_event(Note, waiter_event=ask, requirements={"key": ev.key})).key)
        ctx.write_event_to_stream(ask)
        if ev.way == "streamed and waited for":
            return Reply(key=(await ctx.wait_for_event(Note, requirements={"key": ev.key})).key)
        return None

    @step(num_workers=1)
    async def answered(self, ctx: Context, ev: Reply) -> StopEvent | None:
        found = [*await ctx.store.get("found", []), ev.key]
        await ctx.store.set("found", found)
        return StopEvent(result=found) if len(found) == await ctx.store.get("open") else None


def open_waits(records: RecordLog, snapshot: dict[str, Any]) -> dict[str, Event]:
    """The answer to each wait that a snapshot says is open; a streamed question belongs to the call that waits."""
    told = {record.wait_id: record for record in records.of(WaitStarted)}
    waiting = {record.exec_id for record in told.values() if record.kind == "call"}
    found: dict[str, Event] = {}
    for wait in snapshot["telemetry"]["waits"]:
        record = told[wait["id"]]
        asked = record.asked or (record.requirements and Ask(key=record.requirements["key"]))  # pyright: ignore[reportArgumentType]
        assert isinstance(asked, Ask)
        if record.kind == "call":
            found[wait["id"]] = Note(key=asked.key)
        elif record.question is not None and record.question.sender not in waiting:
            found[wait["id"]] = Reply(key=asked.key)
    return found


WAYS = ["returned", "returned", "streamed", "waited for", "streamed and waited for"]
TASKS = st.lists(st.tuples(st.sampled_from(WAYS), st.integers(0, 6)), min_size=1, max_size=7)
VISITS = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 9)), max_size=12)


async def _served(tasks: list[tuple[str, int]], visits: list[tuple[int, bool, int]], records: RecordLog) -> None:
    """A person comes now and then and answers one question; in between the run may be stored and taken up."""
    runtime = TickLog()
    workflow = Desk(timeout=None, runtime=runtime)
    planned = [{"key": key, "way": way, "sleep": sleep} for key, (way, sleep) in enumerate(tasks)]
    handler = workflow.run(tasks=planned)
    stored = False
    # Those that come when all has been asked answer what is left, the newest first.
    for pause, stores, choice in [*visits, *[(100, True, -1)] * len(tasks)]:
        await asyncio.sleep(pause)
        if handler.is_done():
            break
        if not stored:
            live = dump_run(runtime.run.state, workflow.serializer)
            assert dump_run(runtime.fold(), workflow.serializer) == live
        snapshot = json.loads(json.dumps(handler.ctx.to_dict()))
        answers = list(open_waits(records, snapshot).items())
        if stores:
            snapshot, stored = json.loads(json.dumps(await handler.suspend())), True
            handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
        if answers:
            wait_id, answer = answers[choice % len(answers)]
            handler.ctx.send_event(answer, wait_id=wait_id)
    assert sorted(await handler) == list(range(len(tasks)))


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(TASKS, VISITS)
def test_as_many_answers_as_questions_end_a_run(
    tasks: list[tuple[str, int]], visits: list[tuple[int, bool, int]]
) -> None:
    with recording() as records, asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(_served(tasks, visits, records))
    resolved = [record for record in records.of(WaitResolved) if record.kind == "run"]
    assert len({record.wait_id for record in resolved}) == len(resolved)
    for record in resolved:
        asked = record.question.event if record.question else None
        assert isinstance(asked, Ask)
        assert record.answer.event.get("key") == asked.key
