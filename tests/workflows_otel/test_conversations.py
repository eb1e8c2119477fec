"""What a model's client takes and gives, whole, as the messages that back ends show as a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Annotated, Any
from unittest.mock import MagicMock

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import BaseModel

from tests.workflows_otel.span_log import SpanLog, about
from workflows.instrumentation.redaction import Redact
from workflows_otel import current_call, llm_call

pytestmark = pytest.mark.payloads

CALL = {"type": "tool_call", "id": "c-1", "name": "add", "arguments": '{"a":1}'}
SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "One moment."}, CALL]}]

CHAT: dict[str, Any] = {
    "id": "r-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1-2026",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "One moment.",
                "tool_calls": [{"id": "c-1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
            },
        }
    ],
}
ANTHROPIC: dict[str, Any] = {
    "id": "r-1",
    "type": "message",
    "role": "assistant",
    "model": "m-1-2026",
    "content": [
        {"type": "thinking", "thinking": "Numbers.", "signature": "x"},
        {"type": "text", "text": "One moment."},
        {"type": "tool_use", "id": "c-1", "name": "add", "input": {"a": 1}},
    ],
}
GEMINI: dict[str, Any] = {
    "model_version": "m-1-2026",
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Numbers.", "thought": True},
                    {"text": "One moment."},
                    {"function_call": {"id": "c-1", "name": "add", "args": {"a": 1}}},
                ],
            }
        }
    ],
}
BEDROCK: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [{"text": "One moment."}, {"toolUse": {"toolUseId": "c-1", "name": "add", "input": {"a": 1}}}],
        }
    }
}
OLLAMA: dict[str, Any] = {
    "model": "m-1-2026",
    "message": {
        "role": "assistant",
        "content": "One moment.",
        "tool_calls": [{"id": "c-1", "function": {"name": "add", "arguments": {"a": 1}}}],
    },
}
RESPONSES: dict[str, Any] = {
    "id": "r-1",
    "object": "response",
    "created_at": 1,
    "model": "m-1-2026",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {"type": "reasoning", "id": "i-1", "summary": []},
        {
            "type": "message",
            "id": "i-2",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "One moment.", "annotations": []}],
        },
        {"type": "function_call", "id": "i-3", "call_id": "c-1", "name": "add", "arguments": '{"a":1}'},
    ],
}


def _object(value: Any) -> Any:
    """Plain data as objects with attributes, but for what a tool is given."""
    if isinstance(value, dict):
        plain = ("input", "args")
        return SimpleNamespace(**{name: item if name in plain else _object(item) for name, item in value.items()})
    return [_object(item) for item in value] if isinstance(value, list) else value


def _drawn(spans: SpanLog, answer: Any, asked: Any = "Add one.") -> dict[str, Any]:
    """The attributes of a call that gives an answer."""

    @llm_call(model="m-1")
    def ask(messages: Any) -> Any:
        return answer

    assert ask(asked) is answer
    return about(spans.finished[-1])


@pytest.mark.parametrize(
    "answer",
    [
        ChatCompletion.model_validate(CHAT),
        CHAT,
        ANTHROPIC,
        _object(ANTHROPIC),
        GEMINI,
        _object(GEMINI),
        BEDROCK,
        OLLAMA,
    ],
    ids=["openai", "chat", "anthropic", "anthropic-objects", "gemini", "gemini-objects", "bedrock", "ollama"],
)
def test_a_whole_answer_is_shown_as_its_message(answer: Any, spans: SpanLog) -> None:
    assert json.loads(_drawn(spans, answer)["gen_ai.output.messages"]) == SAID


def test_an_answer_of_the_responses_api_is_shown_as_its_messages(spans: SpanLog) -> None:
    said = json.loads(_drawn(spans, Response.model_validate(RESPONSES))["gen_ai.output.messages"])
    assert said == [{"role": "assistant", "parts": [part]} for part in SAID[0]["parts"]]


def test_what_a_model_thinks_is_no_message(spans: SpanLog) -> None:
    thought = {**RESPONSES["output"][0], "content": [{"type": "reasoning_text", "text": "Numbers."}]}
    answer = {**RESPONSES, "output": [thought, RESPONSES["output"][1]]}
    assert json.loads(_drawn(spans, Response.model_validate(answer))["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": SAID[0]["parts"][:1]}
    ]


def test_a_whole_answer_has_openinferences_names_too(spans: SpanLog) -> None:
    shown = _drawn(spans, CHAT)
    start = "llm.output_messages.0.message."
    call = f"{start}tool_calls.0.tool_call."
    assert {name.removeprefix(start): shown[name] for name in shown if name.startswith(start)} == {
        "role": "assistant",
        "content": "One moment.",
        f"{call.removeprefix(start)}id": "c-1",
        f"{call.removeprefix(start)}function.name": "add",
        f"{call.removeprefix(start)}function.arguments": '{"a":1}',
    }


def test_a_whole_answer_stays_the_output(spans: SpanLog) -> None:
    assert json.loads(_drawn(spans, CHAT)["output.value"]) == CHAT


@pytest.mark.parametrize("answer", [CHAT, ANTHROPIC, GEMINI, OLLAMA], ids=["chat", "anthropic", "gemini", "ollama"])
def test_the_model_that_answered_is_told(answer: Any, spans: SpanLog) -> None:
    assert _drawn(spans, answer)["gen_ai.response.model"] == "m-1-2026"


def test_the_model_that_the_function_tells_is_kept(spans: SpanLog) -> None:
    @llm_call(model="m-1")
    def ask(prompt: str) -> Any:
        current_call().usage(model="m-1-of-the-proxy")
        return CHAT

    ask("Add one.")
    assert about(spans.finished[-1])["gen_ai.response.model"] == "m-1-of-the-proxy"


def test_what_is_no_answer_of_a_client_names_no_model(spans: SpanLog) -> None:
    assert "gen_ai.response.model" not in _drawn(spans, {"model": "T", "maker": "Ford"})


def test_a_streamed_answer_and_a_whole_one_say_the_same(spans: SpanLog) -> None:
    def chunk(text: str) -> ChatCompletionChunk:
        delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        kind = {"id": "r-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1-2026", "choices": [delta]}
        return ChatCompletionChunk.model_validate(kind)

    @llm_call(model="m-1")
    def stream(messages: Any) -> Iterator[Any]:
        yield from (chunk("Two "), chunk("it is."))

    message = {"role": "assistant", "content": "Two it is."}
    whole = _drawn(spans, {**CHAT, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
    list(stream("Add one."))
    streamed = about(spans.finished[-1])
    same = ("gen_ai.output.messages", "llm.output_messages.0.message.content", "gen_ai.response.model")
    assert [streamed[name] for name in same] == [whole[name] for name in same]


def test_messages_with_several_parts_are_shown_with_what_is_no_text_by_its_kind(spans: SpanLog) -> None:
    parts = [{"type": "text", "text": "What is this? "}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
    shown = _drawn(spans, "A cat.", [{"role": "user", "content": parts}])
    assert shown["llm.input_messages.0.message.content"] == "What is this? <image_url>"


def test_what_came_of_a_tool_is_a_message_that_answers_its_call(spans: SpanLog) -> None:
    result = {"type": "tool_result", "tool_use_id": "c-1", "content": [{"type": "text", "text": "2"}]}
    shown = _drawn(spans, "Two.", [{"role": "user", "content": [result]}])
    assert json.loads(shown["gen_ai.input.messages"]) == [
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c-1", "response": "2"}]}
    ]


def test_messages_of_langchain_have_their_parties(spans: SpanLog) -> None:
    types = ["system", "human", "ai", "tool", "function", "SystemMessageChunk", "HumanMessageChunk", "ToolMessageChunk"]
    shown = _drawn(spans, "Two.", [SimpleNamespace(type=name, content="Add one.") for name in types])
    roles = ["system", "user", "assistant", "tool", "tool", "system", "user", "tool"]
    assert [shown[f"llm.input_messages.{n}.message.role"] for n in range(len(types))] == roles


def test_a_refusal_is_what_was_said(spans: SpanLog) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I would rather not."}
    shown = _drawn(spans, {"choices": [{"message": message}]})
    assert shown["llm.output_messages.0.message.content"] == "I would rather not."


class Answer(BaseModel):
    role: str = "assistant"
    content: Annotated[str, Redact()]


def test_what_is_marked_is_no_message_either(spans: SpanLog) -> None:
    shown = _drawn(spans, Answer(content="the pin is 2604"))
    assert "2604" not in str(shown)
    assert shown["llm.output_messages.0.message.content"] == "**********"


def test_a_mock_of_a_client_is_no_answer(spans: SpanLog) -> None:
    assert "gen_ai.output.messages" not in _drawn(spans, SimpleNamespace(answer=MagicMock()))


def test_secrets_in_the_arguments_of_a_tool_are_masked(spans: SpanLog) -> None:
    call = {"type": "tool_use", "id": "c-1", "name": "login", "input": {"password": "hunter2"}}
    assert "hunter2" not in str(_drawn(spans, {**ANTHROPIC, "content": [call]}))
