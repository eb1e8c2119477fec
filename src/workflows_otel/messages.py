"""Messages of a conversation with a model as attributes: one each, as OpenInference has them, and one JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from json.encoder import encode_basestring
from typing import Any, cast

from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, redact_text, to_jsonable

__all__ = ["fair_share", "message_attributes"]

SHOWN_MESSAGES = 40
SHOWN_TOOL_CALLS = 40  # of all messages together
MESSAGE_CHARS = 16_384
NAME_CHARS = 128  # of roles, tools, and ids of their calls
FEWEST_CHARS = 64  # of a text that is cut: below, its marker would not fit


@dataclass(frozen=True, slots=True)
class _ToolCall:
    """A tool that a model asks for."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class _Message:
    """What one party said: a text, tools that it asks for, or what came of the one that `answers` names."""

    role: str
    text: str | None
    tool_calls: tuple[_ToolCall, ...] = ()
    answers: str | None = None


def fair_share(texts: Iterable[str], budget: int) -> int:
    """How long each text may be so that together they keep a budget of bytes: short ones are whole, long ones are cut.

    Every text counts as long as its characters take on average in JSON.
    """
    beginnings = [text[:MESSAGE_CHARS] for text in texts]
    sizes = sorted((len(encode_basestring(text).encode(errors="surrogatepass")), len(text)) for text in beginnings)
    for left, (size, chars) in zip(range(len(sizes), 0, -1), sizes, strict=True):
        if size > budget // left:
            return max(budget // left * chars // size, FEWEST_CHARS)
        budget -= size
    return MESSAGE_CHARS


def message_attributes(
    value: Any, policy: ContentPolicy, flat: str, structured: str, role: str, budget: int
) -> dict[str, AttributeValue]:
    """The messages that a value holds, secrets masked and cut; empty where it holds none.

    Of more than 40 messages the first one is shown, which says what the model is to be, and the latest ones.

    Args:
        value: A text, a message (`{"role": ..., "content": ..., "tool_calls": [{"id", "name", "arguments"}]}`, or an
            object with a `role` and a `content`), several of them, or a mapping with `messages` or a `prompt`.
        policy: What may be shown.
        flat: Prefix of OpenInference's attributes.
        structured: Name of the attribute with all messages.
        role: Who says what has no role.
        budget: Most bytes of all texts together; they are written twice.
    """
    attributes: dict[str, AttributeValue] = {}
    found = _messages(value, role, policy)
    messages = found if len(found) <= SHOWN_MESSAGES else [found[0], *found[1 - SHOWN_MESSAGES :]]
    messages, are_all = _with_few_tool_calls(messages)
    longest = fair_share((text for message in messages for text in _texts(message)), budget)
    shown = [_masked(message, policy, flat, longest) for message in messages]
    for number, message in enumerate(shown):
        attributes |= _flat(message, f"{flat}.{number}.message")
    if shown:
        said = [{"role": message.role, "parts": _parts(message)} for message in shown]
        attributes[structured] = json.dumps(said, ensure_ascii=False)
    if len(found) > SHOWN_MESSAGES or not are_all:
        attributes[at.TRUNCATED] = True
    return attributes


def _with_few_tool_calls(messages: list[_Message]) -> tuple[list[_Message], bool]:
    """The messages with as many of their tool calls as are shown, the latest ones; whether those are all."""
    if sum(len(message.tool_calls) for message in messages) <= SHOWN_TOOL_CALLS:
        return messages, True
    left, kept = SHOWN_TOOL_CALLS, list[_Message]()
    for message in reversed(messages):
        kept.append(replace(message, tool_calls=message.tool_calls[:left]))
        left -= len(kept[-1].tool_calls)
    return kept[::-1], False


def _texts(message: _Message) -> Iterator[str]:
    if message.text is not None:
        yield message.text
    yield from (call.arguments for call in message.tool_calls)


def _masked(message: _Message, policy: ContentPolicy, path: str, longest: int) -> _Message:
    def mask(text: str, max_chars: int) -> str:
        return redact_text(text, policy, path=path, max_chars=max_chars)

    calls = (
        _ToolCall(mask(call.id, NAME_CHARS), mask(call.name, NAME_CHARS), mask(call.arguments, longest))
        for call in message.tool_calls
    )
    return _Message(
        mask(message.role, NAME_CHARS),
        None if message.text is None else mask(message.text, longest),
        tuple(calls),
        None if message.answers is None else mask(message.answers, NAME_CHARS),
    )


def _flat(message: _Message, start: str) -> dict[str, AttributeValue]:
    """As OpenInference wants it."""
    attributes: dict[str, AttributeValue] = {f"{start}.role": message.role}
    if message.text is not None:
        attributes[f"{start}.content"] = message.text
    if message.answers is not None:
        attributes[f"{start}.tool_call_id"] = message.answers
    for place, call in enumerate(message.tool_calls):
        about = f"{start}.tool_calls.{place}.tool_call"
        attributes[f"{about}.id"] = call.id
        attributes[f"{about}.function.name"] = call.name
        attributes[f"{about}.function.arguments"] = call.arguments
    return attributes


def _parts(message: _Message) -> list[dict[str, Any]]:
    """As `gen_ai.input.messages` and `gen_ai.output.messages` want them."""
    if message.answers is not None:
        return [{"type": "tool_call_response", "id": message.answers, "response": message.text or ""}]
    parts: list[dict[str, Any]] = [] if message.text is None else [{"type": "text", "content": message.text}]
    calls = message.tool_calls
    return parts + [{"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments} for c in calls]


def _messages(value: Any, role: str, policy: ContentPolicy) -> list[_Message]:
    """Who said what; nothing where a value holds no messages."""
    if isinstance(value, str):
        return [_Message(role, value)]
    if isinstance(value, Mapping):
        return _of_mapping(cast("Mapping[str, Any]", value), role, policy)
    if isinstance(value, (list, tuple)):
        return [one for item in cast("Iterable[Any]", value) for one in _messages(item, role, policy)]
    said = getattr(value, "content", None)
    return [_Message(str(getattr(value, "role", role)), said)] if isinstance(said, str) else []


def _of_mapping(fields: Mapping[str, Any], role: str, policy: ContentPolicy) -> list[_Message]:
    text, calls = fields.get("content"), _tool_calls(fields.get("tool_calls"), policy)
    if isinstance(text, str) or calls:
        answers = fields.get("tool_call_id")
        said = text if isinstance(text, str) and (text or not calls) else None
        who = str(fields.get("role", role))
        return [_Message(who, said, calls, answers if isinstance(answers, str) else None)]
    for name in ("messages", "prompt"):
        if name in fields:
            return _messages(fields[name], role, policy)
    return []


def _tool_calls(value: Any, policy: ContentPolicy) -> tuple[_ToolCall, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    found: list[_ToolCall] = []
    for item in cast("Iterable[Any]", value):
        if not isinstance(item, Mapping):
            continue
        fields = cast("Mapping[str, Any]", item)
        function = fields.get("function", fields)  # OpenAI's own shape has name and arguments below it
        about = cast("Mapping[str, Any]", function) if isinstance(function, Mapping) else fields
        if isinstance(name := about.get("name"), str):
            given = about.get("arguments", {})
            arguments = given if isinstance(given, str) else to_jsonable(given, policy).text
            found.append(_ToolCall(str(fields.get("id") or ""), name, arguments))
    return tuple(found)
