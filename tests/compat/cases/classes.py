"""Workflow classes: inheritance, generics, copies."""

import asyncio
import copy
import gc
import weakref
from typing import Generic, TypeVar
from unittest.mock import AsyncMock, MagicMock, patch

from tests.compat.case import case
from tests.compat.flows import A, Echo
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

T = TypeVar("T")


@case(1)
async def the_first_of_two_mixins_wins():
    class One:
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    class Two:
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=2)

    class W(One, Two, Workflow):
        pass

    return await W().run()


@case([1, 1])
async def a_workflow_may_be_generic():
    class W(Workflow, Generic[T]):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=1)

    return await W[int]().run(), await W().run()


class Base(Workflow):
    @step
    async def s(self, ev: StartEvent) -> A:
        return A(n=await self.number())

    async def number(self) -> int:
        raise NotImplementedError

    @step
    async def t(self, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)


@case(4)
async def a_subclass_may_fill_in_what_a_step_calls():
    class Four(Base):
        async def number(self) -> int:
            return 4

    return await Four().run()


@case([5, ["s", "t", "u"]])
async def a_subclass_may_add_a_step_between():
    class Between(Base):
        async def number(self) -> int:
            return 4

        @step
        async def s(self, ev: StartEvent) -> Middle:
            return Middle(n=await self.number())

        @step
        async def u(self, ev: Middle) -> A:
            return A(n=ev.n + 1)

    return await Between().run(), sorted(Between()._get_steps())


class Middle(A):
    pass


@case(["W", "W"])
async def a_class_method_may_make_a_workflow():
    class W(Workflow):
        @classmethod
        def make(cls):
            return cls(timeout=1)

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=type(self).__name__)

    return await W.make().run(), type(W.make()).__name__


@case([3, 4, 5])
async def a_workflow_may_be_copied():
    flow = Echo(timeout=5)
    deep = copy.deepcopy(flow)
    return await copy.copy(flow).run(x=3), await deep.run(x=4), deep._timeout


@case(True)
async def a_workflow_that_nobody_holds_goes_away():
    flow = Echo()
    await flow.run()
    known = weakref.ref(flow)
    del flow
    await asyncio.sleep(0.01)
    gc.collect()
    return known() is None


@case(["x", "y"])
async def an_instance_may_have_attributes_of_its_own():
    class W(Workflow):
        shared = "y"

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=[self.llm, self.shared])

    flow = W()
    flow.llm = "x"
    return await flow.run()


@case("validated")
async def a_step_may_be_called_validate():
    class W(Workflow):
        @step
        async def extract(self, ev: StartEvent) -> A:
            return A(x=1)

        @step
        async def validate(self, ev: A) -> StopEvent:
            return StopEvent(result="validated")

    return await W(timeout=5).run()


@case([["a"], ["a", "b"]])
async def an_attribute_may_be_called_history():
    class W(Workflow):
        def __init__(self, **options):
            super().__init__(**options)
            self._history = []

        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            self._history.append(ev.text)
            return StopEvent(result=list(self._history))

    flow = W(timeout=5)
    return await flow.run(text="a"), await flow.run(text="b")


@case(["mocked", "W"])
async def a_mock_is_no_step_and_a_class_method_may_be_one():
    class W(Workflow):
        llm = MagicMock()

        @classmethod
        @step
        async def s(cls, ev: StartEvent) -> A:
            return A(name=cls.__name__)

        @step
        async def t(self, ev: A) -> StopEvent:
            return StopEvent(result=[await self.call(), ev.name])

        async def call(self):
            raise RuntimeError("network")

    with patch.object(W, "call", AsyncMock(return_value="mocked")):
        return await W(timeout=5).run()


@case("late")
async def steps_attached_to_a_class_reach_its_instances():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A | StopEvent:
            return A()

    flow = W(timeout=5)

    @step(workflow=W)
    async def late(ev: A) -> StopEvent:
        return StopEvent(result="late")

    return await flow.run()
