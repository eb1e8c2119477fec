"""Which answer reaches which question: exactly the one that it names, if it is of the kind that was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

import mlflow_flavor
from mlflow_flavor import SqliteTokenStore, WorkflowPyfunc
from tests.mlflow_flavor.agents import Both

Load = Callable[[str], PyFuncModel]

HEAD = """
import mlflow_flavor
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
"""

PAYMENT = """
class Ask(InputRequiredEvent):
    what: str

class Code(HumanResponseEvent):
    code: str

class Approved(Event):
    amount: int

class Payment(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask(what="code of the manager")

    @step
    async def check(self, ev: Code) -> Approved | StopEvent:
        return Approved(amount=1) if ev.code == "s3cret" else StopEvent(result="denied")

    @step
    async def pay(self, ev: Approved) -> StopEvent:
        return StopEvent(result=f"paid {ev.amount}")

mlflow_flavor.set_model(Payment())
"""

GUARDED = """
class Code(HumanResponseEvent):
    by: str
    ok: bool

class Approved(Code):
    pass

class Guarded(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Approved | StopEvent:
        question = InputRequiredEvent(prefix="go?")
        code = await ctx.wait_for_event(Code, waiter_event=question, requirements={"by": "manager"})
        return Approved(by=code.by, ok=True) if code.ok else StopEvent(result="denied")

    @step
    async def pay(self, ev: Approved) -> StopEvent:
        return StopEvent(result=f"paid for {ev.by}")

mlflow_flavor.set_model(Guarded())
"""

STREAMED = """
class Chat(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said = []
        for question in ("name", "age"):
            ctx.write_event_to_stream(InputRequiredEvent(prefix=question))
            said.append((await ctx.wait_for_event(HumanResponseEvent)).response)
        return StopEvent(result=said)

mlflow_flavor.set_model(Chat())
"""

OF_A_PACKAGE = """
from approvals import approve

class Shop(Workflow):
    @step
    async def buy(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[await approve(ctx, "first"), await approve(ctx, "second")])

mlflow_flavor.set_model(Shop())
"""

APPROVALS = """
from workflows.events import HumanResponseEvent, InputRequiredEvent

class Approval(HumanResponseEvent):
    yes: bool

async def approve(ctx, what):
    return (await ctx.wait_for_event(Approval, waiter_event=InputRequiredEvent(prefix=what))).yes
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Saves a script as a model and loads it as MLflow does."""

    def loaded(script: str) -> PyFuncModel:
        (tmp_path / "agent.py").write_text(HEAD + script)
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
        return mlflow.pyfunc.load_model(str(tmp_path / "model"))

    return loaded


def resume(asked: dict[str, Any], answers: dict[str, Any]) -> dict[str, str]:
    """The parameters that give these answers."""
    return {"resume": json.dumps({"token": asked["resume"], "answers": answers})}


def answered(asked: dict[str, Any], kind: str, **data: Any) -> dict[str, str]:
    """The parameters that answer the only question of a call's result."""
    (wait,) = asked["waiting"]
    return resume(asked, {wait["id"]: {"type": kind, "data": data}})


def by_question(asked: dict[str, Any], said: dict[str, bool]) -> dict[str, str]:
    """The parameters that answer questions of `Both` by what they ask."""
    ids = {wait["event"]["data"]["prefix"]: wait["id"] for wait in asked["waiting"]}
    answers = {ids[what]: {"type": "HumanResponseEvent", "data": {"response": yes}} for what, yes in said.items()}
    return resume(asked, answers)


def test_an_answer_reaches_the_question_that_it_names():
    model = WorkflowPyfunc(Both())
    asked = model.predict({"question": "?"})
    assert model.predict({}, by_question(asked, {"two?": True, "one?": False})) == {"one?": False, "two?": True}


def test_a_question_that_nobody_answered_is_asked_again():
    model = WorkflowPyfunc(Both())
    again = model.predict({}, by_question(model.predict({"question": "?"}), {"two?": True}))
    assert [wait["event"]["data"]["prefix"] for wait in again["waiting"]] == ["one?"]
    assert model.predict({}, by_question(again, {"one?": False})) == {"one?": False, "two?": True}


def test_an_answer_to_one_of_many_questions_warns_nobody(caplog: pytest.LogCaptureFixture):
    model = WorkflowPyfunc(Both())
    model.predict({}, by_question(model.predict({"question": "?"}), {"two?": True}))
    assert "no step of" not in caplog.text


@pytest.mark.parametrize("kind", ["Approved", "Ask", "StartEvent", "Event", "StopEvent", "HumanResponseEvent"])
async def test_over_rest_no_event_but_an_answer_gets_into_a_run(
    load: Load, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORKFLOWS_MLFLOW_TOKEN_STORE", str(tmp_path / "tokens"))
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    app = scoring_server.init(load(PAYMENT))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        asked = (await client.post("/invocations", json={"inputs": {}})).json()["predictions"]
        skipping = {"inputs": {}, "params": answered(asked, kind, amount=1_000_000)}
        reply = await client.post("/invocations", json=skipping)
        honest = {"inputs": {}, "params": answered(asked, "Code", code="guessed")}
        after = await client.post("/invocations", json=honest)
    assert (reply.status_code, "names no event class that answers it: Code." in reply.text) == (400, True)
    assert after.json() == {"predictions": "denied"}


def test_an_answer_has_to_meet_what_its_question_requires(load: Load):
    model = load(GUARDED)
    asked = model.predict({})
    with pytest.raises(MlflowException, match="is not the one that was asked for: its 'by' is another"):
        model.predict({}, params=answered(asked, "Code", by="thief", ok=True))
    assert model.predict({}, params=answered(asked, "Code", by="manager", ok=True)) == "paid for manager"


def test_a_class_below_the_one_that_a_wait_takes_is_no_answer(load: Load):
    model = load(GUARDED)
    asked = model.predict({})
    with pytest.raises(MlflowException, match=r"names no event class that answers it: Code\."):
        model.predict({}, params=answered(asked, "Approved", by="manager", ok=True))


def test_a_refused_answer_leaves_a_stored_run_where_it_is(load: Load, tmp_path: Path):
    workflow = load(GUARDED).get_raw_model()
    model = WorkflowPyfunc(workflow, token_store=SqliteTokenStore(tmp_path / "tokens"))
    asked = model.predict({})
    with pytest.raises(MlflowException, match="its 'by' is another"):
        model.predict({}, answered(asked, "Code", by="thief", ok=True))
    assert model.predict({}, answered(asked, "Code", by="manager", ok=False)) == "denied"


def test_a_question_that_a_step_streams_before_it_waits_is_one_question(load: Load):
    model = load(STREAMED)
    first = model.predict({})
    assert [wait["event"]["data"] for wait in first["waiting"]] == [{"prefix": "name"}]
    second = model.predict({}, params=answered(first, "HumanResponseEvent", response="Ada"))
    assert [wait["event"]["data"] for wait in second["waiting"]] == [{"prefix": "age"}]
    assert model.predict({}, params=answered(second, "HumanResponseEvent", response="36")) == ["Ada", "36"]


def test_a_function_of_a_package_may_ask_again_and_again(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "approvals.py").write_text(APPROVALS)
    try:
        model = load(OF_A_PACKAGE)
        second = model.predict({}, params=answered(model.predict({}), "Approval", yes=True))
        assert [wait["event"]["data"] for wait in second["waiting"]] == [{"prefix": "second"}]
        assert model.predict({}, params=answered(second, "Approval", yes=False)) == [True, False]
    finally:
        sys.modules.pop("approvals", None)


def test_a_stream_goes_on_with_an_empty_row(load: Load):
    model = load(STREAMED)
    answer = answered(model.predict({}), "HumanResponseEvent", response="Ada")
    chunks: list[Any] = list(model.predict_stream({}, params=answer))
    assert chunks[-1]["status"] == "input_required"
