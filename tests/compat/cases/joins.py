"""Steps with several event parameters: they run when one of each has arrived."""

import asyncio

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Answer, B, C
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent


class Part(Event):
    n: int


@case([1, 2])
async def a_step_with_two_events_runs_when_both_are_there():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            await asyncio.sleep(0.01)
            return A(n=1)

        @step
        async def t(self, ev: StartEvent) -> B:
            return B(n=2)

        @step
        async def u(self, a: A, b: B) -> StopEvent:
            return StopEvent(result=[a.n, b.n])

    return await W(timeout=1).run()


@case([6, True])
async def a_step_may_join_three_events_and_take_the_context():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | C | None:
            for each in (C(n=3), A(n=1), B(n=2)):
                ctx.send_event(each)

        @step
        async def t(self, ctx: Context, a: A, b: B, c: C) -> StopEvent:
            return StopEvent(result=[a.n + b.n + c.n, ctx is not None])

    return await W(timeout=1).run()


@case([0, 11])
async def a_join_runs_once_for_each_pair():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
            for i in range(2):
                ctx.send_event(A(n=i))
                ctx.send_event(B(n=i))

        @step(num_workers=1)
        async def t(self, a: A, b: B) -> C:
            return C(n=a.n * 10 + b.n)

        @step(num_workers=1)
        async def u(self, ctx: Context, ev: C) -> StopEvent | None:
            found = ctx.collect_events(ev, [C, C])
            return StopEvent(result=[e.n for e in found]) if found else None

    return await W(timeout=1).run()


@case([["q", 1]])
async def the_start_event_may_be_one_of_them():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A(n=1)

        @step
        async def t(self, start: StartEvent, a: A) -> StopEvent:
            return StopEvent(result=[[start.q, a.n]])

    return await W(timeout=1).run(q="q")


@case("!WorkflowValidationError")
def a_union_cannot_be_one_of_several():
    class W(Workflow):
        @step
        async def s(self, a: A | B, c: C) -> StopEvent:
            return StopEvent()


@case([1, 2])
async def one_class_may_be_asked_for_twice():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))

        @step
        async def t(self, one: A, two: A) -> StopEvent:
            return StopEvent(result=[one.n, two.n])

    return await W(timeout=0.5).run()


@case(8)
async def two_branches_of_one_list_member_may_be_joined():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[Part]:
            return [Part(n=1), Part(n=2)]

        @step
        async def t(self, ev: Part) -> A:
            return A(n=ev.n)

        @step
        async def u(self, ev: Part) -> B:
            return B(n=ev.n + 1)

        @step
        async def v(self, a: A, b: B) -> C:
            return C(n=a.n + b.n)

        @step
        async def w(self, ev: list[C]) -> StopEvent:
            return StopEvent(result=sum(e.n for e in ev))

    return await W(timeout=1).run()


class OneList(Workflow):
    """The join gets A from a list and B from where a subclass says."""

    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=1), A(n=2)]

    @step
    async def v(self, ev: list[C]) -> StopEvent:
        return StopEvent(result=sorted(e.n for e in ev))


@case(["!WorkflowValidationError", "!WorkflowValidationError", "!WorkflowValidationError", "!WorkflowValidationError"])
def a_join_across_levels_of_a_list_is_refused():
    class WithTop(OneList):
        @step
        async def t(self, ev: StartEvent) -> B:
            return B()

        @step
        async def u(self, a: A, b: B) -> C:
            return C()

    class WithStart(OneList):
        @step
        async def u(self, a: A, b: StartEvent) -> C:
            return C()

    class WithPerson(OneList):
        @step
        async def u(self, a: A, b: Answer) -> C:
            return C()

    class WithOtherList(OneList):
        @step
        async def t(self, ev: StartEvent) -> list[B]:
            return [B()]

        @step
        async def u(self, a: A, b: B) -> C:
            return C()

    return [error_of(lambda f=f: f().validate()) for f in (WithTop, WithStart, WithPerson, WithOtherList)]


@case([11, 22], peer_gives="!WorkflowValidationError", because="joins-with-what-a-handler-gives")
async def a_join_may_take_what_a_handler_gives():
    class W(OneList):
        @step
        async def t(self, ev: A) -> None:
            raise ValueError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> B:
            return B(n=ev.input_event.n * 10)

        @step
        async def u(self, a: A, b: B) -> C:
            return C(n=a.n + b.n)

    return await W(timeout=1).run()


class Nested(Workflow):
    """Every part opens a list of its own; what those hold says a subclass."""

    @step
    async def s(self, ev: StartEvent) -> list[Part]:
        return [Part(n=1), Part(n=2)]

    @step(num_workers=1)
    async def u(self, a: A, b: B) -> C:
        return C(n=a.n * 10 + b.n)

    @step(num_workers=1)
    async def v(self, ctx: Context, ev: C) -> StopEvent | None:
        seen = [*await ctx.store.get("seen", default=[]), ev.n]
        await ctx.store.set("seen", seen)
        return StopEvent(result=seen) if len(seen) == self.wanted else None


@case([22, 11])
async def a_join_pairs_what_comes_from_one_list():
    class Both(Nested):
        wanted = 2

        @step
        async def t(self, ev: Part) -> list[A | B]:
            await asyncio.sleep(0.03 * (3 - ev.n))
            return [A(n=ev.n), B(n=ev.n)]

    return await Both(timeout=1, disable_validation=True).run()


@case("!WorkflowDeadlockError", peer_gives=[12], because="joins-within-a-list")
async def a_join_does_not_pair_what_comes_from_two_lists():
    class Halves(Nested):
        wanted = 1

        @step
        async def t(self, ev: Part) -> list[A | B]:
            return [A(n=ev.n)] if ev.n == 1 else [B(n=ev.n)]

    return await outcome(Halves(timeout=0.3, disable_validation=True).run())


@case(
    [False, "!WorkflowValidationError"], peer_gives=["!WorkflowValidationError", False], because="events-beside-a-list"
)
def an_event_returned_beside_a_list_is_not_in_it():
    class WithStart(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A] | A:
            return A()

        @step
        async def u(self, a: A, start: StartEvent) -> StopEvent:
            return StopEvent()

    class WithList(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[B] | A:
            return A()

        @step
        async def u(self, a: A, b: B) -> StopEvent:
            return StopEvent()

    return error_of(lambda: WithStart().validate()), error_of(lambda: WithList().validate())


class SubA(A):
    pass


@case(["SubA", 1, "B", 2])
async def a_join_takes_subclasses_where_its_step_does():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
            ctx.send_event(SubA(n=1))
            ctx.send_event(B(n=2))

        @step(accept_event_subclasses=True)
        async def t(self, a: A, b: B) -> StopEvent:
            return StopEvent(result=[type(a).__name__, a.n, type(b).__name__, b.n])

    return await W(timeout=1).run()


@case(["A", 2, "SubA", 1])
async def a_join_that_takes_subclasses_takes_each_for_its_own_class_first():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | SubA | None:
            ctx.send_event(SubA(n=1))
            ctx.send_event(A(n=2))

        @step(accept_event_subclasses=True)
        async def t(self, a: A, sub: SubA) -> StopEvent:
            return StopEvent(result=[type(a).__name__, a.n, type(sub).__name__, sub.n])

    return await W(timeout=1).run()
