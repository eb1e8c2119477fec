"""A run goes on, and its code comes to other waits than it had at the snapshot: what was sent meanwhile is not lost."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from tests.engine.flows import A, Ask, B, Reply, Told
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StepFailedEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.testing import VirtualClockLoop

IDS = itertools.count()
TURNS = pytest.mark.parametrize("turns", [0, 1, 3, 10])


class Other(HumanResponseEvent):
    n: int = 0
    text: str = ""


async def suspended(workflow: Workflow) -> dict[str, Any]:
    handler = workflow.run()
    await asyncio.sleep(1)
    return json.loads(json.dumps(await handler.suspend()))


async def gone_on(workflow: Workflow, saved: dict[str, Any], turns: int) -> WorkflowHandler:
    handler = workflow.run(ctx=Context.from_dict(workflow, saved))
    for _ in range(turns):
        await asyncio.sleep(0)
    return handler


class Racing(Workflow):
    """A person, whose question has another id each time, or something else that takes long."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        person = asyncio.ensure_future(ctx.wait_for_event(Reply, waiter_id=f"call-{next(IDS)}", timeout=None))
        other = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.wait({person, other}, return_when=asyncio.FIRST_COMPLETED)
        other.cancel()
        return StopEvent(result=person.result().text if person.done() else "nobody")


@TURNS
async def test_a_wait_with_a_new_id_takes_the_place_of_the_old_one(clock: VirtualClockLoop, turns: int) -> None:
    handler = await gone_on(Racing(timeout=None), await suspended(Racing(timeout=None)), turns)

    await handler.send_event(Reply(text="me"))

    assert await handler == "me"


async def test_so_does_one_that_is_answered_later(clock: VirtualClockLoop) -> None:
    handler = await gone_on(Racing(timeout=None), await suspended(Racing(timeout=None)), 0)
    await asyncio.sleep(30)

    await handler.send_event(Reply(text="me"))

    assert await handler == "me"


class Pair(Workflow):
    """Two questions at once, with ids that are others in each replay; what else goes on never ends."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        waits = [self._wait(ctx), self._wait(ctx)]
        busy = asyncio.ensure_future(asyncio.sleep(1000))
        answers = await asyncio.gather(*waits)
        busy.cancel()
        return StopEvent(result=answers)

    async def _wait(self, ctx: Context) -> str:
        return (await ctx.wait_for_event(Reply, waiter_id=f"call-{next(IDS)}", timeout=None)).text


@TURNS
async def test_each_of_several_takes_the_place_of_one(clock: VirtualClockLoop, turns: int) -> None:
    handler = await gone_on(Pair(timeout=None), await suspended(Pair(timeout=None)), turns)

    await handler.send_event(Reply(text="first"))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="second"))

    assert await handler == ["first", "second"]


class Skipping(Workflow):
    """Asks once, whatever came of it; the next step asks too."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> A:
        if not await ctx.store.get("asked", default=False):
            await ctx.store.set("asked", True)
            await ctx.wait_for_event(Reply, timeout=None)
        return A()

    @step
    async def ask_again(self, ctx: Context, ev: A) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)


class Failing(Workflow):
    """Comes to its wait only once; then it fails, and the handler of the failure asks."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if await ctx.store.get("asked", default=False):
            raise ValueError("once is enough")
        await ctx.store.set("asked", True)
        return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)

    @catch_error
    async def recover(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)


class Taking(Workflow):
    """A step that also takes what it waits for."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent | Reply) -> StopEvent | None:
        if isinstance(ev, Reply):
            return StopEvent(result=ev.text)
        if not await ctx.store.get("asked", default=False):
            await ctx.store.set("asked", True)
            await ctx.wait_for_event(Reply, timeout=None)
        return None


