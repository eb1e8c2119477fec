"""Events, results and errors as MLflow shows them: plain data keyed by event class, redacted, bounded as a whole."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from mlflow.entities import Span, SpanEvent
from mlflow.tracing.constant import SpanAttributeKey

from workflows.events import Event, StopEvent
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import (
    JSON_MIME,
    Captured,
    ContentPolicy,
    capture_event,
    capture_value,
    describe_exception,
)
from workflows.instrumentation.records import Envelope

__all__ = [
    "EventCaptures",
    "Shown",
    "content",
    "describe",
    "exception_event",
    "preview",
    "set_media",
    "short_reason",
    "show",
    "show_causes",
    "show_emitted",
    "show_result",
    "shown_of",
    "span_event",
]

SHOWN_EVENTS = 64
"""In modes that show no values; with values, the encoder's budget is the limit."""

SIGNS_OF_MEDIA = ("base64", "b64_json", "input_audio", "inline_data", "inlineData", "image_generation_call")

CONTENT_KEYS = {"inputs": SpanAttributeKey.INPUTS, "outputs": SpanAttributeKey.OUTPUTS}

ContentKind = Literal["inputs", "outputs"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A payload as plain data, redacted and bounded.

    Attributes:
        value: What MLflow shows.
        may_hold_media: Whether MLflow might find images or sounds in it, which it stores apart and shows as such.
        text: The value as JSON, where somebody has written it already: 32 kB take most of a millisecond.
        complete: The value is the whole payload: nothing left out, masked or replaced by a placeholder.
    """

    value: object
    may_hold_media: bool = False
    text: str | None = None
    complete: bool = False

    def as_json(self) -> str:
        """The value as JSON."""
        return self.text if self.text is not None else as_json(self.value)


as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def content(kind: ContentKind, shown: Shown | None) -> dict[str, str]:
    """A payload as the attribute in which MLflow keeps it, as JSON.

    MLflow's own way looks for media in every value, writes JSON, reads it back and looks again, on the event loop.
    """
    return {} if shown is None or shown.may_hold_media else {CONTENT_KEYS[kind]: shown.as_json()}


def set_media(span: Span, kind: ContentKind, shown: Shown | None) -> None:
    """Set a payload in MLflow's own way where it may hold media; `content` leaves those out."""
    if shown is not None and shown.may_hold_media:
        live: Any = span  # MLflow's stand-in for a span that is not recorded has these functions as well
        (live.set_inputs if kind == "inputs" else live.set_outputs)(shown.value)


class EventCaptures:
    """What the last events of a run look like: most are shown twice, where they are sent and where they are taken."""

    KEPT = 4

    def __init__(self) -> None:
        self._kept: deque[tuple[Event, ContentPolicy, Captured]] = deque(maxlen=self.KEPT)

    def new(self, event: Event, policy: ContentPolicy) -> Captured | None:
        """What an event that is sent looks like; its sender may have changed it since it took it."""
        captured = capture_event(event, policy)
        if captured is not None:
            self._kept.appendleft((event, policy, captured))
        return captured

    def again(self, event: Event, policy: ContentPolicy) -> Captured | None:
        """What an event looked like when it was sent; for one that is not remembered, what it looks like now."""
        for kept, under, captured in self._kept:
            if kept is event and under == policy:
                return captured
        return self.new(event, policy)


def show_causes(
    envelopes: Sequence[Envelope], policy: ContentPolicy, captures: EventCaptures | None = None
) -> Shown | None:
    """What a step takes: `{"EventClass": fields}`, with a list of fields for several events of one class."""
    if len(envelopes) == 1:
        return _show_one(envelopes[0].event, policy, (captures or EventCaptures()).again)
    by_class: dict[str, list[Event]] = {}
    for envelope in envelopes:
        by_class.setdefault(type(envelope.event).__name__, []).append(envelope.event)
    return show({name: events[0] if len(events) == 1 else events for name, events in by_class.items()}, policy)


def show_emitted(
    envelopes: Sequence[Envelope], policy: ContentPolicy, captures: EventCaptures | None = None
) -> Shown | None:
    """What a step gives: `{"EventClass": fields}`, in a list where it is several events; None for nothing."""
    if not envelopes:
        return None
    if len(envelopes) == 1:
        return _show_one(envelopes[0].event, policy, (captures or EventCaptures()).new)
    return show([{type(e.event).__name__: e.event} for e in envelopes], policy)


def show_result(stop: StopEvent, policy: ContentPolicy, captures: EventCaptures | None = None) -> Shown | None:
    """What awaiting the run gives: the `result`, or the event itself where it is of a class of the user's own."""
    plain = type(stop) is StopEvent
    if policy.mode != "full" or policy.redact is not None:
        return show(stop.result if plain else stop, policy)
    shown = shown_of((captures or EventCaptures()).again(stop, policy))
    value = shown.value if shown is not None else None
    if shown is None or not plain or not isinstance(value, dict):
        return shown
    fields = cast("dict[str, object]", value)
    is_alone = shown.text is not None and fields.keys() == {"result"}
    text = shown.as_json()[len('{"result":') : -len("}")] if is_alone else None
    return Shown(fields.get("result"), shown.may_hold_media, text, shown.complete)


def _show_one(
    event: Event, policy: ContentPolicy, capture: Callable[[Event, ContentPolicy], Captured | None]
) -> Shown | None:
    name = type(event).__name__
    if policy.mode != "full" or policy.redact is not None:  # the callback is told the whole path, class included
        return show({name: event}, policy)
    shown = shown_of(capture(event, policy))
    if shown is None:
        return None
    text = f"{{{as_json(name)}:{shown.as_json()}}}"
    return Shown({name: shown.value}, shown.may_hold_media, text, shown.complete)


def show(value: object, policy: ContentPolicy) -> Shown | None:
    """Events in plain containers, as `policy.mode` says; None where content is off."""
    if policy.mode == "off":
        return None
    if policy.mode == "full":
        return shown_of(capture_value(value, policy))
    return Shown(_shapes(value, policy))


def shown_of(captured: Captured | None) -> Shown | None:
    """What was captured of a value, for MLflow."""
    if captured is None:
        return None
    has_media = any(sign in captured.text for sign in SIGNS_OF_MEDIA)
    text = captured.text if captured.mime_type == JSON_MIME else None
    return Shown(captured.value, has_media, text, captured.complete)


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


def preview(shown: Shown | None) -> str | None:
    """The text of a payload that is one text, or whose only field is one; else None (MLflow shows its JSON)."""
    value = shown.value if shown is not None else None
    if isinstance(value, dict) and len(fields := cast("dict[str, object]", value)) == 1:
        (value,) = fields.values()
    return value if isinstance(value, str) and value else None


def describe(error: BaseException, policy: ContentPolicy) -> str:
    """`Type: message`, redacted."""
    text = describe_exception(error, policy)
    return f"{text.type}: {text.message}" if text.message else text.type


def short_reason(described: str) -> str:
    """What `describe` gives, without the exception's module: MLflow's list is narrow."""
    kind, colon, message = described.partition(": ")
    return f"{kind.rpartition('.')[2]}{colon}{message}"


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
