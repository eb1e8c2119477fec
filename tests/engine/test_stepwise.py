"""A run by hand: each step runs when asked, and its events go where the caller sends them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from workflows import Context, Workflow, catch_error, step
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event, HumanResponseEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


class Next(Event):
    n: int


class Part(Event):
    n: int


class Piece(Event):
    n: int


class Countdown(Workflow):
    @step
    async def start(self, ev: StartEvent) -> Next:
        return Next(n=ev.n)

    @step
    async def count(self, ev: Next) -> Next | StopEvent:
        if ev.n < 0:
            raise ValueError("below zero")
        return Next(n=ev.n - 1) if ev.n else StopEvent(result="done")


async def test_each_step_runs_when_asked() -> None:
    handler = Countdown().run(n=2, stepwise=True)
    seen: list[int] = []
    while produced := await handler.run_step():
        for event in produced:
            seen.append(event.n)
            handler.ctx.send_event(event)
    assert seen == [2, 1, 0]
    assert await handler == "done"


async def test_a_failure_is_raised_by_the_step() -> None:
    handler = Countdown().run(n=-1, stepwise=True)
    for event in await handler.run_step() or []:
        handler.ctx.send_event(event)
    with pytest.raises(ValueError, match="below zero"):
        await handler.run_step()


async def test_an_ordinary_run_has_no_steps_to_run() -> None:
    handler = Countdown().run(n=0)
    with pytest.raises(ValueError, match="stepwise=True"):
        await handler.run_step()
    await handler


async def test_a_workflow_that_asks_people_is_refused() -> None:
    class Asks(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

        @step
        async def two(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError, match="not supported with stepwise"):
        Asks().run(stepwise=True)


async def test_a_handled_failure_goes_to_its_handler_in_the_same_step() -> None:
    class Mended(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            raise ValueError("broken")

        @catch_error
        async def mend(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=str(ev.exception))

    handler = Mended().run(stepwise=True)
    assert await handler.run_step() is None
    assert await handler == "broken"


class Sends(Workflow):
    """A fan-out by `send_event`: its first step returns nothing."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        for n in range(3):
            ctx.send_event(Part(n=n))

    @step
    async def work(self, ev: Part) -> Piece:
        return Piece(n=ev.n * 10)

    @step
    async def join(self, ctx: Context, ev: Piece) -> StopEvent | None:
        found = ctx.collect_events(ev, [Piece] * 3)
        return None if found is None else StopEvent(result=sorted(e.n for e in found))


