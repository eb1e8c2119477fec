"""A step may give a wait up (a race, `asyncio.timeout`): what it was to get is not lost, now or after a resume."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.engine.flows import A, Ask, Reply, Told
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


class Message(HumanResponseEvent):
    text: str


class Finish(HumanResponseEvent):
    pass


class Chat(Workflow):
    """A message or the end, whatever comes first; the other wait of the round is given up."""

    @step
    async def chat(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said: list[str] = []
        while True:
            message = asyncio.ensure_future(ctx.wait_for_event(Message, timeout=None))
            finish = asyncio.ensure_future(ctx.wait_for_event(Finish, timeout=None))
            done, rest = await asyncio.wait({message, finish}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            if message in done:
                said.append(message.result().text)
            if finish in done:
                return StopEvent(result=said)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def suspended(handler: WorkflowHandler) -> dict[str, Any]:
    return json.loads(json.dumps(await handler.suspend(), sort_keys=True))


def gone_on(workflow: Workflow, saved: Mapping[str, Any]) -> WorkflowHandler:
    return workflow.run(ctx=Context.from_dict(workflow, saved))


@pytest.mark.parametrize("between", range(8))
async def test_a_wait_that_loses_a_race_gives_its_answer_to_the_next(clock: VirtualClockLoop, between: int) -> None:
    handler = Chat(timeout=60).run()
    await asyncio.sleep(1)

    await handler.send_event(Message(text="hello"))
    await turns(between)
    await handler.send_event(Finish())

    assert await handler == ["hello"]


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 50])
async def test_the_loser_of_an_earlier_round_takes_nothing_after_a_resume(
    clock: VirtualClockLoop, rounds: int, after: int
) -> None:
    handler = Chat(timeout=60).run()
    for number in range(rounds):
        await asyncio.sleep(1)
        await handler.send_event(Message(text=str(number)))
    await asyncio.sleep(1)

    handler = gone_on(Chat(timeout=60), await suspended(handler))
    await turns(after)
    await handler.send_event(Finish())

    assert await handler == [str(number) for number in range(rounds)]


@pytest.mark.parametrize("after", [0, 3, 50])
async def test_nor_does_it_after_several_resumes(clock: VirtualClockLoop, after: int) -> None:
    handler = Chat(timeout=60).run()
    await asyncio.sleep(1)
    handler = gone_on(Chat(timeout=60), await suspended(handler))
    await handler.send_event(Message(text="hello"))
    await asyncio.sleep(1)
    for _ in range(3):
        handler = gone_on(Chat(timeout=60), await suspended(handler))
        await turns(after)

    await handler.send_event(Finish())

    assert await handler == ["hello"]


class Listen(Event):
    pass


class Heard(Event):
    text: str


class Listening(Workflow):
    """A step for each round: it cancels the loser and returns, before that has heard of it."""

    @step
    async def listen(self, ctx: Context, ev: StartEvent | Listen) -> Heard | StopEvent:
        message = asyncio.ensure_future(ctx.wait_for_event(Message, timeout=None))
        finish = asyncio.ensure_future(ctx.wait_for_event(Finish, timeout=None))
        done, rest = await asyncio.wait({message, finish}, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return StopEvent(result="over") if finish in done else Heard(text=message.result().text)

    @step
    async def answer(self, ev: Heard) -> Listen:
        return Listen()


@pytest.mark.parametrize("between", range(9))
async def test_nor_is_it_lost_when_the_step_returns_at_once(clock: VirtualClockLoop, between: int) -> None:
    handler = Listening(timeout=60).run()
    await asyncio.sleep(1)

    await handler.send_event(Message(text="hello"))
    await turns(between)
    await handler.send_event(Finish())

    assert await handler == "over"


@pytest.mark.parametrize("after", [0, 1, 5, 50])
async def test_a_race_that_was_won_by_a_kept_event_is_one_as_well(clock: VirtualClockLoop, after: int) -> None:
    handler = Chat(timeout=60).run()
    await asyncio.sleep(1)
    for number in range(3):  # all but the first are there before their round begins
        await handler.send_event(Message(text=str(number)))
    await asyncio.sleep(1)

    handler = gone_on(Chat(timeout=60), await suspended(handler))
    await turns(after)
    await handler.send_event(Finish())

    assert await handler == ["0", "1", "2"]


class Impatient(Workflow):
    """Gives several waits up in the turn in which their answers come, and asks again."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        waits = [asyncio.ensure_future(ctx.wait_for_event(Message, timeout=None)) for _ in range(3)]
        await ctx.wait_for_event(Reply, timeout=None)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return StopEvent(result=[(await ctx.wait_for_event(Message, timeout=None)).text for _ in range(4)])


async def test_answers_of_several_come_again_in_their_order(clock: VirtualClockLoop) -> None:
    handler = Impatient(timeout=60).run()
    await asyncio.sleep(1)

    await handler.send_event(Reply())
    await turns(1)
    for number in range(4):
        await handler.send_event(Message(text=str(number)))

    assert await handler == ["0", "1", "2", "3"]


