"""The tools that a model asks for in a stream, put together from the parts in which its client gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflows.instrumentation.encoder import omitted_text
from workflows_otel.growing_text import GrowingText
from workflows_otel.parts import first_part, items, part, path_part, text_part

__all__ = ["StreamedCalls"]

KEPT_CALLS = 128
KEPT_CHARS = 1_048_576  # of all arguments

_ITEMS = ("response.output_item.added", "response.output_item.done")
_DELTAS = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")
_CALLS = ("tool_use", "function_call", "custom_tool_call")


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a chunk says of a call.

    Attributes:
        place: Which call of the answer it is, where that is said.
        given: More of its arguments, or all of them where they are no text.
        is_all: It is all of them, also where they are a text.
    """

    place: Any
    id: str | None = None
    name: str | None = None
    given: Any = None
    is_all: bool = False


class _Call:
    """A call as far as it came."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.omitted_chars = 0
        self.text = GrowingText()
        self.whole: Any = ""  # where no text came

    def shown(self) -> dict[str, Any]:
        """As messages have it."""
        text = str(self.text) + (omitted_text(self.omitted_chars) if self.omitted_chars else "")
        return {"id": self.id, "name": self.name, "arguments": text or self.whole}


class StreamedCalls:
    """Calls in the order in which they began, within bounds.

    Attributes:
        are_cut: Something was left out, which `shown` says.
    """

    def __init__(self) -> None:
        self.are_cut = False
        self._calls: list[_Call] = []
        self._by_place: dict[Any, _Call] = {}
        self._chars = self._omitted_calls = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, chunk: Any) -> None:
        """Take what a chunk says of calls; most say nothing."""
        for piece in _pieces(chunk):
            call = self._call_of(piece)
            if call is not None:
                self._take(call, piece)

    def _call_of(self, piece: _Piece) -> _Call | None:
        """The call of which it tells: the one in its place, or the latest, unless it begins another."""
        place = piece.place if isinstance(piece.place, int) else None
        latest = self._calls[-1] if self._calls else None
        call = latest if place is None else self._by_place.get(place)
        if not piece.name and not piece.id:
            return call
        is_same = call is not None and (piece.id in (None, "", call.id) or not call.id)
        if is_same and not (place is None and piece.name):
            return call
        if len(self._calls) >= KEPT_CALLS:
            self._omitted_calls += 1
            self.are_cut = True
            return None
        self._calls.append(_Call())
        self._by_place[place] = self._calls[-1]
        return self._calls[-1]

    def _take(self, call: _Call, piece: _Piece) -> None:
        call.id, call.name = call.id or piece.id or "", call.name or piece.name or ""
        if not isinstance(piece.given, str):
            call.whole = call.whole if piece.given is None else piece.given
            return
        if piece.is_all:
            self._chars -= call.text.length
            call.text, call.omitted_chars = GrowingText(), 0
        kept = piece.given[: KEPT_CHARS - self._chars]
        self._chars += call.text.add(kept)
        call.omitted_chars += len(piece.given) - len(kept)
        self.are_cut = self.are_cut or call.omitted_chars > 0

    def shown(self) -> list[Any]:
        """The calls as a message has them: `{"id", "name", "arguments"}`."""
        shown: list[Any] = [call.shown() for call in self._calls]
        return [*shown, f"…[{self._omitted_calls} items omitted]"] if self._omitted_calls else shown


def _pieces(chunk: Any) -> Iterator[_Piece]:
    kind = text_part(chunk, "type") or ""
    if kind.startswith("response."):
        yield from _of_responses(chunk, kind)
    elif kind.startswith("content_block"):
        yield from _of_anthropic(chunk)
    else:
        chunk = part(chunk, "chunk") if kind == "chunk" else chunk  # `client.chat.completions.stream`
        yield from _of_openai(chunk) if part(chunk, "choices") is not None else _of_others(chunk)


def _of_responses(chunk: Any, kind: str) -> Iterator[_Piece]:
    place, item = part(chunk, "output_index"), part(chunk, "item")
    if kind in _DELTAS:
        yield _Piece(place, given=part(chunk, "delta"))
    elif kind in _ITEMS and text_part(item, "type") in _CALLS:
        given = first_part(item, ("arguments", "input"))
        yield _Piece(place, text_part(item, "call_id"), text_part(item, "name"), given, is_all=True)


def _of_anthropic(chunk: Any) -> Iterator[_Piece]:
    place, block, delta = part(chunk, "index"), part(chunk, "content_block"), part(chunk, "delta")
    if text_part(delta, "type") == "input_json_delta":
        yield _Piece(place, given=part(delta, "partial_json"))
    elif block is not None and text_part(chunk, "type") == "content_block_start" and text_part(block, "type") in _CALLS:
        yield _Piece(place, text_part(block, "id"), text_part(block, "name"), part(block, "input"))


def _of_openai(chunk: Any) -> Iterator[_Piece]:
    return _of_message(path_part(chunk, ("choices", 0, "delta")))


def _of_message(message: Any) -> Iterator[_Piece]:
    for call in items(part(message, "tool_calls")):
        about = part(call, "function")
        yield _Piece(part(call, "index"), text_part(call, "id"), text_part(about, "name"), part(about, "arguments"))


def _of_others(chunk: Any) -> Iterator[_Piece]:
    """Of Ollama's, LangChain's, Gemini's and Bedrock's chunks."""
    yield from _of_message(part(chunk, "message"))
    for call in items(part(chunk, "tool_call_chunks")):
        yield _Piece(part(call, "index"), text_part(call, "id"), text_part(call, "name"), part(call, "args"))
    for block in items(path_part(chunk, ("candidates", 0, "content", "parts"))):
        call = first_part(block, ("function_call", "functionCall"))
        yield _Piece(None, text_part(call, "id"), text_part(call, "name"), part(call, "args"))
    begun, more = part(chunk, "contentBlockStart"), part(chunk, "contentBlockDelta")
    if (call := path_part(begun, ("start", "toolUse"))) is not None:
        yield _Piece(part(begun, "contentBlockIndex"), text_part(call, "toolUseId"), text_part(call, "name"))
    if (call := path_part(more, ("delta", "toolUse"))) is not None:
        yield _Piece(part(more, "contentBlockIndex"), given=part(call, "input"))
