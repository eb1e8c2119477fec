"""A step, or the idle run itself, waits for an event from outside."""

from __future__ import annotations

import asyncio

import pytest

from workflows import Context, Workflow, step
from workflows.errors import StepTimeoutError, WorkflowDeadlockError, WorkflowTimeoutError
from workflows.events import (
    Event,
    HumanResponseEvent,
    IdleReleasedEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import RunEnded, StepEnded
from workflows.testing import RecordLog, VirtualClockLoop


class Reply(HumanResponseEvent):
    text: str
    user: str = ""


class Ask(InputRequiredEvent):
    prompt: str


class Interview(Workflow):
    """Two questions of one type in one step."""

    bodies = 0

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        type(self).bodies += 1
        name = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="name?"))
        age = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="age?"), timeout=60)
        return StopEvent(result=(name.text, age.text))


class Form(Workflow):
    """The seeds' way of asking a person."""

    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask(prompt="number?")

    @step
    async def answer(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


async def _answer(handler: object, *texts: str) -> None:
    left = list(texts)
    async for event in handler.stream_events():  # type: ignore[attr-defined]
        if isinstance(event, Ask):
            handler.ctx.send_event(Reply(text=left.pop(0)))  # type: ignore[attr-defined]


async def test_two_waits_of_one_type_get_their_own_answers_and_the_body_runs_once() -> None:
    Interview.bodies = 0
    handler = Interview().run()
    await _answer(handler, "Ada", "36")
    assert await handler == ("Ada", "36")
    assert Interview.bodies == 1


async def test_an_answer_that_comes_early_is_kept() -> None:
    class Early(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Reply(text="early"))
            await asyncio.sleep(0)
            return StopEvent(result=(await ctx.wait_for_event(Reply)).text)

    assert await Early().run() == "early"


async def test_catching_exceptions_around_a_wait_is_harmless() -> None:
    class Catches(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                reply = await ctx.wait_for_event(Reply, waiter_event=Ask(prompt="?"))
            except Exception:  # noqa: BLE001  # this is what the test is about
                return StopEvent(result="caught")
            return StopEvent(result=reply.text)

    handler = Catches().run()
    await _answer(handler, "fine")
    assert await handler == "fine"


async def test_a_wait_gives_its_worker_back_and_times_out(clock: VirtualClockLoop, records: RecordLog) -> None:
    class Busy(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Ask | None:
            ctx.send_event(Work(n=1))
            ctx.send_event(Work(n=2))
            return None

        @step(num_workers=1)
        async def work(self, ctx: Context, ev: Work) -> StopEvent | None:
            if ev.n == 1:
                with pytest.raises(asyncio.TimeoutError, match="Timed out waiting for Reply after 5 seconds"):
                    await ctx.wait_for_event(Reply, timeout=5)
                return StopEvent(result="waited")
            return None

    assert await Busy(disable_validation=True).run() == "waited"
    assert [line for line in records.timeline() if "work" in line and "Event" not in line] == [
        "0 StepStarted work#1",
        "0 WaitStarted Reply in work",
        "0 StepStarted work#1",
        "0 StepEnded work#1 completed",
        "5 WaitTimedOut Reply in work 5s",
        "5 StepEnded work#1 completed",
    ]


class Work(Event):
    n: int


class Asked(Event):
    pass


async def test_requirements_choose_the_answer() -> None:
    class Picky(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.send_event(Reply(text="no", user="bob"))
            ctx.send_event(Reply(text="yes", user="ada"))
            reply = await ctx.wait_for_event(Reply, requirements={"user": "ada"})
            return StopEvent(result=reply.text)

    assert await Picky().run() == "yes"


async def test_an_idle_run_that_asked_waits_as_a_run(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = Form(timeout=None).run()
    await asyncio.sleep(100)
    handler.ctx.send_event(Reply(text="42"))
    assert await handler == "42"
    assert [line for line in records.timeline() if "Wait" in line] == [
        "0 WaitStarted Reply in run",
        "100 WaitResolved Reply in run by x1",
    ]


async def test_a_person_can_answer_after_the_stream_was_left() -> None:
    handler = Form().run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            break
    handler.ctx.send_event(Reply(text="later"))
    assert [type(e) async for e in handler.stream_events()] == [StopEvent]
    assert await handler == "later"


async def test_a_timeout_names_the_open_wait(clock: VirtualClockLoop) -> None:
    with pytest.raises(WorkflowTimeoutError, match="Open waits: ask for Reply"):
        await Interview(timeout=9).run()


async def test_an_event_of_a_class_nobody_takes_is_a_deadlock_not_a_timeout(clock: VirtualClockLoop) -> None:
    class Wrong(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            ctx.send_event(Work(n=1))
            return None

    with pytest.raises(WorkflowDeadlockError, match="Nobody took 1x Work: no step accepts that class"):
        await Wrong().run()
    assert clock.time() < 1


async def test_a_suspended_run_goes_on_from_its_snapshot(clock: VirtualClockLoop, records: RecordLog) -> None:
    workflow = Interview(timeout=None)
    handler = workflow.run()
    stream = handler.stream_events()
    assert (await anext(stream)).prompt == "name?"
    handler.ctx.send_event(Reply(text="Ada"))
    assert (await anext(stream)).prompt == "age?"
    await asyncio.sleep(20)
    snapshot = await handler.suspend()
    assert isinstance(await handler, IdleReleasedEvent)

    resumed = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    assert resumed.run_id == handler.run_id
    await asyncio.sleep(1)
    resumed.ctx.send_event(Reply(text="36"))
    assert await resumed == ("Ada", "36")
    assert [line for line in records.timeline() if "Run" in line or "Wait" in line] == [
        "0 RunStarted Interview",
        "0 WaitStarted Reply in ask",
        "0 WaitResolved Reply in ask by x1",
        "0 WaitStarted Reply in ask",
        "20 RunSuspended",
        "20 RunResumed Interview",
        "20 WaitStarted Reply in ask",
        "21 WaitResolved Reply in ask by x2",
        "21 RunEnded completed",
    ]


async def test_the_timeout_of_a_wait_survives_a_resume(clock: VirtualClockLoop) -> None:
    workflow = Interview(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(0)
    handler.ctx.send_event(Reply(text="Ada"))
    await asyncio.sleep(50)
    resumed = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    with pytest.raises(asyncio.TimeoutError):
        await resumed
    assert clock.time() == 60


async def test_a_cancelled_run_goes_on_with_its_context(clock: VirtualClockLoop) -> None:
    workflow = Form(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    again = workflow.run(ctx=handler.ctx)
    await asyncio.sleep(1)
    again.ctx.send_event(Reply(text="still here"))
    assert await again == "still here"


async def test_an_answer_sent_before_a_resumed_run_has_begun_runs_its_step_once(records: RecordLog) -> None:
    workflow = Form()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            break
    snapshot = await handler.suspend()
    records.clear()
    resumed = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    resumed.ctx.send_event(Reply(text="yes"))
    assert await resumed == "yes"
    assert [line.split(" ", 1)[1] for line in records.steps()] == [
        "StepStarted answer#1",
        "StepEnded answer#1 completed",
    ]


async def test_a_run_that_queues_for_its_turn_can_be_suspended(clock: VirtualClockLoop) -> None:
    workflow = Form(timeout=None, num_concurrent_runs=1)
    first, second = workflow.run(), workflow.run()
    snapshot = await second.suspend()
    await first.cancel_run()
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    again.ctx.send_event(Reply(text="my turn"))
    assert await again == "my turn"


def test_a_loop_that_goes_away_interrupts_the_run(records: RecordLog) -> None:
    async def main() -> None:
        Form(timeout=None).run()
        Interview(timeout=None).run()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert {r.outcome for r in records.of(RunEnded)} == {"interrupted"}
    assert [r.outcome for r in records.of(StepEnded) if r.step == "ask"] == ["completed", "interrupted"]


class TwoAtOnce(Workflow):
    """Each call asks two people at once; one worker does what follows from all the answers."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.done: list[tuple[str, float]] = []

    @step
    async def start(self, ev: StartEvent) -> list[Work]:
        return [Work(n=0), Work(n=1)]

    @step(num_workers=1)
    async def ask(self, ctx: Context, ev: Work) -> Asked:
        await asyncio.gather(*(self.one(ctx, f"{user} {ev.n}") for user in ("ada", "bob")))
        return Asked()

    async def one(self, ctx: Context, user: str) -> None:
        await ctx.wait_for_event(Reply, requirements={"user": user})
        await asyncio.sleep(5)
        self.done.append((user, asyncio.get_running_loop().time()))

    @step
    async def end(self, evs: list[Asked]) -> StopEvent:
        return StopEvent(result=len(evs))


async def test_a_call_whose_other_wait_is_still_open_gives_its_worker_back(clock: VirtualClockLoop) -> None:
    workflow = TwoAtOnce()
    handler = workflow.run()
    for second, user in enumerate(("ada 0", "ada 1", "bob 0", "bob 1")):
        clock.call_at(1 + 10 * second, handler.ctx.send_event, Reply(text="yes", user=user))
    assert await handler == 2
    assert workflow.done == [("ada 0", 6), ("ada 1", 16), ("bob 0", 26), ("bob 1", 36)]


async def test_a_call_keeps_its_worker_while_what_an_answer_woke_still_works(clock: VirtualClockLoop) -> None:
    workflow = TwoAtOnce()
    handler = workflow.run()
    for user in ("ada 0", "ada 1", "bob 0", "bob 1"):
        clock.call_at(1 if user.startswith("ada") else 20, handler.ctx.send_event, Reply(text="yes", user=user))
    assert await handler == 2
    assert workflow.done == [("ada 0", 6), ("ada 1", 11), ("bob 0", 25), ("bob 1", 30)]


class Hurries(Workflow):
    """Has five seconds for its own work, and asks two people, one after the other."""

    @step(timeout=5)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply)
        await asyncio.sleep(1)
        await ctx.wait_for_event(Reply)
        await asyncio.sleep(ev.seconds)
        return StopEvent(result="in time")


def _answered(workflow: Hurries, clock: VirtualClockLoop, seconds: float) -> WorkflowHandler:
    handler = workflow.run(seconds=seconds)
    for second in (100, 200):
        clock.call_at(second, handler.ctx.send_event, Reply(text="yes"))
    return handler


async def test_a_step_that_waits_need_not_pay_for_the_time(clock: VirtualClockLoop) -> None:
    workflow = Hurries(timeout=None, idle_counts=False)
    assert await _answered(workflow, clock, 2.5) == "in time"


async def test_a_step_that_has_waited_pays_for_its_own_time(clock: VirtualClockLoop) -> None:
    workflow = Hurries(timeout=None, idle_counts=False)
    with pytest.raises(StepTimeoutError):
        await _answered(workflow, clock, 10)
    assert clock.time() == pytest.approx(203)


async def test_the_timeout_of_a_step_that_waited_names_the_option(clock: VirtualClockLoop) -> None:
    with pytest.raises(StepTimeoutError, match="idle_counts=False"):
        await _answered(Hurries(timeout=None), clock, 1)
    assert clock.time() == pytest.approx(5)