class Meanwhile(Workflow):
    """Another step comes to its wait while the one that was answered goes on without."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | B:
        ctx.send_event(A())
        return B()

    @step
    async def skip(self, ctx: Context, ev: A) -> None:
        if not await ctx.store.get("asked", default=False):
            await ctx.store.set("asked", True)
            await ctx.wait_for_event(Reply, timeout=None)
        await asyncio.sleep(5)

    @step
    async def ask(self, ctx: Context, ev: B) -> StopEvent:
        await asyncio.sleep(3)
        return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)


@TURNS
@pytest.mark.parametrize("workflow", [Skipping, Failing, Taking, Meanwhile])
async def test_an_answer_to_a_wait_that_does_not_come_is_for_another(
    clock: VirtualClockLoop, workflow: type[Workflow], turns: int
) -> None:
    handler = await gone_on(workflow(timeout=60), await suspended(workflow(timeout=60)), turns)

    await handler.send_event(Reply(text="yes"))

    assert await handler == "yes"


class Changing(Workflow):
    """Its code changes between two releases: the first wait takes something else than before."""

    takes: type[Event] = Reply
    number = 0

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(self.takes, waiter_id="q", requirements=self.required, timeout=None)
        second = await ctx.wait_for_event(Reply, waiter_id="r", timeout=None)
        return StopEvent(result=[first.get("text"), second.text])

    @property
    def required(self) -> dict[str, Any]:
        return {"n": self.number} if self.number else {}


class OtherClass(Changing):
    takes = Other


class OtherRequirement(Changing):
    number = 2


@TURNS
@pytest.mark.parametrize(("changed", "second"), [(OtherClass, Other(text="b")), (OtherRequirement, Reply(text="b"))])
async def test_an_answer_that_a_wait_takes_no_more_is_kept(
    clock: VirtualClockLoop, changed: type[Changing], second: Event, turns: int
) -> None:
    class Before(Changing):
        number = 1 if changed is OtherRequirement else 0

    saved = await suspended(Before(timeout=60))
    handler = await gone_on(changed(timeout=60), saved, turns)

    await handler.send_event(Reply(text="a", n=1))
    await handler.send_event(second.model_copy(update={"n": 2}))

    assert await handler == ["b", "a"]


class Named(Workflow):
    """Comes to its wait after a while."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.1)
        answer = await ctx.wait_for_event(Reply, waiter_id="q", requirements={"n": 1}, timeout=None)
        return StopEvent(result=answer.text)


@pytest.mark.parametrize("wrong", [Other(text="no"), Reply(text="no", n=2)])
@TURNS
async def test_a_reply_that_a_wait_does_not_take_leaves_it_open(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture, wrong: Event, turns: int
) -> None:
    handler = await gone_on(Named(timeout=60), await suspended(Named(timeout=60)), turns)

    await handler.send_event(wrong, wait_id="q")
    await handler.send_event(Reply(text="yes", n=1), wait_id="q")

    assert await handler == "yes"
    assert "no wait of Named that is open takes" in caplog.text


@TURNS
async def test_a_snapshot_tells_of_waits_that_are_still_to_be_reached(clock: VirtualClockLoop, turns: int) -> None:
    saved = await suspended(Named(timeout=60))
    handler = await gone_on(Named(timeout=60), saved, turns)

    again = handler.ctx.to_dict()

    assert again["telemetry"]["waits"] == saved["telemetry"]["waits"] != []
    await handler.send_event(Reply(text="yes", n=1))
    assert handler.ctx.to_dict()["telemetry"]["waits"] == []


