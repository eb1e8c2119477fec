"""An attempt that fails, or whose run stops, while it waits: what was answered is not lost, and nothing hangs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable

import pytest

from tests.engine.flows import A, Ask, B, Reply
from tests.engine.tick_log import TickLog
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def gone_on(workflow: Workflow, handler: WorkflowHandler) -> WorkflowHandler:
    saved = json.loads(json.dumps(await handler.suspend()))
    return workflow.run(ctx=Context.from_dict(workflow, saved))


async def asked(ctx: Context, name: str) -> str:
    answer = await ctx.wait_for_event(
        Reply, waiter_event=Ask(prompt=name), waiter_id=name, requirements={"text": name}, timeout=None
    )
    return answer.text


class Unlucky(Workflow):
    """Asks two things, one after the other, for at most an hour; beside that something fails in the first attempts."""

    def __init__(self, fails_in: int) -> None:
        super().__init__(timeout=None)
        self.fails_in = fails_in

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(4)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def both() -> list[str]:
            return [await asked(ctx, "first"), await asked(ctx, "second")]

        async def fail() -> None:
            if ctx.retry_info().retry_number == 0:
                await asyncio.sleep(600)
            elif ctx.retry_info().retry_number == 1:
                await turns(self.fails_in)
                raise ConnectionError("the model is busy")

        async def in_time(talk: Awaitable[list[str]]) -> list[str]:
            tasks = [asyncio.ensure_future(talk), asyncio.create_task(asyncio.sleep(3600))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks[1].cancel()
            return tasks[0].result()

        if ctx.retry_info().retry_number == 0 and await ctx.store.get("begun", default=False):
            raise ConnectionError("the model is away")
        await ctx.store.set("begun", True)
        zero = await asked(ctx, "zero")
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(asked(ctx, "other"))
            talk = tasks.create_task(in_time(both()))
            tasks.create_task(fail())
        return StopEvent(result=[zero, other.result(), *talk.result()])


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("fails_in", range(0, 15, 2))
async def test_an_answer_that_comes_back_in_a_failing_attempt_is_not_held(
    clock: VirtualClockLoop, fails_in: int, by_id: bool
) -> None:
    handler = Unlucky(fails_in).run()
    for name in ("zero", "first"):
        await asyncio.sleep(1)
        await handler.send_event(Reply(text=name), wait_id=name if by_id else None)
    await asyncio.sleep(1)
    handler = await gone_on(Unlucky(fails_in), handler)
    began = clock.time()
    while not handler.is_done():
        await asyncio.sleep(1.5)
        for name in ("first", "second", "other"):
            await handler.send_event(Reply(text=name), wait_id=name if by_id else None)
    assert await handler == ["zero", "other", "first", "second"]
    assert clock.time() - began < 10


class AnsweredInTime(Workflow):
    """`asyncio.wait_for` of Python 3.11 swallows a cancellation that comes with the answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.wait_for(ctx.wait_for_event(Reply, timeout=None), 8)
        sleep = asyncio.create_task(asyncio.sleep(5))
        other = asyncio.create_task(ctx.wait_for_event(HumanResponseEvent, timeout=None))
        done, _ = await asyncio.wait([sleep, other], return_when=asyncio.FIRST_COMPLETED)
        other.cancel()
        return StopEvent(result=done == {sleep})


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("suspends", [False, True])
async def test_a_run_that_stops_as_an_answer_comes_goes_on_with_it(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, number: int, suspends: bool
) -> None:
    workflow = AnsweredInTime(timeout=60)
    handler = workflow.run()
    await asyncio.sleep(1)
    handler.ctx.send_event(Reply())
    await turns(number)
    if suspends:
        handler = await gone_on(workflow, handler)
    else:
        await handler.cancel_run()
        handler = workflow.run(ctx=handler.ctx)
    assert await handler is True
    assert "never retrieved" not in caplog.text


