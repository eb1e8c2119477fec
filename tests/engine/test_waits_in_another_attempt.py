"""Waits of a body that runs again, in a retry or after a snapshot: none takes what is for another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.engine.flows import Ask, Reply
from workflows import Context, Workflow, step
from workflows._engine import deadlines
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent, UnhandledEvent
from workflows.handler import WorkflowHandler
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop

ONCE_MORE = retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2))


class Stop(HumanResponseEvent):
    pass


class Paid(Event):
    pass


async def resumed(handler: WorkflowHandler, workflow: Workflow) -> WorkflowHandler:
    snapshot = json.loads(json.dumps(await handler.suspend()))
    return workflow.run(ctx=Context.from_dict(workflow, snapshot))


ASKED = ["alice-name", "bob-name", "alice-age", "bob-age"]


class Interviews(Workflow):
    """Two chains of questions at once; every wait has an id of its own."""

    seconds: float | None = None
    beside = False

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def interview(who: str, *questions: str) -> list[str]:
            told: list[str] = []
            for question in questions:
                name = f"{who}-{question}"
                try:
                    event = await ctx.wait_for_event(
                        Reply, waiter_id=name, waiter_event=Ask(prompt=name), timeout=self.seconds
                    )
                    told.append(event.text)
                except TimeoutError:
                    told.append(f"none at {asyncio.get_running_loop().time():g}")
            return told

        if self.beside:
            bob = asyncio.create_task(interview("bob", "name", "age"))
            alice = await interview("alice", "name", "age")
            return StopEvent(result=[alice, await bob])
        return StopEvent(
            result=await asyncio.gather(interview("alice", "name", "age"), interview("bob", "name", "age"))
        )


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("before", [False, True], ids=["answer after", "answer before"])
@pytest.mark.parametrize("by_id", [True, False])
async def test_a_chain_that_goes_on_first_takes_no_wait_of_another_one(
    clock: VirtualClockLoop, by_id: bool, before: bool, beside: bool
) -> None:
    workflow = Interviews(timeout=None)
    workflow.beside = beside
    handler = workflow.run()
    await asyncio.sleep(1)
    if before:
        await handler.send_event(Reply(text="Alice"), wait_id="alice-name" if by_id else None)
    handler = await resumed(handler, workflow)
    if not before:
        await handler.send_event(Reply(text="Alice"), wait_id="alice-name" if by_id else None)
    for text, wait_id in (("Bob", "bob-name"), ("36", "alice-age"), ("40", "bob-age")):
        await asyncio.sleep(1)
        await handler.send_event(Reply(text=text), wait_id=wait_id if by_id else None)
    assert await handler == [["Alice", "36"], ["Bob", "40"]]
    assert [event.prompt async for event in handler.stream_events(types=Ask)] == ASKED


async def test_the_timeouts_of_the_others_go_on(clock: VirtualClockLoop) -> None:
    workflow = Interviews(timeout=None)
    workflow.seconds = 10
    handler = workflow.run()
    await asyncio.sleep(4)
    handler = await resumed(handler, workflow)
    await handler.send_event(Reply(text="Alice"))
    assert await handler == [["Alice", "none at 14"], ["none at 10", "none at 20"]]


class Trip(Workflow):
    """Goes on without a name after a while; beside it, feedback may come at any time."""

    @step
    async def plan(self, ctx: Context, ev: StartEvent) -> StopEvent:
        feedback = asyncio.create_task(ctx.wait_for_event(Stop, waiter_id="feedback", timeout=None))
        name = "anonymous"
        with suppress(TimeoutError):
            name = await self.limit(lambda: self.ask(ctx, "name"))
        age = await self.ask(ctx, "age")
        await feedback
        return StopEvent(result=(name, age))

    async def limit(self, ask: Callable[[], Awaitable[str]]) -> str:
        async with asyncio.timeout(10):
            return await ask()

    async def ask(self, ctx: Context, name: str) -> str:
        event = await ctx.wait_for_event(Reply, waiter_id=name, waiter_event=Ask(prompt=name), timeout=None)
        return event.text


class ByWaitFor(Trip):
    async def limit(self, ask: Callable[[], Awaitable[str]]) -> str:
        return await asyncio.wait_for(asyncio.ensure_future(ask()), 10)


@pytest.mark.parametrize("kind", [Trip, ByWaitFor])
@pytest.mark.parametrize("later", [0, 1, 20])
async def test_what_a_timeout_gave_up_stays_so_though_something_else_was_answered_meanwhile(
    clock: VirtualClockLoop, kind: type[Trip], later: int
) -> None:
    workflow = kind(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(5)
    await handler.send_event(Stop())
    await asyncio.sleep(10)
    handler = await resumed(handler, workflow)
    await asyncio.sleep(later)
    await handler.send_event(Reply(text="36"))
    assert await handler == ("anonymous", "36")
    assert [event.prompt async for event in handler.stream_events(types=Ask)] == ["name", "age"]


class Chat(Workflow):
    """Races a message and a stop button; the model fails once."""

    waits_for_loser = True

    @step(retry_policy=ONCE_MORE)
    async def chat(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said: list[str] = []
        while True:
            message = asyncio.create_task(ctx.wait_for_event(Reply, timeout=None))
            stop = asyncio.create_task(ctx.wait_for_event(Stop, timeout=None))
            done, rest = await asyncio.wait({message, stop}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            if self.waits_for_loser:
                await asyncio.wait(rest)
                await asyncio.sleep(2)
            if message not in done:
                return StopEvent(result=said)
            if not ctx.retry_info().retry_number:
                raise ConnectionError
            said.append(message.result().text)


@pytest.mark.parametrize("pressed", [1.5, 2.5, 4.5])
@pytest.mark.parametrize("waits", [True, False])
async def test_the_loser_of_a_race_takes_nothing_in_a_retry(
    clock: VirtualClockLoop, waits: bool, pressed: float
) -> None:
    """While the model works, in the delay of the retry, and while the model works again."""
    workflow = Chat(timeout=None)
    workflow.waits_for_loser = waits
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="hello"))
    await asyncio.sleep(pressed - 1)
    await handler.send_event(Stop())
    assert await asyncio.wait_for(handler, 60) == ["hello"]


@pytest.mark.parametrize("waits", [True, False])
async def test_nor_does_the_loser_of_a_race_that_was_won_at_once(clock: VirtualClockLoop, waits: bool) -> None:
    """The message comes right after `run(ctx=)`, so that it is there before the stop button is asked for again."""
    workflow = Chat(timeout=None)
    workflow.waits_for_loser = waits
    handler = workflow.run()
    await asyncio.sleep(1)
    handler = await resumed(handler, workflow)
    await handler.send_event(Reply(text="hello"))
    await asyncio.sleep(2.5 if waits else 0.5)
    await handler.send_event(Stop())
    assert await asyncio.wait_for(handler, 60) == ["hello"]


class Reminders(Workflow):
    """Asks for a name until it gets one, then for an age; what follows the name fails once."""

    own = False
    failures = 1

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(4)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        number = 0
        while True:
            question = Ask(prompt=f"name {number}")
            try:
                if self.own:
                    name = await ctx.wait_for_event(Reply, question, timeout=10)
                else:
                    async with asyncio.timeout(10):
                        name = await ctx.wait_for_event(Reply, question, waiter_id=f"name-{number}")
                break
            except TimeoutError:
                number += 1
        if ctx.retry_info().retry_number < self.failures:
            await asyncio.sleep(1)
            raise ConnectionError
        age = await ctx.wait_for_event(Reply, Ask(prompt="age"), waiter_id="age")
        return StopEvent(result=(name.text, age.text))


@pytest.fixture(params=[True, False])
def told_of_timers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the event loop tells which timers it has, as those of asyncio do."""
    if not request.param:
        monkeypatch.setattr(deadlines, "SCHEDULED", "what no loop has")


