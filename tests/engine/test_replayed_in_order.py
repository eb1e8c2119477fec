"""Answers that a step had before reach its tasks in the order in which they came, in a retry and in a resumed run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.engine.flows import Ask, Reply
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop


class Note(HumanResponseEvent):
    text: str = ""


async def gone_on(workflow: Workflow, handler: WorkflowHandler) -> WorkflowHandler:
    saved: dict[str, Any] = json.loads(json.dumps(await handler.suspend()))
    return workflow.run(ctx=Context.from_dict(workflow, saved))


async def sent(handler: WorkflowHandler, *events: Event) -> None:
    for event in events:
        await handler.send_event(event)
        await asyncio.sleep(0.1)


class WithNotes(Workflow):
    """A task collects notes while a person is asked; then somebody is called with the answer and the notes."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(3)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        notes: list[str] = []

        async def listen() -> None:
            while True:
                notes.append((await ctx.wait_for_event(Note)).text)

        listener = asyncio.create_task(listen())
        try:
            said = (await ctx.wait_for_event(Reply)).text
        finally:
            listener.cancel()
        result = [said, *notes]
        await asyncio.sleep(10)
        if ctx.retry_info().retry_number < ev.failures:
            raise ConnectionError("the model is busy")
        return StopEvent(result=result)


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_a_retry_hears_what_the_first_attempt_heard(clock: VirtualClockLoop, failures: int) -> None:
    handler = WithNotes(timeout=None).run(failures=failures)
    await sent(handler, Note(text="1"), Note(text="2"), Reply(text="yes"))
    assert await handler == ["yes", "1", "2"]


async def test_so_does_a_run_that_goes_on(clock: VirtualClockLoop) -> None:
    handler = WithNotes(timeout=None).run(failures=1)
    await sent(handler, Note(text="1"), Note(text="2"), Reply(text="yes"))
    handler = await gone_on(WithNotes(timeout=None), handler)
    assert await handler == ["yes", "1", "2"]


class InTasks(Workflow):
    """Waits in tasks, and says in which order they went on."""

    def __init__(self, names: str, skipped: str = "") -> None:
        super().__init__(timeout=None)
        self.names = names
        self.skipped = skipped

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        heard: list[str] = []

        async def wait(name: str) -> None:
            await ctx.wait_for_event(Reply, waiter_id=name, requirements={"text": name})
            heard.append(name)

        await asyncio.gather(*(wait(name) for name in self.names if name not in self.skipped))
        await asyncio.sleep(10)
        return StopEvent(result="".join(heard))


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
async def test_tasks_go_on_in_the_order_in_which_they_did(clock: VirtualClockLoop, order: str) -> None:
    handler = InTasks("abcd").run()
    await sent(handler, *(Reply(text=name) for name in order))
    handler = await gone_on(InTasks("abcd"), handler)
    assert await handler == order


@pytest.mark.parametrize(("skipped", "order"), [("b", "dac"), ("bd", "ac"), ("bdc", "a")])
async def test_waits_that_the_code_has_no_more_hold_up_nobody(
    clock: VirtualClockLoop, skipped: str, order: str
) -> None:
    handler = InTasks("abcd").run()
    await sent(handler, *(Reply(text=name) for name in "bdac"))
    handler = await gone_on(InTasks("abcd", skipped), handler)
    assert await handler == order


class InTurn(Workflow):
    """Tasks that need a lock to ask: one comes to its wait when another is over."""

    def __init__(self, *names: str) -> None:
        super().__init__(timeout=None)
        self.names = names

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        lock, heard = asyncio.Lock(), list[str]()

        async def wait(name: str) -> None:
            async with lock:
                heard.append((await ctx.wait_for_event(Reply, waiter_id=name)).text)

        await asyncio.gather(*map(wait, self.names))
        await asyncio.sleep(10)
        return StopEvent(result=heard)


async def test_who_comes_to_them_in_another_order_goes_on_as_well(clock: VirtualClockLoop) -> None:
    handler = InTurn("a", "b", "c").run()
    await sent(handler, *(Reply(text=name) for name in "123"))
    handler = await gone_on(InTurn("c", "a", "b"), handler)
    assert await handler == ["3", "1", "2"]


