"""A call of a model that a step gives up has a span that ends; MLflow's autologging leaves it open."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mlflow
import pytest
from mlflow.entities import Span, Trace
from openai import AsyncOpenAI, OpenAI

import mlflow_flavor
from tests.mlflow_flavor.test_llm_clients import openai_autolog
from workflows import Context, Workflow, step
from workflows.errors import WorkflowCancelledByUser
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

__all__ = ["openai_autolog"]

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("openai_autolog")]

OUTCOME = "workflow.call.outcome"


class Model:
    """A server of chat completions that answers when it is told to; a stream goes on until its reader goes away."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answers = threading.Event()
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.asked.set()
                if not request.get("stream"):
                    model.answers.wait()
                with suppress(OSError):  # who asked has gone away
                    model.answer(self, request)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream" if request.get("stream") else "application/json")
        handler.end_headers()
        said = {"id": "1", "created": 1, "model": "tiny"}
        while request.get("stream"):
            choice = {"index": 0, "delta": {"role": "assistant", "content": "word "}}
            chunk = {**said, "object": "chat.completion.chunk", "choices": [choice]}
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            handler.wfile.flush()
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        handler.wfile.write(json.dumps({**said, "object": "chat.completion", "choices": [choice]}).encode())


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.answers.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


MESSAGES: Any = [{"role": "user", "content": "well?"}]


async def ask(model: Model) -> str:
    async with AsyncOpenAI(base_url=model.url, api_key="none", max_retries=0) as client:
        reply = await client.chat.completions.create(model="tiny", messages=MESSAGES)
    return reply.choices[0].message.content or ""


@asynccontextmanager
async def until_asked(model: Model) -> AsyncIterator[None]:
    """Gives up what is done in it, by a TimeoutError, as soon as the model has been asked."""
    limit = asyncio.timeout(None)

    async def end() -> None:
        await asyncio.to_thread(model.asked.wait)
        limit.reschedule(asyncio.get_running_loop().time())

    ending = asyncio.create_task(end())
    async with limit:
        yield
    await ending


class Slow(Event):
    pass


class Fast(Event):
    pass


class Asks(Workflow):
    def __init__(self, model: Model) -> None:
        super().__init__(timeout=30)
        self.model = model


class Races(Asks):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> Slow | Fast | None:
        ctx.send_event(Slow())
        ctx.send_event(Fast())

    @step
    async def slow(self, ev: Slow) -> StopEvent:
        return StopEvent(result=await ask(self.model))

    @step
    async def fast(self, ev: Fast) -> StopEvent:
        await asyncio.to_thread(self.model.asked.wait)
        return StopEvent(result="fast")


class FallsBack(Asks):
    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        with suppress(TimeoutError):
            async with until_asked(self.model):
                await ask(self.model)
        return StopEvent(result="a guess")


class TriesAgain(Asks):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            async with until_asked(self.model):
                await ask(self.model)
        return StopEvent(result="at last")


class Hedges(Asks):
    """Gives a call up in the last turn of its run."""

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        calls = [asyncio.create_task(ask(self.model)), asyncio.create_task(asyncio.to_thread(self.model.asked.wait))]
        _, slow = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in slow:
            call.cancel()
        return StopEvent(result="fast")


class HedgesAndHears(Hedges):
    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        call = asyncio.create_task(ask(self.model))
        await asyncio.to_thread(self.model.asked.wait)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return StopEvent(result="fast")


class LeavesAStream(Asks):
    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        async with AsyncOpenAI(base_url=self.model.url, api_key="none", max_retries=0) as client:
            async for chunk in await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True):
                return StopEvent(result=chunk.choices[0].delta.content)
        raise AssertionError("the stream was empty")


class LeavesACall(Asks):
    task: asyncio.Task[str] | None = None

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        self.task = asyncio.create_task(ask(self.model))
        await asyncio.to_thread(self.model.asked.wait)
        return StopEvent(result="soon")


class ReadsTheBeginning(Asks):
    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        async with AsyncOpenAI(base_url=self.model.url, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)
            async for chunk in stream:
                await stream.close()
                return StopEvent(result=chunk.choices[0].delta.content)
        raise AssertionError("the stream was empty")


Traces = Callable[[], list[Trace]]


def call_of(traces: Traces) -> Span:
    mlflow.flush_trace_async_logging()
    (trace,) = traces()
    (span,) = [each for each in trace.data.spans if each.name.endswith("Completions")]
    return span


@pytest.mark.parametrize(("workflow", "result"), [(Races, "fast"), (FallsBack, "a guess"), (TriesAgain, "at last")])
async def test_the_trace_of_a_run_that_gave_a_call_up_is_complete(
    model: Model, traces: Traces, workflow: type[Asks], result: str
):
    handler = workflow(model).run()
    assert await handler == result
    span = call_of(traces)
    assert span.attributes[OUTCOME] == "cancelled"
    assert mlflow.get_trace(mlflow_flavor.trace_id(handler) or "") is not None


@pytest.mark.parametrize(
    ("workflow", "outcome"),
    [(Hedges, "cancelled"), (HedgesAndHears, "cancelled"), (LeavesAStream, "closed"), (LeavesACall, "left")],
)
async def test_so_is_one_that_mlflow_reads_as_soon_as_the_run_is_over(
    model: Model, traces: Traces, workflow: type[Asks], outcome: str
):
    await asyncio.to_thread(mlflow.trace(mlflow_flavor.predict_fn(workflow(model))))
    assert call_of(traces).attributes[OUTCOME] == outcome


async def test_so_is_that_of_a_run_that_was_cancelled(model: Model, traces: Traces):
    class Waits(Asks):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await ask(self.model))

    handler = Waits(model).run()
    await asyncio.to_thread(model.asked.wait)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    assert call_of(traces).attributes[OUTCOME] == "cancelled"


async def test_a_call_that_failed_the_step_ends_with_its_attempt(model: Model, traces: Traces):
    await TriesAgain(model).run()
    call = call_of(traces)
    (trace,) = traces()
    (attempt,) = [each for each in trace.data.spans if each.span_id == call.parent_id]
    assert call.end_time_ns == attempt.end_time_ns


async def test_what_a_thread_goes_on_with_has_its_answer(model: Model, traces: Traces):
    over = threading.Event()

    class InThread(Asks):
        @step
        def ask(self, ev: StartEvent) -> StopEvent:
            with OpenAI(base_url=self.model.url, api_key="none", max_retries=0) as client:
                reply = client.chat.completions.create(model="tiny", messages=MESSAGES)
            over.set()
            return StopEvent(result=reply.choices[0].message.content)

    handler = InThread(model).run()
    await asyncio.to_thread(model.asked.wait)
    await handler.cancel_run()
    with pytest.raises(WorkflowCancelledByUser):
        await handler
    model.answers.set()
    await asyncio.to_thread(over.wait)
    assert call_of(traces).outputs["choices"][0]["message"]["content"] == "yes"


async def test_so_has_what_a_task_goes_on_with(model: Model, traces: Traces):
    workflow = LeavesACall(model)
    assert await workflow.run() == "soon"
    model.answers.set()
    assert workflow.task is not None
    assert await workflow.task == "yes"
    span = call_of(traces)
    assert OUTCOME not in span.attributes
    assert span.outputs["choices"][0]["message"]["content"] == "yes"


async def test_a_stream_that_is_left_has_an_end(model: Model, traces: Traces):
    assert await ReadsTheBeginning(model).run() == "word "
    while timers := [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        await asyncio.gather(*(asyncio.to_thread(each.join) for each in timers))
    assert call_of(traces).attributes[OUTCOME] == "closed"