class Beside(Workflow):
    """Asks a person beside a call that fails at first."""

    @step(retry_policy=retry_policy(wait=wait_fixed(60), stop=stop_after_attempt(3)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def call() -> None:
            await asyncio.sleep(1)
            if ctx.retry_info().retry_number == 0:
                raise ConnectionError("the model is busy")

        if ev.group:
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(asked(ctx, "yes"))
                tasks.create_task(call())
            return StopEvent(result=answer.result())
        return StopEvent(result=(await asyncio.gather(asked(ctx, "yes"), call()))[0])


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
async def test_an_answer_between_two_attempts_is_for_the_next(
    clock: VirtualClockLoop, by_id: bool, group: bool, resumed: bool
) -> None:
    handler = Beside(timeout=600).run(group=group)
    await asyncio.sleep(5)
    if resumed:
        handler = await gone_on(Beside(timeout=600), handler)
    await handler.send_event(Reply(text="yes"), wait_id="yes" if by_id else None)
    assert await handler == "yes"


async def test_a_second_answer_between_two_attempts_is_for_nobody(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Beside(timeout=600).run(group=True)
    await asyncio.sleep(5)
    for _ in range(2):
        await handler.send_event(Reply(text="yes"), wait_id="yes")
    assert caplog.text.count("the event is lost") == 1
    assert await handler == "yes"


class Listens(Workflow):
    """A step begins to listen for a button, and leaves that to nobody."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> B:
        self.listener = asyncio.create_task(ctx.wait_for_event(HumanResponseEvent, waiter_id="button", timeout=None))
        await asyncio.sleep(1)
        if ev.cancels:
            self.listener.cancel()
        return B()

    @step
    async def end(self, ev: B) -> StopEvent:
        return StopEvent()


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_wait_that_a_step_leaves_behind_is_told(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, cancels: bool
) -> None:
    workflow = Listens()
    with caplog.at_level(logging.WARNING):
        await workflow.run(cancels=cancels)
    assert workflow.listener.cancelled()
    told = "step begin has ended while tasks that it began wait for events (button): their waits are cancelled."
    assert [record.getMessage().startswith(told) for record in caplog.records] == ([] if cancels else [True])


class Dictating(Workflow):
    """A task has the microphone while it listens for words; then somebody is asked, and it takes a while."""

    microphone = asyncio.Lock()

    @step
    async def dictate(self, ctx: Context, ev: StartEvent) -> StopEvent:
        words: list[str] = []

        async def listen() -> None:
            async with self.microphone:
                while len(words) < 3:
                    words.append((await ctx.wait_for_event(Reply, waiter_id=f"word {len(words)}", timeout=None)).text)

        listener = asyncio.create_task(listen())
        await asyncio.sleep(ev.before)
        await ctx.wait_for_event(HumanResponseEvent, waiter_id="begin", timeout=None)
        await asyncio.sleep(10)
        await listener
        return StopEvent(result=words)


@pytest.mark.parametrize("before", [0, 5])
@pytest.mark.parametrize("cuts", [0, 1, 2, 3])
async def test_a_task_whose_answers_are_held_ends_with_its_attempt(
    clock: VirtualClockLoop, cuts: int, before: int
) -> None:
    workflow = Dictating(timeout=None)
    workflow.microphone = asyncio.Lock()
    handler = workflow.run(before=before)
    await asyncio.sleep(before + 1)
    for event in (HumanResponseEvent(), Reply(text="a"), Reply(text="b")):
        await handler.send_event(event)
        await asyncio.sleep(1)
    for number in range(cuts):
        handler = await gone_on(workflow, handler)
        await asyncio.sleep(number)
    await handler.send_event(Reply(text="c"), wait_id="word 2")
    assert await handler == ["a", "b", "c"]
    await turns(5)
    assert (workflow.microphone.locked(), len(asyncio.all_tasks())) == (False, 1)


class Impatient(Workflow):
    """One worker. A call gives its question two seconds, the others work for three."""

    def __init__(self, how: str, runtime: TickLog) -> None:
        super().__init__(timeout=60, runtime=runtime)
        self.how = how

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(4)]

    @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def review(self, ctx: Context, ev: A) -> B:
        if ev.n:
            await asyncio.sleep(3)
            return B(n=ev.n)
        answer = asyncio.create_task(ctx.wait_for_event(Reply))
        done, _ = await asyncio.wait({answer}, timeout=2 if ctx.retry_info().retry_number == 0 else 20)
        answer.cancel()
        if not done and self.how == "fails" and ctx.retry_info().retry_number == 0:
            raise OSError("nobody")
        return B(n=100 if not done else 10)

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent(result=sum(event.n for event in events))


@pytest.mark.parametrize(("how", "first"), [("returns", 100), ("fails", 10)])
async def test_a_call_that_ends_while_it_queues_with_its_answer_queues_no_more(
    clock: VirtualClockLoop, how: str, first: int
) -> None:
    runtime = TickLog()
    handler = Impatient(how, runtime).run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="yes"))
    assert await handler == first + 1 + 2 + 3
    runtime.fold()  # which checks the workers at each tick
