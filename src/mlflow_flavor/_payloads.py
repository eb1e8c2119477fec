"""Events, results and errors as MLflow shows them: plain data keyed by event class, redacted, bounded as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from mlflow.entities import SpanEvent

from workflows.events import Event, StopEvent
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, capture_event, capture_value, describe_exception
from workflows.instrumentation.records import Envelope

__all__ = ["describe", "exception_event", "preview", "result_of", "show", "show_causes", "show_emitted", "span_event"]

SHOWN_EVENTS = 64
"""In modes that show no values; with values, the encoder's budget is the limit."""


def show_causes(envelopes: Iterable[Envelope], policy: ContentPolicy) -> object:
    """What a step takes: `{"EventClass": fields}`, with a list of fields for several events of one class."""
    by_class: dict[str, list[Event]] = {}
    for envelope in envelopes:
        by_class.setdefault(type(envelope.event).__name__, []).append(envelope.event)
    return show({name: events[0] if len(events) == 1 else events for name, events in by_class.items()}, policy)


def show_emitted(envelopes: tuple[Envelope, ...], policy: ContentPolicy) -> object:
    """What a step gives: `{"EventClass": fields}`, in a list where it is several events; None for nothing."""
    if not envelopes:
        return None
    emitted: list[Any] = [{type(e.event).__name__: e.event} for e in envelopes]
    return show(emitted[0] if len(emitted) == 1 else emitted, policy)


def show(value: object, policy: ContentPolicy) -> object:
    """Events in plain containers, as `policy.mode` says; None where content is off."""
    if policy.mode == "off":
        return None
    if policy.mode == "full":
        captured = capture_value(value, policy)
        return captured.value if captured is not None else None
    return _shapes(value, policy)


def _shapes(value: object, policy: ContentPolicy) -> object:
    match value:
        case Event():
            captured = capture_event(value, policy)
            return captured.value if captured is not None else None
        case dict():
            return {name: _shapes(item, policy) for name, item in cast("dict[str, object]", value).items()}
        case list():
            return [_shapes(item, policy) for item in cast("list[object]", value)[:SHOWN_EVENTS]]
        case _:
            captured = capture_value(value, policy)
            return captured.value if captured is not None else None


def result_of(stop_event: StopEvent) -> object:
    """What awaiting the run gives: the `result`, or the event itself where it is of a class of the user's own."""
    return stop_event.result if type(stop_event) is StopEvent else stop_event


def preview(shown: object) -> str | None:
    """The text of a payload that is one text, or whose only field is one; else None (MLflow shows its JSON)."""
    if isinstance(shown, dict) and len(fields := cast("dict[str, object]", shown)) == 1:
        (shown,) = fields.values()
    return shown if isinstance(shown, str) and shown else None


def describe(error: BaseException, policy: ContentPolicy) -> str:
    """`Type: message`, redacted."""
    text = describe_exception(error, policy)
    return f"{text.type}: {text.message}" if text.message else text.type


def span_event(name: str, at_ns: int, facts: Mapping[str, str | int | float]) -> SpanEvent:
    """A span event at a time in nanoseconds."""
    return SpanEvent(name, timestamp=at_ns, attributes=dict(facts))


def exception_event(error: BaseException, at_ns: int, policy: ContentPolicy) -> SpanEvent:
    """The span event under which MLflow shows an exception with its stack, redacted."""
    text = describe_exception(error, policy)
    facts = {
        names.EXCEPTION_TYPE: text.type,
        names.EXCEPTION_MESSAGE: text.message,
        names.EXCEPTION_STACKTRACE: text.stacktrace,
    }
    return span_event(names.SPAN_EVENT_EXCEPTION, at_ns, facts)
