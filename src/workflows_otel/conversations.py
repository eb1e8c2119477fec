"""Who said what to a model, and what it answered: read from what clients of models take and give.

Known are the shapes of OpenAI (chat, completions, responses), Anthropic, Gemini, Bedrock, Ollama, Cohere and LangChain,
as plain data or as objects. They are read as data, by the names of their fields; what is marked `Redact()` stays
hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from workflows.instrumentation.content import ContentPolicy, to_jsonable
from workflows_otel.parts import first_part, is_list, items, part, text_part

__all__ = ["Message", "ToolCall", "messages_of", "model_of"]

# What others call a party: Gemini, and LangChain, whose messages have it as their type, and pieces of them their class.
ROLES = {
    "model": "assistant",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "human": "user",
    "HumanMessageChunk": "user",
    "system": "system",
    "SystemMessageChunk": "system",
    "tool": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
ANSWERS = ("choices", "candidates", "content", "output", "message")  # one of these has who says which model it is
MODELS = ("model", "model_version", "modelVersion")

# Kinds of blocks, and fields of blocks that have no kind.
CALLS = ("tool_use", "tool_call", "function_call", "custom_tool_call")
CALL_HOLDERS = ("function_call", "functionCall", "toolUse")
RESULTS = ("tool_result", "function_call_output", "custom_tool_call_output")
RESULT_HOLDERS = ("function_response", "functionResponse", "toolResult")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_text")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model asks for."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """What one party said: a text, tools that it asks for, or what came of the one that `answers` names."""

    role: str
    text: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    answers: str | None = None


def messages_of(value: Any, role: str, policy: ContentPolicy) -> list[Message]:
    """The messages that a value is, or holds; none where it is something else.

    Args:
        value: A text, a message, an answer of a client of a model, a mapping with `messages` or a `prompt`, or several.
        role: Who says what has no role.
        policy: How arguments of tools are shown that are no text.
    """
    if isinstance(value, str):
        return [Message(role, value)]
    if is_list(value):
        return [one for item in items(value) for one in messages_of(item, role, policy)]
    if found := _said(value, role, policy):
        return found
    found = [one for holder in _holders(value) for one in _said(holder, role, policy)]
    if not found and issubclass(type(value), dict):
        return messages_of(first_part(value, ("messages", "prompt")), role, policy)
    return found


def model_of(answer: Any) -> str | None:
    """Which model answered, as an answer, or a chunk of one, says it; None for what no client of a model gives."""
    for holder in (answer, part(answer, "message"), part(answer, "response")):
        if any(part(holder, name) is not None for name in ANSWERS):
            for name in MODELS:
                if model := text_part(holder, name):
                    return model
    return None


def _holders(value: Any) -> Iterator[Any]:
    """What holds the messages of an answer."""
    for choice in items(part(value, "choices")):
        yield first_part(choice, ("message", "text"))
    for candidate in items(part(value, "candidates")):
        yield part(candidate, "content")
    output = part(value, "output")
    yield from items(output)
    yield part(output, "message")
    yield part(value, "message")


def _said(holder: Any, role: str, policy: ContentPolicy) -> list[Message]:
    """The messages in what holds one; what came of a tool is a message of its own."""
    if isinstance(holder, str):
        return [Message(role, holder)]
    kind = text_part(holder, "type")
    if kind in THOUGHTS:
        return []
    read = _Content(policy)
    for item in items(part(holder, "tool_calls")):
        read.add_call(item)
    for content in (part(holder, "content"), part(holder, "parts")):
        for block in [content] if isinstance(content, str) else items(content):
            read.add(block)
    if kind in (*CALLS, *RESULTS):  # it stands by itself, among messages
        read.add(holder)
    if not read.texts and (refusal := text_part(holder, "refusal")) is not None:
        read.add(refusal)
    return read.messages(_role_of(holder) or role, text_part(holder, "tool_call_id"))


def _role_of(holder: Any) -> str | None:
    for name in (part(holder, "role"), part(holder, "type")):
        if isinstance(name, Enum):
            name = name._value_
        if isinstance(name, str) and (name in ROLES or part(holder, "role") is not None):
            return ROLES.get(name, name)
    return None


class _Content:
    """What is found in one message, block by block."""

    def __init__(self, policy: ContentPolicy) -> None:
        self.texts: list[str] = []
        self._policy = policy
        self._calls: list[ToolCall] = []
        self._results: list[Message] = []

    def add(self, block: Any) -> None:
        """Take a text, a call of a tool, or what came of one; of a picture and the like the kind is shown."""
        kind = text_part(block, "type")
        if isinstance(block, str):
            self.texts.append(block)
        elif (call := first_part(block, CALL_HOLDERS)) is not None:
            self.add_call(call)
        elif (result := first_part(block, RESULT_HOLDERS)) is not None:
            self._add_result(result)
        elif kind in CALLS:
            self.add_call(block)
        elif kind in RESULTS:
            self._add_result(block)
        elif kind in THOUGHTS or part(block, "thought") is True:
            return
        elif (text := text_part(block, "text")) is not None:
            self.texts.append(text)
        elif kind is not None:
            self.texts.append(f"<{kind}>")

    def add_call(self, call: Any) -> None:
        """Take a call of a tool; OpenAI's own shape has name and arguments below `function`."""
        function = part(call, "function")
        about = call if function is None else function
        if (name := text_part(about, "name")) is not None:
            given = first_part(about, ("arguments", "args", "input"))
            call_id = first_part(call, ("call_id", "id", "toolUseId"))
            self._calls.append(ToolCall(self._as_id(call_id), name, self._as_text({} if given is None else given)))

    def _add_result(self, result: Any) -> None:
        given = first_part(result, ("content", "output", "response"))
        if blocks := items(given):
            inner = _Content(self._policy)
            for block in blocks:
                inner.add(block)
            given = "".join(inner.texts)
        answers = first_part(result, ("tool_use_id", "toolUseId", "call_id", "id"))
        self._results.append(Message("tool", self._as_text(given), (), self._as_id(answers)))

    def _as_text(self, value: Any) -> str:
        return value if isinstance(value, str) else to_jsonable(value, self._policy).text

    def _as_id(self, value: Any) -> str:
        return "" if value is None else self._as_text(value)

    def messages(self, role: str, answers: str | None) -> list[Message]:
        """What was found, as `role` said it."""
        text = "".join(self.texts) if self.texts else None
        if not text and self._calls:
            text = None
        own = [] if text is None and not self._calls else [Message(role, text, tuple(self._calls), answers)]
        return own + self._results
