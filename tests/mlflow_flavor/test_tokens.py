"""What a run has when it asks is there when the answer comes: to another load, in another process, of any agent."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from cryptography.fernet import Fernet
from mlflow.exceptions import MlflowException
from mlflow.types.responses import ResponsesAgentRequest

import mlflow_flavor
from tests.mlflow_flavor.fresh import Interpreter

ASKING = """
import mlflow, openai
from typing import Any, Generic, TypeVar
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.context.serializers import JsonSerializer, PickleSerializer
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
def saved(tmp_path: Path) -> Callable[..., str]:
    """Saves the script with a line that keeps something, and a helper; gives the model's directory."""

    def save(keep: str, made: str = "Keeper()") -> str:
        (tmp_path / "agent.py").write_text(ASKING.replace("KEEP", keep).replace("Keeper())", f"{made})"))
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


OWN_SERIALIZER = "JsonSerializer(), type('Mine', (JsonSerializer,), {})(), PickleSerializer()"


@pytest.mark.parametrize("asks", [0, 1], ids=["the first load asks", "the second load asks"])
@pytest.mark.parametrize("serializer", range(3), ids=["json", "a subclass", "pickle"])
def test_any_load_takes_the_answer(saved: Callable[..., str], asks: int, serializer: int) -> None:
    given = f"Keeper(serializer=[{OWN_SERIALIZER}][{serializer}])"
    directory = saved("pass", given)
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
    saved: Callable[..., str], interpreter: Interpreter, tmp_path: Path, key: str, keep: str, rest: str, box: str
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


def test_an_agent_that_is_loaded_by_a_program_takes_answers_of_its_own_model_alone(
    saved: Callable[..., str], tmp_path: Path
) -> None:
    directory = saved("pass")
    loads = [mlflow_flavor.as_responses_agent(mlflow_flavor.load_model(directory)) for _ in range(2)]
    (tmp_path / "model").rename(tmp_path / "first")
    other = mlflow_flavor.as_responses_agent(mlflow_flavor.load_model(saved("...")))
    asked = loads[1].predict(question()).custom_outputs
    assert asked is not None
    with pytest.raises(MlflowException, match="was made by model source"):
        other.predict(question(asked))
    assert "yes" in str(loads[0].predict(question(asked)).output)


def question(asked: dict[str, Any] | None = None) -> ResponsesAgentRequest:
    """A request to a `ResponsesAgent`, with the answer to what it has asked."""
    said = [{"role": "user", "content": "hi"}]
    given = answer(asked, text="yes") if asked is not None else None
    return ResponsesAgentRequest.model_validate({"input": said, "custom_inputs": given})


def test_models_come_and_go_in_threads(saved: Callable[..., str]) -> None:
    directory = saved("pass")

    def load(_: int) -> None:
        for _ in range(20):
            mlflow_flavor.load_model(directory)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(load, range(4)))
    gc.collect()
    name = type(mlflow_flavor.load_model(directory)).__module__
    gc.collect()
    assert [each for each in sys.modules.copy() if each.startswith(name)] == []
