"""`llama_index_instrumentation` with types, who listens to it, and what the bridge must know of them.

Every private name of those handlers (OpenInference, llama-index-observability-otel, MLflow) is read here and nowhere
else. A name that is gone reads as "unknown", and an unknown handler is given everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Protocol

__all__ = [
    "EventHandler",
    "Listener",
    "SpanDropEvent",
    "SpanHandler",
    "active_span_id",
    "active_tags",
    "draws_by_current_span",
    "draws_in_mlflow",
    "event_handlers",
    "is_anybody_there",
    "is_drawn_in_opentelemetry",
    "processor_of",
    "root_dispatcher",
    "span_handler_of",
    "span_handlers",
    "tracer_of",
    "unbridged",
]

library = import_module("llama_index_instrumentation")
active_span_id: ContextVar[str | None] = import_module("llama_index_instrumentation.span").active_span_id
active_tags: ContextVar[dict[str, Any]] = import_module("llama_index_instrumentation.dispatcher").active_instrument_tags
SpanDropEvent: Callable[..., object] = import_module("llama_index_instrumentation.events.span").SpanDropEvent


class Listener(Protocol):
    """Any handler."""

    @classmethod
    def class_name(cls) -> str: ...


class SpanHandler(Listener, Protocol):
    """A handler that draws spans."""

    def span_enter(self, *, id_: str, bound_args: Any, instance: Any, parent_id: str | None, tags: Any) -> None: ...

    def span_exit(self, *, id_: str, bound_args: Any, instance: Any, result: Any) -> None: ...

    def span_drop(self, *, id_: str, bound_args: Any, instance: Any, err: BaseException) -> None: ...


class EventHandler(Listener, Protocol):
    """A handler that takes events."""

    def handle(self, event: Any) -> Any: ...


class Dispatcher(Protocol):
    """A node of the package's tree of dispatchers."""

    span_handlers: list[SpanHandler]
    event_handlers: list[EventHandler]
    propagate: bool


root_dispatcher: Dispatcher = library.root_dispatcher
"""The dispatcher where handlers are registered as a rule."""

# What spans and events of ours go through: handlers of the first are told, then those of the root.
_OURS_AND_ROOT: tuple[Dispatcher, ...] = (library.get_dispatcher("workflows"), root_dispatcher)
unbridged: set[type[object]] = {library.NullSpanHandler, library.NullEventHandler}
"""Classes of handlers that are told nothing of ours: those that do nothing, and our own readers."""


def span_handlers() -> Iterator[SpanHandler]:
    """Everybody who wants to draw spans of ours."""
    return (h for d in _dispatchers() for h in d.span_handlers if type(h) not in unbridged)


def event_handlers() -> Iterator[EventHandler]:
    """Everybody who wants to be told events of ours."""
    return (h for d in _dispatchers() for h in d.event_handlers if type(h) not in unbridged)


def is_anybody_there() -> bool:
    """Whether there is a handler to bridge to; every run asks."""
    for dispatcher in _OURS_AND_ROOT:
        for spans in dispatcher.span_handlers:
            if type(spans) not in unbridged:
                return True
        for events in dispatcher.event_handlers:
            if type(events) not in unbridged:
                return True
        if not dispatcher.propagate:
            break
    return False


def _dispatchers() -> Iterator[Dispatcher]:
    for dispatcher in _OURS_AND_ROOT:
        yield dispatcher
        if not dispatcher.propagate:
            break


def is_drawn_in_opentelemetry() -> bool:
    """Whether somebody else (OpenInference, llama-index-observability-otel) draws models and tools as spans."""
    return any(tracer_of(handler) is not None for handler in span_handlers())


def tracer_of(handler: SpanHandler) -> object:
    """The OpenTelemetry tracer that a handler draws with; None if it uses none, or keeps it under another name."""
    return getattr(handler, "_otel_tracer", None) or getattr(handler, "_tracer", None)


def processor_of(tracer: object) -> object:
    """What all tracers of one provider of the OpenTelemetry SDK share; None where spans go nowhere.

    A tracer that was made before the provider was set is a stand-in, which knows the real one in `_tracer`.
    """
    while (real := getattr(tracer, "_tracer", None)) is not None and not hasattr(tracer, "span_processor"):
        tracer = real
    processor = getattr(tracer, "span_processor", None)
    return getattr(processor, "guarded", processor)  # on a tracer of ours it stands before the one that all share


def draws_in_mlflow(handler: SpanHandler) -> bool:
    """Whether it is that of `mlflow.llama_index.autolog()`."""
    return handler.class_name() == "MlflowSpanHandler"


def draws_by_current_span(handler: SpanHandler) -> bool:
    """Whether it hangs a span below the one that is current in OpenTelemetry, whoever made that (LI-OTel does)."""
    return handler.class_name() == "OTelCompatibleSpanHandler"


def span_handler_of(handler: EventHandler) -> object:
    """The handler on whose spans this one writes its events; None if it has none."""
    return getattr(handler, "_span_handler", None) or getattr(handler, "span_handler", None)