class Empty(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return []

    @step
    async def work(self, ev: Part) -> Piece:
        return Piece(n=ev.n)

    @step
    async def join(self, evs: list[Piece]) -> StopEvent:
        return StopEvent(result=len(evs))


@pytest.mark.parametrize(("flow", "result"), [(Sends, [0, 10, 20]), (Empty, 0)])
async def test_a_step_that_returns_nothing_is_not_taken_for_the_end(flow: type[Workflow], result: object) -> None:
    handler = flow().run(stepwise=True)
    while produced := await handler.run_step():
        for event in produced:
            handler.ctx.send_event(event)
    assert await handler == result


class SendsLater(Sends):
    """Its first step leaves a task behind, which sends later; another one never sends anything."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        async def later() -> None:
            await asyncio.sleep(0.5)
            for n in range(3):
                ctx.send_event(Part(n=n))

        self.left = [asyncio.create_task(later()), asyncio.create_task(asyncio.sleep(0.2))]


async def test_a_task_that_a_step_left_behind_may_send_what_the_next_step_takes(clock: VirtualClockLoop) -> None:
    assert await _by_hand(SendsLater().run(stepwise=True)) == [0, 10, 20]


class SendsMuchLater(SendsLater):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        async def later() -> None:
            await asyncio.sleep(30)
            for n in range(3):
                ctx.send_event(Part(n=n))

        self.left = [asyncio.create_task(later())]


@pytest.mark.parametrize("before", [0, 60])
async def test_what_comes_after_the_last_step_goes_on_where_the_end_is_awaited(
    clock: VirtualClockLoop, before: float
) -> None:
    handler = SendsMuchLater(timeout=120).run(stepwise=True)
    assert await handler.run_step() == []
    await asyncio.sleep(before)
    assert await handler == [0, 10, 20]


async def test_a_step_after_the_last_one_takes_what_came_by_hand_again(clock: VirtualClockLoop) -> None:
    handler = SendsMuchLater(timeout=120).run(stepwise=True)
    assert await handler.run_step() == []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler, 1)
    await asyncio.sleep(60)
    assert [type(event) for event in await handler.run_step() or []] == [Piece] * 3
    await handler.cancel_run()


async def test_a_task_that_a_step_left_behind_and_that_sends_nothing_ends_the_last_step(
    clock: VirtualClockLoop,
) -> None:
    class Leaves(Workflow):
        @step
        async def one(self, ev: StartEvent) -> StopEvent | None:
            self.left = asyncio.create_task(asyncio.sleep(0.5))

    handler = Leaves(timeout=60).run(stepwise=True)
    assert await handler.run_step() == []
    assert clock.time() == pytest.approx(0.5)
    await handler.cancel_run()


class Wide(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(n=n) for n in range(3)]

    @step
    async def work(self, ev: Part) -> Piece:
        return Piece(n=ev.n * 10)

    @step
    async def join(self, evs: list[Piece]) -> StopEvent:
        return StopEvent(result=sorted(e.n for e in evs))


async def _by_hand(handler: WorkflowHandler) -> Any:
    while produced := await handler.run_step():
        for event in produced:
            handler.ctx.send_event(event)
    return await handler


async def test_events_sent_on_stay_in_their_fan_out() -> None:
    assert await _by_hand(Wide().run(stepwise=True)) == [0, 10, 20]


async def test_what_a_step_handed_over_is_handed_over_again_after_a_snapshot() -> None:
    handler = Wide().run(stepwise=True)
    first = await handler.run_step() or []
    handler.ctx.send_event(first[0])
    snapshot = json.loads(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    workflow = Wide()
    again = workflow.run(ctx=Context.from_dict(workflow, snapshot), stepwise=True)
    produced = await again.run_step() or []
    assert sorted((type(e).__name__, e.n) for e in produced) == [("Part", 1), ("Part", 2), ("Piece", 0)]
    for event in produced:
        again.ctx.send_event(event)
    assert await _by_hand(again) == [0, 10, 20]


async def test_a_run_by_hand_may_go_on_by_itself() -> None:
    handler = Wide().run(stepwise=True)
    await handler.run_step()
    workflow = Wide()
    ctx = Context.from_dict(workflow, handler.ctx.to_dict())
    await handler.cancel_run()
    assert await workflow.run(ctx=ctx) == [0, 10, 20]


async def test_what_the_caller_sends_on_itself_is_not_handed_over_again() -> None:
    workflow = Wide()
    handler = workflow.run(stepwise=True)
    produced = await handler.run_step() or []
    await handler.cancel_run()
    again = workflow.run(ctx=handler.ctx, stepwise=True)
    for event in produced:
        again.ctx.send_event(event)
    assert await _by_hand(again) == [0, 10, 20]


class Crowded(Workflow):
    """One worker for three calls, and the first of them gives it back for a while."""

    @step
    async def start(self, ev: StartEvent) -> list[Part]:
        return [Part(n=n) for n in range(3)]

    @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def work(self, ctx: Context, ev: Part) -> Piece:
        if ev.n == 0 and ctx.retry_info().retry_number == 0:
            raise ValueError("once")
        if ev.n == 1:
            with suppress(TimeoutError):
                await ctx.wait_for_event(Next, timeout=1)
        return Piece(n=ev.n)

    @step
    async def end(self, evs: list[Piece]) -> StopEvent:
        return StopEvent(result=[ev.n for ev in evs])


async def test_a_call_that_gave_its_worker_back_gets_one_within_its_step(clock: VirtualClockLoop) -> None:
    handler = Crowded(timeout=60).run(stepwise=True)
    while (produced := await handler.run_step()) is not None:
        for event in produced:
            handler.ctx.send_event(event)
    assert sorted(await handler) == [0, 1, 2]


async def test_a_task_that_never_ends_does_not_hold_a_step(clock: VirtualClockLoop) -> None:
    class Connected(Workflow):
        @step
        async def connect(self, ev: StartEvent) -> Next | None:
            self.connection = asyncio.create_task(asyncio.Event().wait())
            return None

        @step
        async def end(self, ev: Next) -> StopEvent:
            return StopEvent(result="done")

    workflow = Connected(timeout=600)
    handler = workflow.run(stepwise=True)
    assert await handler.run_step() == []
    assert clock.time() < 5
    handler.ctx.send_event(Next(n=1))
    await handler.run_step()
    assert await handler == "done"
    workflow.connection.cancel()
