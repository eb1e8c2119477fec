"""An idle run waits for whoever may still send something: where waiting does not count, its clock stands still."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.flows import A, B, Reply
from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.testing import VirtualClockLoop


class AsksNobody(Workflow):
    """Its join misses an event: nobody is asked for it."""

    @step
    async def send(self, ctx: Context, ev: StartEvent) -> A | B | None:
        ctx.send_event(A())
        ctx.send_event(A())

    @step
    async def join(self, ctx: Context, ev: A | B) -> StopEvent | None:
        return None if ctx.collect_events(ev, [A, B]) is None else StopEvent()


async def test_a_run_that_waits_for_nobody_times_out(clock: VirtualClockLoop) -> None:
    handler = AsksNobody(timeout=5, idle_counts=False).run()
    held = handler.ctx  # somebody may send an event, so it is no deadlock
    with pytest.raises(WorkflowTimeoutError):
        await handler
    assert clock.time() == pytest.approx(5)
    del held


class AsksUnseen(Workflow):
    """It asks by an event of its own, which says to nobody that it is a question."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> None:
        ctx.write_event_to_stream(A())

    @step
    async def end(self, ev: Reply) -> StopEvent:
        return StopEvent(result="done")


async def test_a_run_that_asks_by_an_event_of_its_own_only_waits(clock: VirtualClockLoop) -> None:
    handler = AsksUnseen(timeout=5, idle_counts=False).run()
    clock.call_at(100, handler.ctx.send_event, Reply())
    assert await handler == "done"


class Approval(HumanResponseEvent):
    who: str


class FourEyes(Workflow):
    """It asks once, and two have to answer."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def both(self, ctx: Context, ev: Approval) -> StopEvent | None:
        approvals = ctx.collect_events(ev, [Approval, Approval])
        return StopEvent(result=[approval.who for approval in approvals]) if approvals else None


class Message(HumanResponseEvent):
    text: str


class Chat(Workflow):
    """It takes messages as they come; only one kind of them makes it ask somebody."""

    @step
    async def start(self, ev: StartEvent) -> None:
        return None

    @step
    async def take(self, ev: Message) -> InputRequiredEvent | StopEvent | None:
        if ev.text == "delete":
            return InputRequiredEvent()
        return StopEvent(result="bye") if ev.text == "bye" else None

    @step
    async def delete(self, ev: Approval) -> None:
        return None


class FourInnerEyes(Workflow):
    """It asks once, and joins what it makes of two answers."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def approve(self, ev: Approval) -> A:
        return A()

    @step
    async def join(self, ctx: Context, ev: A) -> StopEvent | None:
        return StopEvent(result="done") if ctx.collect_events(ev, [A, A]) else None


class PlainChat(Workflow):
    """It takes messages of a class that its first step returns, too."""

    @step
    async def start(self, ev: StartEvent) -> A:
        return A()

    @step
    async def take(self, ev: A) -> StopEvent | None:
        return StopEvent(result="bye") if ev.n else None


class Rounds(Workflow):
    """Its steps ask nobody, and join what they make of messages."""

    @step
    async def start(self, ev: StartEvent) -> None:
        return None

    @step
    async def take(self, ev: Message) -> A:
        return A()

    @step
    async def join(self, ctx: Context, ev: A) -> StopEvent | None:
        return StopEvent(result="done") if ctx.collect_events(ev, [A, A]) else None


@pytest.mark.parametrize(
    ("workflow", "events", "result"),
    [
        (FourEyes, [Approval(who="a"), Approval(who="b")], ["a", "b"]),
        (Chat, [Message(text="hello"), Message(text="delete"), Approval(who="a"), Message(text="bye")], "bye"),
        (FourInnerEyes, [Approval(who="a"), Approval(who="b")], "done"),
        (PlainChat, [A(), A(n=1)], "bye"),
        (Rounds, [Message(text="one"), Message(text="two")], "done"),
    ],
)
async def test_the_time_between_what_people_send_does_not_count(
    clock: VirtualClockLoop, workflow: type[Workflow], events: list[Event], result: object
) -> None:
    handler = workflow(timeout=5, idle_counts=False).run()
    for n, event in enumerate(events, 1):
        clock.call_at(100 * n, handler.ctx.send_event, event)
    assert await handler == result


async def test_a_resumed_run_still_waits_for_the_second_of_two_answers(clock: VirtualClockLoop) -> None:
    workflow = FourEyes(timeout=5, idle_counts=False)
    handler = workflow.run()
    clock.call_at(100, handler.ctx.send_event, Approval(who="a"))
    await asyncio.sleep(200)
    snapshot = await handler.suspend()

    resumed = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    clock.call_at(300, resumed.ctx.send_event, Approval(who="b"))
    assert await resumed == ["a", "b"]


class Asks(Workflow):
    """Its join misses an event, to which another answer may lead."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def send(self, ctx: Context, ev: Reply) -> A | B | None:
        ctx.send_event(A())
        ctx.send_event(A())

    @step
    async def join(self, ctx: Context, ev: A | B) -> StopEvent | None:
        return None if ctx.collect_events(ev, [A, B]) is None else StopEvent()


async def test_the_log_tells_after_the_timeout_what_a_run_misses_that_may_wait_or_be_stuck(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Asks(timeout=5, idle_counts=False).run()
    clock.call_at(100, handler.ctx.send_event, Reply())
    await asyncio.sleep(104)
    assert not caplog.records
    await asyncio.sleep(1.1)
    assert "Step 'join' still needs 1x B" in caplog.text
    assert "idle for 5 s, its timeout" in caplog.text
    await handler.cancel_run()


async def test_the_log_tells_after_the_timeout_of_a_run_that_nobody_is_known_to_send_to(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handler = PlainChat(timeout=5, idle_counts=False).run()
    clock.call_at(100, handler.ctx.send_event, A(n=1))
    assert await handler == "bye"
    (told,) = caplog.records
    assert "make it a HumanResponseEvent" in told.message


async def test_the_timeout_of_a_run_that_waits_for_a_second_answer_says_what_does_not_count(
    clock: VirtualClockLoop,
) -> None:
    handler = FourEyes(timeout=5).run()
    clock.call_at(1, handler.ctx.send_event, Approval(who="a"))
    with pytest.raises(WorkflowTimeoutError, match=r"(?s)until somebody sends.*1x Approval.*idle_counts=False"):
        await handler


class PlainPair(Workflow):
    """It joins two messages of a class that its first step returns, too."""

    @step
    async def start(self, ev: StartEvent) -> A:
        return A()

    @step
    async def join(self, ctx: Context, ev: A) -> StopEvent | None:
        return StopEvent(result="done") if ctx.collect_events(ev, [A, A]) else None


async def test_whoever_has_sent_what_nobody_takes_may_send_more(clock: VirtualClockLoop) -> None:
    handler = PlainPair(timeout=5, idle_counts=False).run()
    clock.call_at(1, handler.ctx.send_event, B())
    clock.call_at(100, handler.ctx.send_event, A())
    assert await handler == "done"
