"""What came of a stream so far, within bounds."""

from __future__ import annotations

from typing import Any

from workflows.instrumentation.encoder import omitted_text
from workflows_otel.growing_text import GrowingText
from workflows_otel.parts import items, part, path_part, text_part
from workflows_otel.streamed_calls import StreamedCalls

__all__ = ["Chunks"]

KEPT_PARTS = 1_000  # that are no texts
KEPT_CHARS = 1_048_576  # of texts: what is shown is cut much shorter, what a blob store gets is not

# Where clients of models have what a chunk adds to the answer.
_TEXTS = (
    ("choices", 0, "delta", "content"),
    ("choices", 0, "text"),
    ("delta", "content"),
    ("delta", "text"),
    ("delta",),
    ("contentBlockDelta", "delta", "text"),
    ("message", "content"),
    ("content",),
)
_ANSWERING = ("response.output_text.delta", "response.refusal.delta")  # of what `client.responses` streams


class Chunks:
    """Texts in a row are one, everything else is kept one by one.

    Of what clients of models stream the texts are taken, and the tools that are asked for, if any chunk has one: the
    answer, and not how it came.

    Args:
        is_answer: It is a model that streams.

    Attributes:
        are_cut: Something was left out, which `value` says.
    """

    def __init__(self, *, is_answer: bool = False) -> None:
        self._is_answer = is_answer
        self._is_of_client = False
        self._parts: list[Any] = []
        self._calls = StreamedCalls()
        self._chars = self._omitted_chars = self._omitted_parts = 0

    def __bool__(self) -> bool:
        return bool(self._parts or self._calls)

    @property
    def are_cut(self) -> bool:
        return bool(self._omitted_chars or self._omitted_parts or self._calls.are_cut)

    def add(self, chunk: Any) -> None:
        """Take one more."""
        text = chunk if isinstance(chunk, str) else None
        if self._is_answer and text is None:
            self._calls.add(chunk)
            text = _text_of(chunk)
            if text is not None or self._calls:
                self._keep_answer_only()
        if text is not None:
            self._add_text(text)
        elif self._is_of_client:
            return
        elif len(self._parts) < KEPT_PARTS:
            self._parts.append(chunk)
        else:
            self._omitted_parts += 1

    def _keep_answer_only(self) -> None:
        """Forget what came before the answer, which is no part of it: who speaks, thoughts, pings."""
        if not self._is_of_client:
            self._is_of_client = True
            self._parts = [one for one in self._parts if isinstance(one, GrowingText)]
            self._omitted_parts = 0

    def _add_text(self, text: str) -> None:
        if not (self._parts and isinstance(self._parts[-1], GrowingText)):
            if len(self._parts) >= KEPT_PARTS:
                self._omitted_chars += len(text)
                return
            self._parts.append(GrowingText())
        kept = text[: KEPT_CHARS - self._chars]
        self._chars += self._parts[-1].add(kept)
        self._omitted_chars += len(text) - len(kept)

    def value(self) -> Any:
        """A text, where all was text or a model's client streamed one; a message, where tools are asked for; a list."""
        shown = [str(one) if isinstance(one, GrowingText) else one for one in self._parts]
        if self._omitted_chars:
            shown.append(omitted_text(self._omitted_chars))
        if self._omitted_parts:
            shown.append(f"…[{self._omitted_parts} items omitted]")
        whole = "".join(shown) if all(isinstance(one, str) for one in shown) else shown
        if not self._calls:
            return whole
        return {"role": "assistant", "content": whole or None, "tool_calls": self._calls.shown()}


def _text_of(chunk: object) -> str | None:
    """What a chunk adds to the text of an answer; None where that is nothing."""
    if _is_beside_the_answer(text_part(chunk, "type")):
        return None
    for path in _TEXTS:
        found = path_part(chunk, path)
        if isinstance(found, str) and found:
            return found
    blocks = items(path_part(chunk, ("candidates", 0, "content", "parts")))
    return "".join(text_part(block, "text") or "" for block in blocks if part(block, "thought") is not True) or None


def _is_beside_the_answer(kind: str | None) -> bool:
    """Whether an event of OpenAI's streams repeats what came, or has part of something else: arguments, reasoning."""
    return kind is not None and (kind.endswith(".done") or (kind.startswith("response.") and kind not in _ANSWERING))
