"""Events fan out into branches and are gathered again: none is dropped, no body runs twice."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import pytest

from workflows import Context, Workflow, step
from workflows.collect import Collect, Take
from workflows.errors import OpenFanIn, WorkflowDeadlockError, WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.testing import RecordLog, VirtualClockLoop


class A(Event):
    n: int


class B(Event):
    n: int


class Part(Event):
    n: int


class Answer(Event):
    n: int


class Spread(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(n=n) for n in range(ev.n)]

    @step(num_workers=100)
    async def solve(self, ev: Part) -> Answer | None:
        await asyncio.sleep(10 - ev.n)
        return Answer(n=ev.n) if ev.n != 1 else None

    @step
    async def gather(self, evs: list[Answer]) -> StopEvent:
        return StopEvent(result=[e.n for e in evs])


async def test_a_list_is_gathered_in_order_of_completion_when_its_last_branch_ended(clock: VirtualClockLoop) -> None:
    assert await Spread().run(n=4) == [3, 2, 0]
    assert clock.time() == 10


async def test_an_empty_list_is_gathered_at_once(clock: VirtualClockLoop) -> None:
    assert await Spread().run(n=0) == []


async def test_take_goes_on_with_the_first(clock: VirtualClockLoop) -> None:
    class First(Spread):
        @step
        async def gather(self, evs: Annotated[list[Answer], Collect(Take(2))]) -> StopEvent:
            return StopEvent(result=[e.n for e in evs])

    assert await First().run(n=5) == [4, 3]
    assert clock.time() == 7


async def test_fan_outs_nest() -> None:
    class Row(Event):
        cells: list[int]

    class Sum(Event):
        total: int

    class Nested(Workflow):
        @step
        async def rows(self, ev: StartEvent) -> list[Row]:
            return [Row(cells=cells) for cells in ev.table]

        @step
        async def cells(self, ev: Row) -> list[Part]:
            return [Part(n=n) for n in ev.cells]

        @step
        async def square(self, ev: Part) -> Answer:
            return Answer(n=ev.n**2)

        @step
        async def row_sum(self, evs: list[Answer]) -> Sum:
            return Sum(total=sum(e.n for e in evs))

        @step
        async def table(self, evs: list[Sum]) -> StopEvent:
            return StopEvent(result=sorted(e.total for e in evs))

    assert await Nested().run(table=[[1, 2], [], [3]]) == [0, 5, 9]


async def test_a_step_with_two_parameters_waits_for_one_of_each(records: RecordLog) -> None:
    class Both(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | B:
            ctx.send_event(A(n=1))
            return B(n=2)

        @step
        async def join(self, a: A, b: B) -> StopEvent:
            return StopEvent(result=(a.n, b.n))

    assert await Both().run() == (1, 2)
    assert [line for line in records.timeline() if "FanIn" in line] == [
        "0 FanInBuffered join has 1, needs 1",
        "0 FanInReleased join of 2",
    ] or len(records.steps()) == 4


async def test_collect_keeps_what_a_later_group_needs() -> None:
    class Pairs(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
            for event in (A(n=1), A(n=2), B(n=3), B(n=4)):
                ctx.send_event(event)
            return None

        @step
        async def pair(self, ctx: Context, ev: A | B) -> Answer | None:
            found = ctx.collect_events(ev, [A, B])
            return Answer(n=found[0].n * 10 + found[1].n) if found else None

        @step
        async def end(self, ctx: Context, ev: Answer) -> StopEvent | None:
            both = ctx.collect_events(ev, [Answer, Answer])
            return StopEvent(result=[e.n for e in both]) if both else None

    assert await Pairs().run() == [13, 24]


async def test_a_step_body_runs_once_for_every_event() -> None:
    ran: list[int] = []

    class Join(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> A | None:
            for n in range(20):
                ctx.send_event(A(n=n))
            return None

        @step
        async def join(self, ctx: Context, ev: A) -> StopEvent | None:
            ran.append(ev.n)
            await asyncio.sleep(0)
            found = ctx.collect_events(ev, [A] * 20)
            return StopEvent(result=len(found)) if found else None

    assert await Join().run() == 20
    assert sorted(ran) == list(range(20))


async def test_a_join_that_can_never_be_complete_explains_itself(clock: VirtualClockLoop) -> None:
    class Stuck(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def join(self, ctx: Context, ev: A) -> StopEvent | None:
            found = ctx.collect_events(ev, [A, A])
            return StopEvent() if found else None

    with pytest.raises(WorkflowDeadlockError, match=r"Step 'join' still needs 1x A .* it has 1x A") as stuck:
        await Stuck(timeout=None).run()
    assert clock.time() < 1
    assert stuck.value.fan_ins == (OpenFanIn("join", "default", has={"A": 1}, misses={"A": 1}),)
    assert stuck.value.last_events == ("start -> A",)


def test_a_list_without_a_producer_is_refused() -> None:
    class Unbound(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def join(self, evs: list[A]) -> StopEvent:
            return StopEvent()

    with pytest.raises(
        WorkflowValidationError, match="'join' gathers a list of A, but no step before it returns a list"
    ):
        Unbound().validate()


async def test_a_list_needs_the_annotation() -> None:
    class Wrong(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A | StopEvent:
            return [A(n=1)]  # type: ignore[return-value]

        @step
        async def end(self, ev: A) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowRuntimeError, match="start returned list instead of an Event instance"):
        await Wrong().run()


class Again(Event):
    n: int


class HalfPairs(Workflow):
    """Each round splits into three; the first one never gets its other half."""

    @step
    async def split(self, ev: StartEvent | Again) -> list[Part]:
        return [Part(n=n) for n in range(3)]

    @step
    async def left(self, ev: Part) -> A:
        return A(n=ev.n)

    @step
    async def right(self, ev: Part) -> B | None:
        return B(n=ev.n) if ev.n else None

    @step
    async def pair(self, a: A, b: B) -> Answer:
        return Answer(n=a.n)

    @step
    async def gather(self, ctx: Context, evs: list[Answer]) -> Again | StopEvent:
        rounds = await ctx.store.get("rounds", default=0) + 1
        await ctx.store.set("rounds", rounds)
        await asyncio.sleep(1)
        return Again(n=rounds) if rounds < 50 else StopEvent(result=len(evs))


async def test_half_pairs_of_lists_that_are_over_do_not_pile_up(clock: VirtualClockLoop) -> None:
    handler = HalfPairs(timeout=None).run()
    sizes: list[int] = []
    for _ in range(2):
        await asyncio.sleep(10.5)
        sizes.append(len(json.dumps(handler.ctx.to_dict())))
    assert sizes[1] - sizes[0] < 50
    assert await handler == 2


async def test_a_deadlock_names_the_half_pairs_of_a_list_that_is_over(clock: VirtualClockLoop) -> None:
    class NoPairs(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[Part]:
            return [Part(n=n) for n in range(3)]

        @step
        async def left(self, ev: Part) -> A:
            return A(n=ev.n)

        @step
        async def right(self, ev: Part) -> B | None:
            return None

        @step
        async def pair(self, a: A, b: B) -> StopEvent:
            return StopEvent()

    with pytest.raises(WorkflowDeadlockError) as caught:
        await NoPairs().run()
    assert caught.value.fan_ins == (OpenFanIn("pair", "each/closed", {"A": 3}, {"B": 1}),)


class SubA(A):
    pass


class Joins(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> A | B | None:
        ctx.send_event(SubA(n=1))
        if ev.get("both"):
            ctx.send_event(B(n=2))
        return None

    @step(accept_event_subclasses=True)
    async def join(self, a: A, b: B) -> StopEvent:
        return StopEvent(result=[a, b])


async def test_a_join_that_waits_with_a_subclass_goes_on_from_a_snapshot(clock: VirtualClockLoop) -> None:
    workflow = Joins(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(1)
    ctx = Context.from_dict(workflow, handler.ctx.to_dict())
    await handler.cancel_run()
    again = workflow.run(ctx=ctx)
    again.ctx.send_event(B(n=2))
    assert await again == [SubA(n=1), B(n=2)]
