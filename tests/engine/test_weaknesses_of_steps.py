"""What users of the peer ran into, letter by letter: steps, waits, joins, values. `test_weaknesses` has the table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import BaseModel

from tests.engine.flows import A, Ask, B, Nap, Reply
from workflows import Context, Workflow, step
from workflows.errors import (
    ContextSerdeError,
    WorkflowValidationError,
)
from workflows.events import (
    Event,
    HumanResponseEvent,
    StartEvent,
    StepStateChanged,
    StopEvent,
)
from workflows.resource import Resource
from workflows.testing import VirtualClockLoop


class Other(HumanResponseEvent):
    text: str = ""


@pytest.mark.parametrize("ids", [(None, None), ("name", "age")])
async def test_two_waits_of_one_type_in_a_step_get_two_answers(ids: tuple[str | None, str | None]) -> None:
    """B: there both got the newest answer, and the second question was never asked."""
    bodies: list[int] = []

    class Interview(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            bodies.append(1)
            name = await ctx.wait_for_event(Reply, waiter_id=ids[0], waiter_event=Ask(prompt="name"))
            age = await ctx.wait_for_event(Reply, waiter_id=ids[1], waiter_event=Ask(prompt="age"))
            return StopEvent(result=(name.text, age.text))

    answers = {"name": "Ada", "age": "36"}
    handler = Interview().run()
    async for event in handler.stream_events():
        if isinstance(event, Ask):
            handler.ctx.send_event(Reply(text=answers[event.prompt]))
    assert (await handler, len(bodies)) == (("Ada", "36"), 1)


@pytest.mark.parametrize("order", [(Reply, Other), (Other, Reply)])
async def test_two_waits_at_once_take_their_answers_in_either_order(order: tuple[type[Event], ...]) -> None:
    """C: there whichever answer came first was lost."""

    class Both(Workflow):
        @step
        async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
            found = await asyncio.gather(ctx.wait_for_event(Reply), ctx.wait_for_event(Other))
            return StopEvent(result=[e.text for e in found])

    handler = Both().run()
    for kind in order:
        handler.ctx.send_event(kind(text=kind.__name__))
    assert await handler == ["Reply", "Other"]


async def test_three_workers_share_one_slow_resource(clock: VirtualClockLoop) -> None:
    """E: there they failed as "circular", since the check for circles was one list for all."""
    made: list[object] = []

    async def slow_client() -> object:
        await asyncio.sleep(1)
        made.append(object())
        return made[-1]

    class Workers(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(3)]

        @step
        async def work(self, ev: A, client: Annotated[object, Resource(slow_client)]) -> B:
            assert client is made[0]
            return B(n=ev.n)

        @step
        async def end(self, evs: list[B]) -> StopEvent:
            return StopEvent(result=len(evs))

    assert (await Workers().run(), len(made)) == (3, 1)


async def test_two_closures_of_one_factory_are_two_resources() -> None:
    """E: there they were cached by their name, so the second step got the first one's value."""

    def factory(name: str) -> Callable[[], str]:
        return lambda: name

    class Two(Workflow):
        @step
        async def one(self, ev: StartEvent, name: Annotated[str, Resource(factory("first"))]) -> A:
            assert name == "first"
            return A()

        @step
        async def two(self, ev: A, name: Annotated[str, Resource(factory("second"))]) -> StopEvent:
            return StopEvent(result=name)

    assert await Two().run() == "second"


