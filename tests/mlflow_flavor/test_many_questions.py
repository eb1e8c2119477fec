"""A run that asks several people at once: each question is told with its own id, and stays until it is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from cryptography.fernet import Fernet
from mlflow.entities import SpanType, Trace
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

import mlflow_flavor
from mlflow_flavor import SqliteTokenStore, WorkflowPyfunc
from tests.mlflow_flavor.fresh import Interpreter

Save = Callable[[str], str]

HEAD = """
import asyncio
import mlflow_flavor
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Ask(InputRequiredEvent):
    who: str

class Vote(HumanResponseEvent):
    by: str

class Code(HumanResponseEvent):
    by: str

class Item(Event):
    who: str

class Voted(Workflow):
    @step
    async def count(self, ctx: Context, ev: Vote) -> StopEvent | None:
        votes = ctx.collect_events(ev, [Vote] * 3)
        return StopEvent(result=[vote.by for vote in votes]) if votes else None
"""

RETURNED = """
class Panel(Voted):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Item | None:
        for who in ("ann", "bob", "cy"):
            ctx.send_event(Item(who=who))

    @step(num_workers=3)
    async def ask(self, ev: Item) -> Ask:
        return Ask(who=ev.who)

mlflow_flavor.set_model(Panel())
"""

STREAMED = """
class Panel(Voted):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> None:
        for who in ("ann", "bob", "cy"):
            ctx.write_event_to_stream(Ask(who=who))

mlflow_flavor.set_model(Panel())
"""

IN_EVERY_WAY = """
class Panel(Voted):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Ask | Item:
        for who in ("wait", "stream and wait", "stream"):
            ctx.send_event(Item(who=who))
        return Ask(who="return")

    @step(num_workers=3)
    async def ask(self, ctx: Context, ev: Item) -> Vote | None:
        ask = Ask(who=ev.who)
        if ev.who == "wait":
            return Vote(by=(await ctx.wait_for_event(Code, waiter_event=ask)).by)
        ctx.write_event_to_stream(ask)
        if ev.who == "stream and wait":
            return Vote(by=(await ctx.wait_for_event(Code)).by)

    @step
    async def count(self, ctx: Context, ev: Vote) -> StopEvent | None:
        votes = ctx.collect_events(ev, [Vote] * 4)
        return StopEvent(result=sorted(vote.by for vote in votes)) if votes else None

mlflow_flavor.set_model(Panel())
"""

ONE_STEP = """
class Chat(Workflow):
    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for who in ("ann", "bob"):
            ctx.write_event_to_stream(Ask(who=who))
        return StopEvent(result=[(await ctx.wait_for_event(Vote)).by for _ in range(2)])

mlflow_flavor.set_model(Chat())
"""

ALL = pytest.mark.parametrize("script", [RETURNED, STREAMED], ids=["returned", "streamed"])


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a script as a model; gives its directory."""

    def saved(script: str) -> str:
        (tmp_path / "agent.py").write_text(HEAD + script)
        mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
        return str(tmp_path / "model")

    return saved


def asked(found: dict[str, Any]) -> dict[str, str]:
    """The id of each question, by whom it asks."""
    assert found["status"] == "input_required"
    return {wait["event"]["data"]["who"]: wait["id"] for wait in found["waiting"]}


def votes(found: dict[str, Any], *names: str, kind: str = "Vote") -> dict[str, str]:
    """The parameters with which these people answer."""
    answers = {asked(found)[name]: {"type": kind, "data": {"by": name}} for name in names}
    return {"resume": json.dumps({"token": found["resume"], "answers": answers})}


@ALL
def test_each_question_is_told_and_answers_come_one_at_a_time(save: Save, script: str):
    path = save(script)
    first = mlflow.pyfunc.load_model(path).predict({})
    assert list(asked(first)) == ["ann", "bob", "cy"]
    second = mlflow.pyfunc.load_model(path).predict({}, params=votes(first, "bob"))
    assert asked(second) == {who: asked(first)[who] for who in ("ann", "cy")}
    third = mlflow.pyfunc.load_model(path).predict({}, params=votes(second, "cy"))
    assert asked(third) == {"ann": asked(first)["ann"]}
    assert mlflow.pyfunc.load_model(path).predict({}, params=votes(third, "ann")) == ["bob", "cy", "ann"]


@ALL
def test_all_answers_may_come_at_once(save: Save, script: str):
    model = mlflow.pyfunc.load_model(save(script))
    assert model.predict({}, params=votes(model.predict({}), "cy", "ann", "bob")) == ["cy", "ann", "bob"]


