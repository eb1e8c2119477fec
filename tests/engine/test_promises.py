"""Where we do better on purpose (waits, streams, snapshots): each test is one promise that no other file tests."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.engine.flows import A, Ask, B, Reply
from workflows import Context, Workflow, step
from workflows.context import JsonSerializer, PickleSerializer
from workflows.errors import ContextSerdeError, WorkflowRuntimeError
from workflows.events import (
    Event,
    HumanResponseEvent,
    StartEvent,
    StopEvent,
    UnhandledEvent,
    WorkflowCancelledEvent,
)
from workflows.instrumentation.records import EventSent, EventUnhandled, RunEnded, RunStarted, StepStarted
from workflows.testing import RecordLog, VirtualClockLoop

# waits


class Late(Workflow):
    """Begins to wait when it is told to, and gives the numbers of the answers that it finds."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1)
        found = [(await ctx.wait_for_event(Reply)).n for _ in range(ev.answers)]
        return StopEvent(result=found)


async def test_a_thousand_early_answers_are_kept_and_the_oldest_go_first(clock: VirtualClockLoop) -> None:
    handler = Late().run(answers=3)
    for n in range(1002):
        handler.ctx.send_event(Reply(n=n))
    assert await handler == [2, 3, 4]


async def test_an_early_answer_is_told_as_unhandled_at_once(clock: VirtualClockLoop) -> None:
    handler = Late().run(answers=1)
    stream = handler.stream_events(expose_internal=True)
    handler.ctx.send_event(Reply(n=7))
    told = [e async for e in stream if isinstance(e, UnhandledEvent)]
    assert [(e.event_type, e.idle) for e in told] == [("Reply", False)]
    assert await handler == [7]


class Patient(Workflow):
    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(n=1))
        return StopEvent(result=reply.n)


