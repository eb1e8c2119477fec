"""Fan-out with `list[...]`, fan-in with a list parameter, `Collect`, `Take`, and several event parameters."""

import asyncio
from typing import Annotated

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, B, C
from workflows import Context, Workflow, catch_error, step
from workflows.collect import All, Collect, Take
from workflows.events import InputRequiredEvent, StartEvent, StepFailedEvent, StopEvent


class Spread(Workflow):
    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=i) for i in range(ev.get("count", 5))]


def numbers(events):
    return StopEvent(result=sorted(e.n for e in events))


class Doubling(Spread):
    @step
    async def t(self, ev: A) -> B:
        return B(n=ev.n * 2)

    @step
    async def u(self, ev: list[B]) -> StopEvent:
        return numbers(ev)


@case([[0, 2, 4, 6, 8], [0], []])
async def every_branch_is_gathered():
    return [await Doubling(timeout=1).run(count=n) for n in (5, 1, 0)]


@case([1, 3])
async def a_branch_that_gives_nothing_is_left_out():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B | None:
            return B(n=ev.n) if ev.n % 2 else None

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run()


@case([])
async def a_list_of_which_every_branch_gives_nothing_is_empty():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B | None:
            return None

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run()


@case([0, 1])
async def take_goes_on_after_the_first_few():
    class W(Spread):
        @step(num_workers=5)
        async def t(self, ev: A) -> B:
            await asyncio.sleep(0.03 * ev.n)
            return B(n=ev.n)

        @step
        async def u(self, ev: Annotated[list[B], Collect(Take(2))]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run()


@case([0, 2, 4])
async def all_may_be_said():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B:
            return B(n=ev.n * 2)

        @step
        async def u(self, ev: Annotated[list[B], Collect(All())]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run(count=3)


@case(["!ValueError", "!ValueError"])
def take_takes_one_or_more():
    return error_of(lambda: Take(0)), error_of(lambda: Take(-1))


@case([3, 2, 1, 0])
async def members_come_as_they_are_done():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B:
            await asyncio.sleep(0.02 * (4 - ev.n))
            return B(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return StopEvent(result=[e.n for e in ev])

    return await W(timeout=1).run(count=4)


@case([["A", 1], ["C", 2]])
async def a_list_may_mix_classes():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A | C]:
            return [A(n=1), C(n=2)]

        @step
        async def t(self, ev: A | C) -> B:
            return B(n=ev.n, of=type(ev).__name__)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return StopEvent(result=sorted([e.of, e.n] for e in ev))

    return await W(timeout=1).run()


@case([[1, "A"], [2, "C"]])
async def a_join_may_gather_several_classes():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[B]:
            return [B(n=1), B(n=2)]

        @step
        async def t(self, ev: B) -> A | C:
            return A(n=1) if ev.n == 1 else C(n=2)

        @step
        async def u(self, ev: list[A | C]) -> StopEvent:
            return StopEvent(result=sorted([e.n, type(e).__name__] for e in ev))

    return await W(timeout=1).run()


@case([1, 2])
async def what_is_spread_may_be_gathered_at_once():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return [A(n=1), A(n=2)]

        @step
        async def u(self, ev: list[A]) -> StopEvent:
            return StopEvent(result=[e.n for e in ev])

    return await W(timeout=1).run()


@case(["bare", [1]])
async def a_list_or_a_bare_event():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A] | StopEvent:
            return StopEvent(result="bare") if ev.bare else [A(n=1)]

        @step
        async def t(self, ev: A) -> B:
            return B(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await W().run(bare=True), await W().run(bare=False)


@case([33, 63])
async def lists_nest():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return [A(n=1), A(n=2)]

        @step
        async def t(self, ev: A) -> list[B]:
            return [B(n=ev.n * 10 + i) for i in range(3)]

        @step
        async def u(self, ev: list[B]) -> C:
            return C(n=sum(e.n for e in ev))

        @step
        async def v(self, ev: list[C]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run()


@case(6)
async def a_join_may_start_the_next_round():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent | C) -> list[A]:
            return [A(n=i) for i in range(2 + ev.get("n", 0) if isinstance(ev, StartEvent) else 2 + ev.n)]

        @step
        async def t(self, ev: A) -> B:
            return B(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> C | StopEvent:
            return C(n=len(ev)) if len(ev) < 6 else StopEvent(result=len(ev))

    return await W(timeout=1).run()


@case([0, 1, 2, 3])
async def a_branch_may_take_several_steps():
    class W(Spread):
        @step
        async def t(self, ev: A) -> C:
            return C(n=ev.n)

        @step
        async def u(self, ev: C) -> B:
            return B(n=ev.n)

        @step
        async def v(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await W(timeout=1).run(count=4)


@case([[0, 1, 2], "again"])
async def a_branch_may_loop():
    class W(Spread):
        @step
        async def t(self, ev: A | C) -> C | B:
            return B(n=ev.n) if isinstance(ev, C) else C(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return StopEvent(result=[sorted(e.n for e in ev), "again"])

    return await W(timeout=1).run(count=3)


@case(["!KeyError", 1])
async def a_branch_that_fails_fails_the_run():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B:
            if ev.n == 1:
                raise KeyError
            return B(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await outcome(W(timeout=1).run()), 1


@case([-1, 0, 2])
async def a_caught_failure_takes_the_place_of_its_branch():
    class W(Spread):
        @step
        async def t(self, ev: A) -> B:
            if ev.n == 1:
                raise KeyError
            return B(n=ev.n)

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

        @catch_error
        async def v(self, ev: StepFailedEvent) -> B:
            return B(n=-1)

    return await W(timeout=1).run(count=3)


@case(["!WorkflowRuntimeError", "!WorkflowRuntimeError"])
async def what_is_no_list_of_events_fails_the_run():
    class Tuple(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return (A(n=1),)  # type: ignore[return-value]

    class Undeclared(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return [A(n=1)]  # type: ignore[return-value]

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    return await outcome(Tuple(timeout=0.5).run()), await outcome(Undeclared(timeout=0.5).run())


@case("!WorkflowRuntimeError")
async def a_bare_event_from_a_step_that_returns_lists_fails_the_run():
    class W(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return A(n=1)  # type: ignore[return-value]

    return await outcome(W(timeout=0.5).run())


@case(["!WorkflowRuntimeError", "!WorkflowRuntimeError", "declared"])
async def an_end_that_a_step_of_lists_does_not_declare_fails_the_run():
    class Undeclared(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return StopEvent(result="undeclared")  # type: ignore[return-value]

    class Asks(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return InputRequiredEvent()  # type: ignore[return-value]

    class Declared(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A] | StopEvent:
            return StopEvent(result="declared")

    return [await outcome(flow(timeout=0.5).run()) for flow in (Undeclared, Asks, Declared)]


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def a_list_that_is_none_opens_nothing():
    class W(Doubling):
        @step
        async def s(self, ev: StartEvent) -> list[A] | None:  # type: ignore[override]
            return None

    return await outcome(W(timeout=0.3).run())


@case("!WorkflowValidationError")
def a_list_parameter_needs_a_step_that_returns_a_list():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A()

        @step
        async def t(self, ev: list[A]) -> StopEvent:
            return StopEvent()

    W().validate()


@case("!WorkflowValidationError")
def a_list_parameter_stands_alone():
    class W(Spread):
        @step
        async def t(self, ev: list[A], other: B) -> StopEvent:
            return StopEvent()

    W().validate()


@case("!WorkflowRuntimeError")
async def no_event_can_be_sent_to_a_step_that_gathers_a_list():
    class W(Spread):
        @step
        async def t(self, ctx: Context, ev: A) -> B:
            ctx.send_event(B(), step="u")
            return B()

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return StopEvent()

    return await outcome(W(timeout=0.5).run())


@case([0, 1, 10, 11], peer_gives=[], because="sent-branches")
async def a_branch_may_send_its_events():
    class W(Spread):
        @step
        async def t(self, ctx: Context, ev: A) -> B | None:
            ctx.send_event(B(n=ev.n))
            ctx.send_event(B(n=ev.n + 10))

        @step
        async def u(self, ev: list[B]) -> StopEvent:
            return numbers(ev)

    return await outcome(W(timeout=0.5).run(count=2))


@case(["only", "last", 1])
async def a_stop_event_in_a_list_ends_the_run():
    class Only(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[StopEvent]:
            return [StopEvent(result="only")]

    class Last(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A | StopEvent]:
            return [A(n=1), StopEvent(result="last")]

        @step
        async def b(self, ev: A) -> StopEvent:
            await asyncio.sleep(0.1)
            return StopEvent(result="b")

    class First(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[StopEvent]:
            return [StopEvent(result=1), StopEvent(result=2)]

    return [await outcome(workflow(timeout=1).run()) for workflow in (Only, Last, First)]


@case("found")
async def a_branch_ends_the_run_with_a_list():
    class W(Spread):
        @step
        async def t(self, ev: A) -> list[B | StopEvent]:
            return [StopEvent(result="found")] if ev.n == 1 else [B(n=ev.n)]

        @step
        async def u(self, ev: list[B]) -> B | StopEvent:
            await asyncio.sleep(0.1)
            return StopEvent(result="joined")

    return await outcome(W(timeout=1).run())


@case([0, 1])
async def a_list_may_be_of_a_class_of_its_own():
    class Page(list):
        pass

    class W(Spread):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return Page([A(n=0), A(n=1)])

        @step
        async def u(self, ev: list[A]) -> StopEvent:
            return numbers(ev)

    return await outcome(W(timeout=1).run())
