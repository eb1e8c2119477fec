"""The tools that a model asks for in a stream are shown as where it answers at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseFunctionCallArgumentsDeltaEvent, ResponseOutputItemAddedEvent

from tests.workflows_otel.span_log import SpanLog, about
from workflows_otel import llm_call

pytestmark = pytest.mark.payloads

TEXT = {"type": "text", "content": "Let me look."}
BONN = {"type": "tool_call", "id": "c-1", "name": "weather", "arguments": '{"city":"Bonn"}'}
ROME = {"type": "tool_call", "id": "c-2", "name": "weather", "arguments": '{"city":"Rome"}'}


def _call(index: int | None, arguments: str, **about_it: Any) -> dict[str, Any]:
    name = about_it.pop("name", None)
    return {"index": index, "function": {"name": name, "arguments": arguments}, **about_it}


def _chat(delta: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "r-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1-2026",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }


BEGUN = {"role": "assistant", "tool_calls": [_call(0, "", id="c-1", type="function", name="weather")]}
BETWEEN = [_chat({"tool_calls": [_call(0, text)]}) for text in ('{"city":', '"Bonn"}')]
SECOND = [
    _chat({"tool_calls": [_call(1, "", id="c-2", type="function", name="weather")]}),
    _chat({"tool_calls": [_call(1, '{"city":"Rome"}')]}),
]
ANTHROPIC: list[Any] = [
    {"type": "message_start", "message": {"role": "assistant", "model": "m-1-2026", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me look."}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c-1", "name": "weather"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '"Bonn"}'}},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "server_tool_use", "id": "s", "name": "web"}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"q":1}'}},
]
ITEM = {"type": "function_call", "id": "i-1", "call_id": "c-1", "name": "weather", "arguments": ""}
DONE = {"type": "response.output_item.done", "output_index": 1, "item": {**ITEM, "arguments": '{"city":"Bonn"}'}}
RESPONSES: list[Any] = [
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Let me look."},
    ResponseOutputItemAddedEvent.model_validate(
        {"type": "response.output_item.added", "output_index": 1, "item": ITEM, "sequence_number": 1}
    ),
    *(
        ResponseFunctionCallArgumentsDeltaEvent.model_validate(
            {
                "type": "response.function_call_arguments.delta",
                "output_index": 1,
                "item_id": "i-1",
                "delta": text,
                "sequence_number": 2,
            }
        )
        for text in ('{"city":', '"Bonn"}')
    ),
]
WHOLE = {"name": "weather", "args": {"city": "Bonn"}, "id": "c-1"}
GEMINI: list[Any] = [
    {"candidates": [{"content": {"parts": [{"text": "Hm, Bonn.", "thought": True}, {"text": "Let me "}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "look."}, {"function_call": WHOLE}]}}]},
]
OLLAMA: list[Any] = [
    {"message": {"role": "assistant", "content": "Let me look."}},
    {
        "message": {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c-1", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}],
        }
    },
]
LANGCHAIN: list[Any] = [
    SimpleNamespace(content="Let me look.", tool_call_chunks=[]),
    SimpleNamespace(content="", tool_call_chunks=[{"index": 0, "id": "c-1", "name": "weather", "args": ""}]),
    SimpleNamespace(content="", tool_call_chunks=[{"index": 0, "id": None, "name": None, "args": '{"city":"Bonn"}'}]),
]
BEDROCK: list[Any] = [
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Let me look."}}},
    {"contentBlockStart": {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c-1", "name": "weather"}}}},
    {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":"Bonn"}'}}}},
]


def _drawn(spans: SpanLog, chunks: Iterable[Any]) -> dict[str, Any]:
    """The attributes of a call that streams chunks."""

    @llm_call(model="m-1")
    def stream() -> Iterator[Any]:
        yield from chunks

    list(stream())
    return about(spans.finished[-1])


def _parts(spans: SpanLog, chunks: Iterable[Any]) -> list[Any]:
    """What was said, of the one message there is."""
    (message,) = json.loads(_drawn(spans, chunks)["gen_ai.output.messages"])
    return message["parts"]


@pytest.mark.parametrize("content", [None, ""], ids=["none", "empty"])
def test_calls_of_an_answer_without_a_text_are_shown(content: str | None, spans: SpanLog) -> None:
    chunks = [_chat({**BEGUN, "content": content}), *BETWEEN, _chat({})]
    assert _parts(spans, map(ChatCompletionChunk.model_validate, chunks)) == [BONN]


def test_calls_behind_a_text_are_shown_with_it(spans: SpanLog) -> None:
    chunks = [_chat({"role": "assistant", "content": "Let me look."}), _chat(BEGUN), *BETWEEN]
    assert _parts(spans, chunks) == [TEXT, BONN]


def test_several_calls_of_one_answer_are_told_apart_by_their_places(spans: SpanLog) -> None:
    assert _parts(spans, [_chat(BEGUN), *BETWEEN, *SECOND]) == [BONN, ROME]


def test_several_calls_are_told_apart_by_their_ids_where_all_have_one_place(spans: SpanLog) -> None:
    both = [_call(0, call["arguments"], id=call["id"], name="weather") for call in (BONN, ROME)]
    assert _parts(spans, [_chat({"tool_calls": [call]}) for call in both]) == [BONN, ROME]


def test_a_call_that_is_named_in_each_of_its_chunks_is_one(spans: SpanLog) -> None:
    chunks = [_call(0, text, id="c-1", name="weather") for text in ('{"city":', '"Bonn"}')]
    assert _parts(spans, [_chat({"tool_calls": [call]}) for call in chunks]) == [BONN]


@pytest.mark.parametrize(
    "chunks",
    [ANTHROPIC, RESPONSES, [*RESPONSES, DONE], [RESPONSES[0], DONE], GEMINI, OLLAMA, LANGCHAIN, BEDROCK],
    ids=["anthropic", "responses", "responses-done", "responses-at-once", "gemini", "ollama", "langchain", "bedrock"],
)
def test_calls_in_the_words_of_a_client_are_shown(chunks: list[Any], spans: SpanLog) -> None:
    assert _parts(spans, chunks) == [TEXT, BONN]


def test_the_output_is_the_message_with_its_calls(spans: SpanLog) -> None:
    call = {name: BONN[name] for name in ("id", "name", "arguments")}
    shown = _drawn(spans, [_chat(BEGUN), *BETWEEN])
    assert json.loads(shown["output.value"]) == {"role": "assistant", "content": None, "tool_calls": [call]}
    start = "llm.output_messages.0.message.tool_calls.0.tool_call."
    assert shown[f"{start}function.arguments"] == BONN["arguments"]


def test_secrets_in_the_arguments_of_a_streamed_call_are_masked(spans: SpanLog) -> None:
    chunks = [_chat(BEGUN), *(_chat({"tool_calls": [_call(0, text)]}) for text in ('{"password": "hun', 'ter2"}'))]
    assert "hunter2" not in str(_drawn(spans, chunks))


def test_arguments_without_an_end_are_cut_and_say_so(spans: SpanLog) -> None:
    more = (_chat({"tool_calls": [_call(0, "x" * 65_536)]}) for _ in range(17))
    shown = _drawn(spans, [_chat(BEGUN), *more])
    assert shown["workflow.truncated"] is True


def test_an_answer_behind_thousands_of_thoughts_is_shown_whole(spans: SpanLog) -> None:
    thoughts = (_chat({"content": None, "reasoning_content": "Hm."}) for _ in range(1_500))
    shown = _drawn(spans, [*thoughts, _chat({"content": "Bonn "}), _chat({"content": "it is."})])
    assert shown["output.value"] == "Bonn it is."
    assert "workflow.truncated" not in shown