class Reminding(Workflow):
    """Asks for a name, and reminds of it until it comes; then it asks for an age and a town."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        name = None
        while name is None:
            try:
                async with asyncio.timeout(2):
                    name = (await ctx.wait_for_event(Reply, timeout=None)).text
            except TimeoutError:
                ctx.write_event_to_stream(A())
        age = (await ctx.wait_for_event(Reply, timeout=None)).text
        town = (await ctx.wait_for_event(Reply, timeout=None)).text
        return StopEvent(result=[name, age, town])


@pytest.mark.parametrize("seconds", [0.0, 1.0, 3.0])
async def test_a_wait_that_was_given_up_gets_nothing_that_is_for_later_ones(
    clock: VirtualClockLoop, seconds: float
) -> None:
    handler = Reminding(timeout=60).run()
    await asyncio.sleep(5)  # it has reminded twice
    await handler.send_event(Reply(text="Ada"))
    await asyncio.sleep(1)
    saved = json.loads(json.dumps(await handler.suspend(), sort_keys=True))

    handler = await gone_on(Reminding(timeout=60), saved, 0)
    await asyncio.sleep(seconds)
    await handler.send_event(Reply(text="36"))
    await asyncio.sleep(1)
    await handler.send_event(Reply(text="London"))

    assert await handler == ["Ada", "36", "London"]


@TURNS
async def test_one_that_was_given_up_many_times_and_never_answered_takes_the_answer_at_once(
    clock: VirtualClockLoop, turns: int
) -> None:
    handler = Reminding(timeout=None).run()
    await asyncio.sleep(1001)
    saved = json.loads(json.dumps(await handler.suspend()))
    handler = await gone_on(Reminding(timeout=None), saved, turns)
    began = asyncio.get_running_loop().time()

    for text in ("Ada", "36", "London"):
        await handler.send_event(Reply(text=text))
        await asyncio.sleep(0.1)

    assert await handler == ["Ada", "36", "London"]
    assert asyncio.get_running_loop().time() - began < 1


class SameName(Workflow):
    """Two branches give their waits one name; before the snapshot the first came first, after it the second does."""

    seconds = (0.0, 2.0)

    @step
    async def start(self, ev: StartEvent) -> list[A]:
        return [A(n=0), A(n=1)]

    @step
    async def ask(self, ctx: Context, ev: A) -> Told:
        await asyncio.sleep(self.seconds[ev.n])
        answer = await ctx.wait_for_event(Reply, waiter_id="approval", timeout=None)
        return Told(text=f"{ev.n}: {answer.text}")

    @step
    async def join(self, told: list[Told]) -> StopEvent:
        return StopEvent(result=[event.text for event in told])


class SameNameLater(SameName):
    seconds = (2.0, 0.0)


async def test_a_wait_does_not_take_the_name_of_one_that_was_open(clock: VirtualClockLoop) -> None:
    handler = await gone_on(SameNameLater(timeout=60), await suspended(SameName(timeout=60)), 0)
    await asyncio.sleep(1)

    await handler.send_event(Reply(text="the first"), wait_id="approval")
    await asyncio.sleep(2)
    (other,) = handler.ctx.to_dict()["telemetry"]["waits"]
    await handler.send_event(Reply(text="the second"), wait_id=other["id"])

    assert await handler == ["0: the first", "1: the second"]


class SharedName(SameName):
    """They say what they require as well."""

    @step
    async def ask(self, ctx: Context, ev: A) -> Told:
        answer = await ctx.wait_for_event(Reply, waiter_id="approval", requirements={"n": ev.n}, timeout=None)
        return Told(text=f"{ev.n}: {answer.text}")


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_a_name_that_calls_share_the_answer_says_for_which_it_is(
    clock: VirtualClockLoop, order: tuple[int, int], resumed: bool
) -> None:
    if resumed:
        handler = await gone_on(SharedName(timeout=60), await suspended(SharedName(timeout=60)), 0)
    else:
        handler = SharedName(timeout=60).run()
        await asyncio.sleep(1)
    for n in order:
        for click in ("first", "second"):
            await handler.send_event(Reply(text=click, n=n), wait_id="approval")
    assert sorted(await handler) == ["0: first", "1: first"]


class TwoQuestions(Workflow):
    """A step returns a question, another one waits for the answer to its own."""

    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | Ask:
        ctx.send_event(A())
        return Ask(n=1)

    @step
    async def answered(self, ev: Other) -> Told:
        return Told(text=f"returned: {ev.text}")

    @step
    async def ask(self, ctx: Context, ev: A) -> Told:
        answer = await ctx.wait_for_event(Reply, waiter_event=Ask(n=2), timeout=None)
        return Told(text=f"waited: {answer.text}")

    @step
    async def join(self, ctx: Context, ev: Told) -> StopEvent | None:
        told = ctx.collect_events(ev, [Told] * 2)
        return StopEvent(result=[event.text for event in told]) if told else None


@TURNS
async def test_an_answer_to_a_wait_leaves_a_returned_question_open(clock: VirtualClockLoop, turns: int) -> None:
    saved = await suspended(TwoQuestions(timeout=60))
    (returned,) = (wait["id"] for wait in saved["telemetry"]["waits"] if wait["type"] == "Other")
    handler = await gone_on(TwoQuestions(timeout=60), saved, turns)

    await handler.send_event(Reply(text="b"))
    await asyncio.sleep(1)
    await handler.send_event(Other(text="a"), wait_id=returned)

    assert await handler == ["waited: b", "returned: a"]


class Streaming(TwoQuestions):
    """Streams the question that it waits for an answer to."""

    @step
    async def ask(self, ctx: Context, ev: A) -> Told:
        ctx.write_event_to_stream(Ask(n=2))
        return Told(text=f"waited: {(await ctx.wait_for_event(Reply, timeout=None)).text}")


@TURNS
async def test_an_answer_to_a_returned_question_leaves_a_streamed_one_open(clock: VirtualClockLoop, turns: int) -> None:
    live = Streaming(timeout=60).run()
    await asyncio.sleep(1)
    await live.send_event(Other(text="a"))
    await asyncio.sleep(1)
    handler = await gone_on(Streaming(timeout=60), await suspended(Streaming(timeout=60)), turns)

    await handler.send_event(Other(text="a"))
    await asyncio.sleep(1)

    open_now = [wait["type"] for wait in handler.ctx.to_dict()["telemetry"]["waits"]]
    assert open_now == [wait["type"] for wait in live.ctx.to_dict()["telemetry"]["waits"]] != []
    await handler.send_event(Reply(text="b"))
    assert await handler == ["returned: a", "waited: b"]
    await live.cancel_run()


class Closing(Workflow):
    """Its step takes a while to clean up."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            return StopEvent(result=(await ctx.wait_for_event(Reply, timeout=None)).text)
        finally:
            await asyncio.sleep(1)


async def test_an_answer_to_a_suspended_run_is_too_late(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Closing(timeout=60).run()
    await asyncio.sleep(1)
    suspending = asyncio.ensure_future(handler.suspend())
    await asyncio.sleep(0.5)

    await handler.send_event(Reply(text="yes"))
    await suspending

    assert "Reply comes too late for run" in caplog.text
