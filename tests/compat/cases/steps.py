"""Events on their way: which steps take them, in what order, how many at once."""

import asyncio
from typing import Any

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, B, C
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


@case([5, 1])
async def a_step_may_return_its_own_event_again():
    class Loop(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A()

        @step
        async def t(self, ev: A) -> A | StopEvent:
            return A(n=ev.n + 1) if ev.n < 5 else StopEvent(result=ev.n)

    class One(Workflow):
        @step
        async def s(self, ev: StartEvent | A) -> A | StopEvent:
            return StopEvent(result=1) if isinstance(ev, A) else A()

    return await Loop().run(), await One().run()


@case(3)
async def an_event_that_is_not_annotated_may_be_returned():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A | B:
            return A()

        @step
        async def t(self, ev: A) -> StopEvent:
            return B()  # type: ignore[return-value]

        @step
        async def u(self, ev: B) -> StopEvent:
            return StopEvent(result=3)

    return await W().run()


class Fork(Workflow):
    """Both steps take the start event; the slower one ends the run with what they noted."""

    @step
    async def one(self, ev: StartEvent) -> StopEvent | None:
        ev.notes.append("one")
        await asyncio.sleep(0.02)
        return StopEvent(result=ev.notes)

    @step
    async def two(self, ev: StartEvent) -> None:
        ev.notes.append("two")


@case([["one", "two"], ["one", "two"]])
async def every_accepting_step_gets_the_same_instance():
    notes: list[str] = []
    return await Fork().run(notes=notes), notes


@case(["second", "first"], peer_gives=["first", "second"], because="definition-order")
async def steps_of_one_event_start_in_the_order_of_definition():
    class W(Workflow):
        @step
        async def second(self, ev: StartEvent) -> StopEvent | None:
            ev.notes.append("second")
            await asyncio.sleep(0.02)
            return StopEvent(result=ev.notes)

        @step
        async def first(self, ev: StartEvent) -> None:
            ev.notes.append("first")

    return await W().run(notes=[])


class SendsFour(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        for i in range(4):
            ctx.send_event(A(n=i))

    @step(num_workers=1)
    async def t(self, ctx: Context, ev: A) -> StopEvent | None:
        seen = await ctx.store.get("seen", default=[])
        await ctx.store.set("seen", [*seen, ev.n])
        return StopEvent(result=[*seen, ev.n]) if len(seen) == 3 else None


@case([0, 1, 2, 3])
async def events_that_a_step_sends_arrive_in_order():
    return await SendsFour().run()


@case([1, 2, 3], peer_gives=[3, 1, 2], because="send-order")
async def a_returned_event_comes_after_those_sent_before():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))
            return A(n=3)

        @step(num_workers=1)
        async def t(self, ctx: Context, ev: A) -> StopEvent | None:
            seen = [*await ctx.store.get("seen", default=[]), ev.n]
            await ctx.store.set("seen", seen)
            return StopEvent(result=seen) if len(seen) == 3 else None

    return await W().run()


class Busy(Workflow):
    now = most = 0

    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        for i in range(10):
            ctx.send_event(A(n=i))

    async def work(self, ev: Any) -> B:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        return B()

    @step
    async def u(self, ctx: Context, ev: B) -> StopEvent | None:
        return StopEvent(result=self.most) if ctx.collect_events(ev, [B] * 10) else None


@case([3, 4, 1])
async def num_workers_limits_how_many_run_at_once():
    class Three(Busy):
        @step(num_workers=3)
        async def t(self, ev: A) -> B:
            return await self.work(ev)

    class Default(Busy):
        @step
        async def t(self, ev: A) -> B:
            return await self.work(ev)

    class One(Busy):
        @step(num_workers=1)
        async def t(self, ev: A) -> B:
            return await self.work(ev)

    return await Three().run(), await Default().run(), await One().run()


class Targeted(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        unknown = error_of(lambda: ctx.send_event(A(), step="no_such_step"))
        refused = error_of(lambda: ctx.send_event(A(), step="u"))
        await ctx.store.set("errors", [unknown, refused])
        ctx.send_event(A(), step="second")

    @step
    async def first(self, ev: A) -> B:
        return B(n=1)

    @step
    async def second(self, ev: A) -> B:
        return B(n=2)

    @step
    async def u(self, ctx: Context, ev: B) -> StopEvent:
        return StopEvent(result=[await ctx.store.get("errors"), ev.n])


@case([["!WorkflowRuntimeError", "!WorkflowRuntimeError"], 2])
async def an_event_can_be_sent_to_one_step():
    return await Targeted().run()


class Child(A):
    pass


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def an_event_of_a_subclass_is_taken_by_no_step_of_its_parent():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return Child()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    return await W(timeout=0.3).run()


@case(["Child", "A"])
async def a_step_can_ask_for_subclasses_too():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> Child | A:
            return ev.what

        @step(accept_event_subclasses=True)
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=type(ev).__name__)

    return await W().run(what=Child()), await W().run(what=A())


