"""Which members of a workflow class are its steps."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch
from xmlrpc.client import ServerProxy

import pytest

from workflows import Workflow, step
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


def test_a_mock_is_not_attached_as_a_step() -> None:
    with pytest.raises(WorkflowValidationError, match="is no step: decorate it with @step"):
        Asking.add_step(MagicMock())


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
