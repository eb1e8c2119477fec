"""Calls of llama-index's models, embeddings, retrievers and tools as spans, where no other tracing of it draws them.

llama-index tells two things of a call: a span of its own (each method that matters, with an id) is entered and left,
and events say what happens in it, by the id of that span. A call is drawn from the first event about it (a tool's: from
its span) until its span is left. The answer of a streaming model is read after that: then until its last chunk.

One call is drawn once, however many methods of the same object it goes through (`achat`, `chat`, `complete`).
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import Token
from dataclasses import dataclass, field
from typing import Any

from llama_index_instrumentation.event_handlers import (  # pyright: ignore[reportMissingImports]  # loaded before this is
    BaseEventHandler,  # pyright: ignore[reportUnknownVariableType]
)
from llama_index_instrumentation.span_handlers import (  # pyright: ignore[reportMissingImports]
    BaseSpanHandler,  # pyright: ignore[reportUnknownVariableType]
)
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from workflows.instrumentation.llama_index_handlers import is_drawn_in_opentelemetry, root_dispatcher, unbridged
from workflows_otel import llama_index_facts as facts
from workflows_otel.calls import Call, CallKind
from workflows_otel.detaching import detach

__all__ = ["CallEvents", "CallSpans", "begin", "end"]

TOOLS = "llama_index.core.tools.types"
TOOL_METHODS = frozenset(("call", "acall", "__call__"))
KEPT_TEXTS = 40  # of what is embedded

_CALL = otel_context.create_key("workflows-llama-index-call")


@dataclass(slots=True)
class _Reading:
    """A call that is drawn; `begun_with` is what it was asked, to know it again, `passed` by which methods it came."""

    span_id: str
    call: Call
    kind: str
    instance: object
    method: str
    begun_with: object
    texts: list[str]
    passed: set[str] = field(default_factory=set[str])
    vectors: int = 0
    chunks: int = 0
    answered: bool = False
    is_streaming: bool = False
    inner: str | None = None


@dataclass(slots=True)
class _Entered:
    """A span of llama-index that is not left yet, and what to put back in the context when it is."""

    instance: object
    method: str
    token: Token[Context] | None = None


class _Reader:
    """What both handlers share: they are told of the same calls."""

    def __init__(self) -> None:
        self._entered: dict[str, _Entered] = {}
        self._readings: dict[str, _Reading] = {}
        self.is_on = False

    @property
    def is_idle(self) -> bool:
        """Whether no call is drawn."""
        return not self._readings and not any(span.token for span in self._entered.copy().values())

    def enter(self, span_id: str, instance: object, bound: inspect.BoundArguments) -> None:
        method = span_id.partition("-")[0].rpartition(".")[2]
        self._entered[span_id] = _Entered(instance, method)
        if method in TOOL_METHODS and _is_tool(instance):
            reading = self._begin(span_id, lambda: facts.tool_kind(getattr(instance, "metadata", None)), None)
            if reading is not None and reading.call.span.is_recording():
                reading.call.input(_given(bound))

    def leave(self, span_id: str, result: object, error: BaseException | None) -> None:
        entered = self._entered.pop(span_id, None)
        if entered is not None and entered.token is not None:
            detach(entered.token)
        reading = self._readings.get(span_id)
        if reading is None:
            return
        if error is None and not reading.answered and (inspect.isgenerator(result) or inspect.isasyncgen(result)):
            reading.is_streaming = True
            # Nobody may ever read it, or not to its end: then it ends when it is thrown away.
            weakref.finalize(result, self.throw_away, span_id).atexit = False
            return
        if reading.kind == "TOOL" and error is None:
            self._tool_returned(reading, result)
        else:
            self.finish(span_id, error)

    def begin_call(self, span_id: str | None, make: Callable[[object], CallKind], given: object) -> _Reading | None:
        """Draw what an event says has begun."""
        entered = self._entered.get(span_id) if span_id is not None else None
        if span_id is None or entered is None or span_id in self._readings:
            return None
        return self._begin(span_id, lambda: make(entered.instance), given)

    def reading(self, span_id: str | None) -> _Reading | None:
        return self._readings.get(span_id) if span_id is not None else None

    def finish(self, span_id: str, error: BaseException | None = None) -> None:
        reading = self._readings.pop(span_id, None)
        if reading is None:
            return
        if reading.kind == "EMBEDDING" and reading.call.span.is_recording():
            reading.call.input(reading.texts).output(f"<{reading.vectors} vectors>")
        reading.call.__exit__(type(error) if error is not None else None, error, None)

    def throw_away(self, span_id: str) -> None:
        """End what nobody is going to read any more; of what a tool gave nobody tells whether it was read."""
        reading = self._readings.get(span_id)
        if reading is not None and reading.kind == "LLM":
            del self._readings[span_id]
            reading.call.leave()
        else:
            self.finish(span_id)

    def _begin(self, span_id: str, make: Callable[[], CallKind], given: object) -> _Reading | None:
        if not self.is_on or is_drawn_in_opentelemetry():
            return None
        entered = self._entered[span_id]
        kind = make()
        outer = otel_context.get_value(_CALL)
        if isinstance(outer, _Reading) and outer.span_id in self._readings and _is_same(outer, entered, kind):
            return None
        outer = self._stream_of(entered, given)
        if outer is not None:
            outer.inner = span_id
            entered.token = otel_context.attach(otel_context.set_value(_CALL, outer))
            return None
        call = Call(kind).__enter__()
        reading = _Reading(span_id, call, kind.kind, entered.instance, entered.method, given, [])
        self._readings[span_id] = reading
        around = set_span_in_context(call.span)
        entered.token = otel_context.attach(otel_context.set_value(_CALL, reading, around))
        return reading

    def _stream_of(self, entered: _Entered, given: object) -> _Reading | None:
        """The stream, begun and not read yet, whose first chunk a call is there for: `astream_chat` of `stream_chat`.

        Its reader is somewhere else by now, so that the context does not tell.
        """
        for stream in self._alike(entered.instance, given):
            if stream.inner is None and stream.method != entered.method:
                return stream
        return None

    def first_chunk_came(self, reading: _Reading) -> None:
        """Which of several equal streams an inner call belongs to is known now."""
        if reading.inner is None:
            for stream in self._alike(reading.instance, reading.begun_with):
                if stream.inner is not None:
                    reading.inner, stream.inner = stream.inner, None
                    return

    def _alike(self, instance: object, given: object) -> Iterator[_Reading]:
        """Streams of one model, asked the same, of which nothing has been read."""
        for reading in self._readings.copy().values():
            is_unread = reading.is_streaming and not reading.chunks
            if is_unread and reading.instance is instance and reading.begun_with == given:
                yield reading

    def _tool_returned(self, reading: _Reading, result: object) -> None:
        if reading.call.span.is_recording():
            content = getattr(result, "content", result)
            reading.call.output(content)
        raised = getattr(result, "exception", None)
        self.finish(reading.span_id, raised if isinstance(raised, Exception) else None)


_reader = _Reader()
_lock = threading.RLock()  # what the garbage collector closes under it may come here again


class CallSpans(BaseSpanHandler[Any]):  # pyright: ignore[reportUntypedBaseClass]
    """Is told when methods of llama-index are entered and left; it keeps no spans of its own."""

    @classmethod
    def class_name(cls) -> str:
        return "CallSpans"

    def span_enter(self, id_: str, bound_args: inspect.BoundArguments, instance: Any = None, **kwargs: Any) -> None:
        """Take note of it."""
        _reader.enter(id_, instance, bound_args)

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **kwargs: Any) -> None:
        """End what was drawn, unless it goes on as a stream."""
        _reader.leave(id_, result, None)
        _leave_if_done()

    def span_drop(
        self, id_: str, bound_args: Any, instance: Any = None, err: BaseException | None = None, **kwargs: Any
    ) -> None:
        """End what was drawn, with an error."""
        _reader.leave(id_, None, err)
        _leave_if_done()

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        """None."""

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        """None."""

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        """None."""


class CallEvents(BaseEventHandler):  # pyright: ignore[reportUntypedBaseClass]
    """Is told what happens in calls."""

    @classmethod
    def class_name(cls) -> str:
        return "CallEvents"

    def handle(self, event: Any, **kwargs: Any) -> None:
        """Draw it, if it is about a call."""
        draw = _DRAWN.get(event.class_name())
        if draw is not None:
            draw(event)


def begin() -> None:
    """Register both handlers; called again it does nothing."""
    with _lock:
        _reader.is_on = True
        if not any(isinstance(handler, CallSpans) for handler in root_dispatcher.span_handlers):
            root_dispatcher.span_handlers.append(CallSpans())
            root_dispatcher.event_handlers.append(CallEvents())


def end() -> None:
    """Begin no more calls, and leave when those under way are over."""
    _reader.is_on = False
    _leave_if_done()


def _leave_if_done() -> None:
    if _reader.is_on or not _reader.is_idle:
        return
    with _lock:
        if _reader.is_on:
            return
        spans, events = root_dispatcher.span_handlers, root_dispatcher.event_handlers
        spans[:] = [handler for handler in spans if not isinstance(handler, CallSpans)]
        events[:] = [handler for handler in events if not isinstance(handler, CallEvents)]


def _chat_started(event: Any) -> None:
    begun = _reader.begin_call(
        event.span_id, lambda instance: facts.model_kind(instance, event.model_dict, "chat"), event.messages
    )
    if begun is not None and begun.call.span.is_recording():
        begun.call.input(facts.as_messages(event.messages))


def _completion_started(event: Any) -> None:
    begun = _reader.begin_call(
        event.span_id, lambda instance: facts.model_kind(instance, event.model_dict, "text_completion"), event.prompt
    )
    if begun is not None:
        begun.call.input(event.prompt)


def _chunk_came(event: Any) -> None:
    reading = _reader.reading(event.span_id)
    if reading is not None:
        if not reading.chunks:
            _reader.first_chunk_came(reading)
        reading.chunks += 1
        reading.call.chunk(getattr(event.response, "delta", None) or "")


def _answered(event: Any) -> None:
    reading = _reader.reading(event.span_id)
    if reading is None:
        return
    reading.answered = True
    if reading.call.span.is_recording() and (said := facts.response_of(event)) is not None:
        reading.call.output(said)
    sent, received, model = facts.usage(event.response)
    reading.call.usage(input=sent, output=received, model=model)
    if reading.is_streaming:
        _reader.finish(reading.span_id)
        _leave_if_done()


def _raised(event: Any) -> None:
    reading = _reader.reading(event.span_id)
    if reading is not None and reading.is_streaming:  # else its span is dropped in a moment
        _reader.finish(reading.span_id, event.exception)
        _leave_if_done()


def _embedding_started(event: Any) -> None:
    _reader.begin_call(event.span_id, lambda instance: facts.embedding_kind(event.model_dict), None)


def _embedded(event: Any) -> None:
    reading = _reader.reading(event.span_id)
    if reading is not None:
        reading.texts += event.chunks[: KEPT_TEXTS - len(reading.texts)]
        reading.vectors += len(event.embeddings)


def _search_started(event: Any) -> None:
    begun = _reader.begin_call(event.span_id, facts.retriever_kind, None)
    if begun is not None:
        begun.call.input(facts.query_text(event.str_or_query_bundle))


def _found(event: Any) -> None:
    reading = _reader.reading(event.span_id)
    if reading is not None and reading.call.span.is_recording():
        reading.call.output(facts.documents(event.nodes))


_DRAWN: Mapping[str, Callable[[Any], None]] = {
    "LLMChatStartEvent": _chat_started,
    "LLMChatInProgressEvent": _chunk_came,
    "LLMChatEndEvent": _answered,
    "LLMCompletionStartEvent": _completion_started,
    "LLMCompletionInProgressEvent": _chunk_came,
    "LLMCompletionEndEvent": _answered,
    "ExceptionEvent": _raised,
    "EmbeddingStartEvent": _embedding_started,
    "EmbeddingEndEvent": _embedded,
    "SparseEmbeddingStartEvent": _embedding_started,
    "SparseEmbeddingEndEvent": _embedded,
    "RetrievalStartEvent": _search_started,
    "RetrievalEndEvent": _found,
}


def _is_same(outer: _Reading, inner: _Entered, kind: CallKind) -> bool:
    """Whether a call is on its way through the methods of one object; a tool may also call itself."""
    if outer.instance is not inner.instance or outer.kind != kind.kind:
        return False
    if outer.kind == "TOOL":
        goes_on = inner.method not in ("__call__", outer.method, *outer.passed)
        outer.passed.add(inner.method)
        return goes_on
    return True


def _is_tool(instance: object) -> bool:
    tools = sys.modules.get(TOOLS)
    return tools is not None and isinstance(instance, tools.BaseTool)


def _given(bound: inspect.BoundArguments) -> dict[str, Any]:
    """What a tool is called with: positional arguments by their place, unless the tool has names for them."""
    given = dict(bound.arguments)
    named = given.pop("kwargs", {})
    for place, value in enumerate(given.pop("args", ())):
        given[str(place)] = value
    return {**given, **(named if isinstance(named, dict) else {})}


unbridged.update((CallSpans, CallEvents))
