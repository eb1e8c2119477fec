"""Runs: how they start, what they take, when they end."""

import asyncio
import gc
import logging

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, B, Echo, Streaming
from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import Event, StartEvent, StopEvent


class Ask(StartEvent):
    q: str
    k: int = 1


class Typed(Workflow):
    @step
    async def s(self, ev: Ask) -> StopEvent:
        return StopEvent(result=[ev.q, ev.k, ev.get("extra")])


class Slow(Workflow):
    @step
    async def slow(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(ev.get("seconds", 2))
        return StopEvent(result=ev.get("x"))


def everything(**keywords):
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=dict(ev.to_dict()))

    return W().run(**keywords)


@case([1, [1, 2]])
async def a_workflow_runs_any_number_of_times():
    flow = Echo()
    return await flow.run(x=1), await asyncio.gather(flow.run(x=1), flow.run(x=2))


@case({"name": "x", "input": "y", "timeout": 3, "events": [1], "workflow": "w", "context": 3, "event": 2, "args": 1})
async def any_keyword_becomes_a_field_of_the_start_event():
    return await everything(name="x", input="y", timeout=3, events=[1], workflow="w", context=3, event=2, args=1)


@case([["a", 1, None], ["b", 2, 1]])
async def a_start_event_has_declared_fields():
    return await Typed().run(q="a"), await Typed().run(start_event=Ask(q="b", k=2, extra=1))


@case("!WorkflowRuntimeError")
async def a_start_event_that_cannot_be_built_is_refused_by_run():
    return error_of(lambda: Typed().run(k=1))


@case("!ValueError")
async def a_start_event_of_a_wrong_class_is_refused_by_run():
    return error_of(lambda: Echo().run(start_event=A()))


@case(1)
async def keywords_beside_a_start_event_are_ignored():
    return await Echo().run(start_event=StartEvent(x=1), x=2)


@case([1, 2])
async def the_context_and_the_start_event_may_be_given_by_position():
    flow = Echo()
    ctx = Context(flow)
    return await flow.run(ctx, StartEvent(x=1)), await flow.run(None, StartEvent(x=2))


@case([False, False])
async def further_runs_return_a_handler_at_once():
    flow = Slow(num_concurrent_runs=1)
    handlers = [flow.run(seconds=0.01) for _ in range(2)]
    found = [handler.is_done() for handler in handlers]
    await asyncio.gather(*handlers)
    return found


@case("!RuntimeError")
async def a_run_needs_an_event_loop():
    return await asyncio.to_thread(lambda: Echo().run())


@case(["mine", True, 10, True])
async def a_run_has_an_id():
    named, other = Echo().run(run_id="mine"), Echo().run()
    await asyncio.gather(named, other)
    return named.run_id, other.run_id != Echo().run().run_id, len(other.run_id), other.run_id.isalnum()


@case("!RuntimeError")
async def an_id_is_taken_while_its_run_is_known():
    flow = Echo()
    handler = flow.run(run_id="twice")
    refused = error_of(lambda: flow.run(run_id="twice"))
    await handler
    return refused


@case({"x": 1})
async def a_run_id_is_no_field():
    return await everything(run_id="no-field", x=1)


@case([["!WorkflowTimeoutError", True], ["slow"]])
async def a_run_that_takes_too_long_times_out():
    handler = Slow(timeout=0.05).run()
    last = [ev async for ev in handler.stream_events()][-1]
    try:
        await handler
    except WorkflowTimeoutError as error:
        return [f"!{type(error).__name__}", "slow" in str(error)], last.active_steps


@case(["!WorkflowTimeoutError", True])
async def a_timeout_error_is_no_builtin_timeout_error():
    handler = Slow(timeout=0.02).run()
    try:
        await handler
    except Exception as error:
        return f"!{type(error).__name__}", not isinstance(error, TimeoutError)


@case(1)
async def without_a_timeout_a_run_takes_what_it_takes():
    return await Slow(timeout=None).run(seconds=0.05, x=1)


@case([1, 2])
async def what_is_set_before_super_init_is_kept():
    class W(Workflow):
        def __init__(self, first, second, **options):
            self.first = first
            super().__init__(**options)
            self.second = second

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[self.first, self.second])

    return await W(1, 2, timeout=5).run()


@case([1, 2])
async def an_instance_is_shared_by_its_runs():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            self.n = getattr(self, "n", 0) + 1
            return StopEvent(result=self.n)

    flow = W()
    return await flow.run(), await flow.run()


@case([False, False, True])
def options_may_be_given_by_position():
    return Echo(10).validate(), Echo(10, True, False).validate(), Echo(None)._timeout is None


