"""A served model asks a person: the call ends with the question, and another one, wherever, brings the answer."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from cryptography.fernet import Fernet
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info
from mlflow.pyfunc import PyFuncModel, scoring_server

import mlflow_flavor
from mlflow_flavor import SqliteTokenStore, WorkflowPyfunc
from tests.mlflow_flavor.agents import Approve, Inquire
from tests.mlflow_flavor.fresh import Interpreter
from workflows import Context, Workflow
from workflows.errors import UnserializableValueError

BUYER = """
import mlflow
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Order(StartEvent):
    item: str

class Ask(InputRequiredEvent):
    price: int

class Ans(HumanResponseEvent):
    ok: bool

class Note(Event):
    text: str

class Buyer(Workflow):
    @step
    async def quote(self, ctx: Context, ev: Order) -> Ask:
        await ctx.store.set("note", Note(text=ev.item))
        return Ask(price=7)

    @step
    async def buy(self, ctx: Context, ev: Ans) -> StopEvent:
        note = await ctx.store.get("note")
        return StopEvent(result=f"bought {note.text}" if ev.ok else "left it")

mlflow.models.set_model(Buyer())
"""


@pytest.fixture
def buyer(tmp_path: Path) -> str:
    """The directory of a model that asks whether the price is right."""
    (tmp_path / "agent.py").write_text(BUYER)
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    return str(tmp_path / "model")


def answered(asked: dict[str, Any], kind: str, **data: Any) -> dict[str, str]:
    """The parameters that answer the only question of a call's result."""
    (wait,) = asked["waiting"]
    answers = {wait["id"]: {"type": kind, "data": data}}
    return {"resume": json.dumps({"token": asked["resume"], "answers": answers})}


@pytest.mark.parametrize("workflow", [Approve(), Inquire()], ids=["an idle run", "a waiting step"])
def test_a_question_ends_the_call_and_its_answer_goes_on(workflow: Workflow):
    model = WorkflowPyfunc(workflow)
    asked = model.predict({"question": "deploy"})
    assert asked["status"] == "input_required"
    (wait,) = asked["waiting"]
    assert wait["event"] == {"type": "InputRequiredEvent", "data": {"prefix": "deploy?"}}
    assert model.predict({}, answered(asked, "HumanResponseEvent", response="yes")) == "yes"


def test_rows_ask_one_by_one():
    results = WorkflowPyfunc(Approve()).predict([{"question": "a"}, {"question": "b"}])
    assert [r["waiting"][0]["event"]["data"]["prefix"] for r in results] == ["a?", "b?"]


def test_a_question_ends_a_stream():
    chunks = list(WorkflowPyfunc(Approve()).predict_stream({"question": "a"}))
    assert [chunk.get("type", chunk.get("status")) for chunk in chunks] == ["InputRequiredEvent", "input_required"]


def test_the_answer_may_come_to_another_process(
    buyer: str, interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    key = {"WORKFLOWS_MLFLOW_RESUME_KEY": Fernet.generate_key().decode()}
    monkeypatch.setenv(*next(iter(key.items())))
    asked = mlflow.pyfunc.load_model(buyer).predict({"item": "tea"})
    params = answered(asked, "Ans", ok=True)
    script = f"import mlflow; print(mlflow.pyfunc.load_model({buyer!r}).predict({{}}, params={params!r}))"
    done = interpreter.run(script, tmp_path, environment=key)
    assert done.stdout.strip() == "bought tea", done.stderr


def test_a_second_load_of_the_model_takes_the_answer_of_the_first(buyer: str):
    first, second = (mlflow.pyfunc.load_model(buyer) for _ in range(2))
    asked = first.predict({"item": "tea"})
    assert second.predict({}, params=answered(asked, "Ans", ok=True)) == "bought tea"


def test_a_model_that_asks_has_a_resume_parameter_and_no_required_input(buyer: str):
    signature = get_model_info(buyer).signature
    assert signature is not None
    assert json.loads(signature.to_dict()["inputs"]) == [{"type": "string", "name": "item", "required": False}]
    assert [p["name"] for p in json.loads(signature.to_dict()["params"])] == ["session_id", "user", "resume"]


def test_an_example_that_asks_ends_at_once_and_leaves_a_whole_signature(
    buyer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    mlflow_flavor.save_model(
        tmp_path / "agent.py", tmp_path / "other", input_example={"item": "tea"}, pip_requirements=["mlflow"]
    )
    assert "the input example stopped for human input (Ask); logged without output schema." in caplog.text
    signature = get_model_info(str(tmp_path / "other")).signature
    assert signature is not None
    assert signature.to_dict().keys() >= {"inputs", "outputs", "params"}


def test_a_tampered_token_is_refused():
    model = WorkflowPyfunc(Approve())
    asked = model.predict({"question": "a"})
    asked["resume"] = asked["resume"][:-6] + "AAAAA="
    with pytest.raises(MlflowException, match=r"resume token signature does not match\."):
        model.predict({}, answered(asked, "HumanResponseEvent"))


def test_a_token_of_other_source_is_refused():
    asked = WorkflowPyfunc(Approve(), source="3f2a0000").predict({"question": "a"})
    with pytest.raises(MlflowException, match=r"made by model source 3f2a\.\.\., the loaded model is 91bc\.\.\.; load"):
        WorkflowPyfunc(Approve(), source="91bc0000").predict({}, answered(asked, "HumanResponseEvent"))


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("Popen", {}, "names no event class that answers it: Ans\\."),
        ("Note", {"text": "hi"}, "names no event class that answers it: Ans\\."),
        ("Ans", {"ok": "perhaps"}, "does not fit Ans"),
    ],
)
def test_an_answer_that_fits_no_question_is_refused(buyer: str, kind: str, data: dict[str, Any], message: str):
    model = mlflow.pyfunc.load_model(buyer)
    asked = model.predict({"item": "tea"})
    with pytest.raises(MlflowException, match=message):
        model.predict({}, params=answered(asked, kind, **data))


