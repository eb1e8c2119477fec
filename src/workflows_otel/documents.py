"""Texts that were embedded, and documents that were found, as OpenInference's attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, redact_text
from workflows_otel.messages import fair_share
from workflows_otel.parts import is_list, items, part

__all__ = ["document_attributes", "text_attributes"]

SHOWN = 40
TEXT_CHARS = 4096
ID_CHARS = 128
LIST_BYTES = 20_480  # of the 64 kB that a span may have

_TEXTS = ("content", "text", "page_content")
_FACTS = (("score", ("score",)), ("id", ("id", "id_", "doc_id", "node_id")))


def text_attributes(value: Any, policy: ContentPolicy) -> dict[str, AttributeValue]:
    """What was embedded: a text, or several; secrets are masked."""
    texts = [text for text in _several(value) if isinstance(text, str)]
    longest = min(fair_share(texts, LIST_BYTES), TEXT_CHARS)
    keys = [f"{at.EMBEDDINGS}.{number}.embedding.text" for number in range(len(texts))]
    return {key: redact_text(text, policy, path=key, max_chars=longest) for key, text in zip(keys, texts, strict=True)}


def document_attributes(value: Any, policy: ContentPolicy) -> dict[str, AttributeValue]:
    """What was found: a document, or several, each a text, a dict, or an object with a text; secrets are masked."""
    found = _several(value)
    texts = [one if isinstance(one, str) else _field(one, _TEXTS) for one in found]
    longest = min(fair_share((text for text in texts if isinstance(text, str)), LIST_BYTES), TEXT_CHARS)
    attributes: dict[str, AttributeValue] = {}
    for number, (document, text) in enumerate(zip(found, texts, strict=True)):
        start = f"{at.RETRIEVAL_DOCUMENTS}.{number}.document"
        if isinstance(text, str):
            attributes[f"{start}.content"] = redact_text(text, policy, path=start, max_chars=longest)
        for name, names in _FACTS:
            fact = None if isinstance(document, str) else _field(document, names)
            if isinstance(fact, str):
                attributes[f"{start}.{name}"] = redact_text(fact, policy, path=f"{start}.{name}", max_chars=ID_CHARS)
            elif isinstance(fact, (int, float)):
                attributes[f"{start}.{name}"] = fact
    return attributes


def _several(value: Any) -> Sequence[Any]:
    return (items(value) if is_list(value) else [value])[:SHOWN]


def _field(document: Any, names: tuple[str, ...]) -> Any:
    found = (part(document, name) for name in names)
    return next((value for value in found if value is not None and not callable(value)), None)