class Anonymous(Workflow):
    """Asks for a name, and goes on without it; then it asks for an age."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            async with asyncio.timeout(2):
                name = (await ctx.wait_for_event(Reply, waiter_id="name", timeout=None)).text
        except TimeoutError:
            name = "anonymous"
        age = (await ctx.wait_for_event(Reply, waiter_id="age", timeout=None)).text
        return StopEvent(result=[name, age])


@pytest.mark.parametrize("seconds", [0, 1, 3])
@pytest.mark.parametrize("by_id", [True, False])
async def test_the_first_of_two_questions_that_was_given_up_is_not_the_second(
    clock: VirtualClockLoop, seconds: int, by_id: bool
) -> None:
    handler = Anonymous(timeout=60).run()
    await asyncio.sleep(3)
    handler = gone_on(Anonymous(timeout=60), await suspended(handler))
    await asyncio.sleep(seconds)

    await handler.send_event(Reply(text="36"), wait_id="age" if by_id else None)

    assert await handler == ["anonymous", "36"]


class Confirming(Workflow):
    """A race that a message wins; after that (another attempt, a flag in the state) it waits for what lost, alone."""

    fails = False

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def chat(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if not await ctx.store.get("raced", default=False):
            message = asyncio.ensure_future(ctx.wait_for_event(Message, timeout=None))
            finish = asyncio.ensure_future(ctx.wait_for_event(Finish, timeout=None))
            await asyncio.wait({message, finish}, return_when=asyncio.FIRST_COMPLETED)
            finish.cancel()
            await asyncio.gather(finish, return_exceptions=True)
            await ctx.store.set("raced", True)
            if self.fails:
                raise ConnectionError
        await ctx.wait_for_event(Finish, timeout=None)
        return StopEvent(result="finished")


@pytest.mark.parametrize("fails", [True, False])
async def test_what_lost_a_race_may_be_awaited_alone_later(clock: VirtualClockLoop, fails: bool) -> None:
    workflow = Confirming(timeout=60)
    workflow.fails = fails
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Message(text="hello"))
    await asyncio.sleep(3)
    if not fails:
        handler = gone_on(Confirming(timeout=60), await suspended(handler))
        await asyncio.sleep(1)

    await handler.send_event(Finish())

    assert await handler == "finished"


class Skipping(Workflow):
    """Waits for a button beside its work, which it does only once: in a replay, the same names are other waits."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(2):
            button = asyncio.ensure_future(ctx.wait_for_event(Reply, timeout=None))
            if not await ctx.store.get(f"done {number}", default=False):
                await asyncio.wait({button}, timeout=0.5)
                await ctx.store.set(f"done {number}", True)
            button.cancel()
            await ctx.wait_for_event(Reply, timeout=None)
        return StopEvent(result="done")


async def test_a_wait_that_is_not_given_up_again_comes_to_life(clock: VirtualClockLoop) -> None:
    handler = Skipping(timeout=60).run()
    await asyncio.sleep(1)
    await handler.send_event(Reply())
    await asyncio.sleep(1)
    handler = gone_on(Skipping(timeout=60), await suspended(handler))

    for _ in range(2):
        await handler.send_event(Reply())
        await asyncio.sleep(3)

    assert await handler == "done"


async def test_a_beat_around_a_wait_leaves_nothing(clock: VirtualClockLoop) -> None:
    class Beating(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            while True:
                try:
                    async with asyncio.timeout(1):
                        return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)
                except TimeoutError:
                    continue

    handler = Beating(timeout=None).run()
    await asyncio.sleep(10.5)
    early = len(json.dumps(handler.ctx.to_dict()))
    await asyncio.sleep(990)
    late = len(json.dumps(handler.ctx.to_dict()))

    await handler.send_event(Reply(text="yes"))

    assert late < early + 20
    assert await handler == "yes"


class Leaving(Workflow):
    """Each round is a step, which gives its wait up after a moment."""

    @step
    async def listen(self, ctx: Context, ev: StartEvent | Heard) -> Heard | StopEvent:
        wait = asyncio.ensure_future(ctx.wait_for_event(Message, timeout=None))
        if isinstance(ev, Heard):
            return StopEvent(result=[(await wait).text, (await ctx.wait_for_event(Message, timeout=None)).text])
        await ctx.wait_for_event(Reply, timeout=None)
        wait.cancel()
        await asyncio.sleep(1)
        return Heard(text="")


async def test_what_the_run_kept_meanwhile_comes_behind_it(clock: VirtualClockLoop) -> None:
    handler = Leaving(timeout=60).run()
    await asyncio.sleep(1)

    await handler.send_event(Reply())
    await turns(1)
    await handler.send_event(Message(text="0"))
    await asyncio.sleep(0.5)
    await handler.send_event(Message(text="1"))

    assert await handler == ["0", "1"]


