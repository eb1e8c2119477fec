"""Annotations as texts, by `from __future__ import annotations`, with classes that only a function knows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from tests.compat.case import case, error_of
from tests.compat.flows import A, B
from workflows import Context, Workflow, step
from workflows.collect import Collect, Take
from workflows.events import Event, StartEvent, StopEvent
from workflows.resource import Resource


class State(BaseModel):
    n: int = 0


@case([3, 1])
async def classes_of_the_module_and_of_the_function_are_found():
    class Local(Event):
        n: int

    class W(Workflow):
        @step
        async def s(self, ctx: Context[State], ev: StartEvent) -> Local | None:
            await ctx.store.set("n", 1)
            return Local(n=3)

        @step
        async def t(self, ctx: Context[State], ev: Local) -> StopEvent:
            return StopEvent(result=[ev.n, (await ctx.store.get_state()).n])

    return await W().run()


@case([0, 1])
async def lists_and_their_marks_are_found():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> list[A]:
            return [A(n=i) for i in range(3)]

        @step(num_workers=1)
        async def t(self, ev: A) -> B:
            return B(n=ev.n)

        @step
        async def u(self, ev: Annotated[list[B], Collect(Take(2))]) -> StopEvent:
            return StopEvent(result=sorted(e.n for e in ev))

    return await W(timeout=1).run()


def make():
    return "made"


@case("made")
async def resources_are_found():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, value: Annotated[Any, Resource(make)]) -> StopEvent:
            return StopEvent(result=value)

    return await W().run()


@case("made locally")
async def resources_of_the_function_are_found():
    def make_locally():
        return "made locally"

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, value: Annotated[Any, Resource(make_locally)]) -> StopEvent:
            return StopEvent(result=value)

    return await W().run()


@case(4)
async def a_function_may_make_the_class_from_its_parameters():
    def with_event(kind):
        class W(Workflow):
            @step
            async def s(self, ev: StartEvent) -> kind:
                return kind(n=4)

            @step
            async def t(self, ev: kind) -> StopEvent:
                return StopEvent(result=ev.n)

        return W

    return await with_event(A)().run()


@case(["!WorkflowValidationError", "!WorkflowValidationError"])
def what_is_refused_is_refused_as_ever():
    def no_event():
        class W(Workflow):
            @step
            async def s(self, ev: int) -> StopEvent:
                return StopEvent()

    def no_return():
        class W(Workflow):
            @step
            async def s(self, ev: StartEvent):
                return StopEvent()

    return error_of(no_event), error_of(no_return)
