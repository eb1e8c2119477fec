"""Workflows behind MLflow's AgentServer (its real app) and as a ResponsesAgent."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.genai import agent_server
from mlflow.genai.agent_server import server

import mlflow_flavor
from tests.mlflow_flavor.agents import Answer, Approve, Streaming
from tests.mlflow_flavor.trees import lines


@pytest.fixture
def registration() -> Iterator[None]:
    """MLflow holds one agent a process; every test registers its own."""
    yield
    server._invoke_function = server._stream_function = None  # pyright: ignore[reportPrivateUsage]  # no public way


@pytest.fixture
async def agent_client(registration: None) -> AsyncIterator[httpx.AsyncClient]:
    app = agent_server.AgentServer().app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def posted(client: httpx.AsyncClient, **body: Any) -> Any:
    reply = await client.post("/invocations", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_an_agent_server_answers_with_the_result(agent_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Answer())
    assert await posted(agent_client, question="why") == {"result": "WHY!"}


SHOPPER = """
import shelf
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Shopper(Workflow):
    @step
    async def buy(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.store.set("basket", shelf.filled(ev.item))
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="really?"))
        return StopEvent(result=repr(await ctx.store.get("basket")))
"""


async def test_an_agent_that_asks_keeps_classes_of_any_module_of_the_program(
    agent_client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Here of one that the agent's file does not import; a helper of it does."""
    (tmp_path / "baskets.py").write_text("from pydantic import BaseModel\nclass Basket(BaseModel):\n    item: str\n")
    (tmp_path / "shelf.py").write_text("import baskets\ndef filled(item):\n    return baskets.Basket(item=item)\n")
    (tmp_path / "shopper.py").write_text(SHOPPER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", Fernet.generate_key().decode())
    mlflow_flavor.register_agent(importlib.import_module("shopper").Shopper())
    asked = await posted(agent_client, item="tea")
    answers = {asked["waiting"][0]["id"]: {"type": "HumanResponseEvent", "data": {"response": "yes"}}}
    resume = json.dumps({"token": asked["resume"], "answers": answers})
    assert await posted(agent_client, params={"resume": resume}) == {"result": "Basket(item='tea')"}


async def test_an_agent_server_streams_events(agent_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Streaming(steps=2))
    reply = await agent_client.post("/invocations", json={"question": "x", "stream": True})
    *chunks, end = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert [json.loads(chunk) for chunk in chunks] == [
        {"type": "Progress", "data": {"percent": 0}},
        {"type": "Progress", "data": {"percent": 1}},
        {"type": "StopEvent", "data": {"result": "done"}},
    ]
    assert end == "[DONE]"


async def test_requests_and_chunks_can_be_of_the_users_own_shape(agent_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(
        Streaming(steps=1, deltas=1),
        to_start=lambda request: {"question": request["q"]},
        to_chunk=lambda event: {"at": event["percent"]} if "percent" in event.model_fields_set else None,
    )
    reply = await agent_client.post("/invocations", json={"q": "x", "stream": True})
    assert reply.text == 'data: {"at": 0}\n\ndata: [DONE]\n\n'


async def test_a_served_run_nests_below_the_span_of_its_request(
    agent_client: httpx.AsyncClient, trace: Callable[[], Trace]
):
    mlflow_flavor.register_agent(Answer())
    await posted(agent_client, question="why", params={"session_id": "s-1"})
    assert lines(trace()) == [
        "invoke_Answer UNKNOWN OK",
        "  Answer.run WORKFLOW OK",
        "    plan TASK OK",
        "    answer TASK OK",
    ]


async def test_an_agent_server_carries_question_and_answer(
    agent_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", Fernet.generate_key().decode())
    mlflow_flavor.register_agent(Approve())
    asked = await posted(agent_client, question="deploy")
    (wait,) = asked["waiting"]
    answers = {wait["id"]: {"type": "HumanResponseEvent", "data": {"response": "yes"}}}
    resume = {"token": asked["resume"], "answers": answers}
    assert await posted(agent_client, params={"resume": resume}) == {"result": "yes"}


async def test_an_agent_server_that_asks_without_a_key_for_the_answer_says_so(agent_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Approve())
    reply = await agent_client.post("/invocations", json={"question": "deploy"})
    assert reply.status_code >= 400
    assert "This model asked a person" in reply.text
    assert "set WORKFLOWS_MLFLOW_RESUME_KEY" in reply.text


async def test_an_agent_server_with_a_token_store_needs_no_key(agent_client: httpx.AsyncClient, tmp_path: Path):
    mlflow_flavor.register_agent(Approve(), token_store=mlflow_flavor.SqliteTokenStore(tmp_path / "runs.db"))
    assert (await posted(agent_client, question="deploy"))["status"] == "input_required"


async def test_parameters_that_are_no_object_are_refused(agent_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Answer())
    reply = await agent_client.post("/invocations", json={"question": "why", "params": 5})
    assert "params of a request needs to be an object, got int" in reply.text


@pytest.mark.usefixtures("registration")
def test_a_second_agent_in_a_process_is_refused():
    mlflow_flavor.register_agent(Answer())
    with pytest.raises(MlflowException, match="An agent is registered in this process already"):
        mlflow_flavor.register_agent(Approve())


@pytest.mark.parametrize(
    ("offer", "caller"),
    [
        (mlflow_flavor.register_agent, "register_agent"),
        (mlflow_flavor.as_responses_agent, "as_responses_agent"),
        (mlflow_flavor.predict_fn, "predict_fn"),
    ],
)
def test_a_class_in_the_place_of_its_instance_is_refused(offer: Callable[[Any], object], caller: str):
    with pytest.raises(MlflowException, match=rf"^{caller}\(\) needs a Workflow instance, got type Answer: call it"):
        offer(Answer)


def test_the_trace_of_something_else_than_a_run_is_refused():
    with pytest.raises(MlflowException, match=r"trace_id\(\) needs what Workflow.run\(\) gave, got NoneType"):
        mlflow_flavor.trace_id(None)  # pyright: ignore[reportArgumentType]  # as where run() was never called


REQUEST = {"input": [{"role": "user", "content": "older"}, {"role": "user", "content": "why"}]}


def test_a_responses_agent_answers_in_messages():
    reply = mlflow_flavor.as_responses_agent(Answer()).predict(REQUEST)  # pyright: ignore[reportArgumentType]
    (message,) = reply.model_dump()["output"]
    assert (message["role"], message["content"][0]["text"]) == ("assistant", "WHY!")


def test_a_responses_agent_streams_text():
    agent: Any = mlflow_flavor.as_responses_agent(Streaming(deltas=2, steps=1))
    events = [event.model_dump() for event in agent.predict_stream(REQUEST)]
    assert [event.get("delta") or event["item"]["content"][0]["text"] for event in events] == ["0 ", "1 ", "done"]


def test_a_responses_agent_carries_question_and_answer():
    agent: Any = mlflow_flavor.as_responses_agent(Approve())
    asked = agent.predict(REQUEST)
    assert asked.model_dump()["output"][0]["content"][0]["text"] == "why?"
    (wait,) = asked.custom_outputs["waiting"]
    answers = {wait["id"]: {"type": "HumanResponseEvent", "data": {"response": "yes"}}}
    again = {"input": [], "custom_inputs": {"resume": {"token": asked.custom_outputs["resume"], "answers": answers}}}
    assert agent.predict(again).model_dump()["output"][0]["content"][0]["text"] == "yes"


@pytest.fixture
async def typed_client(registration: None) -> AsyncIterator[httpx.AsyncClient]:
    app = agent_server.AgentServer("ResponsesAgent").app
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


SAID: list[dict[str, str]] = [{"role": "user", "content": "why"}]


async def test_a_server_of_responses_gets_a_message(typed_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Answer())
    (item,) = (await posted(typed_client, input=SAID))["output"]
    assert [part["text"] for part in item["content"]] == ["WHY!"]


async def test_a_server_of_responses_gets_pieces_of_text_and_the_message(typed_client: httpx.AsyncClient):
    mlflow_flavor.register_agent(Streaming(steps=1, deltas=2))
    reply = await typed_client.post("/invocations", json={"input": SAID, "stream": True})
    *chunks, end = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
    parts = [json.loads(chunk) for chunk in chunks]
    assert [part["type"] for part in parts] == ["response.output_text.delta"] * 2 + ["response.output_item.done"]
    assert parts[-1]["item"]["content"][0]["text"] == "done"
    assert end == "[DONE]"


async def test_a_server_of_responses_gets_a_question_and_takes_its_answer(
    typed_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORKFLOWS_MLFLOW_RESUME_KEY", Fernet.generate_key().decode())
    mlflow_flavor.register_agent(Approve())
    asked = (await posted(typed_client, input=SAID))["custom_outputs"]
    (wait,) = asked["waiting"]
    answer = {"type": "HumanResponseEvent", "data": {"response": "yes"}}
    resume = json.dumps({"token": asked["resume"], "answers": {wait["id"]: answer}})
    (item,) = (await posted(typed_client, input=SAID, custom_inputs={"resume": resume}))["output"]
    assert "yes" in item["content"][0]["text"]
