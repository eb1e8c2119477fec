"""What a step gave up it may await again: in the same body, in another attempt, in a replay that goes another way."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.engine.flows import A, Ask, Reply, Told
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


class Signed(HumanResponseEvent):
    by: str


class Documents(Workflow):
    """Asks for one document after another, by ids of its own; the first is given up."""

    ids: tuple[str, ...] = ()

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        told: list[str] = []
        for name in self.ids:
            try:
                async with asyncio.timeout(None if told else 1):
                    told.append((await ctx.wait_for_event(Reply, waiter_id=name, waiter_event=Ask())).text)
            except TimeoutError:
                told.append("given up")
        return StopEvent(result=told)


@pytest.mark.parametrize("ids", [("7", "3"), ("3", "7"), ("doc.7", "doc.3"), ("doc.3", "doc.7"), ("a", "a")])
@pytest.mark.parametrize("by_id", [True, False])
async def test_ids_may_end_in_numbers(clock: VirtualClockLoop, ids: tuple[str, ...], by_id: bool) -> None:
    workflow = Documents(timeout=60)
    workflow.ids = ids
    handler = workflow.run()
    await asyncio.sleep(2)
    (open_wait,) = handler.ctx.to_dict()["telemetry"]["waits"]

    await handler.send_event(Reply(text="ok"), wait_id=open_wait["id"] if by_id else None)

    assert await handler == ["given up", "ok"]
    assert len([event async for event in handler.stream_events(types=Ask)]) == 2


class Approvals(Workflow):
    """Needs both; what follows the first fails once."""

    seconds: float | None = None

    @step(retry_policy=retry_policy(wait=wait_fixed(0.1), stop=stop_after_attempt(2)))
    async def approve(self, ctx: Context, ev: StartEvent) -> StopEvent:
        signed: list[str] = []

        async def one(name: str) -> None:
            event = await ctx.wait_for_event(Signed, waiter_id=name, requirements={"by": name}, timeout=self.seconds)
            if name == "legal":
                await asyncio.sleep(1)
                if not ctx.retry_info().retry_number:
                    raise ConnectionError
            signed.append(event.by)

        async with asyncio.TaskGroup() as group:
            group.create_task(one("legal"))
            group.create_task(one("finance"))
            group.create_task(asyncio.sleep(3))
        return StopEvent(result=sorted(signed))


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("seconds", [None, 2000])
@pytest.mark.parametrize("later", [0.5, 5.0])
async def test_a_wait_that_a_failure_gave_up_is_open_in_the_next_attempt(
    clock: VirtualClockLoop, by_id: bool, seconds: float | None, later: float
) -> None:
    workflow = Approvals(timeout=None)
    workflow.seconds = seconds
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Signed(by="legal"))
    await asyncio.sleep(1.2 + later)

    await handler.send_event(Signed(by="finance"), wait_id="finance" if by_id else None)

    assert await handler == ["finance", "legal"]


class Reasons(Workflow):
    """Two branches with the same ids; the first gives its reason up, then the second asks for its own."""

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=0), A(n=1)]

    @step
    async def ask(self, ctx: Context, ev: A) -> Told:
        await asyncio.sleep(3 * ev.n)
        reason = "none"
        try:
            async with asyncio.timeout(None if ev.n else 1):
                reason = (await ctx.wait_for_event(Reply, waiter_id="reason", timeout=None)).text
        except TimeoutError:
            await ctx.wait_for_event(Signed, waiter_id="age", timeout=None)
        return Told(text=f"{ev.n}: {reason}")

    @step
    async def join(self, told: list[Told]) -> StopEvent:
        return StopEvent(result=sorted(event.text for event in told))


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0, 5.0])
async def test_a_name_that_one_call_gave_up_may_be_open_in_another(clock: VirtualClockLoop, seconds: float) -> None:
    workflow = Reasons(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(4)
    handler = workflow.run(ctx=Context.from_dict(workflow, json.loads(json.dumps(await handler.suspend()))))
    await asyncio.sleep(seconds)

    await handler.send_event(Reply(text="late"))
    await handler.send_event(Signed(by="36"))

    assert await handler == ["0: none", "1: late"]


class Button(Workflow):
    """Replays another way: the state says that the work is done, so the first button is not given up again."""

    seconds: float | None = None

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        stop = asyncio.ensure_future(ctx.wait_for_event(Reply, waiter_id="stop", timeout=self.seconds))
        if not await ctx.store.get("worked", default=False):
            await ctx.wait_for_event(Signed, waiter_id="go", timeout=None)
            await ctx.store.set("worked", True)
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)
            stop = asyncio.ensure_future(ctx.wait_for_event(Reply, waiter_id="stop again", timeout=self.seconds))
        return StopEvent(result=(await stop).text)


@pytest.mark.parametrize("seconds", [None, 2000])
@pytest.mark.parametrize("later", [0.0, 0.5, 5.0])
async def test_a_replay_that_goes_another_way_gets_its_answer(
    clock: VirtualClockLoop, seconds: float | None, later: float
) -> None:
    workflow = Button(timeout=None)
    workflow.seconds = seconds
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Signed(by="me"))
    await asyncio.sleep(1)
    handler = workflow.run(ctx=Context.from_dict(workflow, json.loads(json.dumps(await handler.suspend()))))
    await asyncio.sleep(later)

    await handler.send_event(Reply(text="stopped"))

    assert await asyncio.wait_for(handler, 10) == "stopped"