class Reminded(Workflow):
    """One worker; the answer comes while the other call holds it, and the timeout around the wait before it is free."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=0), A(n=1)]

    @step(num_workers=1)
    async def work(self, ctx: Context, ev: A) -> Told:
        if ev.n:
            await asyncio.sleep(10)
            return Told(text="worked")
        try:
            async with asyncio.timeout(5):
                await ctx.wait_for_event(Reply, timeout=None)
        except TimeoutError:
            pass
        return Told(text=(await ctx.wait_for_event(Reply, timeout=None)).text)

    @step
    async def join(self, told: list[Told]) -> StopEvent:
        return StopEvent(result={event.text for event in told})


async def test_an_answer_that_waits_for_a_worker_outlives_its_wait(clock: VirtualClockLoop) -> None:
    handler = Reminded(timeout=60).run()
    await asyncio.sleep(2)

    await handler.send_event(Reply(text="yes"))

    assert await handler == {"worked", "yes"}


class Branches(Workflow):
    """Each branch asks; a newer release of it asks for something else before."""

    asks_more = False

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3)]

    @step(num_workers=1)
    async def ask(self, ctx: Context, ev: A) -> Told:
        if self.asks_more:
            await ctx.wait_for_event(Finish, timeout=None)
        return Told(text=f"{ev.n}: {(await ctx.wait_for_event(Reply, timeout=None)).text}")

    @step
    async def join(self, told: list[Told]) -> StopEvent:
        return StopEvent(result=[event.text for event in told])


class Newer(Branches):
    asks_more = True


@pytest.mark.parametrize("suspensions", [0, 1, 2])
async def test_what_one_event_was_for_several_calls_it_stays(clock: VirtualClockLoop, suspensions: int) -> None:
    handler = Branches(timeout=60).run()
    await asyncio.sleep(1)
    handler = gone_on(Newer(timeout=60), await suspended(handler))

    await handler.send_event(Reply(text="yes"))
    for _ in range(suspensions):
        await asyncio.sleep(1)
        handler = gone_on(Newer(timeout=60), await suspended(handler))
    await asyncio.sleep(1)
    await handler.send_event(Finish())

    assert sorted(await handler) == ["0: yes", "1: yes", "2: yes"]


class Beside(Workflow):
    """Its body waits, and so does a task of it, which looks something up before."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def look_up() -> str:
            await asyncio.sleep(2)
            answer = await ctx.wait_for_event(Message, waiter_id="b", waiter_event=Ask(n=2), timeout=10)
            return answer.text

        second = asyncio.ensure_future(look_up())
        first = await ctx.wait_for_event(Reply, waiter_id="a", waiter_event=Ask(n=1), timeout=None)
        return StopEvent(result=[first.text, await second])


@pytest.mark.parametrize("seconds", [0, 1, 3])
@pytest.mark.parametrize("by_id", [True, False])
async def test_a_wait_beside_another_stays_open(clock: VirtualClockLoop, seconds: int, by_id: bool) -> None:
    handler = Beside(timeout=60).run()
    asked: list[int] = []
    async for event in handler.stream_events(types=Ask):
        asked.append(event.n)
        if len(asked) == 2:
            break
    saved = await suspended(handler)
    handler = gone_on(Beside(timeout=60), saved)
    await asyncio.sleep(seconds)

    await handler.send_event(Message(text="two"), wait_id="b" if by_id else None)
    await asyncio.sleep(3)
    await handler.send_event(Reply(text="one"), wait_id="a" if by_id else None)

    assert await handler == ["one", "two"]
    assert asked + [event.n async for event in handler.stream_events(types=Ask)] == [1, 2]


class Approval(HumanResponseEvent):
    item: Any
    text: str


class Approving(Workflow):
    """Two questions at once that differ in what they require alone; a replay may come to the second one first."""

    items: tuple[Any, Any] = (0, 1)
    name: str | None = None
    seconds = (0.0, 1.0)

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def approve(number: int) -> str:
            await asyncio.sleep(self.seconds[number])
            required = {"item": self.items[number]}
            return (await ctx.wait_for_event(Approval, waiter_id=self.name, requirements=required, timeout=None)).text

        return StopEvent(result=await asyncio.gather(approve(0), approve(1)))


IDS = (UUID(int=1), UUID(int=2))


@pytest.mark.parametrize(
    ("items", "name"), [(IDS, None), ((Decimal(1), Decimal(2)), None), (("a", "b"), "approval"), (IDS, "approval")]
)
@pytest.mark.parametrize("answered", [0, 1])
async def test_an_answer_is_for_the_wait_that_required_it(
    clock: VirtualClockLoop, items: tuple[Any, Any], name: str | None, answered: int
) -> None:
    def approving(first: float, second: float) -> Workflow:
        workflow = Approving(timeout=60)
        workflow.items, workflow.name, workflow.seconds = items, name, (first, second)
        return workflow

    handler = approving(0, 1).run()
    await asyncio.sleep(2)
    await handler.send_event(Approval(item=items[answered], text=str(answered)))
    await asyncio.sleep(1)
    handler = gone_on(approving(1, 0), await suspended(handler))
    await asyncio.sleep(2)

    await handler.send_event(Approval(item=items[1 - answered], text=str(1 - answered)))

    assert await handler == ["0", "1"]
