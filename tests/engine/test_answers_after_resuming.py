"""An event that comes right after a run goes on answers every wait that was open before, as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.engine.flows import A, Ask, B, Reply, Told
from workflows import Context, Workflow, step
from workflows.context import PickleSerializer
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import EventUnhandled, WaitResolved
from workflows.testing import RecordLog, VirtualClockLoop

MANY = 5


class Asking(Workflow):
    """Every branch waits for the same answer; two at a time are at work, and a wait takes no worker."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(MANY)]

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        answer = await ctx.wait_for_event(Reply, waiter_id=f"{ev.n}", waiter_event=Ask(n=ev.n))
        return Told(text=answer.text)

    @step
    async def join(self, events: list[Told]) -> StopEvent:
        return StopEvent(result=Counter(event.text for event in events))


async def snapshot(handler: WorkflowHandler) -> dict[str, Any]:
    return json.loads(json.dumps(await handler.suspend()))


def gone_on(workflow: Workflow, saved: dict[str, Any]) -> WorkflowHandler:
    return workflow.run(ctx=Context.from_dict(workflow, saved))


async def waiting(workflow: Workflow) -> dict[str, Any]:
    """The snapshot of a run in which all branches wait."""
    handler = workflow.run()
    await asyncio.sleep(1)
    return await snapshot(handler)


@pytest.mark.parametrize("turns", range(8))
async def test_one_answer_is_for_every_wait(clock: VirtualClockLoop, records: RecordLog, turns: int) -> None:
    handler = gone_on(Asking(timeout=9), await waiting(Asking()))
    for _ in range(turns):
        await asyncio.sleep(0)

    await handler.send_event(Reply(text="yes"))

    assert await handler == {"yes": MANY}
    assert len(records.of(WaitResolved)) == MANY
    assert not records.of(EventUnhandled)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("from_dict", [True, False])
async def test_so_it_is_where_a_cancelled_run_goes_on(clock: VirtualClockLoop, turns: int, from_dict: bool) -> None:
    workflow = Asking(timeout=9)
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.cancel_run()
    context = Context.from_dict(workflow, handler.ctx.to_dict()) if from_dict else handler.ctx
    handler = workflow.run(ctx=context)
    for _ in range(turns):
        await asyncio.sleep(0)

    await handler.send_event(Reply(text="yes"))

    assert await handler == {"yes": MANY}


@pytest.mark.parametrize("turns", range(4))
async def test_a_run_that_is_suspended_again_meanwhile_keeps_the_answer(clock: VirtualClockLoop, turns: int) -> None:
    handler = gone_on(Asking(), await waiting(Asking()))
    await handler.send_event(Reply(text="yes"))
    for _ in range(turns):
        await asyncio.sleep(0)

    assert await gone_on(Asking(timeout=9), await snapshot(handler)) == {"yes": MANY}


async def test_a_second_answer_is_for_nobody(clock: VirtualClockLoop, records: RecordLog) -> None:
    handler = gone_on(Asking(), await waiting(Asking()))

    await handler.send_event(Reply(text="first"))
    await handler.send_event(Reply(text="second"))

    assert await handler == {"first": MANY}
    assert len(records.of(EventUnhandled)) == 1


class Both(Asking):
    """Every branch has two waits open."""

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        both = [ctx.wait_for_event(Reply, waiter_id=f"{ev.n} {which}") for which in ("one", "other")]
        return Told(text=" ".join(sorted([answer.text for answer in await asyncio.gather(*both)])))


async def test_of_two_waits_in_one_step_each_takes_an_answer_of_its_own(clock: VirtualClockLoop) -> None:
    handler = gone_on(Both(timeout=9), await waiting(Both()))

    await handler.send_event(Reply(text="a"))
    await handler.send_event(Reply(text="b"))

    assert await handler == {"a b": MANY}


class Twice(Asking):
    """Every branch waits for a second answer when it has the first one."""

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        first = await ctx.wait_for_event(Reply, waiter_id=f"first {ev.n}")
        second = await ctx.wait_for_event(Reply, waiter_id=f"second {ev.n}")
        return Told(text=f"{first.text} {second.text}")


