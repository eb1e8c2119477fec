"""A run keeps every question that steps returned or streamed, until that one is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import WaitCancelled, WaitRecord, WaitResolved, WaitStarted
from workflows.plugins.basic import basic_runtime
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Ask(InputRequiredEvent):
    about: str


class Reply(HumanResponseEvent):
    text: str


class Code(HumanResponseEvent):
    text: str


class Item(Event):
    name: str


class Said(Event):
    text: str


class Answered(Workflow):
    """Ends with three answers."""

    @step
    async def count(self, ctx: Context, ev: Reply) -> StopEvent | None:
        found = ctx.collect_events(ev, [Reply] * 3)
        return StopEvent(result=[reply.text for reply in found]) if found else None


class Returned(Answered):
    """Three calls of a step return a question each."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Item | None:
        for name in "abc":
            ctx.send_event(Item(name=name))

    @step(num_workers=3)
    async def ask(self, ev: Item) -> Ask:
        return Ask(about=ev.name)


class Listed(Answered):
    """One call returns a list of questions."""

    @step
    async def ask(self, ev: StartEvent) -> list[Ask]:
        return [Ask(about=name) for name in "abc"]


class Streamed(Answered):
    """One call streams them and is over."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> None:
        for name in "abc":
            ctx.write_event_to_stream(Ask(about=name))


ALL = pytest.mark.parametrize("kind", [Returned, Listed, Streamed])


async def stored(handler: WorkflowHandler) -> dict[str, Any]:
    return json.loads(json.dumps(await handler.suspend()))


def go_on(workflow: Workflow, snapshot: dict[str, Any]) -> WorkflowHandler:
    return workflow.run(ctx=Context.from_dict(workflow, snapshot))


def asked(records: RecordLog, kind: type[WaitRecord] = WaitStarted) -> list[str]:
    """What the run's waits of this kind of record are about, in order."""
    found = [record.question for record in records.of(kind) if record.question is not None]
    return [question.event.about for question in found if isinstance(question.event, Ask)]


def ids(records: RecordLog) -> dict[str, str]:
    """The id of each wait of the run, by what it is about."""
    told = [record for record in records.of(WaitStarted) if record.kind == "run"]
    return {record.asked.about: record.wait_id for record in told if isinstance(record.asked, Ask)}


def open_ids(snapshot: dict[str, Any]) -> list[str]:
    return [wait["id"] for wait in snapshot["telemetry"]["waits"]]


@ALL
async def test_every_question_is_a_wait_of_its_own(
    clock: VirtualClockLoop, records: RecordLog, kind: type[Workflow]
) -> None:
    handler = kind(timeout=None).run()
    await asyncio.sleep(1)
    assert (asked(records), len(set(ids(records).values()))) == (["a", "b", "c"], 3)
    await handler.cancel_run()
    assert asked(records, WaitCancelled) == ["a", "b", "c"]


@ALL
async def test_an_answer_ends_the_question_that_it_names_and_no_other(
    clock: VirtualClockLoop, records: RecordLog, kind: type[Workflow]
) -> None:
    handler = kind(timeout=None).run()
    await asyncio.sleep(1)
    for name in "cab":
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
    assert await handler == ["c", "a", "b"]
    assert asked(records, WaitResolved) == ["c", "a", "b"]


async def test_an_answer_that_names_no_question_ends_the_oldest(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Returned(timeout=None).run()
    await asyncio.sleep(1)
    for number, name in enumerate("abc"):
        assert asked(records, WaitResolved) == list("abc"[:number])
        await handler.send_event(Reply(text=name))
        await asyncio.sleep(1)
    assert await handler == ["a", "b", "c"]
    assert asked(records, WaitResolved) == ["a", "b", "c"]


async def test_the_questions_that_are_left_are_waited_for_and_streamed_no_more(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    handler = Returned(timeout=None).run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="b"), wait_id=ids(records)["b"])
    waiting = asyncio.ensure_future(asyncio.wait_for(handler, 1000))  # long after it would be called a deadlock
    with pytest.raises(TimeoutError):
        await waiting
    assert asked(records) == ["a", "b", "c"]
    for name in "ca":
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
    assert await handler == ["b", "c", "a"]
    streamed = [event.about async for event in handler.stream_events() if isinstance(event, Ask)]
    assert sorted(streamed) == ["a", "b", "c"]


