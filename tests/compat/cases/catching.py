"""`@catch_error`: what happens when a step has failed and its retries are used up."""

from tests.compat.case import case, error_of, names, outcome
from tests.compat.flows import A, B
from workflows import Context, Workflow, catch_error, step
from workflows.events import StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_if_exception, retry_policy, stop_after_attempt, wait_fixed


class Fails(Workflow):
    @step
    async def s(self, ev: StartEvent) -> StopEvent:
        raise ValueError("x")


@case([["s", "ValueError('x')", 1, "StartEvent"], ["StopEvent"]])
async def a_handler_gets_what_failed_and_may_end_the_run():
    class W(Fails):
        @catch_error
        async def handle(self, ctx: Context, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=[ev.step_name, repr(ev.exception), ev.attempts, type(ev.input_event).__name__])

    handler = W().run()
    return await handler, names([ev async for ev in handler.stream_events()])


@case(3)
async def a_handler_may_send_the_run_on():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            raise ValueError

        @step
        async def t(self, ev: A) -> StopEvent:
            if ev.n < 3:
                raise KeyError
            return StopEvent(result=ev.n)

        @catch_error(for_steps=["t"], max_recoveries=2)
        async def again(self, ev: StepFailedEvent) -> A:
            return A(n=ev.input_event.n + 1)

        @catch_error
        async def other(self, ev: StepFailedEvent) -> A:
            return A(n=1)

    return await W().run()


@case(["!KeyError", 3])
async def recoveries_are_counted_along_the_events():
    calls = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent | A) -> StopEvent:
            calls.append(1)
            raise KeyError

        @catch_error(max_recoveries=2)
        async def handle(self, ev: StepFailedEvent) -> A:
            return A()

    return await outcome(W().run()), len(calls)


@case(["!KeyError", 2])
async def one_recovery_is_the_default():
    calls = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent | A) -> StopEvent:
            calls.append(1)
            raise KeyError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> A:
            return A()

    return await outcome(W().run()), len(calls)


@case("!RuntimeError")
async def a_handler_that_fails_fails_the_run():
    class W(Fails):
        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            raise RuntimeError("in the handler") from ev.exception

    return await outcome(W().run())


@case([-1, 0, 2])
async def other_work_goes_on_beside_a_caught_failure():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(3):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ev: A) -> B:
            if ev.n == 1:
                raise KeyError
            return B(n=ev.n)

        @step
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * 3)
            return StopEvent(result=sorted(e.n for e in found)) if found else None

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> B | None:
            return B(n=-1)

    return await W().run()


@case([3, 3])
async def a_handler_comes_after_the_retries():
    calls = []

    class W(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
        async def s(self, ev: StartEvent) -> StopEvent:
            calls.append(1)
            raise ValueError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=[ev.attempts, len(calls)])

    return await W().run()


@case("!WorkflowDeadlockError", peer_gives="!WorkflowTimeoutError", because="deadlocks-are-told")
async def a_handler_that_returns_nothing_drops_what_failed():
    class W(Fails):
        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent | None:
            return None

    return await outcome(W(timeout=0.3).run())


@case(["handled", "!ValueError"])
async def a_handler_covers_the_steps_it_names():
    class Named(Fails):
        @catch_error(for_steps=["s"])
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="handled")

    class Other(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            raise ValueError

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent()

        @catch_error(for_steps=["t"])
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result="handled")

    return await Named().run(), await outcome(Other().run())


class JoinFails(Workflow):
    @step
    async def s(self, ev: StartEvent) -> list[A]:
        return [A(n=1), A(n=2)]

    @step
    async def t(self, ev: list[A]) -> StopEvent:
        raise ValueError

    @catch_error
    async def handle(self, ev: StepFailedEvent) -> StopEvent:
        events = ev.input_event.events
        return StopEvent(result=[type(ev.input_event).__name__, sorted(e.n for e in events)])


@case(["CollectionReleaseEvent", [1, 2]])
async def a_join_that_fails_gives_its_events():
    return await JoinFails().run()


