"""One chat with the demo's model through the `openai` client, told to the run's stream as it comes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

from openai import AsyncOpenAI, Omit, omit
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam

from workflows import Context
from workflows.events import Event

EventT = TypeVar("EventT", bound=Event)


class Token(Event):
    """A piece of text, streamed while the model is still writing."""

    text: str


class Usage(Event):
    """What one call to the model used, streamed when it is over."""

    prompt_tokens: int
    completion_tokens: int
    shown: bool


def is_a(event: Event, kind: type[EventT]) -> TypeGuard[EventT]:
    """Whether `event` is one of ours by name: a logged model brings its own copy of this module, hence of the class."""
    return type(event).__name__ == kind.__name__


async def chat(
    ctx: Context,
    messages: Sequence[ChatCompletionMessageParam],
    *,
    schema: dict[str, Any] | None = None,
    show: bool = True,
    max_tokens: int = 64,
) -> str:
    """The model's answer; temperature and seed are fixed, so that a run can be repeated.

    Args:
        ctx: The step's context; gets a `Token` for each piece (if `show`) and one `Usage`.
        messages: The conversation so far.
        schema: JSON schema that the answer must follow; the server enforces it by grammar.
        show: Whether the text is meant for people.
        max_tokens: Where the answer is cut.
    """
    text = ""
    async with AsyncOpenAI() as llm:  # address and key from OPENAI_BASE_URL and OPENAI_API_KEY
        chunks = await llm.chat.completions.create(
            model=os.environ["DEMO_MODEL"],
            messages=list(messages),
            response_format=_json_format(schema) if schema else omit,
            temperature=0,
            seed=7,
            max_tokens=max_tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in chunks:
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                text += piece
                if show:
                    ctx.write_event_to_stream(Token(text=piece))
            if chunk.usage:
                ctx.write_event_to_stream(_usage(chunk.usage, show))
    return text.strip()


def _usage(used: CompletionUsage, shown: bool) -> Usage:
    return Usage(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens, shown=shown)


def _json_format(schema: dict[str, Any]) -> Any | Omit:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
