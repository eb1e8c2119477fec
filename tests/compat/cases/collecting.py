"""`collect_events`: joining events that are sent one by one."""

import asyncio

from tests.compat.case import case
from tests.compat.flows import A, B, C
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


def collects(expected, sent, timeout=1.0, **options):
    """Sends some events and gives the first group that `collect_events` makes of them."""

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | C | None:
            for each in sent:
                ctx.send_event(each)

        @step(num_workers=1)
        async def t(self, ctx: Context, ev: A | B | C) -> StopEvent | None:
            found = ctx.collect_events(ev, expected, **options)
            return None if found is None else StopEvent(result=[(type(e).__name__, e.n) for e in found])

    return W(timeout=timeout).run()


@case([["A", 2], ["B", 1]])
async def a_group_comes_in_the_order_asked_for():
    return await collects([A, B], [B(n=1), A(n=2)])


@case([["A", 1], ["A", 3], ["B", 2]])
async def a_class_may_be_asked_for_twice():
    return await collects([A, A, B], [A(n=1), B(n=2), A(n=3)])


@case([["C", 3], ["B", 2], ["A", 1]])
async def a_group_may_have_a_buffer_of_its_own():
    return await collects([C, B, A], [A(n=1), B(n=2), C(n=3)], buffer_id="mine")


@case([])
async def a_group_of_nothing_is_empty():
    return await collects([], [A()])


class Child(A):
    pass


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def a_subclass_is_another_event():
    return await collects([A], [Child()], timeout=0.3)


@case([[1, 5, 9], "all"])
async def groups_follow_one_another():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(6):
                ctx.send_event(A(n=i))

        @step(num_workers=1)
        async def t(self, ctx: Context, ev: A) -> B | None:
            found = ctx.collect_events(ev, [A] * 2)
            return B(n=sum(e.n for e in found)) if found else None

        @step(num_workers=1)
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * 3)
            return StopEvent(result=[[e.n for e in found], "all"]) if found else None

    return await W().run()


@case([0, 1, 2, 3, 4])
async def how_many_are_expected_may_come_from_the_state():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            await ctx.store.set("expected", 5)
            for i in range(5):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ev: A) -> B:
            await asyncio.sleep(0.005 * (5 - ev.n))
            return B(n=ev.n)

        @step
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * await ctx.store.get("expected"))
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    return await W().run()


@case(4)
async def a_body_can_collect_into_two_buffers():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
            ctx.send_event(A())
            ctx.send_event(B())

        @step
        async def t(self, ctx: Context, ev: A | B) -> StopEvent | None:
            one = ctx.collect_events(ev, [A, B], buffer_id="1")
            two = ctx.collect_events(ev, [A, B], buffer_id="2")
            return StopEvent(result=len(one) + len(two)) if one and two else None

    return await W(timeout=1).run()


@case([3, 4])
async def the_start_event_can_be_collected():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A(n=4)

        @step
        async def t(self, ctx: Context, ev: A | StartEvent) -> StopEvent | None:
            found = ctx.collect_events(ev, [StartEvent, A])
            return StopEvent(result=[found[0].q, found[1].n]) if found else None

    return await W(timeout=1).run(q=3)


@case([None, None, None])
async def an_unfinished_group_ends_with_its_run():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A(n=ev.q)

        @step
        async def t(self, ctx: Context, ev: A) -> StopEvent:
            found = ctx.collect_events(ev, [A, A])
            return StopEvent(result=[e.n for e in found] if found else None)

    flow = W()
    ctx = Context(flow)
    return [await flow.run(ctx=ctx, q=i) for i in range(3)]


class Pairs(Workflow):
    """A1 A2 B1 B2 arrive; two groups of one A and one B are wanted."""

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
        for each in (A(n=1), A(n=2), B(n=1), B(n=2)):
            ctx.send_event(each)

    @step(num_workers=1)
    async def t(self, ctx: Context, ev: A | B) -> C | None:
        found = ctx.collect_events(ev, [A, B])
        return C(n=found[0].n * 10 + found[1].n) if found else None

    @step(num_workers=1)
    async def u(self, ctx: Context, ev: C) -> StopEvent | None:
        found = ctx.collect_events(ev, [C, C])
        return StopEvent(result=[e.n for e in found]) if found else None


@case([11, 22], peer_gives="!WorkflowTimeoutError", because="collect-keeps-everything")
async def an_event_that_one_group_does_not_need_is_kept_for_the_next():
    return await Pairs(timeout=0.4).run()


class Crowd(Workflow):
    bodies = 0

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        for i in range(20):
            ctx.send_event(A(n=i))

    @step
    async def t(self, ctx: Context, ev: A) -> StopEvent | None:
        self.bodies += 1
        await asyncio.sleep(0.001)
        found = ctx.collect_events(ev, [A] * 20)
        return StopEvent(result=[len(found), "once" if self.bodies == 20 else "again"]) if found else None


@case([20, "once"], peer_gives=[20, "again"], because="collect-keeps-everything")
async def a_body_runs_once_an_event():
    return await Crowd().run()


class Lonely(Event):
    pass


@case([2, 2])
async def groups_of_one_step_are_apart_from_those_of_another():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))

        @step(num_workers=1)
        async def t(self, ctx: Context, ev: A) -> B | None:
            found = ctx.collect_events(ev, [A, A])
            return B(n=len(found)) if found else None

        @step(num_workers=1)
        async def u(self, ctx: Context, ev: A) -> B | None:
            found = ctx.collect_events(ev, [A, A])
            return B(n=len(found)) if found else None

        @step(num_workers=1)
        async def v(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B, B])
            return StopEvent(result=[e.n for e in found]) if found else None

    return await W(timeout=1).run()
