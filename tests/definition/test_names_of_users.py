"""A workflow class may name its own steps, methods and attributes as it likes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, PrivateAttr

from workflows import Workflow, step
from workflows.drawing import draw_most_recent_execution_mermaid
from workflows.errors import WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.workflow import WorkflowMeta


def words(text: str) -> list[str]:
    return text.split()


ATTRIBUTES = words("""
_asks_people _attached_steps _bind _check_unlocked _compiled _context_at _gate _gates _grace _history _idle_counts
_knowing _lock_runtime _locked _owner _run _run_to_end _spec _state _steps _stream_buffer _validated attached gate grace
history lock rename spec stream_buffer
""")
METHODS = words("""
_get_steps_from_class add_step aclose events run_from run_sync runtime start_event_class stop_event_class validate
workflow_name
""")


class Asked(Event):
    text: str


def named(function: Any, name: str) -> Any:
    function.__name__, function.__qualname__ = name, f"Named.{name}"
    return function


def with_a_step_named(name: str) -> Workflow:
    async def ask(self: Any, ev: StartEvent) -> Asked:
        return Asked(text=ev.text)

    async def answer(self: Any, ev: Asked) -> StopEvent:
        return StopEvent(result=ev.text)

    steps = {"ask": step(named(ask, "ask")), name: step(named(answer, name))}
    return type("Named", (Workflow,), steps)()


@pytest.mark.parametrize("name", ATTRIBUTES + METHODS)
async def test_a_step_may_have_any_name(name: str) -> None:
    assert await with_a_step_named(name).run(text="hi") == "hi"


class Chat(Workflow):
    """Keeps what it was told in one attribute of itself, whatever its name."""

    def __init__(self, name: str) -> None:
        super().__init__(num_concurrent_runs=1)
        self.name = name
        setattr(self, name, [])

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        told = getattr(self, self.name)
        told.append(ev.text)
        return StopEvent(result=list(told))


@pytest.mark.parametrize("name", ATTRIBUTES)
async def test_an_attribute_may_have_any_name(name: str) -> None:
    chat = Chat(name)
    assert [await chat.run(text=text) for text in "ab"] == [["a"], ["a", "b"]]


async def test_a_helper_called_validate_is_not_called_by_the_engine() -> None:
    class Reflecting(Workflow):
        def validate(self, text: str) -> bool:  # type: ignore[override]
            return text.isupper()

        @step
        async def answer(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=self.validate(ev.text))

    assert await Reflecting().run(text="UP") is True


class ModelMeta(WorkflowMeta, type(BaseModel)):
    pass


class Agent(Workflow, BaseModel, metaclass=ModelMeta):  # pyright: ignore[reportIncompatibleMethodOverride]
    _history: list[str] = PrivateAttr(default_factory=list)

    def __init__(self) -> None:
        BaseModel.__init__(self)
        Workflow.__init__(self)

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        self._history.append(ev.text)
        return StopEvent(result=self._history)


async def test_a_private_attribute_of_a_model_may_have_any_name() -> None:
    assert await Agent().run(text="hi") == ["hi"]


async def test_the_last_run_is_drawn_beside_a_history_of_the_user(tmp_path: Path) -> None:
    chat = Chat("_history")
    await chat.run(text="hi")
    assert "answer" in draw_most_recent_execution_mermaid(chat, filename=str(tmp_path / "run.mermaid"))


class Finds(Workflow):
    def __init__(self, finder: object) -> None:
        super().__init__()
        self.find = finder  # type: ignore[method-assign]

    @step
    async def find(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


async def test_an_attribute_that_hides_a_step_is_told() -> None:
    with pytest.raises(
        WorkflowValidationError, match=r"Finds\.find is a step, and the instance .* a list, which hides"
    ):
        await Finds([1]).run()


async def test_a_function_may_stand_for_a_step() -> None:
    async def found(ev: StartEvent) -> StopEvent:
        return StopEvent(result="another")

    assert await Finds(found).run() == "another"
