"""A run that goes on with hundreds of calls begins them in some turns of the event loop, which is free in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.engine.flows import A, B, Reply
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event, InputRequiredEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.testing import VirtualClockLoop

pytestmark = pytest.mark.slow

MANY, ANSWERED = 150, 3
AT_ONCE = 60  # bodies of these begin in one turn, each of which had begun `ANSWERED` waits and one more


class Asking(Workflow):
    """Many calls, each of which asks several times; counts how many bodies begin, and in how many turns."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.begun: Counter[int] = Counter()
        self.most_in_a_turn = self._in_this_turn = 0

    def _begins(self, number: int) -> None:
        if not self._in_this_turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._in_this_turn += 1
        self.begun[number] += 1

    def _next_turn(self) -> None:
        self.most_in_a_turn = max(self.most_in_a_turn, self._in_this_turn)
        self._in_this_turn = 0

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(MANY)]

    @step(num_workers=MANY)
    async def ask(self, ctx: Context, ev: A) -> B:
        self._begins(ev.n)
        answers = [await ctx.wait_for_event(Reply, waiter_id=f"{ev.n} {i}") for i in range(ANSWERED + 1)]
        return B(n=int(answers[-1].text))

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent(result=sum(event.n for event in events))


async def answer(handler: WorkflowHandler, number: int) -> None:
    """Answer the wait of each call with this number."""
    for n in range(MANY):
        await handler.send_event(Reply(text=str(n)), wait_id=f"{n} {number}")
    await asyncio.sleep(1)


@pytest.fixture
async def snapshot(clock: VirtualClockLoop) -> dict[str, Any]:
    """Of a run whose calls all have some answers, and each wait for another one."""
    handler = Asking().run()
    await asyncio.sleep(1)
    for number in range(ANSWERED):
        await answer(handler, number)
    return await handler.suspend()


def resumed(snapshot: dict[str, Any]) -> tuple[Asking, WorkflowHandler]:
    workflow = Asking()
    return workflow, workflow.run(ctx=Context.from_dict(workflow, snapshot))


async def test_few_begin_in_one_turn(clock: VirtualClockLoop, snapshot: dict[str, Any]) -> None:
    workflow, handler = resumed(snapshot)
    await answer(handler, ANSWERED)

    assert await handler == sum(range(MANY))
    assert workflow.begun == dict.fromkeys(range(MANY), 1)
    assert workflow.most_in_a_turn < AT_ONCE


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_run_that_is_suspended_before_all_have_begun_goes_on_with_all(
    clock: VirtualClockLoop, snapshot: dict[str, Any], turns: int
) -> None:
    first, handler = resumed(snapshot)
    for _ in range(turns):
        await asyncio.sleep(0)
    again = await handler.suspend()
    await asyncio.sleep(1)
    assert first.begun.total() < MANY, "those that had not begun do not begin when it is over"

    second, handler = resumed(again)
    await asyncio.sleep(1)
    await answer(handler, ANSWERED)

    assert await handler == sum(range(MANY))
    assert second.begun == dict.fromkeys(range(MANY), 1)


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_an_answer_that_comes_before_its_call_begins_is_kept_for_it(
    clock: VirtualClockLoop, snapshot: dict[str, Any], turns: int
) -> None:
    _, handler = resumed(snapshot)
    for _ in range(turns):
        await asyncio.sleep(0)
    for n in reversed(range(MANY)):
        await handler.send_event(Reply(text=str(n)), wait_id=f"{n} {ANSWERED}")

    assert await handler == sum(range(MANY))


async def test_none_begins_when_the_run_is_over(clock: VirtualClockLoop, snapshot: dict[str, Any]) -> None:
    workflow, handler = resumed(snapshot)
    await asyncio.sleep(0)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    begun = workflow.begun.total()
    await asyncio.sleep(1)

    assert workflow.begun.total() == begun < MANY


class Visited(Event):
    n: int


class Page(Event):
    links: int


class Pages(Workflow):
    """Several calls return long lists at one time, for a step with a worker for each event of them."""

    @step
    async def seed(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3)]

    @step(num_workers=3)
    async def fetch(self, ev: A) -> list[B]:
        return [B(n=n) for n in range(MANY)]

    @step(num_workers=3 * MANY)
    async def visit(self, ctx: Context, ev: B) -> Visited:
        await ctx.wait_for_event(Reply)
        return Visited(n=ev.n)

    @step
    async def of_page(self, events: list[Visited]) -> Page:
        return Page(links=len(events))

    @step
    async def of_all(self, events: list[Page]) -> StopEvent:
        return StopEvent(result=[event.links for event in events])


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 6, 8, 12, 20])
async def test_none_is_lost_where_many_begin_for_several_reasons(clock: VirtualClockLoop, turns: int) -> None:
    handler = Pages(timeout=None).run()
    for _ in range(turns):
        await asyncio.sleep(0)
    workflow = Pages(timeout=None)
    handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="go"))
    assert await handler == [MANY] * 3


class Question(InputRequiredEvent):
    n: int


class Approvals(Asking):
    @step(num_workers=MANY)
    async def ask(self, ctx: Context, ev: A) -> B:
        await ctx.wait_for_event(Reply, waiter_event=Question(n=ev.n), waiter_id=str(ev.n))
        return B(n=1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 9])
async def test_a_run_that_goes_on_after_a_cancel_asks_what_no_call_had_come_to(
    clock: VirtualClockLoop, turns: int
) -> None:
    workflow = Approvals()
    handler = workflow.run()
    await asyncio.sleep(1)
    handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    for _ in range(turns):
        await asyncio.sleep(0)
    await handler.cancel_run()
    handler = workflow.run(ctx=handler.ctx)
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="yes"))
    asked = [event.n async for event in handler.stream_events() if isinstance(event, Question)]
    assert (await handler, sorted(asked)) == (MANY, list(range(MANY)))


class Commanded(Workflow):
    """Notes in which order its calls begin."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.order: list[int] = []

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(3 * MANY)]

    @step(num_workers=3 * MANY)
    async def work(self, ev: A) -> B:
        self.order.append(ev.n)
        await asyncio.sleep(1)
        return B(n=ev.n)

    @step
    async def command(self, ev: Reply) -> None:
        self.order.append(-1)

    @step
    async def join(self, events: list[B]) -> StopEvent:
        return StopEvent()


async def test_what_is_sent_to_a_run_that_goes_on_begins_behind_what_it_had(clock: VirtualClockLoop) -> None:
    handler = Commanded().run()
    await asyncio.sleep(0.5)
    workflow = Commanded()
    handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await handler.send_event(Reply(text="now"))
    await handler
    assert workflow.order == [*range(3 * MANY), -1]