def test_a_serving_process_without_a_key_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    with pytest.raises(MlflowException, match="set WORKFLOWS_MLFLOW_RESUME_KEY"):
        WorkflowPyfunc(Approve()).predict({"question": "a"})


async def test_question_and_answer_pass_through_mlflows_scoring_server(buyer: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # MLflow sets it and leaves it
    app = scoring_server.init(mlflow.pyfunc.load_model(buyer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        first = await client.post("/invocations", json={"inputs": {"item": "tea"}})
        asked = first.json()["predictions"]
        params = answered(asked, "Ans", ok=True)
        second = await client.post("/invocations", json={"inputs": {}, "params": params})
    assert second.json() == {"predictions": "bought tea"}


async def test_a_snapshot_of_one_load_goes_on_in_another(buyer: str):
    first, second = (mlflow_flavor.load_model(buyer) for _ in range(2))
    handler = first.run(item="tea")
    await anext(handler.stream_events())
    snapshot = json.loads(json.dumps(await handler.suspend()))
    resumed = second.run(ctx=Context.from_dict(second, snapshot))
    resumed.ctx.send_event({c.__name__: c for c in second.events}["Ans"](ok=True))  # pyright: ignore[reportCallIssue]  # its class has the field
    assert await resumed == "bought tea"
    assert type(await resumed.ctx.store.get("note")).__module__ == type(second).__module__


@pytest.mark.parametrize(
    "name", ["subprocess.Popen", "opentelemetry.trace.StatusCode", "workflows_model_0123456789abcdef.Ans"]
)
def test_a_snapshot_cannot_name_a_class_of_somebody_else(buyer: str, name: str):
    serializer = mlflow_flavor.load_model(buyer).serializer
    with pytest.raises(ValueError, match=r"may not be rebuilt|belongs to another model"):
        serializer.deserialize(json.dumps({"__is_pydantic": True, "value": {}, "qualified_name": name}))


KEEPER = """
import mlflow, openai
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from openai.types.chat import ChatCompletionMessage

class Keeper(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("memory", [ChatCompletionMessage(role="assistant", content=ev.question)])
        return InputRequiredEvent(prefix="really?")

    @step
    async def keep(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        kept = await ctx.store.get("memory")
        return StopEvent(result=[type(kept[0]).__name__, kept[0].content, ev.response])

mlflow.models.set_model(Keeper())
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Callable[[str], PyFuncModel]:
    """Makes a model of the script, changed by what it keeps."""

    def made(kept: str) -> PyFuncModel:
        (tmp_path / "agent.py").write_text(KEEPER.replace("content=ev.question)]", f"content=ev.question){kept}]"))
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "keeper", pip_requirements=["mlflow"])
        return mlflow.pyfunc.load_model(str(tmp_path / "keeper"))

    return made


def test_messages_of_a_library_that_the_model_imports_are_kept(keeper: Callable[[str], PyFuncModel]):
    model = keeper("")
    asked = model.predict({"question": "a"})
    answer = answered(asked, "HumanResponseEvent", response="yes")
    assert model.predict({}, params=answer) == ["ChatCompletionMessage", "a", "yes"]


@pytest.mark.filterwarnings("ignore:State key 'memory' was left out")
def test_a_run_whose_memory_cannot_be_kept_does_not_ask(keeper: Callable[[str], PyFuncModel]):
    with pytest.raises(UnserializableValueError, match=r"The run asks, and ctx.store holds .* at 'memory': .*lock"):
        keeper(", __import__('threading').Lock()").predict({"question": "a"})


def test_keys_can_be_rotated(monkeypatch: pytest.MonkeyPatch):
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    model = WorkflowPyfunc(Approve())
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", old)
    asked = model.predict({"question": "a"})
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", f"{new},{old}")
    assert model.predict({}, answered(asked, "HumanResponseEvent", response="yes")) == "yes"


def test_a_token_of_a_store_works_once_in_whatever_process_it_comes_back(tmp_path: Path):
    first, second = (WorkflowPyfunc(Approve(), token_store=SqliteTokenStore(tmp_path / "tokens")) for _ in range(2))
    asked = first.predict({"question": "a"})
    assert len(asked["resume"]) < 50
    answer = answered(asked, "HumanResponseEvent", response="yes")
    assert second.predict({}, answer) == "yes"
    for model in (first, second):
        with pytest.raises(MlflowException, match="was used already, or has expired: a token works once"):
            model.predict({}, answer)


def test_a_refused_answer_does_not_use_a_token_up(tmp_path: Path):
    model = WorkflowPyfunc(Approve(), token_store=SqliteTokenStore(tmp_path / "tokens"))
    asked = model.predict({"question": "a"})
    with pytest.raises(MlflowException, match="names no event class"):
        model.predict({}, answered(asked, "Typo"))
    assert model.predict({}, answered(asked, "HumanResponseEvent", response="yes")) == "yes"


def test_a_store_holds_no_token_that_could_be_used(tmp_path: Path):
    asked = WorkflowPyfunc(Approve(), token_store=SqliteTokenStore(tmp_path / "tokens")).predict({"question": "a"})
    assert asked["resume"].partition(".")[2].encode() not in (tmp_path / "tokens").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="runs on POSIX systems, whose files have modes")
def test_a_store_is_readable_by_its_owner_alone(tmp_path: Path):
    SqliteTokenStore(tmp_path / "tokens")
    assert stat.S_IMODE((tmp_path / "tokens").stat().st_mode) == 0o600


def test_a_token_that_holds_its_run_is_refused_where_runs_are_stored(tmp_path: Path):
    asked = WorkflowPyfunc(Approve()).predict({"question": "a"})
    with pytest.raises(MlflowException, match="is no resume token of this server"):
        WorkflowPyfunc(Approve(), token_store=SqliteTokenStore(tmp_path / "tokens")).predict(
            {}, answered(asked, "HumanResponseEvent")
        )


def test_a_served_model_takes_its_store_from_the_environment(
    buyer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # and no key: with a store it needs none
    monkeypatch.setenv("WORKFLOWS_MLFLOW_TOKEN_STORE", str(tmp_path / "tokens"))
    asked = mlflow.pyfunc.load_model(buyer).predict({"item": "tea"})
    assert mlflow.pyfunc.load_model(buyer).predict({}, params=answered(asked, "Ans", ok=True)) == "bought tea"


def test_an_answered_run_keeps_its_session(traces: Callable[[], list[Trace]]):
    model = WorkflowPyfunc(Approve())
    asked = model.predict({"question": "a"}, {"session_id": "s-1"})
    model.predict({}, answered(asked, "HumanResponseEvent", response="yes"))
    assert [t.info.trace_metadata["mlflow.trace.session"] for t in traces()] == ["s-1", "s-1"]
    assert [t.info.tags["outcome"] for t in traces()] == ["suspended", "completed"]


def test_a_run_that_cannot_be_read_does_not_use_its_token_up(tmp_path: Path):
    class Damaging(SqliteTokenStore):
        """The first time, gives a run that no version of the engine wrote."""

        damages = 1

        def get(self, token: str) -> str | None:
            run = super().get(token)
            self.damages -= 1
            return run.replace('"spanflow-1"', '"spanflow-0"') if run is not None and self.damages >= 0 else run

    model = WorkflowPyfunc(Approve(), token_store=Damaging(tmp_path / "tokens"))
    answer = answered(model.predict({"question": "a"}), "HumanResponseEvent", response="yes")
    with pytest.raises(MlflowException, match="this resume token cannot be read"):
        model.predict({}, answer)
    assert model.predict({}, answer) == "yes"


def test_of_two_callers_that_answer_at_once_one_goes_on(tmp_path: Path):
    both = threading.Barrier(2)

    class Meeting(SqliteTokenStore):
        """Lets nobody take a run before the other has read it as well."""

        def take(self, token: str) -> bool:
            both.wait(30)
            return super().take(token)

    model = WorkflowPyfunc(Approve(), token_store=Meeting(tmp_path / "tokens"))
    answer = answered(model.predict({"question": "a"}), "HumanResponseEvent", response="yes")
    with ThreadPoolExecutor(2) as callers:
        calls = [callers.submit(model.predict, {}, answer) for _ in range(2)]
    assert sorted(str(call.exception() or call.result()) for call in calls) == [
        "this resume token was used already, or has expired: a token works once.",
        "yes",
    ]