async def test_a_wait_that_was_not_open_before_takes_none_of_them_again(clock: VirtualClockLoop) -> None:
    handler = gone_on(Twice(timeout=9), await waiting(Twice()))

    await handler.send_event(Reply(text="a"))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="b"))

    assert await handler == {"a b": MANY}


class Answering(Asking):
    """Another step is at work at the snapshot, and sends the answer as soon as it is done again."""

    snapshots = 0

    @step
    async def start(self, ev: StartEvent) -> list[A | B]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [B(), *(A(n=i) for i in range(MANY))]

    @step
    async def answer(self, ctx: Context, ev: B) -> None:
        if not self.snapshots:
            await asyncio.sleep(60)
        ctx.send_event(Reply(text="of a step"))


async def test_an_answer_that_a_step_sends_is_for_every_wait(clock: VirtualClockLoop) -> None:
    saved = await waiting(Answering())
    workflow = Answering(timeout=9)
    workflow.snapshots = 1
    assert await gone_on(workflow, saved) == {"of a step": MANY}


class Chat(Workflow):
    """Asks again and again for one class of answers; the first time after some work."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.get("work", 0))
        said = [(await ctx.wait_for_event(Reply, waiter_id=f"{n}")).text for n in range(3)]
        return StopEvent(result=said)


@pytest.mark.parametrize("turns", range(5))
async def test_an_answer_is_taken_once_though_the_run_is_suspended_in_the_same_turn(
    clock: VirtualClockLoop, turns: int
) -> None:
    handler = gone_on(Chat(), await waiting(Chat()))
    await handler.send_event(Reply(text="first"))
    for _ in range(turns):
        await asyncio.sleep(0)

    handler = gone_on(Chat(timeout=9), await snapshot(handler))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="second"))
    await handler.send_event(Reply(text="third"))

    assert await handler == ["first", "second", "third"]


class ChatAndBranches(Asking):
    """A chat that works, beside branches that wait for somebody else's answer."""

    work = 3.0

    @step
    async def start(self, ev: StartEvent) -> list[A | B]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [B(), *(A(n=i) for i in range(MANY))]

    @step
    async def chat(self, ctx: Context, ev: B) -> Told:
        await asyncio.sleep(self.work)
        said = [(await ctx.wait_for_event(Reply, requirements={"n": 1})).text for _ in range(2)]
        return Told(text=" ".join(said))

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        await asyncio.sleep(0.5)
        answer = await ctx.wait_for_event(Reply, waiter_id=f"{ev.n}", requirements={"n": 0})
        return Told(text=answer.text)


async def test_what_was_kept_before_comes_before_what_came_since(clock: VirtualClockLoop) -> None:
    handler = ChatAndBranches().run()
    await asyncio.sleep(2)
    await handler.send_event(Reply(n=1, text="before"))

    workflow = ChatAndBranches(timeout=9)
    workflow.work = 0.1  # so it waits before the branches do so again
    handler = gone_on(workflow, await snapshot(handler))
    await handler.send_event(Reply(n=1, text="since"))
    await handler.send_event(Reply(n=0, text="yes"))

    assert await handler == {"before since": 1, "yes": MANY}


class NewIds(Asking):
    """Its waits have other ids each time: those of an LLM's tool calls, say."""

    asked = 0

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        type(self).asked += 1
        answer = await ctx.wait_for_event(Reply, waiter_id=f"call {self.asked}")
        return Told(text=answer.text)


@pytest.mark.parametrize("turns", [0, 2, 50])
async def test_a_wait_that_has_another_id_now_gets_the_answer(clock: VirtualClockLoop, turns: int) -> None:
    handler = gone_on(NewIds(timeout=9), await waiting(NewIds()))
    for _ in range(turns):
        await asyncio.sleep(0)

    await handler.send_event(Reply(text="yes"))

    assert await handler == {"yes": MANY}


class Unlike:
    """Cannot be written."""

    def __reduce__(self) -> str:
        raise RuntimeError("never")


async def test_a_requirement_that_cannot_be_written_stops_no_snapshot(clock: VirtualClockLoop) -> None:
    class Requiring(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Reply, requirements={"text": Unlike()})
            return StopEvent()

    handler = Requiring().run()
    await asyncio.sleep(1)
    assert handler.ctx.to_dict(serializer=PickleSerializer())
    await handler.cancel_run()


