"""Defining steps: what `@step` accepts, and what it refuses at once."""

import asyncio
import functools
from typing import Annotated, Any, Optional, Union

from tests.compat.case import case, error_of
from tests.compat.flows import A, B, Echo
from workflows import Context, Workflow, step
from workflows.decorators import StepConfig
from workflows.events import Event, StartEvent, StopEvent


@case(["!WorkflowValidationError", "!WorkflowValidationError", "!WorkflowValidationError"])
def num_workers_is_a_positive_integer():
    def define(num_workers):
        @step(num_workers=num_workers)
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    return [error_of(lambda n=n: define(n)) for n in (0, -1, "2")]


@case("!WorkflowValidationError")
def a_step_needs_a_parameter():
    class W(Workflow):
        @step
        async def s(self) -> StopEvent:
            return StopEvent()


@case("!WorkflowValidationError")
def a_parameter_needs_an_event_type():
    class W(Workflow):
        @step
        async def s(self, ev) -> StopEvent:
            return StopEvent()


@case("!WorkflowValidationError")
def a_parameter_of_another_type_is_no_event():
    class W(Workflow):
        @step
        async def s(self, ev: int) -> StopEvent:
            return StopEvent()


@case("!WorkflowValidationError")
def a_return_type_is_needed():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent):
            return StopEvent()


@case("!WorkflowValidationError")
def a_free_function_needs_its_workflow():
    @step
    async def s(ev: StartEvent) -> StopEvent:
        return StopEvent()


@case(["refused", "refused"])
def a_static_method_is_no_step():
    def above():
        class W(Workflow):
            @step
            @staticmethod
            async def s(ev: StartEvent) -> StopEvent:
                return StopEvent()

        W().validate()

    def below():
        class W(Workflow):
            @staticmethod
            @step
            async def s(ev: StartEvent) -> StopEvent:
                return StopEvent()

        W().validate()

    errors = "!WorkflowValidationError", "!WorkflowConfigurationError"
    return ["refused" if error_of(define) in errors else "accepted" for define in (above, below)]


@case("!WorkflowValidationError")
def an_async_generator_is_no_step():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            yield StopEvent()


@case(1)
async def a_bare_decorator_and_an_empty_call_are_one():
    class W(Workflow):
        @step()
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.x)

    return await W().run(x=1)


@case(1)
async def annotations_may_be_texts():
    class W(Workflow):
        @step
        async def s(self, ev: "StartEvent") -> "A | StopEvent":
            return A(n=1)

        @step
        async def t(self, ev: "Optional[A]") -> "Union[StopEvent, None]":  # noqa: UP007, UP045
            return StopEvent(result=ev.n)

    return await W().run()


@case(3)
async def annotations_may_name_local_classes():
    class Local(Event):
        n: int

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> "Local":
            return Local(n=3)

        @step
        async def t(self, ev: "Local") -> StopEvent:
            return StopEvent(result=ev.n)

    return await W().run()


@case(
    ["defined", "!WorkflowValidationError"], peer_gives=["!WorkflowValidationError", None], because="late-annotations"
)
async def an_annotation_that_leads_nowhere_is_refused():
    def define():
        class W(Workflow):
            @step
            async def s(self, ev: "NoSuchEvent") -> StopEvent:  # type: ignore[name-defined]  # noqa: F821
                return StopEvent()

        return W

    defined = error_of(define)
    if isinstance(defined, str):
        return defined, None
    return "defined", error_of(lambda: defined().validate())


AB = A | B


@case(["B", "A"])
async def unions_may_have_a_name():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> AB:
            return ev.what

        @step
        async def t(self, ev: AB) -> StopEvent:
            return StopEvent(result=type(ev).__name__)

    return await W().run(what=B()), await W().run(what=A())


@case(4)
async def parameters_that_are_no_events_are_left_alone():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, other: int = 4) -> StopEvent:
            return StopEvent(result=other)

    return await W().run()


@case(False)
async def a_context_that_may_be_missing_is_missing():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, ctx: Optional[Context] = None) -> StopEvent:  # noqa: UP045
            return StopEvent(result=ctx is not None)

    return await W().run()


@case("!TypeError")
async def a_parameter_that_nobody_fills_fails_the_step():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, other: int) -> StopEvent:
            return StopEvent(result=other)

    return await W().run()


@case([[], {}])
async def open_parameter_lists_get_nothing():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, *args, **kwargs) -> StopEvent:
            return StopEvent(result=[list(args), kwargs])

    return await W().run()


