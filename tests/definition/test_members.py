"""Which members of a workflow class are its steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from inspect import iscoroutinefunction
from types import MethodType
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch
from xmlrpc.client import ServerProxy

import pytest

from workflows import Workflow, catch_error, step
from workflows.errors import WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.utils import get_steps_from_class, get_steps_from_instance


class Asked(Event):
    text: str


class Asking(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Asked:
        return Asked(text=ev.text)

    @step
    async def answer(self, ev: Asked) -> StopEvent:
        return StopEvent(result=await self.call(ev.text))

    async def call(self, text: str) -> str:
        return text.upper()


class Unbound:
    """A stand-in for a request that is bound only while one is served: it raises for every name."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of a request")


async def test_a_method_may_be_mocked() -> None:
    with patch.object(Asking, "call", AsyncMock(return_value="mocked")):
        assert await Asking().run(text="hi") == "mocked"


@pytest.mark.parametrize(
    "value",
    [MagicMock(), AsyncMock(), MagicMock(spec=Asking.ask), ServerProxy("http://localhost"), Unbound()],
    ids=["mock", "async mock", "mock of a step", "proxy of a server", "unbound proxy"],
)
async def test_what_has_an_attribute_of_every_name_is_no_step(value: object) -> None:
    flow = type("Holding", (Asking,), {"client": value})
    assert await flow().run(text="hi") == "HI"


class Counted:
    """A decorator that is a class, as users write them for retries, caches or times."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self.function = function
        self.calls = 0
        if iscoroutinefunction(function):
            self._is_coroutine = object()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


async def test_an_object_that_stands_for_a_step_is_one() -> None:
    class Above(Workflow):
        @Counted
        @step
        async def ask(self, ev: StartEvent) -> Asked:
            return Asked(text=ev.text)

        @Counted
        @step
        def answer(self, ev: Asked) -> StopEvent:
            return StopEvent(result=ev.text)

    assert await Above().run(text="hi") == "hi"
    assert [vars(Above)[name].calls for name in ("ask", "answer")] == [1, 1]


async def test_an_object_that_stands_for_a_function_can_be_decorated() -> None:
    class Below(Workflow):
        @step
        @Counted
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.text)

    assert await Below().run(text="hi") == "hi"
    assert vars(Below)["ask"].calls == 1


def test_a_mock_is_not_attached_as_a_step() -> None:
    with pytest.raises(WorkflowValidationError, match="is no step: decorate it with @step"):
        Asking.add_step(MagicMock())


@pytest.mark.parametrize("decorate", [step, catch_error, step(num_workers=1), step(workflow=Asking)])
def test_a_partial_is_no_step(decorate: Callable[..., Any]) -> None:
    with pytest.raises(WorkflowValidationError, match=r"on functools\.partial\(.*: it has no name, .* Write an"):
        decorate(partial(Asking.ask, ev=StartEvent()))


async def test_a_class_method_may_be_a_step() -> None:
    class Counting(Workflow):
        @classmethod
        @step
        async def answer(cls, ev: StartEvent) -> StopEvent:
            return StopEvent(result=cls.__name__)

    assert await Counting().run() == "Counting"


def test_steps_of_a_class_that_is_no_workflow_are_found() -> None:
    class Plain:
        client = MagicMock(spec=Asking.ask)

        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    assert (list(get_steps_from_class(Plain)), list(get_steps_from_instance(Plain()))) == (["ask"], ["ask"])