@pytest.mark.usefixtures("told_of_timers")
@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize("own", [True, False])
async def test_reminders_that_had_no_answer_take_none_in_a_retry(
    clock: VirtualClockLoop, own: bool, failures: int
) -> None:
    workflow = Reminders(timeout=None)
    workflow.own, workflow.failures = own, failures
    handler = workflow.run()
    await asyncio.sleep(25)
    await handler.send_event(Reply(text="Ada"))
    await asyncio.sleep(5)
    await handler.send_event(Reply(text="36"))
    assert await handler == ("Ada", "36")
    asked = [event.prompt async for event in handler.stream_events(types=Ask)]
    assert asked == ["name 0", "name 1", "name 2", "age"]
    assert clock.time() == (max(30, 25 + 2 * failures) if own else 25 + 22 * failures)  # asyncio's timeouts pass anew


class Impatient(Workflow):
    """Fails for want of an answer."""

    wrapped = False

    @step(retry_policy=ONCE_MORE)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            event = await ctx.wait_for_event(Reply, Ask(prompt="name"), timeout=10)
        except TimeoutError as error:
            if self.wrapped:
                raise LookupError("nobody is there") from error
            raise
        return StopEvent(result=event.text)


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_wait_that_an_attempt_failed_for_is_open_in_the_next(clock: VirtualClockLoop, wrapped: bool) -> None:
    workflow = Impatient(timeout=None)
    workflow.wrapped = wrapped
    handler = workflow.run()
    await asyncio.sleep(15)
    await handler.send_event(Reply(text="Ada"))
    assert await handler == "Ada"
    assert clock.time() == 15


