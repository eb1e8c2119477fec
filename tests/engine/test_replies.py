"""An answer that names a wait ends that wait and no other, also in a run that goes on from a snapshot or a journal."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from workflows import Context, Workflow, step
from workflows.errors import ContextStateError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, WorkflowIdleEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import EventUnhandled, StepStarted, WaitResolved
from workflows.plugins.basic import basic_runtime
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop


class Ask(InputRequiredEvent):
    item: str


class Reply(HumanResponseEvent):
    yes: bool
    by: str = ""


class Item(Event):
    name: str


class Said(Event):
    text: str


class Shop(Workflow):
    """Asks about each of two purchases; an answer to either is a `Reply`."""

    by: ClassVar[dict[str, Any]] = {}

    @step
    async def split(self, ev: StartEvent) -> list[Item]:
        return [Item(name="one"), Item(name="two")]

    @step
    async def buy(self, ctx: Context, ev: Item) -> Said:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(item=ev.name), waiter_id=ev.name, requirements=self.by)
        return Said(text=f"{ev.name} {reply.yes}")

    @step
    async def join(self, ctx: Context, ev: Said) -> StopEvent | None:
        said = ctx.collect_events(ev, [Said, Said])
        return StopEvent(result=sorted(each.text for each in said)) if said else None


class Guarded(Shop):
    """Takes the manager's answers only."""

    by: ClassVar[dict[str, Any]] = {"by": "manager"}


async def _until_idle(handler: WorkflowHandler) -> None:
    async for event in handler.stream_events(expose_internal=True):
        if isinstance(event, WorkflowIdleEvent):
            break


async def _suspended(workflow: Workflow) -> dict[str, Any]:
    handler = workflow.run()
    await _until_idle(handler)
    return await handler.suspend()


def _go_on(workflow: Workflow, snapshot: dict[str, Any], **replies: Reply) -> WorkflowHandler:
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    for wait_id, reply in replies.items():
        handler.ctx.send_event(reply, wait_id=wait_id)
    return handler


async def test_a_reply_leaves_other_waits_for_its_class_open() -> None:
    handler = Shop().run()
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True), wait_id="two")
    await handler.send_event(Reply(yes=False), wait_id="one")
    assert await handler == ["one False", "two True"]


async def test_a_resumed_run_gives_every_wait_its_own_reply() -> None:
    workflow = Shop()
    snapshot = await _suspended(workflow)
    assert await _go_on(workflow, snapshot, two=Reply(yes=True), one=Reply(yes=False)) == ["one False", "two True"]


async def test_a_wait_that_nobody_replied_to_stays_open_in_a_resumed_run() -> None:
    workflow = Shop()
    handler = _go_on(workflow, await _suspended(workflow), two=Reply(yes=True))
    await _until_idle(handler)
    assert await _go_on(workflow, await handler.suspend(), one=Reply(yes=False)) == ["one False", "two True"]


async def test_a_resumed_run_tells_which_wait_a_reply_ended(records: RecordLog) -> None:
    workflow = Shop()
    handler = _go_on(workflow, await _suspended(workflow), two=Reply(yes=True))
    await _until_idle(handler)
    assert [record.wait_id for record in records.records if isinstance(record, WaitResolved)] == ["two"]
    await handler.cancel_run()


async def test_a_reply_has_to_meet_what_its_wait_requires(records: RecordLog) -> None:
    handler = Guarded().run()
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True, by="thief"), wait_id="one")
    assert [type(record) for record in records.records if isinstance(record, EventUnhandled | WaitResolved)] == [
        EventUnhandled
    ]
    for name in ("one", "two"):
        await handler.send_event(Reply(yes=False, by="manager"), wait_id=name)
    assert await handler == ["one False", "two False"]


async def test_a_reply_to_a_resumed_run_has_to_meet_what_its_wait_requires() -> None:
    workflow = Guarded()
    handler = _go_on(workflow, await _suspended(workflow), one=Reply(yes=True, by="thief"))
    await _until_idle(handler)
    for name in ("one", "two"):
        await handler.send_event(Reply(yes=False, by="manager"), wait_id=name)
    assert await handler == ["one False", "two False"]


async def test_a_reply_starts_no_step(records: RecordLog) -> None:
    class Both(Shop):
        @step
        async def listen(self, ev: Reply) -> None:
            pass

    handler = Both().run()
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True), wait_id="one")
    await handler.send_event(Reply(yes=True), wait_id="two")
    await handler
    assert "listen" not in [record.step for record in records.records if isinstance(record, StepStarted)]


async def test_a_reply_to_a_wait_that_is_over_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    handler = Shop().run()
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True), wait_id="one")
    await handler.send_event(Reply(yes=False), wait_id="one")
    assert "no wait of Shop that is open takes Reply, sent by the outside as its answer" in caplog.text
    await handler.send_event(Reply(yes=False), wait_id="two")
    assert await handler == ["one True", "two False"]


class Shaky(Workflow):
    """Its second segment fails once before it comes to its wait."""

    tries = 0

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.tries += 1
        if self.tries == 2:
            raise ConnectionError("no route")
        reply = await ctx.wait_for_event(Reply, waiter_id="one", requirements={"by": "manager"}, timeout=20)
        return StopEvent(result=reply.yes)