class InOrder(Workflow):
    """Waits for three answers at once, under names that do not sort in their order."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.1)
        waits = [ctx.wait_for_event(Reply, waiter_id=name) for name in ("zeta", "beta", "alpha")]
        return StopEvent(result=[answer.text for answer in await asyncio.gather(*waits)])


async def test_answers_are_given_in_order_though_the_snapshot_was_sorted(clock: VirtualClockLoop) -> None:
    saved = json.loads(json.dumps(await waiting(InOrder()), sort_keys=True))  # as a database may give it back
    handler = gone_on(InOrder(timeout=9), saved)
    for text in "123":
        await handler.send_event(Reply(text=text))

    assert await handler == ["1", "2", "3"]


class SharedName(Workflow):
    """Two calls wait one after the other under the same name."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=0), A(n=1)]

    @step(num_workers=2)
    async def ask(self, ctx: Context, ev: A) -> Told:
        await asyncio.sleep(0.1 if ev.n else 0.2)
        return Told(text=(await ctx.wait_for_event(Reply, waiter_id="q")).text)

    @step
    async def join(self, events: list[Told]) -> StopEvent:
        return StopEvent(result=[event.text for event in events])


async def test_calls_that_wait_under_one_name_all_get_it(clock: VirtualClockLoop) -> None:
    handler = gone_on(SharedName(timeout=9), await waiting(SharedName()))
    await asyncio.sleep(0.15)
    await handler.send_event(Reply(text="yes"))
    assert await handler == ["yes", "yes"]


