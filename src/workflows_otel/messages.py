"""Messages of a conversation with a model as attributes: one each, as OpenInference has them, and one JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from json.encoder import encode_basestring
from typing import Any

from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, redact_text, to_jsonable
from workflows_otel.conversations import Message, ToolCall, messages_of

__all__ = ["fair_share", "message_attributes"]

SHOWN_MESSAGES = 40
SHOWN_TOOL_CALLS = 40  # of all messages together
MESSAGE_CHARS = 16_384
NAME_CHARS = 128  # of roles, tools, and ids of their calls
FEWEST_CHARS = 64  # of a text that is cut: below, its marker would not fit


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
        value: A text, a message (`{"role": ..., "content": ..., "tool_calls": [{"id", "name", "arguments"}]}`, or as a
            client of a model has it), several of them, a client's whole answer, or a mapping with `messages` or a
            `prompt`.
        policy: What may be shown.
        flat: Prefix of OpenInference's attributes.
        structured: Name of the attribute with all messages.
        role: Who says what has no role.
        budget: Most bytes of all texts together; they are written twice.
    """
    attributes: dict[str, AttributeValue] = {}
    found = messages_of(value, role, policy)
    messages = found if len(found) <= SHOWN_MESSAGES else [found[0], *found[1 - SHOWN_MESSAGES :]]
    messages, are_all = _with_few_tool_calls(messages)
    longest = fair_share((text for message in messages for text in _texts(message)), budget)
    shown = [_masked(message, policy, flat, longest) for message in messages]
    for number, message in enumerate(shown):
        attributes |= _flat(message, f"{flat}.{number}.message")
    if shown:
        said = [{"role": message.role, "parts": _parts(message)} for message in shown]
        text = json.dumps(said, ensure_ascii=False)
        if (longest := policy.max_attribute_chars) is not None and len(text) > longest:
            text, are_all = to_jsonable(said, replace(policy, redact=None, blob=None)).text, False
        attributes[structured] = text
    if len(found) > SHOWN_MESSAGES or not are_all:
        attributes[at.TRUNCATED] = True
    return attributes


def _with_few_tool_calls(messages: list[Message]) -> tuple[list[Message], bool]:
    """The messages with as many of their tool calls as are shown, the latest ones; whether those are all."""
    if sum(len(message.tool_calls) for message in messages) <= SHOWN_TOOL_CALLS:
        return messages, True
    left, kept = SHOWN_TOOL_CALLS, list[Message]()
    for message in reversed(messages):
        kept.append(replace(message, tool_calls=message.tool_calls[:left]))
        left -= len(kept[-1].tool_calls)
    return kept[::-1], False


def _texts(message: Message) -> Iterator[str]:
    if message.text is not None:
        yield message.text
    yield from (call.arguments for call in message.tool_calls)


def _masked(message: Message, policy: ContentPolicy, path: str, longest: int) -> Message:
    def mask(text: str, max_chars: int) -> str:
        return redact_text(text, policy, path=path, max_chars=max_chars)

    calls = (
        ToolCall(mask(call.id, NAME_CHARS), mask(call.name, NAME_CHARS), mask(call.arguments, longest))
        for call in message.tool_calls
    )
    return Message(
        mask(message.role, NAME_CHARS),
        None if message.text is None else mask(message.text, longest),
        tuple(calls),
        None if message.answers is None else mask(message.answers, NAME_CHARS),
    )


def _flat(message: Message, start: str) -> dict[str, AttributeValue]:
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


def _parts(message: Message) -> list[dict[str, Any]]:
    """As `gen_ai.input.messages` and `gen_ai.output.messages` want them."""
    if message.answers is not None:
        return [{"type": "tool_call_response", "id": message.answers, "response": message.text or ""}]
    parts: list[dict[str, Any]] = [] if message.text is None else [{"type": "text", "content": message.text}]
    calls = message.tool_calls
    return parts + [{"type": "tool_call", "id": c.id, "name": c.name, "arguments": c.arguments} for c in calls]
