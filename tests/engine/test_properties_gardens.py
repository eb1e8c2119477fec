"""Random plans over every feature of the engine, disturbed at random moments, under the virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.garden import PLANS, Ask, Counted, Garden, Nod, Plan, Reply, number
from tests.engine.tick_log import TickLog
from workflows import Context
from workflows._engine.snapshot import dump_run
from workflows._engine.state import RunState
from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import (
    IdleReleasedEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import RunEnded, RunStarted, RunSuspended, StepEnded, StepStarted
from workflows.testing import RecordLog, VirtualClockLoop, recording

pytestmark = pytest.mark.slow

examples = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class Person:
    """Reads the stream of a run, answers what it asks a second later, and keeps what it saw."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int]] = Counter()
        self.last: list[StopEvent] = []
        self._answers: list[asyncio.TimerHandle] = []

    def serve(self, handler: WorkflowHandler) -> asyncio.Task[None]:
        """Serve a run, or the next segment of one."""
        self.handler = handler
        return asyncio.create_task(self._read(handler))

    async def leave(self, reader: asyncio.Task[None]) -> None:
        """Stop reading; what it has not read is for the next one."""
        reader.cancel()
        await asyncio.wait([reader])

    def forget(self) -> None:
        """Answer nothing that was asked so far: a run that was cancelled asks again when it goes on."""
        for answer in self._answers:
            answer.cancel()

    async def _read(self, handler: WorkflowHandler) -> None:
        stops: list[StopEvent] = []
        async for event in handler.stream_events():
            assert stops == [], "nothing comes after the terminal event"
            if isinstance(event, Ask):
                self.asked[event.key, event.number] += 1
                self.hear(event)
            elif isinstance(event, StopEvent):
                stops.append(event)
        self.last += stops

    def hear(self, ask: Ask) -> None:
        """Answer a question, in a second."""
        self._answers.append(asyncio.get_running_loop().call_later(1, self._answer, ask))

    def _answer(self, ask: Ask) -> None:
        self.handler.ctx.send_event(Reply(key=ask.key, number=ask.number))
        if ask.number == 2:
            self.handler.ctx.send_event(Nod(key=ask.key))


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> RecordLog:
    """Run on virtual time, with nothing left behind and nothing told twice."""
    with recording() as records:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(main())
        check_records(records)
    return records


def check_records(records: RecordLog) -> None:
    started = Counter((r.run_id, r.exec_id, r.attempt) for r in records.of(StepStarted) if not r.replay)
    assert not started or max(started.values()) == 1
    attempts = Counter((r.run_id, r.exec_id, r.attempt) for r in records.of(StepStarted))
    ended = Counter((r.run_id, r.exec_id, r.attempt) for r in records.of(StepEnded))
    assert attempts <= ended
    assert {r.outcome for r in _never_started(records)} <= {"cancelled", "abandoned", "timed_out", "suspended"}
    runs = Counter(r.run_id for r in (*records.of(RunEnded), *records.of(RunSuspended)))
    begun = Counter(r.run_id for r in records.records if type(r).__name__ in ("RunStarted", "RunResumed"))
    assert runs == begun
    assert records.of(RunStarted)


def _never_started(records: RecordLog) -> list[StepEnded]:
    started = {(r.run_id, r.exec_id, r.attempt) for r in records.of(StepStarted)}
    return [r for r in records.of(StepEnded) if (r.run_id, r.exec_id, r.attempt) not in started]


async def alone() -> bool:
    """Whether no task but this one is alive; runs that have just ended get a few turns to notice, without any time."""
    for _ in range(10):
        await asyncio.sleep(0)
    return asyncio.all_tasks() == {asyncio.current_task()}


def summary(state: RunState) -> dict[str, Any]:
    """What a snapshot does not say: workers, queues, phases, waits."""
    return {
        "busy": state.busy,
        "idle": state.idle,
        "ended": state.ended,
        "queues": {n: ([c.exec_id for c in q.calls], q.free) for n, q in state.queues.items()},
        "calls": {c.exec_id: (c.phase, c.worker, c.open_waits, c.attempt) for c in state.calls.values()},
        "waits": [w.wait_id for w in state.waits],
    }


def check_fold(runtime: TickLog, workflow: Garden) -> None:
    folded, live = runtime.fold(), runtime.run.state
    assert summary(folded) == summary(live)
    if live.ended is None:
        assert dump_run(folded, workflow.serializer) == dump_run(live, workflow.serializer)


def check_quiet(state: RunState) -> None:
    """Nothing is left over where a run has completed."""
    assert [*state.calls, *state.waits, *state.fan_outs, *state.queues] == []


async def _grow(workflow: Garden, plan: Counted, **more: Any) -> tuple[WorkflowHandler, Person, asyncio.Task[None]]:
    handler = workflow.run(root=plan.root, size=plan.size, **more)
    person = Person()
    return handler, person, person.serve(handler)


@examples
@given(PLANS)
def test_every_event_is_handled_exactly_once(planned: Plan) -> None:
    plan = number(planned)
    runtime = TickLog()

    async def main() -> None:
        workflow = Garden(timeout=None, runtime=runtime)
        handler, person, reader = await _grow(workflow, plan)
        assert Counter(await handler) == plan.keys
        await reader
        assert await alone()
        assert not person.asked or max(person.asked.values()) == 1
        check_fold(runtime, workflow)

    run(main)


