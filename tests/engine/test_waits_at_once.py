"""Waits that are open at once, in one step or in several: each gets its own answer, also when it begins anew."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import pytest

from tests.engine.flows import A, Ask, B
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


class Name(HumanResponseEvent):
    value: str


class Age(HumanResponseEvent):
    value: str


class Said(HumanResponseEvent):
    about: str
    value: str


class Two(Workflow):
    """Two questions at once, each after a call that takes its time; they differ in what they take."""

    delays: ClassVar[dict[str, float]] = {}

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def answer(kind: type[Name | Age]) -> str:
            await asyncio.sleep(self.delays[kind.__name__])
            return (await ctx.wait_for_event(kind)).value

        return StopEvent(result=await asyncio.gather(answer(Name), answer(Age)))


class TwoOfAKind(Workflow):
    """As `Two`, but both answers are of one class, and a failure comes after them."""

    delays: ClassVar[dict[str, float]] = {}

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def answer(about: str) -> str:
            await asyncio.sleep(self.delays[about])
            return (await ctx.wait_for_event(Said, requirements={"about": about})).value

        both = await asyncio.gather(answer("name"), answer("age"))
        if ev.get("fails") and ctx.retry_info().retry_number == 0:
            self.delays.update(name=3, age=1)
            raise ConnectionError("after both were answered")
        return StopEvent(result=both)


@pytest.mark.parametrize("reordered", [False, True])
async def test_answers_find_their_waits_in_a_resumed_run(clock: VirtualClockLoop, reordered: bool) -> None:
    workflow = Two()
    Two.delays.update(Name=1, Age=3)
    handler = workflow.run()
    await asyncio.sleep(5)
    await handler.send_event(Name(value="Ada"))
    snapshot = json.loads(json.dumps(await handler.suspend()))
    if reordered:
        Two.delays.update(Name=3, Age=1)
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(5)
    await again.send_event(Age(value="36"))
    assert await again == ["Ada", "36"]


async def test_answers_find_their_waits_by_requirements_in_a_resumed_run(clock: VirtualClockLoop) -> None:
    workflow = TwoOfAKind()
    TwoOfAKind.delays.update(name=1, age=3)
    handler = workflow.run()
    await asyncio.sleep(5)
    await handler.send_event(Said(about="name", value="Ada"))
    snapshot = json.loads(json.dumps(await handler.suspend()))
    TwoOfAKind.delays.update(name=3, age=1)
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(5)
    await again.send_event(Said(about="age", value="36"))
    assert await again == ["Ada", "36"]


async def test_a_retry_gives_each_wait_the_answer_that_it_had(clock: VirtualClockLoop) -> None:
    TwoOfAKind.delays.update(name=1, age=3)
    handler = TwoOfAKind().run(fails=True)
    await asyncio.sleep(5)
    await handler.send_event(Said(about="name", value="Ada"))
    await handler.send_event(Said(about="age", value="36"))
    assert await handler == ["Ada", "36"]


async def test_the_id_of_a_wait_does_not_say_what_it_requires(clock: VirtualClockLoop) -> None:
    TwoOfAKind.delays.update(name=0, age=0)
    handler = TwoOfAKind().run()
    await asyncio.sleep(1)
    ids = [wait["id"] for wait in handler.ctx.to_dict()["telemetry"]["waits"]]
    await handler.cancel_run()
    assert len(set(ids)) == 2
    assert not any("name" in i or "age" in i for i in ids)


class Sure(Workflow):
    """Each branch asks under one `waiter_id`, as a tool does whose question is the id."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=1), A(n=2)]

    @step
    async def ask(self, ctx: Context, ev: A) -> B:
        said = await ctx.wait_for_event(Name, waiter_id="Are you sure?", waiter_event=Ask(n=ev.n))
        return B(n=ev.n * 10 + int(said.value))

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent(result=sorted(ev.n for ev in events))


async def test_two_calls_wait_under_one_waiter_id(clock: VirtualClockLoop) -> None:
    handler = Sure().run()
    await asyncio.sleep(1)
    await handler.send_event(Name(value="3"))
    assert await handler == [13, 23]


async def test_an_answer_by_id_reaches_one_of_two_calls_that_wait_under_it(clock: VirtualClockLoop) -> None:
    handler = Sure().run()
    await asyncio.sleep(1)
    first, second = (wait["id"] for wait in handler.ctx.to_dict()["telemetry"]["waits"])
    await handler.send_event(Name(value="4"), wait_id=second)
    await handler.send_event(Name(value="3"), wait_id=first)
    assert (first, await handler) == ("Are you sure?", [13, 24])


@pytest.mark.parametrize("answered", [1, 2])
async def test_two_calls_under_one_waiter_id_get_their_answers_after_a_resume(
    clock: VirtualClockLoop, answered: int
) -> None:
    workflow = Sure()
    handler = workflow.run()
    await asyncio.sleep(1)
    ids = [wait["id"] for wait in handler.ctx.to_dict()["telemetry"]["waits"]]
    await handler.send_event(Name(value=str(answered)), wait_id=ids[answered - 1])
    snapshot = json.loads(json.dumps(await handler.suspend()))
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(1)
    await again.send_event(Name(value="7"))
    assert await again == ([11, 27] if answered == 1 else [17, 22])