@case([1, 2])
async def the_context_may_stand_anywhere():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A:
            await ctx.store.set("n", 1)
            return A()

        @step
        async def t(self, *, ev: A, context: Context) -> StopEvent:
            return StopEvent(result=[await context.store.get("n"), 2])

    return await W().run()


@case(11)
async def a_decorator_may_stand_below_step():
    def adding_ten(function):
        @functools.wraps(function)
        async def wrapped(*args, **kwargs):
            stop = await function(*args, **kwargs)
            return StopEvent(result=stop.result + 10)

        return wrapped

    class W(Workflow):
        @step
        @adding_ten
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    return await W().run()


@case(1, peer_gives="!WorkflowValidationError", because="annotated-events")
async def an_event_may_be_annotated():
    class W(Workflow):
        @step
        async def s(self, ev: Annotated[StartEvent, "what starts it"]) -> StopEvent:
            return StopEvent(result=1)

    return await W().run()


@case(["s", "What it does.", True, 2])
async def a_step_stays_a_function():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            """What it does."""
            return StopEvent(result=ev.x)

    called = await W().s(StartEvent(x=2))
    return W.s.__name__, W.s.__doc__, asyncio.iscoroutinefunction(W.s), called.result


@case([["StartEvent", "A"], "ev", ["A", "StopEvent"], "ctx", 2, None, True])
def a_step_carries_its_config():
    class W(Workflow):
        @step(num_workers=2)
        async def s(self, ctx: Context, ev: StartEvent | A) -> A | StopEvent | None:
            return A()

    config = W.s._step_config
    accepted, returned = ([t.__name__ for t in kinds] for kinds in (config.accepted_events, config.return_types))
    shown = [accepted, config.event_name, returned, config.context_parameter, config.num_workers, config.retry_policy]
    return [*shown, isinstance(config, StepConfig)]


@case([1, 2, 3])
async def steps_are_inherited_and_overridden():
    class Child(Echo):
        @step
        async def echo(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=2)

    class Plus(Echo):
        @step
        async def echo(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await super().echo(ev)).result + 2)

    class Same(Echo):
        pass

    return await Same().run(x=1), await Child().run(x=1), await Plus().run(x=1)


@case(1)
async def a_method_without_step_hides_the_inherited_step():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

        @step
        async def other(self, ev: StartEvent) -> None:
            raise ValueError

    class V(W):
        async def other(self, ev: StartEvent) -> None:
            raise ValueError

    return await V().run()


@case(1)
async def steps_may_come_from_a_mixin():
    class Mixin:
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    class W(Mixin, Workflow):
        pass

    return await W().run()


@case([3, 4])
async def a_free_function_joins_a_class():
    class W(Workflow):
        pass

    @step(workflow=W)
    async def s(ev: StartEvent) -> A:
        return A(n=ev.x)

    @step(workflow=W, num_workers=2)
    async def t(ctx: Context, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)

    return await W().run(x=3), (await s(StartEvent(x=4))).n


@case("done", peer_gives="!WorkflowConfigurationError", because="free-functions-are-inherited")
async def free_functions_are_inherited():
    class W(Workflow):
        pass

    @step(workflow=W)
    async def s(ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")

    class V(W):
        pass

    return await V().run()


@case(["!WorkflowValidationError", "!WorkflowValidationError", "added"])
async def add_step_takes_a_decorated_function_of_a_new_name():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A | StopEvent:
            return A()

    async def plain(ev: A) -> StopEvent:
        return StopEvent()

    async def s(ev: A) -> StopEvent:
        return StopEvent()

    async def t(ev: A) -> StopEvent:
        return StopEvent(result="added")

    s._step_config = t._step_config = (
        Echo.echo._step_config
    )  # what no user writes; a name that is used is refused first
    refusals = [error_of(lambda: W.add_step(plain)), error_of(lambda: W.add_step(s))]
    step(workflow=W)(t)
    return [*refusals, await W().run()]


@case(9)
async def what_a_step_calls_may_be_replaced():
    async def nine():
        return 9

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await self.call())

        async def call(self) -> Any:
            return 1

    flow = W()
    flow.call = nine
    return await flow.run()


@case(["evaluated 0", 1], peer_gives=["evaluated more", 1], because="properties-are-not-evaluated")
async def properties_of_a_workflow_are_left_alone():
    class W(Workflow):
        seen = 0

        @property
        def costly(self) -> int:
            type(self).seen += 1
            return 1

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    result = await W().run()
    return f"evaluated {'more' if W.seen else 0}", result