class OutOfTurn(Workflow):
    """Comes to its waits as late as it is told to."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def answer(name: str, after: float) -> str:
            await asyncio.sleep(after)
            return (await ctx.wait_for_event(Reply, waiter_id=name)).text

        return StopEvent(result=await asyncio.gather(*map(answer, "abc", self.delays)))

    def __init__(self, *delays: float, timeout: float | None = 45) -> None:
        super().__init__(timeout=timeout)
        self.delays = delays


async def test_answers_are_given_in_order_though_only_the_last_wait_had_begun_again(clock: VirtualClockLoop) -> None:
    saved = await waiting(OutOfTurn(0.1, 0.2, 0.3))
    handler = gone_on(OutOfTurn(5, 5, 0), saved)
    await asyncio.sleep(1)
    handler = gone_on(OutOfTurn(1, 1, 1, timeout=9), await snapshot(handler))
    for text in "123":
        await handler.send_event(Reply(text=text))

    assert await handler == ["1", "2", "3"]


class Reminding(Workflow):
    """Reminds a person who has not written for a second; the turns have ids of their own, or one, or none."""

    def __init__(self, ids: str) -> None:
        super().__init__(timeout=None)
        self.ids = ids

    @step
    async def chat(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said: list[str] = []
        while len(said) < 4:
            waiter_id = {"each": f"turn {len(said)}", "one": "turn", "none": None}[self.ids]
            try:
                asked = ctx.wait_for_event(Reply, waiter_event=Ask(n=len(said)), waiter_id=waiter_id, timeout=None)
                reply = await asyncio.wait_for(asked, 1)
            except TimeoutError:
                continue
            said.append(reply.text)
        return StopEvent(result=said)


@pytest.mark.parametrize("ids", ["each", "one", "none"])
async def test_messages_are_taken_in_order_while_a_step_goes_once_more_through_what_it_gave_up(
    clock: VirtualClockLoop, ids: str
) -> None:
    handler = Reminding(ids).run()
    await asyncio.sleep(1.3)  # a reminder
    await handler.send_event(Reply(text="1"))
    await asyncio.sleep(2.5)  # two more
    handler = gone_on(Reminding(ids), await snapshot(handler))
    for text in "234":
        await asyncio.sleep(0.3)
        await handler.send_event(Reply(text=text))
    assert await handler == ["1", "2", "3", "4"]


async def questions(handler: WorkflowHandler) -> list[int]:
    return [event.n async for event in handler.stream_events() if isinstance(event, Ask)]


@pytest.mark.parametrize("ids", ["each", "one", "none"])
async def test_what_is_open_in_a_later_round_is_not_asked_again(clock: VirtualClockLoop, ids: str) -> None:
    handler = Reminding(ids).run()
    before = asyncio.create_task(questions(handler))
    await asyncio.sleep(2.5)
    handler = gone_on(Reminding(ids), await snapshot(handler))
    after = asyncio.create_task(questions(handler))
    await asyncio.sleep(0.5)
    for text in "1234":
        await handler.send_event(Reply(text=text))
        await asyncio.sleep(0.1)
    assert await handler == ["1", "2", "3", "4"]
    assert (await before, await after) == ([0, 0, 0], [1, 2, 3])


class Command(HumanResponseEvent):
    text: str = ""


class EitherOf(Workflow):
    """A message or a command, whichever comes first; who says nothing for a second is asked again."""

    def __init__(self, ids: str, until: int = 4, kinds: Sequence[type[HumanResponseEvent]] = (Reply, Command)) -> None:
        super().__init__(timeout=None)
        self.ids, self.until, self.kinds = ids, until, kinds

    @step
    async def take(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said: list[str] = []
        while len(said) < self.until:
            names = {kind: {"each": f"{kind} {len(said)}", "one": f"{kind}", "none": None} for kind in self.kinds}
            waits = [
                asyncio.create_task(ctx.wait_for_event(kind, waiter_id=names[kind][self.ids], timeout=None))
                for kind in self.kinds
            ]
            done, pending = await asyncio.wait(waits, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()
            said += [wait.result().text for wait in waits if wait in done]
        return StopEvent(result=said)


@pytest.mark.parametrize("ids", ["each", "one", "none"])
@pytest.mark.parametrize("later", [0.1, 0.5, 1.5, 2.5])
async def test_a_round_that_nobody_answered_is_none_that_another_wait_won(
    clock: VirtualClockLoop, ids: str, later: float
) -> None:
    handler = EitherOf(ids).run()
    await asyncio.sleep(0.5)
    await handler.send_event(Reply(text="1"))
    await asyncio.sleep(3.2)
    await handler.send_event(Command(text="2"))
    await asyncio.sleep(0.1)
    handler = gone_on(EitherOf(ids), await snapshot(handler))
    for text in "34":
        await asyncio.sleep(later)
        await handler.send_event(Reply(text=text))
    assert await handler == ["1", "2", "3", "4"]


@pytest.mark.parametrize("ids", ["each", "one", "none"])
async def test_a_run_may_go_on_again_and_again(clock: VirtualClockLoop, ids: str) -> None:
    handler = EitherOf(ids).run()
    for event, goes_on, before, rest in (
        (Command(text="1"), False, 2.8, 0.05),
        (Command(text="2"), False, 0.3, 2.4),
        (Reply(text="3"), True, 0.3, 3.2),  # by when it was taken, and some seconds of silence more
        (Command(text="4"), True, 1.2, 20),
    ):
        if goes_on:
            handler = gone_on(EitherOf(ids), await snapshot(handler))
        await asyncio.sleep(before)
        await handler.send_event(event)
        await asyncio.sleep(rest)
    assert await handler == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kinds", [(Reply, Command), (Command, Reply)])
@pytest.mark.parametrize("ids", ["each", "one", "none"])
async def test_what_comes_between_two_resumes_is_taken_before_what_comes_after_both(
    clock: VirtualClockLoop, ids: str, kinds: Sequence[type[HumanResponseEvent]]
) -> None:
    handler = EitherOf(ids, 6, kinds).run()
    for event, before in (
        (Reply(text="1"), 0.5),
        (Command(text="2"), 3.2),
        (Reply(text="3"), 1.5),
        (None, 1.1),
        (Reply(text="4"), 0.3),
        (None, 0.766),
        (Command(text="5"), 2.534),
        (Command(text="6"), 1.4),
    ):
        await asyncio.sleep(before)
        if event is None:
            handler = gone_on(EitherOf(ids, 6, kinds), await snapshot(handler))
        else:
            await handler.send_event(event)
    assert await handler == ["1", "2", "3", "4", "5", "6"]