@examples
@given(PLANS, st.lists(st.integers(0, 8), max_size=4))
def test_ticks_tell_the_state_at_any_moment(planned: Plan, moments: list[int]) -> None:
    plan = number(planned)
    runtime = TickLog()

    async def main() -> None:
        workflow = Garden(timeout=None, runtime=runtime)
        handler, _, reader = await _grow(workflow, plan)
        for moment in moments:
            await asyncio.sleep(moment)
            check_fold(runtime, workflow)
        await handler
        await reader

    run(main)


@examples
@given(PLANS, st.integers(0, 20), st.sampled_from(["cancel", "timeout", "bomb", "cancel twice"]))
def test_a_run_ends_once_however_it_ends(planned: Plan, moment: int, ending: str) -> None:
    plan = number(planned)
    runtime = TickLog()
    ends = {
        "cancel": (WorkflowCancelledByUser, WorkflowCancelledEvent),
        "cancel twice": (WorkflowCancelledByUser, WorkflowCancelledEvent),
        "timeout": (WorkflowTimeoutError, WorkflowTimedOutEvent),
        "bomb": (KeyError, WorkflowFailedEvent),
    }

    async def main() -> None:
        workflow = Garden(timeout=moment + 0.5 if ending == "timeout" else None, runtime=runtime)
        handler, person, reader = await _grow(workflow, plan, bomb=ending == "bomb")
        try:
            if ending.startswith("cancel"):
                await asyncio.sleep(moment)
                both = (handler.cancel_run(), handler.cancel_run())
                await asyncio.gather(*both[: 1 + (ending == "cancel twice")])
                both[1].close()
            assert Counter(await handler) == plan.keys
            stop: type[StopEvent] = StopEvent
        except ends[ending][0]:
            stop = ends[ending][1]
        await reader
        assert await alone()
        assert [type(e) for e in person.last] == [stop]
        assert [type(e) async for e in handler.stream_events() if isinstance(e, StopEvent)] == [stop]
        check_fold(runtime, workflow)

    run(main)


@examples
@given(PLANS, st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_a_resumed_run_gives_what_it_would_have_given(planned: Plan, moments: list[int]) -> None:
    plan = number(planned)
    runtime = TickLog()

    async def main() -> None:
        workflow = Garden(timeout=None, runtime=runtime)
        handler, person, reader = await _grow(workflow, plan)
        for moment in moments:
            await asyncio.sleep(moment)
            await person.leave(reader)
            if handler.is_done():
                break
            snapshot = json.loads(json.dumps(await handler.suspend()))
            assert await alone()
            assert isinstance(await handler, IdleReleasedEvent)
            assert [type(e) async for e in handler.stream_events() if isinstance(e, StopEvent)] == [IdleReleasedEvent]
            handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
            reader = person.serve(handler)
        assert Counter(await handler) == plan.keys
        await asyncio.wait([reader])
        assert await alone()
        assert not person.asked or max(person.asked.values()) == 1

    run(main)


@examples
@given(PLANS, st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_a_cancelled_run_goes_on_with_its_context(planned: Plan, moments: list[int]) -> None:
    plan = number(planned)

    async def main() -> None:
        workflow = Garden(timeout=None)
        handler, person, reader = await _grow(workflow, plan)
        for moment in moments:
            await asyncio.sleep(moment)
            if handler.is_done():
                break
            await handler.cancel_run()
            await reader
            person.forget()
            handler = workflow.run(ctx=handler.ctx)
            reader = person.serve(handler)
        assert Counter(await handler) == plan.keys
        await reader
        assert await alone()

    run(main)


@examples
@given(PLANS, st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["look", "detach", "read", "twice"])), max_size=5))
def test_onlookers_change_nothing(planned: Plan, looks: list[tuple[int, str]]) -> None:
    plan = number(planned)

    async def main() -> None:
        workflow = Garden(timeout=None)
        handler, _, reader = await _grow(workflow, plan)
        for moment, look in looks:
            if look == "look":
                json.dumps(handler.ctx.to_dict())
                await handler.ctx.running_steps()
            elif look == "read":
                async for _ in handler.stream_events(expose_internal=True):
                    break
            elif look == "twice":
                handler.ctx.send_event(Reply(key=-9))
            if look == "detach":
                with suppress(TimeoutError):
                    await asyncio.wait_for(handler, moment)
            else:
                await asyncio.sleep(moment)
        assert Counter(await handler) == plan.keys
        await reader
        assert await alone()

    run(main)


async def test_a_completed_run_leaves_nothing_in_its_state(clock: VirtualClockLoop) -> None:
    runtime = TickLog()
    workflow = Garden(timeout=None, runtime=runtime)
    plan = number(
        {
            "fails": 1,
            "sleep": 1,
            "wait": "twice",
            "sends": [],
            "returns": None,
            "pairs": 2,
            "hurries": [0],
            "shouts": [0],
            "child": None,
            "branches": [{"leaves": [{"fails": 0, "sleep": 1, "wait": "both", "drop": False}], "branches": []}],
        }
    )
    handler, _, reader = await _grow(workflow, plan)
    assert Counter(await handler) == plan.keys
    await reader
    check_quiet(runtime.run.state)