class Approval(Workflow):
    """Asks beside a job that fails once, and then whether to go on."""

    seconds: float | None = None
    grouped = True

    @step(retry_policy=ONCE_MORE)
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        retried = ctx.retry_info().retry_number

        async def job() -> None:
            asyncio.get_running_loop().call_later(5000, print, "a connection is closed")  # as pools of them do
            await asyncio.sleep(1 if retried else 600)
            if not retried:
                raise ConnectionError

        question = Ask(prompt="approve?")
        wait = ctx.wait_for_event(Reply, question, waiter_id="approval", timeout=self.seconds)
        try:
            if self.grouped:
                async with asyncio.TaskGroup() as group:
                    approval = group.create_task(wait)
                    group.create_task(job())
            else:
                over = asyncio.create_task(asyncio.sleep(0))
                await over
                tasks = [approval := asyncio.create_task(wait), asyncio.create_task(job()), over]
                await asyncio.wait(tasks, return_when="FIRST_EXCEPTION")
                approval.cancel()
                await tasks[1]
        except (ExceptionGroup, ConnectionError):
            await ctx.wait_for_event(Stop)
            raise
        return StopEvent(result=approval.result().text)


@pytest.mark.usefixtures("told_of_timers")
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("seconds", [None, 900, 600.5])
@pytest.mark.parametrize("moment", [603.5, 620])
@pytest.mark.parametrize("named", [True, False])
async def test_what_a_failure_gave_up_is_asked_again_as_soon_as_the_call_only_waits_for_it(
    clock: VirtualClockLoop, seconds: float | None, moment: float, named: bool, grouped: bool
) -> None:
    workflow = Approval(timeout=None)
    workflow.seconds, workflow.grouped = seconds, grouped
    handler = workflow.run()
    await asyncio.sleep(602)
    await handler.send_event(Stop())
    await asyncio.sleep(moment - 602)
    await handler.send_event(Reply(text="yes"), wait_id="approval" if named else None)
    assert await handler == "yes"
    assert clock.time() == max(moment, 604)
    asked = [event async for event in handler.stream_events(types=Ask)]
    assert len(asked) == (1 if named and moment < 604 else 2)  # who has answered need not be asked


class Twice(Workflow):
    """Waits ten seconds in vain, asks, and fails; after that it may wait once more."""

    waits_again = True

    @step(retry_policy=ONCE_MORE)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await ctx.wait_for_event(Reply, waiter_id="first")
        await ctx.wait_for_event(Stop)
        if not ctx.retry_info().retry_number:
            raise ConnectionError
        if not self.waits_again:
            return StopEvent(result="none")
        event = await ctx.wait_for_event(Reply, waiter_id="second")
        return StopEvent(result=event.text)


@pytest.mark.parametrize("waits_again", [True, False])
@pytest.mark.parametrize("suspended", [True, False])
async def test_an_event_is_said_to_be_for_nobody_once_that_is_so(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, waits_again: bool, suspended: bool
) -> None:
    workflow = Twice(timeout=None)
    workflow.waits_again = waits_again
    handler = workflow.run()
    unhandled = asyncio.create_task(_unhandled(handler))
    await asyncio.sleep(11)
    await handler.send_event(Stop())
    await asyncio.sleep(4)  # in the second attempt's first wait, which takes nothing since it was given up before
    await handler.send_event(Reply(text="Ada"))
    await asyncio.sleep(1)
    assert "Reply" not in caplog.text
    if suspended:
        handler = await resumed(handler, workflow)
        unhandled = asyncio.create_task(_unhandled(handler))
    assert await handler == ("Ada" if waits_again else "none")
    assert await unhandled == (0 if waits_again else 1)
    assert ("Reply" in caplog.text) is not waits_again