@ALL
async def test_each_answer_may_come_to_another_process(
    clock: VirtualClockLoop, records: RecordLog, kind: type[Workflow]
) -> None:
    workflow = kind(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    open_now = list(ids(records).values())
    for name in "bca":
        snapshot = await stored(handler)
        assert open_ids(snapshot) == open_now
        handler = go_on(workflow, snapshot)
        open_now.remove(ids(records)[name])
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
        await asyncio.sleep(1)
    assert await handler == ["b", "c", "a"]
    assert asked(records, WaitResolved) == ["b", "c", "a"]


@ALL
async def test_all_answers_may_come_at_once_to_another_process(
    clock: VirtualClockLoop, records: RecordLog, kind: type[Workflow]
) -> None:
    workflow = kind(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    handler = go_on(workflow, await stored(handler))
    for name in "cba":
        handler.ctx.send_event(Reply(text=name), wait_id=ids(records)[name])
    assert await handler == ["c", "b", "a"]


async def test_a_question_is_as_old_as_it_is_in_whatever_process(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Returned(timeout=None)
    handler = workflow.run()
    for name in "abc":
        await asyncio.sleep(10)
        handler = go_on(workflow, await stored(handler))
        handler.ctx.send_event(Reply(text=name), wait_id=ids(records)[name])
    await handler
    assert [(r.at_ns - r.started_at_ns) // 10**9 for r in records.of(WaitResolved)] == [10, 20, 30]


async def test_a_journal_has_all_that_is_asked(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Returned(timeout=None)
    handler = workflow.run()
    reading = asyncio.ensure_future(_lines(handler))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="b"), wait_id=ids(records)["b"])
    await handler.suspend()
    handler = workflow.run(ctx=basic_runtime.restore(workflow, None, await reading))
    for name in "ca":
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
    assert await handler == ["b", "c", "a"]


async def _lines(handler: WorkflowHandler) -> list[Any]:
    return [line async for line in basic_runtime.journal(handler.run_id)]


async def test_a_snapshot_of_an_earlier_version_keeps_the_one_question_that_it_has(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    workflow = Returned(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    snapshot = await stored(handler)
    del snapshot["run"]["more_asked"]
    handler = go_on(workflow, snapshot)
    assert open_ids(await stored(handler)) == [ids(records)["a"]]


async def test_one_question_is_written_as_earlier_versions_read_it(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Returned(timeout=None).run()
    await asyncio.sleep(1)
    for name in "ab":
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
    run = (await stored(handler))["run"]
    (began,) = [record for record in records.of(WaitStarted) if record.wait_id == ids(records)["c"]]
    assert run["run_wait"] == [began.wait_id, began.started_at_ns]
    assert (json.loads(run["asked"]["event"])["value"]["about"], run["more_asked"]) == ("c", [])


async def test_a_cancelled_run_that_goes_on_still_asks_all(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Returned(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="a"), wait_id=ids(records)["a"])
    await handler.cancel_run()
    handler = workflow.run(ctx=handler.ctx)
    await asyncio.sleep(1)
    assert asked(records) == ["a", "b", "c", "b", "c"]
    for name in "cb":
        await handler.send_event(Reply(text=name), wait_id=ids(records)[name])
    assert await handler == ["a", "c", "b"]


async def test_a_timeout_says_how_many_answers_are_missing() -> None:
    with pytest.raises(WorkflowTimeoutError, match=r"the run for an answer to Ask \(3 times\)"):
        await Returned(timeout=0.01).run()


class Beside(Workflow):
    """A question is returned while a step waits for the answer to its own."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Ask | Item:
        ctx.send_event(Item(name="own"))
        return Ask(about="returned")

    @step
    async def wait(self, ctx: Context, ev: Item) -> Said:
        return Said(text=(await ctx.wait_for_event(Code, waiter_event=Ask(about=ev.name))).text)

    @step
    async def reply(self, ev: Reply) -> Said:
        return Said(text=ev.text)

    @step
    async def end(self, ctx: Context, ev: Said) -> StopEvent | None:
        found = ctx.collect_events(ev, [Said, Said])
        return StopEvent(result=[said.text for said in found]) if found else None


async def test_the_answer_that_a_step_waits_for_leaves_a_returned_question_open(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    handler = Beside(timeout=None).run()
    await asyncio.sleep(1)
    await handler.send_event(Code(text="1"))
    await asyncio.sleep(1)
    assert asked(records, WaitResolved) == []
    await handler.send_event(Reply(text="2"))
    assert await handler == ["1", "2"]
    assert asked(records, WaitResolved) == ["returned"]


async def test_the_answer_to_a_returned_question_leaves_a_waiting_step_alone(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    handler = Beside(timeout=None).run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="1"))
    await asyncio.sleep(1)
    assert asked(records, WaitResolved) == ["returned"]
    await handler.send_event(Code(text="2"))
    assert await handler == ["1", "2"]


class Alike(Beside):
    """Both answers are of one class."""

    @step
    async def wait(self, ctx: Context, ev: Item) -> Said:
        return Said(text=(await ctx.wait_for_event(Reply, waiter_event=Ask(about=ev.name), waiter_id="own")).text)


async def test_a_journal_that_begins_late_knows_which_question_an_answer_was_for(
    clock: VirtualClockLoop, records: RecordLog
) -> None:
    workflow = Alike(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    reading = asyncio.ensure_future(_lines(handler))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="1"), wait_id=ids(records)["returned"])
    await handler.suspend()
    handler = workflow.run(ctx=basic_runtime.restore(workflow, None, await reading))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="2"), wait_id="own")
    assert await handler == ["1", "2"]


class Late(Workflow):
    """Asks when it has been idle for a while."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = asyncio.ensure_future(ctx.wait_for_event(Reply))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(5, ctx.write_event_to_stream, Ask(about="late"))
        return StopEvent(result=(await reply).text)


async def test_a_question_of_an_idle_run_is_told_at_once(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Late(timeout=None).run()
    await asyncio.sleep(10)
    (told,) = [record for record in records.of(WaitStarted) if record.kind == "run"]
    assert told.at_ns - records.records[0].at_ns == 5 * 10**9
    await handler.send_event(Reply(text="yes"))
    assert (await handler, asked(records, WaitResolved)) == ("yes", ["late"])


def abouts(snapshot: dict[str, Any]) -> list[str]:
    """The questions that a snapshot has, whether their waits have begun or not."""
    run = snapshot["run"]
    saved: Iterable[Any] = (run, *run["more_asked"]) if run["asked"] else ()
    return [json.loads(question["asked"]["event"])["value"]["about"] for question in saved]


class Chat(Workflow):
    """Streams each question before it waits; a body that begins again streams the answered ones again."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said: list[str] = []
        for about in ("name", "age", "town"):
            ctx.write_event_to_stream(Ask(about=about))
            said.append((await ctx.wait_for_event(Reply)).text)
        return StopEvent(result=said)


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_streamed_question_is_over_with_the_wait_that_it_was_for(
    clock: VirtualClockLoop, records: RecordLog, resumed: bool
) -> None:
    workflow = Chat(timeout=None)
    handler = workflow.run()
    for about in ("name", "age", "town"):
        await asyncio.sleep(1)
        assert abouts(handler.ctx.to_dict()) == [about]
        handler = go_on(workflow, await stored(handler)) if resumed else handler
        handler.ctx.send_event(Reply(text=about))
    assert await handler == ["name", "age", "town"]


class Wordy(Workflow):
    """Says two things in each turn, and waits for one answer."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> Ask:
        for number in range(2):
            ctx.write_event_to_stream(Ask(about=f"story {number}"))
            ctx.write_event_to_stream(Ask(about=f"question {number}"))
            await ctx.wait_for_event(Reply)
        return Ask(about="last")

    @step
    async def told(self, ev: Code) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_what_a_step_has_asked_goes_with_the_step_that_has_its_answer(clock: VirtualClockLoop) -> None:
    handler = Wordy(timeout=None).run()
    for asks in (["story 0", "question 0"], ["story 1", "question 1"]):
        await asyncio.sleep(1)
        assert abouts(handler.ctx.to_dict()) == asks
        handler.ctx.send_event(Reply(text="yes"))
    await asyncio.sleep(1)
    assert abouts(await stored(handler)) == ["last"]


class Patient(Workflow):
    """Asks three times before it gives up; it may find other words, or say nothing more."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent | Ask:
        for about in ev.words:
            if about:
                ctx.write_event_to_stream(Ask(about=about))
            try:
                return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=10)).text)
            except TimeoutError:
                continue
        return Ask(about="somebody else")

    @step
    async def told(self, ev: Code) -> StopEvent:
        return StopEvent(result=ev.text)


@pytest.mark.parametrize(
    ("words", "last"),
    [(["a", "a", "a"], ["a"]), (["a", "", ""], ["a"]), (["a", "b", "c"], ["c"])],
    ids=["the same", "silence", "others"],
)
async def test_what_a_step_asks_again_takes_the_place_of_what_it_asked(
    clock: VirtualClockLoop, words: list[str], last: list[str]
) -> None:
    handler = Patient(timeout=None).run(words=words)
    await asyncio.sleep(25)
    assert abouts(handler.ctx.to_dict()) == last
    handler.ctx.send_event(Reply(text="here"))
    assert await handler == "here"


async def test_a_question_that_a_step_gave_up_waiting_for_is_open_no_more(clock: VirtualClockLoop) -> None:
    handler = Patient(timeout=None).run(words=["a"])
    await asyncio.sleep(25)
    assert abouts(await stored(handler)) == ["somebody else"]


class Shaky(Workflow):
    """Asks in other words when it is tried again."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> None:
        number = ctx.retry_info().retry_number
        ctx.write_event_to_stream(Ask(about=f"attempt {number}"))
        if number == 0:
            raise ConnectionError("no route")

    @step
    async def told(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


async def test_a_step_that_is_tried_again_asks_once(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Shaky(timeout=None).run()
    await asyncio.sleep(5)
    assert asked(records) == ["attempt 1"]
    await handler.send_event(Reply(text="yes"))
    assert await handler == "yes"