async def test_a_reply_to_a_retried_step_is_not_asked_for_again(clock: VirtualClockLoop) -> None:
    workflow = Shaky()
    snapshot = await _suspended(workflow)
    assert await _go_on(workflow, snapshot, one=Reply(yes=True, by="manager")) is True


async def test_a_retried_step_takes_no_reply_that_its_wait_would_not_take(clock: VirtualClockLoop) -> None:
    workflow = Shaky()
    handler = _go_on(workflow, await _suspended(workflow), one=Reply(yes=True, by="thief"))
    with pytest.raises(asyncio.TimeoutError, match="Timed out waiting for Reply"):
        await handler


async def test_the_answer_to_what_a_step_returned_ends_no_wait_that_asked_by_itself() -> None:
    class Mixed(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> list[Item | Ask]:
            return [Item(name="one"), Ask(item="returned")]

        @step
        async def buy(self, ctx: Context, ev: Item) -> StopEvent:
            reply = await ctx.wait_for_event(Reply, waiter_event=Ask(item=ev.name), waiter_id=ev.name)
            return StopEvent(result=[await ctx.store.get("heard", None), reply.yes])

        @step
        async def hear(self, ctx: Context, ev: Reply) -> None:
            await ctx.store.set("heard", ev.yes)

    workflow = Mixed()
    snapshot = await _suspended(workflow)
    (asked_by_run,) = [wait["id"] for wait in snapshot["telemetry"]["waits"] if wait["id"] != "one"]
    handler = _go_on(workflow, snapshot, **{asked_by_run: Reply(yes=False)})
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True), wait_id="one")
    assert await handler == [False, True]


async def test_a_journal_remembers_which_wait_an_answer_named() -> None:
    workflow = Shop()
    handler = workflow.run()
    reading = asyncio.ensure_future(_lines(handler))
    await _until_idle(handler)
    await handler.send_event(Reply(yes=True), wait_id="two")
    await handler.cancel_run()
    resumed = workflow.run(ctx=basic_runtime.restore(workflow, None, await reading))
    await _until_idle(resumed)
    await resumed.send_event(Reply(yes=False), wait_id="one")
    assert await resumed == ["one False", "two True"]


async def _lines(handler: WorkflowHandler) -> list[Any]:
    return [line async for line in basic_runtime.journal(handler.run_id)]


async def test_a_step_cannot_reply() -> None:
    class Inside(Workflow):
        @step
        async def reply(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.raises(ContextStateError, match="only available from handler code"):
                ctx.send_event(Reply(yes=True), wait_id="one")
            return StopEvent()

    await Inside().run()


class Approving(Workflow):
    """Two documents wait for their approval; each may be withdrawn meanwhile."""

    withdrawn: ClassVar[list[asyncio.Event]] = []

    @step
    async def start(self, ev: StartEvent) -> list[Item]:
        return [Item(name="0"), Item(name="1")]

    @step
    async def approve(self, ctx: Context, ev: Item) -> Said:
        approval = asyncio.ensure_future(ctx.wait_for_event(Reply, waiter_id=f"doc{ev.name}", timeout=None))
        withdrawal = asyncio.ensure_future(self.withdrawn[int(ev.name)].wait())
        both: set[asyncio.Future[Any]] = {approval, withdrawal}
        done, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        return Said(text="withdrawn" if withdrawal in done else f"approved by {approval.result().by}")

    @step
    async def join(self, said: list[Said]) -> StopEvent:
        return StopEvent(result={event.text for event in said})


@pytest.mark.parametrize("between", range(6))
@pytest.mark.parametrize("resumed", [False, True])
async def test_a_reply_to_a_wait_that_is_given_up_is_for_no_other(
    clock: VirtualClockLoop, between: int, resumed: bool
) -> None:
    Approving.withdrawn = [asyncio.Event(), asyncio.Event()]
    workflow = Approving(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    if resumed:
        handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    Approving.withdrawn[0].set()
    for _ in range(between):
        await asyncio.sleep(0)

    await handler.send_event(Reply(yes=True, by="Ann"), wait_id="doc0")
    await asyncio.sleep(1)
    await handler.send_event(Reply(yes=True, by="Bob"), wait_id="doc1")

    assert "approved by Bob" in await handler


@pytest.mark.parametrize("resumed", [False, True])
async def test_a_name_that_a_step_uses_again_is_that_of_its_open_wait(clock: VirtualClockLoop, resumed: bool) -> None:
    class Asks(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            asked = 0
            while True:
                asked += 1
                with suppress(TimeoutError):
                    if (await ctx.wait_for_event(Reply, waiter_id="approval", timeout=10)).yes:
                        return StopEvent(result=asked)

    workflow = Asks(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    await handler.send_event(Reply(yes=False), wait_id="approval")
    await asyncio.sleep(15)
    if resumed:
        handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await handler.send_event(Reply(yes=True), wait_id="approval")
    assert await handler == 3
