"""MLflow's own tracing of an LLM client nests below the step attempt that made the call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from mlflow import openai as mlflow_openai
from mlflow.entities import Trace
from openai import AsyncOpenAI, OpenAI

from tests.mlflow_flavor.agents import Ask
from tests.mlflow_flavor.trees import lines, span_named
from workflows import Workflow, step
from workflows.events import Event, StopEvent
from workflows.retry_policy import retry_policy as policy
from workflows.retry_policy import stop_after_attempt, wait_fixed

pytestmark = pytest.mark.server


class Draft(Event):
    text: str


class Chat(BaseHTTPRequestHandler):
    """Answers every chat completion with the last message in capitals; the first one of all with a failure."""

    failures = 1

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if type(self).failures:
            type(self).failures -= 1
            self._answer(503, {"error": {"message": "overloaded"}})
            return
        message = {"role": "assistant", "content": self.reply(request)}
        self._answer(
            200,
            {
                "id": "chat-1",
                "object": "chat.completion",
                "created": 1,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            },
        )

    def reply(self, request: dict[str, Any]) -> str:
        """The text of the answer."""
        return request["messages"][-1]["content"].upper()

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def chat_url() -> Iterator[str]:
    Chat.failures = 1
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def openai_autolog() -> Iterator[None]:
    mlflow_openai.autolog(silent=True)
    yield
    mlflow_openai.autolog(disable=True, silent=True)


class Assistant(Workflow):
    """Asks the model twice: from an async step that is retried, and from a sync one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    @step(retry_policy=policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def draft(self, ev: Ask) -> Draft:
        async with AsyncOpenAI(base_url=self._url, api_key="none", max_retries=0) as client:
            reply = await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": ev.question}]
            )
        return Draft(text=reply.choices[0].message.content or "")

    @step
    def polish(self, ev: Draft) -> StopEvent:
        with OpenAI(base_url=self._url, api_key="none", max_retries=0) as client:
            reply = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": ev.text}])
        return StopEvent(result=reply.choices[0].message.content)


@pytest.mark.usefixtures("openai_autolog")
async def test_llm_calls_nest_below_the_attempt_that_made_them(chat_url: str, trace: Callable[[], Trace]):
    assert await Assistant(chat_url).run(question="hi") == "HI"
    spans = [line.split(" ERROR")[0] for line in lines(trace())]
    assert spans == [
        "Assistant.run WORKFLOW OK",
        "  draft TASK OK",
        "    attempt draft TASK",
        "      AsyncCompletions CHAT_MODEL",
        "    attempt draft TASK OK",
        "      AsyncCompletions CHAT_MODEL OK",
        "  polish TASK OK",
        "    Completions CHAT_MODEL OK",
    ]


@pytest.mark.usefixtures("openai_autolog")
async def test_tokens_of_llm_calls_add_up_on_the_trace(chat_url: str, trace: Callable[[], Trace]):
    await Assistant(chat_url).run(question="hi")
    assert json.loads(trace().info.trace_metadata["mlflow.trace.tokenUsage"])["total_tokens"] == 10
    assert span_named(trace(), "Completions").attributes["mlflow.chat.tokenUsage"]["total_tokens"] == 5