def test_an_answer_to_none_of_them_is_refused_and_costs_no_token(save: Save, tmp_path: Path):
    workflow = mlflow.pyfunc.load_model(save(RETURNED)).get_raw_model()
    model = WorkflowPyfunc(workflow, token_store=SqliteTokenStore(tmp_path / "tokens"))
    found: Any = model.predict({})
    with pytest.raises(MlflowException, match="answers nothing: the run waits for run"):
        model.predict({}, votes(found))
    assert model.predict({}, votes(found, "ann", "bob", "cy")) == ["ann", "bob", "cy"]


def test_questions_that_are_asked_again_keep_their_answers_of_before(save: Save, tmp_path: Path):
    workflow = mlflow.pyfunc.load_model(save(RETURNED)).get_raw_model()
    model = WorkflowPyfunc(workflow, token_store=SqliteTokenStore(tmp_path / "tokens"))
    left: Any = model.predict({}, votes(model.predict({}), "ann", "cy"))
    assert list(asked(left)) == ["bob"]
    assert model.predict({}, votes(left, "bob")) == ["ann", "cy", "bob"]


def test_a_step_may_ask_in_every_way(save: Save):
    model = mlflow.pyfunc.load_model(save(IN_EVERY_WAY))
    found = model.predict({})
    assert sorted(asked(found)) == ["return", "stream", "stream and wait", "wait"]
    for who, kind in (("stream", "Vote"), ("wait", "Code"), ("return", "Vote")):
        before = asked(found)
        found = model.predict({}, params=votes(found, who, kind=kind))
        assert asked(found) == {name: wait_id for name, wait_id in before.items() if name != who}
    said = model.predict({}, params=votes(found, "stream and wait", kind="Code"))
    assert said == ["return", "stream", "stream and wait", "wait"]


def test_the_questions_of_one_step_belong_to_its_waits_in_order(save: Save):
    model = mlflow.pyfunc.load_model(save(ONE_STEP))
    first = model.predict({})
    assert list(asked(first)) == ["ann", "bob"]
    assert len(set(asked(first).values())) == 1  # the step waits for one answer
    second = model.predict({}, params=votes(first, "ann"))
    assert list(asked(second)) == ["bob"]
    assert model.predict({}, params=votes(second, "bob")) == ["ann", "bob"]


def test_a_stream_shows_each_question_once(save: Save):
    model = mlflow.pyfunc.load_model(save(RETURNED))
    chunks: list[Any] = list(model.predict_stream({}))
    assert sorted(chunk["data"]["who"] for chunk in chunks[:-1]) == ["ann", "bob", "cy"]
    rows: Any = [{}]  # a model that asks takes no other row
    (second,) = list[Any](model.predict_stream(rows, params=votes(chunks[-1], "ann")))
    assert list(asked(second)) == ["bob", "cy"]


async def test_people_are_asked_over_rest(save: Save, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    app = scoring_server.init(mlflow.pyfunc.load_model(save(RETURNED)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:

        async def posted(params: dict[str, str]) -> Any:
            reply = await client.post("/invocations", json={"inputs": {}, "params": params})
            return reply.json()["predictions"]

        found = await posted({})
        for who in ("cy", "ann"):
            found = await posted(votes(found, who))
        assert await posted(votes(found, "bob")) == ["cy", "ann", "bob"]


def test_people_may_answer_in_another_process(
    save: Save, interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    key = {"WORKFLOWS_MLFLOW_RESUME_KEY": Fernet.generate_key().decode()}
    monkeypatch.setenv(*next(iter(key.items())))
    path = save(STREAMED)
    params = votes(mlflow.pyfunc.load_model(path).predict({}), "bob")
    script = (
        f"import json, mlflow; print(json.dumps(mlflow.pyfunc.load_model({path!r}).predict({{}}, params={params!r})))"
    )
    done = interpreter.run(script, tmp_path, environment=key)
    second = json.loads(done.stdout)
    assert list(asked(second)) == ["ann", "cy"]
    assert mlflow.pyfunc.load_model(path).predict({}, params=votes(second, "ann", "cy")) == ["bob", "ann", "cy"]


def test_each_question_is_a_span_with_its_answer(save: Save, traces: Callable[[], list[Trace]]):
    model = mlflow.pyfunc.load_model(save(RETURNED))
    model.predict({}, params=votes(model.predict({}), "cy", "ann", "bob"))
    spans = [span for trace in traces() for span in trace.data.spans if span.span_type == SpanType.TASK]
    waits = [(span.inputs["request"]["Ask"]["who"], span.outputs) for span in spans if span.name == "wait_for_event"]
    assert waits == [(who, {"Vote": {"by": who}}) for who in ("cy", "ann", "bob")]
