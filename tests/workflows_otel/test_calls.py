"""`tool`, `llm_call`, `retriever`: what calls inside a step look like, in both vocabularies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import workflows_otel
from tests.workflows_otel.span_log import SpanLog, about
from tests.workflows_otel.test_metrics import Metrics
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.testing import RecordLog
from workflows_otel import llm_call, retriever, tool

pytestmark = pytest.mark.payloads


class Does(Workflow):
    """Its step does `what`."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ev.get("what")())


@tool(description="Adds.")
async def add(a: int, b: int = 0) -> int:
    return a + b


@tool
def shout(text: str) -> str:
    trace.get_tracer("client").start_span("inside").end()
    return text.upper()


@llm_call(model="m-1", provider="openai")
async def tokens(prompt: str) -> AsyncIterator[str]:
    for token in ("yes", ", ", "sir"):
        yield token


@llm_call(model="m-1")
def sync_tokens(messages: list[dict[str, str]]) -> Iterator[str]:
    yield from ("yes", "!")


@retriever(name="library")
async def search(query: str) -> list[Any]:
    return [{"text": "a book", "score": 0.5, "id": "b1"}, "a page"]


async def test_a_tool_is_drawn_in_both_vocabularies_below_its_step(spans: SpanLog) -> None:
    async def what() -> int:
        return await add(1, b=2)

    with workflows_otel.context(session_id="s1"):
        handler = Does().run(what=what)
        assert await handler == 3
    span = spans.named("execute_tool add")
    assert spans.parent(span) == "run_step work"
    assert about(span) == {
        "openinference.span.kind": "TOOL",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.workflow.name": "Does",
        "workflow.run.id": handler.run_id,
        "session.id": "s1",
        "gen_ai.tool.name": "add",
        "tool.name": "add",
        "gen_ai.tool.description": "Adds.",
        "tool.description": "Adds.",
        "input.value": '{"a":1,"b":2}',
        "input.mime_type": "application/json",
        "tool.parameters": '{"a":1,"b":2}',
        "gen_ai.tool.call.arguments": '{"a":1,"b":2}',
        "output.value": "3",
        "output.mime_type": "application/json",
        "gen_ai.tool.call.result": "3",
    }


async def test_what_a_helper_calls_nests_below_it(spans: SpanLog) -> None:
    async def what() -> str:
        return shout("hey")

    assert await Does().run(what=what) == "HEY"
    assert spans.parent(spans.named("execute_tool shout")) == "run_step work"


async def test_a_streamed_answer_ends_with_its_last_chunk(spans: SpanLog) -> None:
    async def what() -> str:
        text = ""
        async for token in tokens("Really?"):
            assert spans.all_named("chat m-1") == []
            assert "chat" not in getattr(trace.get_current_span(), "name", "")  # its consumer is not inside of it
            text += token
        return text

    assert await Does().run(what=what) == "yes, sir"
    chat = about(spans.named("chat m-1"))
    assert chat["gen_ai.response.time_to_first_chunk"] >= 0
    assert (chat["llm.input_messages.0.message.role"], chat["llm.input_messages.0.message.content"]) == (
        "user",
        "Really?",
    )
    assert chat["llm.output_messages.0.message.content"] == chat["output.value"] == "yes, sir"
    assert chat["gen_ai.output.messages"] == (
        '[{"role": "assistant", "parts": [{"type": "text", "content": "yes, sir"}]}]'
    )
    assert (chat["gen_ai.provider.name"], chat["llm.provider"]) == ("openai", "openai")
    assert spans.named("chat m-1").kind.name == "CLIENT"


async def test_a_stream_that_is_left_early_shows_what_was_taken(spans: SpanLog) -> None:
    async def what() -> str:
        stream = sync_tokens([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Really?"}])
        first = next(stream)
        stream.close()  # type: ignore[attr-defined]  # a generator's
        return first

    assert await Does().run(what=what) == "yes"
    span = spans.named("chat m-1")
    assert span.status.status_code is StatusCode.UNSET
    assert about(span)["output.value"] == "yes"
    assert about(span)["llm.input_messages.1.message.role"] == "user"


async def test_documents_of_a_retriever_are_attributes(spans: SpanLog) -> None:
    await Does().run(what=lambda: search("books"))
    documents = {k: v for k, v in about(spans.named("retrieval library")).items() if k.startswith("retrieval.")}
    assert documents == {
        "retrieval.documents.0.document.content": "a book",
        "retrieval.documents.0.document.score": 0.5,
        "retrieval.documents.0.document.id": "b1",
        "retrieval.documents.1.document.content": "a page",
    }


async def test_a_block_tells_usage_and_output(spans: SpanLog) -> None:
    async def what() -> None:
        with llm_call(model="m-1", provider="openai") as call:
            shout("inside")
            call.input("hello").output("hi").usage(input=10, output=4, model="m-1-2026")

    await Does().run(what=what)
    chat = about(spans.named("chat m-1"))
    assert [chat[f"llm.token_count.{side}"] for side in ("prompt", "completion", "total")] == [10, 4, 14]
    assert [chat[f"gen_ai.usage.{side}_tokens"] for side in ("input", "output")] == [10, 4]
    assert chat["gen_ai.response.model"] == "m-1-2026"
    assert spans.parent(spans.named("execute_tool shout")) == "chat m-1"


async def test_a_failed_call_is_an_error_without_its_secrets(spans: SpanLog) -> None:
    async def what() -> None:
        with tool(name="pay") as call:
            call.input({"password": "hunter2"})
            raise ValueError("refused: sk-abcdefghijklmnop")

    with pytest.raises(ValueError, match="refused"):
        await Does().run(what=what)
    span = spans.named("execute_tool pay")
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "ValueError: refused: **********")
    assert about(span)["error.type"] == "ValueError"
    assert "hunter2" not in str(about(span))


async def test_without_payloads_only_shapes_are_shown(records: RecordLog) -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, start_marker=False, content="types")
    await Does().run(what=lambda: search("a secret plan"))
    workflows_otel.uninstrument(log.provider)
    assert about(log.named("retrieval library"))["input.value"] == '{"type":"dict","fields":{"query":"<str 13>"}}'
    assert "a book" not in str(about(log.named("retrieval library")))


async def test_helpers_work_where_nobody_listens() -> None:
    assert await add(1, 2) == 3
    assert [token async for token in tokens("x")] == ["yes", ", ", "sir"]


async def test_calls_are_measured(records: RecordLog) -> None:
    found, log = Metrics(), SpanLog()
    workflows_otel.instrument(log.provider, meter_provider=found.provider)

    async def what() -> None:
        await add(1)
        with llm_call(model="m-1") as call:
            call.usage(input=10)

    await Does().run(what=what)
    labels = [labels for labels, _ in found.read("gen_ai.execute_tool.duration")]
    assert labels == [{"operation.name": "execute_tool", "tool.name": "add", "name": "Does"}]
    chat = {"operation.name": "chat", "request.model": "m-1", "name": "Does"}
    assert found.read("gen_ai.client.token.usage") == [({**chat, "token.type": "input"}, (1, 10))]
    workflows_otel.uninstrument(log.provider)
