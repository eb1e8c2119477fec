"""What came of a stream so far, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, cast

from workflows.instrumentation.encoder import omitted_text

__all__ = ["Chunks"]

KEPT_PARTS = 1_000  # that are no texts
KEPT_CHARS = 1_048_576  # of texts: what is shown is cut much shorter, what a blob store gets is not

# Where clients of models have what a chunk adds to the answer; all are fields, so that nobody's code is called.
_TEXTS = (
    ("choices", 0, "delta", "content"),
    ("choices", 0, "text"),
    ("delta", "content"),
    ("delta", "text"),
    ("delta",),
    ("candidates", 0, "content", "parts", 0, "text"),
    ("message", "content"),
    ("content",),
)
_ANSWERING = ("response.output_text.delta", "response.refusal.delta")  # of what `client.responses` streams


class Chunks:
    """Texts in a row are one, everything else is kept one by one.

    Of what clients of models stream the texts are taken, if any chunk has one: the answer, and not how it came.

    Args:
        is_answer: It is a model that streams.

    Attributes:
        are_cut: Something was left out, which `value` says.
    """

    def __init__(self, *, is_answer: bool = False) -> None:
        self._is_answer = is_answer
        self._has_texts_of_clients = False
        self._parts: list[Any] = []
        self._chars = self._omitted_chars = self._omitted_parts = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def are_cut(self) -> bool:
        return bool(self._omitted_chars or self._omitted_parts)

    def add(self, chunk: Any) -> None:
        """Take one more."""
        text = _text_of(chunk) if self._is_answer and not isinstance(chunk, str) else None
        if text is not None:
            self._has_texts_of_clients = True
        if isinstance(chunk, str) or text is not None:
            self._add_text(chunk if text is None else text)
        elif len(self._parts) < KEPT_PARTS:
            self._parts.append(chunk)
        else:
            self._omitted_parts += 1

    def _add_text(self, text: str) -> None:
        kept = text[: KEPT_CHARS - self._chars]
        self._chars += len(kept)
        self._omitted_chars += len(text) - len(kept)
        if self._parts and isinstance(self._parts[-1], StringIO):
            self._parts[-1].write(kept)
        elif len(self._parts) < KEPT_PARTS:
            self._parts.append(StringIO())
            self._parts[-1].write(kept)
        else:
            self._omitted_parts += 1

    def value(self) -> Any:
        """A text, where all was text or a model's client streamed one, else a list."""
        parts = self._parts
        if self._has_texts_of_clients:
            parts = [part for part in parts if isinstance(part, StringIO)]
        shown = [part.getvalue() if isinstance(part, StringIO) else part for part in parts]
        if self._omitted_chars:
            shown.append(omitted_text(self._omitted_chars))
        if self._omitted_parts:
            shown.append(f"…[{self._omitted_parts} items omitted]")
        return "".join(shown) if all(isinstance(part, str) for part in shown) else shown


def _text_of(chunk: object) -> str | None:
    if _is_beside_the_answer(_part(chunk, "type")):
        return None
    for path in _TEXTS:
        value: Any = chunk
        for name in path:
            value = _part(value, name)
        if isinstance(value, str):
            return value
    return None


def _is_beside_the_answer(kind: object) -> bool:
    """Whether an event of OpenAI's streams repeats what came, or has part of something else: arguments, reasoning."""
    return isinstance(kind, str) and (
        kind.endswith(".done") or (kind.startswith("response.") and kind not in _ANSWERING)
    )


def _part(value: Any, name: str | int) -> Any:
    if isinstance(name, int):
        items = cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else ()
        return items[name] if len(items) > name else None
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    return getattr(value, name, None)