async def test_an_answer_to_a_run_that_was_just_taken_up_is_not_called_unhandled(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = Patient()
    handler = workflow.run()
    await asyncio.sleep(1)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    stream = resumed.stream_events(expose_internal=True)
    resumed.ctx.send_event(Reply(n=7))
    told = [type(event).__name__ async for event in stream]
    assert await resumed == 7
    assert "UnhandledEvent" not in told
    assert "no step of" not in caplog.text


async def test_what_no_wait_of_a_run_that_was_just_taken_up_takes_is_called_unhandled(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = Patient()
    handler = workflow.run()
    await asyncio.sleep(1)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    resumed.ctx.send_event(A(n=7))
    resumed.ctx.send_event(Reply(n=7))
    assert await resumed == 7
    assert "no step of Patient accepts A" in caplog.text


class ReplyToAll(HumanResponseEvent):
    """Its name begins as that of `Reply`."""

    n: int = 0


class Picky(Workflow):
    """Waits for one event, under a name of its own or none."""

    def __init__(self, takes: type[Reply | ReplyToAll], **wait: Any) -> None:
        super().__init__()
        self.takes, self.wait = takes, wait

    @step
    async def listen(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(self.takes, **self.wait)).n)


@pytest.mark.parametrize(
    ("workflow", "wrong"),
    [
        (Picky(Reply, requirements={"n": 7}), Reply(n=1)),
        (Picky(ReplyToAll), Reply(n=7)),
        (Picky(Reply, waiter_id="mine"), A(n=7)),
    ],
)
async def test_a_wrong_answer_to_a_run_that_was_just_taken_up_is_called_unhandled(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, records: RecordLog, workflow: Picky, wrong: Event
) -> None:
    handler = workflow.run()
    await asyncio.sleep(1)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    stream = resumed.stream_events(expose_internal=True)
    resumed.ctx.send_event(wrong)
    clock.call_at(10, resumed.ctx.send_event, workflow.takes(n=7))
    told = [event.event_type async for event in stream if isinstance(event, UnhandledEvent)]
    assert await resumed == 7
    assert told == [type(wrong).__name__]
    assert f"no step of Picky accepts {type(wrong).__name__}" in caplog.text
    assert [r.envelope.event for r in records.records if isinstance(r, EventUnhandled)] == [wrong]
    assert [r.envelope.event for r in records.records if isinstance(r, EventSent)].count(wrong) == 1
    assert [r.counts.unhandled for r in records.records if isinstance(r, RunEnded)] == [1]


@pytest.mark.parametrize("end", ["cancel_run", "suspend"])
async def test_a_run_that_goes_on_does_not_stream_the_end_that_it_had(clock: VirtualClockLoop, end: str) -> None:
    workflow = Patient()
    handler = workflow.run()
    await asyncio.sleep(1)
    await getattr(handler, end)()
    resumed = workflow.run(ctx=Context.from_dict(workflow, handler.ctx.to_dict()))
    resumed.ctx.send_event(Reply(n=7))
    assert {type(event) async for event in resumed.stream_events()} == {Ask, StopEvent}
    assert await resumed == 7


class Askers(Workflow):
    """Two calls of one step wait for the same answer."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A(n=1))
        ctx.send_event(A(n=2))
        return None

    @step(num_workers=1)
    async def ask(self, ctx: Context, ev: A) -> B:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(n=ev.n))
        await asyncio.sleep(10)
        return B(n=ev.n * reply.n)

    @step
    async def end(self, ctx: Context, ev: B) -> StopEvent | None:
        both = ctx.collect_events(ev, [B, B])
        return StopEvent(result=[e.n for e in both]) if both else None


async def test_one_answer_ends_the_waits_of_every_call(clock: VirtualClockLoop) -> None:
    handler = Askers().run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply(n=5))
    assert await handler == [5, 10]


async def test_a_call_that_waited_takes_a_worker_again_before_it_goes_on(clock: VirtualClockLoop) -> None:
    handler = Askers().run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply(n=5))
    await handler
    assert clock.time() == 21  # one worker: the second goes on when the first has ended


async def test_a_resumed_call_is_flagged_as_replay(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Askers()
    handler = workflow.run()
    await asyncio.sleep(1)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await asyncio.sleep(1)
    resumed.ctx.send_event(Reply(n=1))
    await resumed
    asks = [(r.exec_id, r.replay) for r in records.of(StepStarted) if r.step == "ask"]
    assert [replay for _, replay in asks] == [False, False, True, True]
    assert asks[0][0] == asks[2][0]


async def test_a_question_is_not_asked_again_by_a_replay(clock: VirtualClockLoop) -> None:
    workflow = Askers()
    handler = workflow.run()
    stream = handler.stream_events()
    assert [(await anext(stream)).n for _ in range(2)] == [1, 2]
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await asyncio.sleep(1)
    resumed.ctx.send_event(Reply(n=1))
    assert [type(e) async for e in resumed.stream_events()] == [StopEvent]


# streams


class Tells(Workflow):
    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(ev.n):
            ctx.write_event_to_stream(A(n=n))
        await asyncio.sleep(1)
        return StopEvent()


async def test_a_reader_that_comes_too_late_is_told_how_much_it_lost(clock: VirtualClockLoop) -> None:
    handler = Tells(stream_buffer=10).run(n=100)
    await handler
    with pytest.raises(WorkflowRuntimeError, match=r"\d+ streamed events are gone"):
        async for _ in handler.stream_events():
            pass


async def test_an_attached_reader_loses_nothing_however_slow_it_is(clock: VirtualClockLoop) -> None:
    handler = Tells(stream_buffer=10).run(n=1000)
    reader = handler.stream_events()
    await handler
    assert [e.n async for e in reader if isinstance(e, A)] == list(range(1000))


@pytest.mark.parametrize(("streamed", "buffer"), [(3, 10), (30, 2)])
async def test_unread_events_of_a_stream_survive_a_snapshot(
    clock: VirtualClockLoop, streamed: int, buffer: int
) -> None:
    class Slowly(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> B:
            for n in range(streamed):
                ctx.write_event_to_stream(A(n=n))
            return B()

        @step
        async def end(self, ev: B) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent()

    workflow = Slowly(stream_buffer=buffer)
    handler = workflow.run()
    reader = handler.stream_events()
    assert (await anext(reader)).n == 0
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    assert [e.n async for e in resumed.stream_events() if isinstance(e, A)] == list(range(1, streamed))


async def test_a_stop_event_that_a_step_streams_does_not_end_the_stream() -> None:
    class Streams(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(StopEvent(result="of a run within"))
            ctx.write_event_to_stream(A(n=1))
            return StopEvent(result="mine")

    handler = Streams().run()
    assert [str(e) for e in [e async for e in handler.stream_events()] if isinstance(e, StopEvent)] == [
        "of a run within",
        "mine",
    ]


# snapshots


async def test_events_of_classes_inside_a_function_survive_a_snapshot(clock: VirtualClockLoop) -> None:
    class Local(Event):
        n: int

    class Flow(Workflow):
        class Nested(Event):
            inner: Local

        @step
        async def start(self, ev: StartEvent) -> Nested:
            return self.Nested(inner=Local(n=3))

        @step
        async def end(self, ev: Nested) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent(result=(type(ev.inner) is Local, ev.inner.n))

    workflow = Flow()
    handler = workflow.run()
    await asyncio.sleep(1)
    snapshot = json.loads(json.dumps(await handler.suspend()))
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == (True, 3)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that nobody has imported; importing it has an effect."""
    (tmp_path / "foreign_code.py").write_text(
        textwrap.dedent(
            """
            from pydantic import BaseModel

            class Payload(BaseModel):
                n: int
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    return '{"__is_pydantic": true, "value": {"n": 1}, "qualified_name": "foreign_code.Payload"}'


def test_reading_a_value_imports_nothing(foreign: str) -> None:
    with pytest.raises(ValueError, match=r"foreign_code\.Payload"):
        JsonSerializer().deserialize(foreign)
    assert "foreign_code" not in sys.modules


def test_importing_is_there_for_who_asks(foreign: str) -> None:
    assert JsonSerializer(allow_import=True).deserialize(foreign).n == 1
    del sys.modules["foreign_code"]


async def test_a_pickled_snapshot_is_refused_where_pickle_was_not_chosen(clock: VirtualClockLoop) -> None:
    class Keeps(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.store.set("odd", complex(1, 2))
            await asyncio.sleep(5)
            return StopEvent(result=await ctx.store.get("odd"))

    workflow = Keeps()
    handler = workflow.run()
    await asyncio.sleep(1)
    snapshot = handler.ctx.to_dict(serializer=PickleSerializer())
    await handler.cancel_run()
    with pytest.raises(ContextSerdeError):
        Context.from_dict(workflow, snapshot)
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot, serializer=PickleSerializer()))
    assert await again == complex(1, 2)


# child runs


class Inner(Workflow):
    @step
    async def sleep(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(100)
        return StopEvent(result="slept")


class Outer(Workflow):
    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Inner(timeout=ev.get("inner_timeout")).run())


async def test_the_timeout_of_a_run_ends_its_child_runs(clock: VirtualClockLoop, records: RecordLog) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Outer(timeout=5).run(), 4)
    await asyncio.sleep(2)
    assert [(r.workflow, r.outcome) for r in _ends(records)] == [("Inner", "cancelled"), ("Outer", "timed_out")]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_timeout_of_a_child_run_fails_the_step_that_awaits_it(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    handler = Outer(timeout=None).run(inner_timeout=3)
    assert [type(e).__name__ async for e in handler.stream_events()] == ["WorkflowFailedEvent"]
    assert handler.get_stop_event() is None
    assert [(r.workflow, r.outcome) for r in _ends(records)] == [("Inner", "timed_out"), ("Outer", "failed")]
    with pytest.raises(Exception, match="Operation timed out after 3 seconds"):
        await handler


class _End:
    def __init__(self, workflow: str, outcome: str) -> None:
        self.workflow = workflow
        self.outcome = outcome


def _ends(records: RecordLog) -> list[_End]:
    names = {r.run_id: r.workflow for r in records.of(RunStarted)}
    return [_End(names[r.run_id], r.outcome) for r in records.of(RunEnded)]


class Talks(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(A(n=ev.n))
        if ev.n:
            await Talks().run(n=ev.n - 1)
        return StopEvent(result=ev.n)


async def test_a_reader_may_take_the_streams_of_child_runs_too() -> None:
    handler = Talks().run(n=2)
    seen = [e async for e in handler.stream_events(include_children=True)]
    assert [e.n if isinstance(e, A) else type(e) for e in seen] == [2, 1, 0, StopEvent]


async def test_a_reader_takes_the_stream_of_its_own_run_if_it_does_not_ask_for_more() -> None:
    handler = Talks().run(n=2)
    assert [e.n if isinstance(e, A) else type(e) async for e in handler.stream_events()] == [2, StopEvent]


# cancellation


async def test_every_step_has_ended_when_a_cancelled_run_is_over(clock: VirtualClockLoop) -> None:
    cleaned: list[int] = []

    class Cleans(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(3)]

        @step
        async def work(self, ev: A) -> B:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.2)
                cleaned.append(ev.n)
            return B()

        @step
        async def end(self, evs: list[B]) -> StopEvent:
            return StopEvent()

    handler = Cleans(timeout=None).run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    assert cleaned == [0, 1, 2]
    assert isinstance(handler.get_stop_event(), WorkflowCancelledEvent)


async def test_a_second_cancel_does_not_hit_the_cleanup(clock: VirtualClockLoop) -> None:
    cleaned: list[str] = []

    class Cleans(Workflow):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.3)
                cleaned.append("done")
            return StopEvent()

    handler = Cleans(timeout=None).run()
    await asyncio.sleep(1)
    await asyncio.gather(handler.cancel_run(), handler.cancel_run())
    assert cleaned == ["done"]
