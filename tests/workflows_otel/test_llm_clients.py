"""A real LLM client on a flaky step, decoded from the wire: two linked attempts, each with the call that it made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from openai import AsyncOpenAI, AsyncStream
from openinference.instrumentation.openai import OpenAIInstrumentor

import workflows_otel
from demo.scripted_server import MODEL, Scripted
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_none


@pytest.fixture
def llm() -> Iterator[str]:
    """The address of a server that speaks the OpenAI protocol."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


class Asks(Workflow):
    @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async with AsyncOpenAI(base_url=ev.llm, api_key="none", max_retries=0) as client:
            messages = [{"role": "user", "content": "Tell a joke."}]
            answer = await client.chat.completions.create(model=MODEL, messages=messages)  # type: ignore[arg-type]
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("flaky on purpose")
        return StopEvent(result=answer.choices[0].message.content)


async def test_llm_spans_nest_below_linked_attempts_in_what_is_exported(
    no_provider: None, sink: OtlpSink, llm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
    telemetry = workflows_otel.setup("otlp")
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        assert "pirates" in await Asks().run(llm=llm)
    finally:
        instrumentor.uninstrument()
        telemetry.shutdown()
    attempts = {s.attributes["workflow.step.attempt"]: s for s in sink.spans if s.name == "attempt ask"}
    assert [attempts[n].attributes["workflow.step.outcome"] for n in (1, 2)] == ["retrying", "completed"]
    assert [(link, about["workflow.link.type"]) for link, about in attempts[2].links] == [
        (attempts[1].span_id, "retry_of")
    ]
    calls = {s.parent_id for s in sink.spans if s.attributes.get("openinference.span.kind") == "LLM"}
    assert calls == {attempts[1].span_id, attempts[2].span_id}


async def test_the_stream_of_a_real_client_is_drawn_up_to_its_end_and_stays_what_it_is(llm: str) -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full")
    async with AsyncOpenAI(base_url=llm, api_key="none", max_retries=0) as client:

        @workflows_otel.llm_call(model=MODEL)
        async def ask(question: str) -> Any:
            messages: Any = [{"role": "user", "content": question}]
            return await client.chat.completions.create(model=MODEL, messages=messages, stream=True)

        stream = await ask("Tell a joke.")
        assert (isinstance(stream, AsyncStream), stream.response.status_code) == (True, 200)
        assert log.finished == ()
        said = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
    workflows_otel.uninstrument(log.provider)
    (span,) = log.finished
    assert said
    assert dict(span.attributes or {})["output.value"] == said


async def test_the_stream_helper_of_a_real_client_is_drawn_up_to_its_end(llm: str) -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full")
    async with AsyncOpenAI(base_url=llm, api_key="none", max_retries=0) as client:

        @workflows_otel.llm_call(model=MODEL)
        def ask(question: str) -> Any:
            messages: Any = [{"role": "user", "content": question}]
            return client.chat.completions.stream(model=MODEL, messages=messages)

        async with ask("Tell a joke.") as stream:
            assert log.finished == ()
            answer = await stream.get_final_completion()
    workflows_otel.uninstrument(log.provider)
    (span,) = log.finished
    about = dict(span.attributes or {})
    assert about["output.value"] == answer.choices[0].message.content
    assert "gen_ai.response.time_to_first_chunk" in about
