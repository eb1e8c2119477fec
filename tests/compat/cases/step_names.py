"""A step is called as its attribute in the class, whatever its function is called."""

from typing import Any

from tests.compat.case import case
from tests.compat.flows import A, B
from workflows import Context, Workflow, step
from workflows.decorators import catch_error
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent


class Start(Workflow):
    @step
    async def start(self, ev: StartEvent) -> A:
        return A(n=1)


def made(takes: type[Event], gives: type[Event]) -> Any:
    """A step made as a program makes one from a configuration: each has the same function name."""

    async def run_it(self, ev):  # type: ignore[no-untyped-def]
        return gives()

    run_it.__qualname__ = "Made.run_it"
    run_it.__annotations__ = {"ev": takes, "return": gives}
    return step(run_it)


class Private(Start):
    @step
    async def __finish(self, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)


@case([["_Private__finish", "start"], 1])
async def a_step_may_be_private_by_two_underscores():
    return sorted(Private()._get_steps()), await Private().run()


@case(2)
async def a_parent_and_a_subclass_each_have_a_private_step_of_one_name():
    class Above(Workflow):
        @step
        async def __work(self, ev: StartEvent) -> A:
            return A(n=1)

    class Below(Above):
        @step
        async def __work(self, ev: A) -> StopEvent:
            return StopEvent(result=ev.n + 1)

    return await Below().run()


@case([["end", "middle", "start"], None])
async def steps_may_be_made_by_a_factory():
    class Made(Workflow):
        start = made(StartEvent, A)
        middle = made(A, B)
        end = made(B, StopEvent)

    return sorted(Made()._get_steps()), await Made().run()


@case(None)
async def a_workflow_may_be_made_from_a_table_of_steps():
    steps = {"start": made(StartEvent, A), "end": made(A, StopEvent)}
    return await type(Workflow)("Made", (Workflow,), steps)().run()


@case([["finish", "start"], 1])
async def a_step_may_be_set_on_its_class():
    class Late(Start):
        pass

    async def fin(self: Any, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)

    fin.__qualname__ = "Late.fin"
    Late.finish = step(fin)
    return sorted(Late()._get_steps()), await Late().run()


class Twice(Workflow):
    """Each of its two first steps notes its name; the last one gives the names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[str] = []

    @step
    async def check(self, ev: StartEvent) -> B:
        self.seen.append("the parent's")
        return B()

    @step
    async def end(self, ctx: Context, ev: B) -> StopEvent | None:
        return StopEvent(result=sorted(self.seen)) if ctx.collect_events(ev, [B] * 2) else None


@case(["its own", "the parent's"])
async def a_step_of_the_parent_goes_on_under_another_name():
    class Checked(Twice):
        base_check = Twice.check

        @step
        async def check(self, ev: StartEvent) -> B:
            self.seen.append("its own")
            return B()

    return await Checked(timeout=2).run()


@case(["the parent's", "the parent's"])
async def a_step_of_two_names_runs_for_each():
    class Both(Twice):
        again = Twice.check

    return await Both(timeout=2).run()


@case(["_Healed__boom", "!WorkflowValidationError"])
async def a_handler_of_failures_names_the_attribute():
    class Healed(Workflow):
        @step
        async def __boom(self, ev: StartEvent) -> StopEvent:
            raise ValueError

        @catch_error(for_steps=["_Healed__boom"])
        async def __heal(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent(result=ev.step_name)

    class Lost(Workflow):
        @step
        async def __boom(self, ev: StartEvent) -> StopEvent:
            raise ValueError

        @catch_error(for_steps=["__boom"])
        async def __heal(self, ev: StepFailedEvent) -> StopEvent:
            return StopEvent()

    try:
        await Lost().run()
    except Exception as error:
        return await Healed().run(), f"!{type(error).__name__}"


@case([2])
async def an_event_is_sent_to_the_attribute():
    class Sent(Start):
        @step
        async def __choose(self, ctx: Context, ev: A) -> B | None:
            ctx.send_event(B(n=2), step="_Sent__one")
            return None

        @step
        async def __one(self, ev: B) -> StopEvent:
            return StopEvent(result=[ev.n])

        @step
        async def __other(self, ev: B) -> StopEvent:
            return StopEvent(result="the other one")

    return await Sent().run()


@case(["_Private__finish", "start"])
async def the_stream_names_the_attribute():
    handler = Private().run()
    names = [getattr(ev, "name", None) async for ev in handler.stream_events(expose_internal=True)]
    return sorted({name for name in names if name})


@case([["inner", "start"], "wrapped"])
async def an_attached_function_is_called_as_it_was_attached():
    class Wrapped(Start):
        pass

    class Elsewhere(Start):
        pass

    @step(workflow=Elsewhere)
    async def fin(ev: A) -> StopEvent:
        return StopEvent(result="bare")

    async def inner(ev: A) -> StopEvent:
        await fin(ev)
        return StopEvent(result="wrapped")

    inner.__dict__.update(fin.__dict__)
    Wrapped.add_step(inner)
    return sorted(Wrapped()._get_steps()), await Wrapped().run()
