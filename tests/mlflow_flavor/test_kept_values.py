"""What a served model keeps while it asks a person: values of its own script's classes come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

import mlflow_flavor

KEEPER = """
import dataclasses
import enum
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field

import mlflow_flavor
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

T = TypeVar("T")


class Mode(enum.Enum):
    FAST = "fast"


class Point(NamedTuple):
    x: int


@dataclasses.dataclass
class Part:
    name: str


class Aliased(BaseModel):
    user: str = Field(alias="userName")


class Page(BaseModel, Generic[T]):
    items: list[T]


class Keeper(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        kept = [Mode.FAST, Point(1), Part("a"), Aliased(userName="Ada"), Page[Aliased](items=[])]
        await ctx.store.set("kept", kept)
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="?"))
        found = await ctx.store.get("kept")
        return StopEvent(result=[type(v).__name__ for v in found] if found == kept else repr(found))


mlflow_flavor.set_model(Keeper())
"""


@pytest.fixture
def keeper(tmp_path: Path) -> str:
    (tmp_path / "keeper.py").write_text(KEEPER)
    mlflow_flavor.save_model(tmp_path / "keeper.py", tmp_path / "model", pip_requirements=["mlflow"])
    return str(tmp_path / "model")


def test_an_answered_run_finds_the_values_of_its_scripts_classes(keeper: str):
    asked: Any = mlflow.pyfunc.load_model(keeper).predict({})
    (wait,) = asked["waiting"]
    answers = {wait["id"]: {"type": "HumanResponseEvent", "data": {"response": "y"}}}
    resume = json.dumps({"token": asked["resume"], "answers": answers})
    # Another load of the model: a module, and classes, of its own.
    found: Any = mlflow.pyfunc.load_model(keeper).predict({}, params={"resume": resume})
    assert found == ["Mode", "Point", "Part", "Aliased", "Page[Aliased]"]