async def test_a_foreign_thread_sends_and_streams() -> None:
    """F: there it raised "no running event loop", as it did in every sync step."""

    class Threaded(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | None:
            def work() -> None:
                ctx.write_event_to_stream(B(n=1))
                ctx.send_event(A(n=2))

            thread = threading.Thread(target=work)
            thread.start()
            await asyncio.to_thread(thread.join)
            return None

        @step
        def end(self, ctx: Context, ev: A) -> StopEvent:
            ctx.write_event_to_stream(B(n=ev.n))
            return StopEvent(result=ev.n)

    handler = Threaded().run()
    assert [e.n async for e in handler.stream_events() if isinstance(e, B)] == [1, 2]
    assert await handler == 2


async def test_a_join_keeps_what_it_does_not_need_now_and_runs_no_body_twice() -> None:
    """H: there A2 of A1 A2 B1 B2 was dropped, and 20 events ran the step 59 times."""
    bodies: list[int] = []

    class Pairs(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
            for n in range(20):
                ctx.send_event(A(n=n))
            for n in range(20):
                ctx.send_event(B(n=n))
            return None

        @step(num_workers=4)
        async def pair(self, ctx: Context, ev: A | B) -> StopEvent | None:
            bodies.append(ev.n)
            await asyncio.sleep(0)
            found = ctx.collect_events(ev, [A, B])
            if found is None:
                return None
            first, second = found
            assert first.n == second.n
            return StopEvent(result=first.n) if first.n == 19 else None

    assert (await Pairs().run(), len(bodies)) == (19, 40)


@pytest.mark.parametrize("pause", [False, True])
async def test_events_arrive_in_the_order_in_which_they_were_sent(pause: bool) -> None:
    """I: there the returned event came first where the step had not awaited, and last where it had."""

    class Sends(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))
            await asyncio.sleep(0) if pause else None
            return A(n=3)

        @step(num_workers=1)
        async def end(self, ctx: Context, ev: A) -> StopEvent | None:
            self.seen = [*getattr(self, "seen", []), ev.n]
            return StopEvent(result=self.seen) if len(self.seen) == 3 else None

    assert await Sends().run() == [1, 2, 3]


class Person(BaseModel):
    name: str


async def test_values_keep_their_type_in_a_snapshot(clock: VirtualClockLoop) -> None:
    """M: there models became dictionaries, and dates became text."""

    class Typed(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            return A(who=ev.who, since=ev.since)  # type: ignore[call-arg]

        @step
        async def end(self, ev: A) -> StopEvent:
            await asyncio.sleep(5)
            return StopEvent(result=(ev.who, ev.since))

    workflow, since = Typed(), datetime(1815, 12, 10, tzinfo=UTC)
    handler = workflow.run(who=Person(name="Ada"), since=since)
    await asyncio.sleep(1)
    snapshot = await handler.suspend()
    assert await workflow.run(ctx=Context.from_dict(workflow, snapshot)) == (Person(name="Ada"), since)


async def test_a_workflow_is_run_as_it_is_written() -> None:
    """N: there steps ran in alphabetical order, getters were evaluated, and names came in two forms."""
    ran: list[str] = []

    class Written(Workflow):
        @property
        def expensive(self) -> str:
            raise AssertionError("nobody asked for this")

        @step
        async def zebra(self, ev: StartEvent) -> A | None:
            ran.append("zebra")
            return None

        @step
        async def ant(self, ev: StartEvent) -> A:
            ran.append("ant")
            return A()

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent()

    handler = Written().run()
    shown = [e async for e in handler.stream_events(expose_internal=True) if isinstance(e, StepStateChanged)]
    await handler
    assert ran == ["zebra", "ant"]
    names = {n for e in shown for n in (e.input_event_name, e.output_event_name) if n is not None}
    assert names == {"StartEvent", "A", "StopEvent", "NoneType"}


def test_a_graph_check_can_be_skipped() -> None:
    """N: there `skip_graph_checks={"terminal_event"}` had no effect."""

    class Endless(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A | StopEvent:
            return A()

        @step
        async def side(self, ev: A) -> B:
            return B()

    with pytest.raises(WorkflowValidationError, match="never consumed: B"):
        Endless().validate()
    assert Endless(skip_graph_checks={"terminal_event", "dead_end"}).validate() is False


def test_a_wrong_file_is_no_snapshot() -> None:
    """N: there `{}` was accepted, and started an empty run."""
    with pytest.raises(ContextSerdeError, match="has version None"):
        Context.from_dict(Nap(), {})
