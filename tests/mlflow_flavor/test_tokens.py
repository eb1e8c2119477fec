"""What a run has when it asks is there when the answer comes: to another load, in another process, of any agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from cryptography.fernet import Fernet

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

ASKING = """
import mlflow, openai
from typing import Any, Generic, TypeVar
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

T = TypeVar("T")

class Box(BaseModel, Generic[T]):
    v: T

class State(BaseModel):
    box: Box[int] | None = None
    rest: Any = None

class Ans(HumanResponseEvent):
    text: str

class Keeper(Workflow):
    @step
    async def ask(self, ctx: Context[State], ev: StartEvent) -> StopEvent:
        KEEP
        answer = await ctx.wait_for_event(Ans, waiter_event=InputRequiredEvent(prefix="really?"))
        return StopEvent(result=[repr(await ctx.store.get("rest")), repr(await ctx.store.get("box")), answer.text])

mlflow.models.set_model(Keeper())
"""
HELPER = "from pydantic import BaseModel\n\nclass Cart(BaseModel):\n    items: list[str]\n"
OF_HELPER = "from carts import Cart; await ctx.store.set('rest', Cart(items=['tea']))"
OF_LIBRARY = (
    "from openai.types.chat import ChatCompletionMessage as M; "
    "await ctx.store.set('rest', M(role='assistant', content='a').content and [M(role='assistant', content='a')])"
)
OWN_GENERIC = "await ctx.store.set('box', Box[int](v=1)); await ctx.store.set('rest', (1, 2))"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """What all processes seal with."""
    key = Fernet.generate_key().decode()
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", key)
    return key


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], str]:
    """Saves the script with a line that keeps something, and a helper; gives the model's directory."""

    def save(keep: str) -> str:
        (tmp_path / "agent.py").write_text(ASKING.replace("KEEP", keep))
        (tmp_path / "carts.py").write_text(HELPER)
        code = [str(tmp_path / "carts.py")]
        path = tmp_path / "model"
        mlflow_flavor.save_model(tmp_path / "agent.py", path, pip_requirements=["mlflow"], code_paths=code)
        return str(path)

    return save


def answer(asked: Any, kind: str = "Ans", **data: Any) -> dict[str, str]:
    """The parameters that answer the only question of a call's result."""
    (wait,) = asked["waiting"]
    answers = {wait["id"]: {"type": kind, "data": data}}
    return {"resume": json.dumps({"token": asked["resume"], "answers": answers})}


@pytest.mark.parametrize("asks", [0, 1], ids=["the first load asks", "the second load asks"])
def test_any_load_takes_the_answer(saved: Callable[[str], str], asks: int) -> None:
    directory = saved("pass")
    loads = [mlflow.pyfunc.load_model(directory) for _ in range(2)]
    asked = loads[asks].predict({})
    assert loads[1 - asks].predict({}, params=answer(asked, text="yes"))[2] == "yes"


KEPT = {
    "a helper's class that a step imports": (OF_HELPER, "Cart(items=['tea'])", "None"),
    "a library's class that a step imports": (OF_LIBRARY, "[ChatCompletionMessage(", "None"),
    "a generic of its own": (OWN_GENERIC, "(1, 2)", "Box[int](v=1)"),
}


@pytest.mark.parametrize(("keep", "rest", "box"), KEPT.values(), ids=KEPT)
def test_what_it_has_comes_back_in_another_process(
    saved: Callable[[str], str], interpreter: Interpreter, tmp_path: Path, key: str, keep: str, rest: str, box: str
) -> None:
    directory = saved(keep)
    loads = [mlflow.pyfunc.load_model(directory) for _ in range(2)]
    asked = loads[1].predict({})
    params = answer(asked, text="yes")
    script = f"import mlflow; print(mlflow.pyfunc.load_model({directory!r}).predict({{}}, params={params!r}))"
    done = interpreter.run(script, tmp_path, environment={"WORKFLOWS_MLFLOW_RESUME_KEY": key})
    assert done.returncode == 0, done.stderr
    assert rest in done.stdout
    assert box in done.stdout