async def _unhandled(handler: WorkflowHandler) -> int:
    return len([event async for event in handler.stream_events(expose_internal=True, types=UnhandledEvent)])


async def beside_a_clock(ctx: Context) -> Reply:
    wait = asyncio.create_task(ctx.wait_for_event(Reply, Ask(prompt="first"), waiter_id="first"))
    clock = asyncio.create_task(asyncio.sleep(10))
    clock.add_done_callback(lambda _: wait.cancel())
    with suppress(asyncio.CancelledError):
        return await wait
    raise TimeoutError


async def as_completed(ctx: Context) -> Reply:
    wait = asyncio.create_task(ctx.wait_for_event(Reply, Ask(prompt="first"), waiter_id="first"))
    try:
        return await next(iter(asyncio.as_completed([wait], timeout=10)))
    finally:
        wait.cancel()


async def shielded(ctx: Context) -> Reply:
    wait = asyncio.create_task(ctx.wait_for_event(Reply, Ask(prompt="first"), waiter_id="first"))
    try:
        return await asyncio.wait_for(asyncio.shield(wait), 10)
    finally:
        wait.cancel()


class GivesUp(Workflow):
    way: Callable[[Context], Awaitable[Reply]]

    @step(retry_policy=ONCE_MORE)
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        with suppress(TimeoutError):
            return StopEvent(result=await self.way(ctx))
        await ctx.wait_for_event(Stop)
        if not ctx.retry_info().retry_number:
            raise ConnectionError
        event = await ctx.wait_for_event(Reply, Ask(prompt="second"), waiter_id="second")
        return StopEvent(result=event.text)


async def within(ctx: Context) -> Reply:
    async with asyncio.timeout(10):
        return await ctx.wait_for_event(Reply, Ask(prompt="first"), waiter_id="first")


@pytest.mark.parametrize("way", [within, beside_a_clock, as_completed, shielded])
@pytest.mark.parametrize("late", [True, False])
async def test_what_anything_gave_up_after_some_time_stays_so(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, way: Callable[[Context], Awaitable[Reply]], late: bool
) -> None:
    workflow = GivesUp(timeout=None)
    workflow.way = way
    handler = workflow.run()
    await asyncio.sleep(11)
    await handler.send_event(Stop())
    await asyncio.sleep(3)  # in the second attempt's first wait
    for _ in range(2 * late):
        await handler.send_event(Reply(text="too late"), wait_id="first")
    await handler.send_event(Reply(text="Ada"))
    assert await handler == "Ada"
    assert ("is lost" in caplog.text) is late
    asked = [event.prompt async for event in handler.stream_events(types=Ask)]
    assert asked == ["first", "second"]


class Names(Workflow):
    """Asks in two steps, under one name; the first gives it up, in each attempt."""

    @step(retry_policy=ONCE_MORE)
    async def pay(self, ctx: Context, ev: StartEvent) -> Paid:
        with suppress(TimeoutError):
            await within(ctx)
        await ctx.wait_for_event(Stop)
        if not ctx.retry_info().retry_number:
            raise ConnectionError
        return Paid()

    @step
    async def wipe(self, ctx: Context, ev: Paid) -> StopEvent:
        event = await ctx.wait_for_event(Reply, waiter_id="first")
        return StopEvent(result=event.text)


@pytest.mark.parametrize("suspended", [True, False])
async def test_a_late_answer_is_for_no_other_step(clock: VirtualClockLoop, suspended: bool) -> None:
    workflow = Names(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(11)
    await handler.send_event(Stop())
    await asyncio.sleep(3)
    for _ in range(2):
        await handler.send_event(Reply(text="yes, pay"), wait_id="first")
    if suspended:
        await asyncio.sleep(0)
        handler = await resumed(handler, workflow)
    await asyncio.sleep(20)
    await handler.send_event(Reply(text="no, do not wipe"), wait_id="first")
    assert await handler == "no, do not wipe"