@case([[0, 1, 2, 3, 4, 5], 2])
async def only_so_many_runs_go_on_at_once():
    class W(Workflow):
        now = most = 0

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            W.now += 1
            W.most = max(W.most, W.now)
            await asyncio.sleep(0.01)
            W.now -= 1
            return StopEvent(result=ev.i)

    flow = W(num_concurrent_runs=2)
    return await asyncio.gather(*[flow.run(i=i) for i in range(6)]), W.most


@case([1, 2])
async def a_queueing_run_does_not_time_out():
    flow = Slow(num_concurrent_runs=1, timeout=0.3)
    first, second = flow.run(seconds=0.2, x=1), flow.run(seconds=0.2, x=2)
    return await first, await second


@case([2, 4, [0, 1, 2, 3, 4]])
async def a_step_may_run_another_workflow():
    class Outer(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Echo().run(x=ev.x) + 1)

    ran = [await Outer().run(x=1), await Outer().run(x=3)]
    return [*ran, [await Echo().run(x=i) for i in range(5)]]


@case([1, 2, 3])
async def a_context_is_kept_over_runs():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            n = await ctx.store.get("n", default=0) + 1
            await ctx.store.set("n", n)
            return StopEvent(result=n)

    flow = W()
    ctx = Context(flow)
    return [await flow.run(ctx=ctx) for _ in range(3)]


@case([1, 1, 1], peer_gives=[1, 1, "!WorkflowTimeoutError"], because="timeout-per-run")
async def the_timeout_counts_one_run_of_a_context():
    flow = Slow(timeout=0.25)
    ctx = Context(flow)
    return [await outcome(flow.run(ctx=ctx, seconds=0.1, x=1)) for _ in range(3)]


@case([[0, 1, 2], None])
async def a_stop_event_ends_what_still_runs():
    finished = []

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
            for i in range(3):
                ctx.send_event(A(n=i))
            ctx.send_event(B())

        @step
        async def t(self, ev: A) -> None:
            finished.append(ev.n)
            await asyncio.sleep(1)
            finished.append("late")

        @step
        async def u(self, ev: B) -> StopEvent:
            await asyncio.sleep(0.02)
            return StopEvent()

    await W().run()
    await asyncio.sleep(0.02)
    return sorted(finished), None


@case(["step", "!LookupError"])
async def context_variables_come_from_the_caller_and_stay_in_a_step():
    from contextvars import ContextVar

    caller: ContextVar[str] = ContextVar("caller")
    inner: ContextVar[str] = ContextVar("inner")

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            inner.set("set in a step")
            return A()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=[caller.get(), error_of(inner.get)])

    caller.set("step")
    return await W().run()


@case("done")
async def a_run_goes_on_when_its_handler_is_dropped():
    kept = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0.01)
            kept.append("done")
            return StopEvent()

    W().run()
    await asyncio.sleep(0.1)
    return kept[0]


class Errors(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@case(["one line", True], peer_gives=["nothing", False], because="failures-are-logged")
async def a_failure_that_nobody_sees_is_logged():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError

    logger, errors, disabled = logging.getLogger("workflows"), Errors(), logging.root.manager.disable
    logger.addHandler(errors)
    logging.disable(logging.NOTSET)
    try:
        W().run(run_id="unseen")
        await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0.1)
    finally:
        logger.removeHandler(errors)
        logging.disable(disabled)
    found = [text for text in errors.texts if "unseen" in text]
    return "one line" if len(found) == 1 else "nothing", bool(found)


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def a_run_that_nothing_can_wake_ends():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | None:
            return None

    return await W(timeout=0.3).run()


@case([["!WorkflowDeadlockError", True]], peer_gives=[["!WorkflowTimeoutError", True]], because="deadlocks-are-told")
async def a_deadlock_is_caught_by_the_common_error_classes():
    from workflows.errors import WorkflowRuntimeError

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            class Other(A):
                pass

            return Other()

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

    try:
        await W(timeout=0.3).run()
    except (WorkflowRuntimeError, WorkflowTimeoutError) as error:
        return [[f"!{type(error).__name__}", True]]


@case([7])
async def an_idle_run_takes_events_from_outside():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A | None:
            return A(n=1) if ev.now else None

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n)

    handler = W(timeout=2).run(now=False)
    await asyncio.sleep(0.3)
    handler.ctx.send_event(A(n=7))
    return [await handler]


@case(["done", "done"])
async def a_workflow_can_run_on_one_loop_after_another():
    flow = Streaming(num_concurrent_runs=1)

    def in_a_thread():
        return asyncio.run(_both(flow))

    return await asyncio.to_thread(in_a_thread)


async def _both(flow):
    return await asyncio.gather(flow.run(), flow.run())


class Nothing(Event):
    pass


@case("!WorkflowRuntimeError")
async def a_step_that_returns_no_event_fails_the_run():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return "text"  # type: ignore[return-value]

    return await W().run()