@case([["A", 1], ["B", 2]])
async def a_step_of_several_events_that_fails_gives_the_last():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | B | None:
            for event in (B(n=2), A(n=1)) if ev.a_last else (A(n=1), B(n=2)):
                ctx.send_event(event)

        @step
        async def t(self, a: A, b: B) -> StopEvent:
            raise ValueError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=[type(ev.input_event).__name__, ev.input_event.n])

    return [await W().run(a_last=True), await W().run(a_last=False)]


@case([[["!ValueError", 2], ["!ValueError", 1]]])
async def a_handler_of_ones_own_is_not_retried():
    calls = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent | A) -> StopEvent:
            calls.append("s")
            raise ValueError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> A:
            calls.append("handle")
            return A()

    result = await outcome(W().run())
    return [[[result, calls.count("s")], [result, calls.count("handle")]]]


def invalid(handlers):
    """A workflow whose step fails, with these `(name, options)` of handlers, validated."""

    class W(Fails):
        pass

    for name, options in handlers:

        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent()

        handle.__name__ = name
        handle.__qualname__ = f"W.{name}"
        setattr(W, name, catch_error(**options)(handle))
    return error_of(lambda: W().validate())


@case(
    [
        False,
        "!WorkflowValidationError",
        "!WorkflowValidationError",
        "!WorkflowValidationError",
        "!WorkflowValidationError",
    ]
)
def handlers_are_validated():
    return [
        invalid([("a", {})]),
        invalid([("a", {"for_steps": ["no_such_step"]})]),
        invalid([("a", {}), ("b", {})]),
        invalid([("a", {"for_steps": ["s"]}), ("b", {"for_steps": ["s"]})]),
        invalid([("a", {}), ("b", {"for_steps": ["a"]})]),
    ]


@case(["!WorkflowValidationError", "!WorkflowValidationError"])
def a_handler_takes_a_step_failed_event_and_nothing_else():
    def wrong():
        class W(Fails):
            @catch_error
            async def handle(self, ev: A) -> StopEvent:
                return StopEvent()

    def several():
        class W(Fails):
            @catch_error
            async def handle(self, ev: StepFailedEvent | A) -> StopEvent:
                return StopEvent()

    return error_of(wrong), error_of(several)


@case(["!WorkflowValidationError", "!WorkflowValidationError"])
def the_number_of_recoveries_is_positive():
    async def handle(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent()

    handle.__qualname__ = "W.handle"
    return [error_of(lambda n=n: catch_error(max_recoveries=n)(handle) and None) for n in (0, -1)]


@case([["mended", "rescued"], ["s", "join"]])
async def what_a_list_is_gathered_for_begins_a_count_of_its_own():
    failed = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> B:
            raise ValueError

        @step
        async def split(self, ev: B) -> list[A]:
            return [A(n=1)]

        @step
        async def join(self, ev: list[A]) -> StopEvent:
            raise KeyError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> B | StopEvent:
            failed.append(ev.step_name)
            return B() if ev.step_name == "s" else StopEvent(result=["mended", "rescued"])

    return await W().run(), failed


@case([["join", "t"], "rescued"])
async def a_branch_of_a_list_that_was_mended_is_no_recovery_of_its_join():
    failed = []

    class W(Workflow):
        @step
        async def split(self, ev: StartEvent) -> list[A]:
            return [A(n=1), A(n=2)]

        @step
        async def t(self, ev: A) -> B:
            if ev.n == 1:
                raise ValueError
            return B(n=ev.n)

        @step
        async def join(self, ev: list[B]) -> StopEvent:
            raise KeyError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> B | StopEvent:
            failed.append(ev.step_name)
            return B(n=9) if ev.step_name == "t" else StopEvent(result="rescued")

    result = await W().run()
    return sorted(failed), result


@case([["AttributeError", "ValueError"], "mended"])
async def a_handler_gets_the_error_of_a_policy():
    failed = []

    class W(Workflow):
        @step(
            retry_policy=retry_policy(retry=retry_if_exception(lambda e: e.status == 429), stop=stop_after_attempt(3))
        )
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError

        @catch_error
        async def handle(self, ev: StepFailedEvent) -> StopEvent:
            failed.extend([type(ev.exception).__name__, type(ev.exception.__cause__).__name__])
            return StopEvent(result="mended")

    result = await W().run()
    return failed, result