@case("A")
async def a_step_can_ask_for_every_event():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A | B:
            return A()

        @step(accept_event_subclasses=True)
        async def t(self, ev: Event) -> StopEvent | None:
            return StopEvent(result=type(ev).__name__) if isinstance(ev, A | B) else None

    return await W(timeout=0.5).run()


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def a_stop_event_that_is_sent_ends_nothing():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent | None:
            ctx.send_event(StopEvent(result=1))
            await asyncio.sleep(0.01)

    return await W(timeout=0.3).run()


@case(1)
async def the_first_of_two_stop_events_wins():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n)

    return await W().run()


@case([1, "worker"])
async def a_sync_step_runs_in_a_thread():
    import threading

    class W(Workflow):
        @step
        def s(self, ev: StartEvent) -> StopEvent:
            worker = threading.current_thread() is not threading.main_thread()
            return StopEvent(result=[ev.x, "worker" if worker else "main"])

    return await W().run(x=1)


@case(["sent", ["Progress"]], peer_gives=["!RuntimeError", []], because="emit-from-anywhere")
async def a_sync_step_can_send_and_stream():
    class W(Workflow):
        @step
        def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.write_event_to_stream(C())
            ctx.send_event(A())

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result="sent")

    handler = W(timeout=1).run()
    shown = ["Progress" async for ev in handler.stream_events() if isinstance(ev, C)]
    return await outcome(handler), shown


@case([3])
async def a_sync_step_can_collect():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(3):
                ctx.send_event(A(n=i))

        @step(num_workers=1)
        def t(self, ctx: Context, ev: A) -> StopEvent | None:
            found = ctx.collect_events(ev, [A] * 3)
            return StopEvent(result=[sum(e.n for e in found)]) if found else None

    return await W().run()


@case(5, peer_gives="!WorkflowRuntimeError", because="emit-from-anywhere")
async def another_thread_can_send():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            try:
                await asyncio.to_thread(lambda: ctx.send_event(A(n=5)))
            except RuntimeError:
                return A(n=-1)
            return None

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n) if ev.n > 0 else "no event"  # type: ignore[return-value]

    return await W(timeout=1).run()


@case(5)
async def a_task_that_a_step_leaves_behind_can_send():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            async def later():
                await asyncio.sleep(0.05)
                ctx.send_event(A(n=5))

            self._task = asyncio.create_task(later())

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n)

    return await W(timeout=1).run()


@case(["!ValueError", True])
async def an_error_of_a_step_is_raised_as_it_is():
    mine = ValueError("mine")

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise mine

    try:
        await W().run()
    except ValueError as error:
        return f"!{type(error).__name__}", error is mine


@case(["!AttributeError", "!KeyError", "!ExceptionGroup", "!TimeoutError"])
async def errors_of_every_kind_are_raised_as_they_are():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.missing)

    class Sync(Workflow):
        @step
        def s(self, ev: StartEvent) -> StopEvent:
            raise KeyError

    class Group(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.fail())

        async def fail(self):
            raise KeyError

    class Late(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            await asyncio.wait_for(asyncio.sleep(1), 0.01)
            return StopEvent()

    return [await outcome(flow.run()) for flow in (W(), Sync(), Group(), Late())]


@case("!StepCancelledError", peer_gives="!WorkflowTimeoutError", because="cancelled-error-in-a-step")
async def a_cancelled_error_of_a_step_fails_the_run():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise asyncio.CancelledError

    return await W(timeout=0.3).run()


@case("!RuntimeError", peer_gives="!WorkflowTimeoutError", because="stop-iteration-in-a-sync-step")
async def a_stop_iteration_of_a_sync_step_fails_the_run():
    class W(Workflow):
        @step
        def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=next(iter([])))

    return await W(timeout=0.3).run()


@case("!SystemExit")
async def a_system_exit_goes_through():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise SystemExit(3)

    return await W(timeout=1).run()