async def test_a_task_that_is_cancelled_before_its_turn_hands_it_on(clock: VirtualClockLoop) -> None:
    class Impatient(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def wait(name: str) -> str:
                return (await ctx.wait_for_event(Reply, waiter_id=name, requirements={"text": name})).text

            first, second = (asyncio.create_task(wait(name)) for name in "ba")
            await asyncio.sleep(0)
            if self.goes_on:
                first.cancel()
            done, _ = await asyncio.wait({first, second})
            await asyncio.sleep(10)
            return StopEvent(result=sorted(task.result() for task in done if not task.cancelled()))

        goes_on = False

    handler = Impatient(timeout=None).run()
    await sent(handler, Reply(text="a"), Reply(text="b"))
    later = Impatient(timeout=None)
    later.goes_on = True
    handler = await gone_on(later, handler)
    assert await handler == ["a"]


class Reviews(Workflow):
    """Two reviews at once, of two questions each that have no names of their own."""

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def review(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async def ask(number: int) -> list[str]:
            asked = [Ask(n=number, prompt=prompt) for prompt in ("title", "owner")]
            return [(await ctx.wait_for_event(Reply, waiter_event=question)).text for question in asked]

        result = await asyncio.gather(ask(1), ask(2))
        await asyncio.sleep(10)
        if ctx.retry_info().retry_number < ev.failures:
            raise ConnectionError("the model is busy")
        return StopEvent(result=result)


@pytest.mark.parametrize("cut", range(5))
async def test_tasks_that_ask_by_turns_keep_their_answers(clock: VirtualClockLoop, cut: int) -> None:
    asked: list[Ask] = []

    async def read(handler: WorkflowHandler) -> None:
        async for event in handler.stream_events():
            asked.extend([event] if isinstance(event, Ask) else [])

    handler = Reviews(timeout=None).run(failures=1)
    readers = [asyncio.create_task(read(handler))]
    for answered in range(4):
        await asyncio.sleep(0.1)
        if answered == cut:
            handler = await gone_on(Reviews(timeout=None), handler)
            readers.append(asyncio.create_task(read(handler)))
            await asyncio.sleep(0.1)
        await handler.send_event(Reply(text=f"{asked[answered].prompt} {asked[answered].n}"))
    assert await handler == [["title 1", "owner 1"], ["title 2", "owner 2"]]
    await asyncio.gather(*readers)


class TakesCommands(Workflow):
    """Works five seconds on each of three messages; a command that comes beside them is for what is begun after it."""

    @step
    async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
        careful, done = False, list[str]()

        async def listen() -> None:
            nonlocal careful
            await ctx.wait_for_event(Note)
            careful = True

        listener = asyncio.create_task(listen())
        for number in range(3):
            said = (await ctx.wait_for_event(Reply, waiter_id=f"message {number}")).text
            await asyncio.sleep(5)
            done.append(f"{said} with care" if careful else said)
        await listener
        return StopEvent(result=done)


async def test_what_came_after_some_work_comes_after_it_again(clock: VirtualClockLoop) -> None:
    handler = TakesCommands(timeout=None).run()
    for event in (Reply(text="1"), Reply(text="2"), Note()):
        await handler.send_event(event)
        await asyncio.sleep(6)
    handler = await gone_on(TakesCommands(timeout=None), handler)
    await handler.send_event(Reply(text="3"))
    assert await handler == ["1", "2", "3 with care"]


class WaitsForEither(Workflow):
    """Takes what comes first, works a second on it, and waits for that kind again."""

    @step
    async def take(self, ctx: Context, ev: StartEvent) -> StopEvent:
        taken: list[str] = []
        kinds = (Reply, Note)
        waits = {asyncio.create_task(ctx.wait_for_event(kind)): kind for kind in kinds}
        while len(taken) < 6:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                taken.append(task.result().text)
                await asyncio.sleep(1)
                kind = waits.pop(task)
                waits[asyncio.create_task(ctx.wait_for_event(kind))] = kind
        for task in waits:
            task.cancel()
        return StopEvent(result="".join(taken))


@pytest.mark.parametrize("cut", [2, 4, 5])
@pytest.mark.parametrize("after", [0, 0.5, 2.5, 30])
async def test_what_a_loop_of_two_waits_took_it_takes_in_that_order_again(
    clock: VirtualClockLoop, cut: int, after: float
) -> None:
    events = [Reply(text="1"), Note(text="2"), Note(text="3"), Reply(text="4"), Note(text="5"), Reply(text="6")]
    handler = WaitsForEither(timeout=None).run()
    for event in events[:cut]:
        await sent(handler, event)
        await asyncio.sleep(2)
    handler = await gone_on(WaitsForEither(timeout=None), handler)
    await asyncio.sleep(after)
    for event in events[cut:]:
        await sent(handler, event)
        await asyncio.sleep(2)
    assert await handler == "123456"


async def test_a_task_that_is_cancelled_while_its_answer_is_held_leaves_nothing_behind(clock: VirtualClockLoop) -> None:
    class Approves(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def listen() -> None:
                while True:
                    await ctx.wait_for_event(Note, timeout=None)

            listener, stop = asyncio.create_task(listen()), asyncio.create_task(listen())
            if not self.knows:
                await ctx.wait_for_event(Reply, waiter_id="approved")
            await asyncio.sleep(0)
            listener.cancel()
            said = await ctx.wait_for_event(Reply, waiter_id="publish", timeout=None)
            stop.cancel()
            return StopEvent(result=said.text)

        knows = False

    handler = Approves(timeout=None).run()
    await sent(handler, Reply(text="approved"), Note(text="1"))
    later = Approves(timeout=None)
    later.knows = True
    handler = await gone_on(later, handler)
    await asyncio.sleep(3600)  # an event loop that is never at rest has no time for this
    await handler.send_event(Reply(text="now"))
    assert await handler == "now"


class TakesBoth(Workflow):
    """In each round a note, a reply, or both; the one that has not come is asked for anew."""

    @step
    async def take(self, ctx: Context, ev: StartEvent) -> StopEvent:
        rounds: list[list[str]] = []
        while sum(map(len, rounds)) < 4:
            waits = [
                asyncio.create_task(ctx.wait_for_event(kind, waiter_id=f"{kind} {len(rounds)}", timeout=None))
                for kind in (Note, Reply)
            ]
            done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()
            rounds.append([wait.result().text for wait in waits if wait in done])
            await asyncio.sleep(1)
        return StopEvent(result=rounds)


@pytest.mark.parametrize("cuts", [0, 1, 2])
@pytest.mark.parametrize("both", [(Note(text="2"), Reply(text="3")), (Reply(text="3"), Note(text="2"))])
async def test_what_was_taken_in_one_round_is_so_again(
    clock: VirtualClockLoop, cuts: int, both: tuple[Event, Event]
) -> None:
    handler = TakesBoth(timeout=None).run()
    await sent(handler, Note(text="1"), *both)
    await asyncio.sleep(5)
    for _ in range(cuts):
        handler = await gone_on(TakesBoth(timeout=None), handler)
        await asyncio.sleep(5)
    await sent(handler, Note(text="4"))
    assert await handler == [["1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize("gap", [0, 1])
async def test_answers_of_one_turn_are_heard_together_again(clock: VirtualClockLoop, gap: int) -> None:
    handler = TakesBoth(timeout=None).run()
    await sent(handler, Note(text="1"))
    await asyncio.sleep(5)
    handler.ctx.send_event(Note(text="2"))
    for _ in range(gap):
        await asyncio.sleep(0)
    handler.ctx.send_event(Reply(text="3"))
    await asyncio.sleep(5)
    handler = await gone_on(TakesBoth(timeout=None), handler)
    await asyncio.sleep(5)
    await sent(handler, Note(text="4"))
    assert await handler == [["1"], ["2", "3"], ["4"]]
