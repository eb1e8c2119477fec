"""The streamed events of one attempt, bounded: the first and last are kept, text deltas merged, the rest counted."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from mlflow.entities import SpanEvent

from mlflow_flavor._payloads import span_event
from workflows.events import Event
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, capture_event, redact_text
from workflows.instrumentation.records import EventStreamed

__all__ = ["StreamLog", "text_delta"]

DELTA_FIELDS = frozenset({"delta", "token", "chunk"})
"""An event whose only field is one of these, and a text, is a piece of a longer text."""

SHOWN_TYPES = 16


@dataclass(slots=True)
class Entry:
    """One streamed event, or a row of text deltas of one class (`delta` is their field, `text` what they add up to)."""

    seq: int
    at_ns: int
    event: Event
    delta: str | None = None
    text: str = ""
    merged: int = 1


class StreamLog:
    """What an attempt streamed; it holds at most `limit` events, of up to `max_chars` merged characters each."""

    def __init__(self, limit: int, max_chars: int) -> None:
        self.count = 0
        self.types: Counter[str] = Counter()
        self.first_ns = 0
        self.last_ns = 0
        self._max_chars = max_chars
        self._head_limit = (limit + 1) // 2
        self._head: list[Entry] = []
        self._tail: deque[Entry] = deque(maxlen=limit // 2)
        self._last: Entry | None = None

    def add(self, record: EventStreamed) -> None:
        """Take one event."""
        self.count += 1
        self.last_ns = record.at_ns
        self.first_ns = self.first_ns or record.at_ns
        self.types[type(record.event).__name__] += 1
        if not self._merge(record.event):
            self._keep(record)

    def _merge(self, event: Event) -> bool:
        last = self._last
        if last is None or last.delta is None or type(event) is not type(last.event):
            return False
        if len(last.text) < self._max_chars:
            last.text += str(event.get(last.delta, ""))
        last.merged += 1
        return True

    def _keep(self, record: EventStreamed) -> None:
        entry = Entry(self.count, record.at_ns, record.event)
        entry.delta = _delta_field(record.event)
        if entry.delta is not None:
            entry.text = str(record.event.get(entry.delta))
        self._last = entry
        if len(self._head) < self._head_limit:
            self._head.append(entry)
        else:
            self._tail.append(entry)

    def span_events(self, policy: ContentPolicy) -> list[SpanEvent]:
        """The events that were kept, in order, as span events named as every reader names them."""
        return [_span_event(entry, policy) for entry in (*self._head, *self._tail)]

    def attributes(self, started_ns: int) -> dict[str, object]:
        """Counts and times, in seconds since `started_ns`; empty if nothing was streamed."""
        if not self.count:
            return {}
        kept = sum(entry.merged for entry in (*self._head, *self._tail))
        found: dict[str, object] = {
            names.STREAM_COUNT: self.count,
            names.STREAM_TYPES: [f"{name}={n}" for name, n in self.types.most_common(SHOWN_TYPES)],
            names.STREAM_FIRST: (self.first_ns - started_ns) / 1e9,
            names.STREAM_LAST: (self.last_ns - started_ns) / 1e9,
        }
        if kept < self.count:
            found[names.STREAM_DROPPED] = self.count - kept
        return found


def text_delta(event: Event) -> str | None:
    """The text of an event that is a piece of a longer one; None for every other event."""
    field = _delta_field(event)
    return str(event.get(field)) if field is not None else None


def _delta_field(event: Event) -> str | None:
    fields = (*type(event).model_fields, *event.keys())
    if len(fields) == 1 and fields[0] in DELTA_FIELDS and isinstance(event.get(fields[0]), str):
        return fields[0]
    return None


def _span_event(entry: Entry, policy: ContentPolicy) -> SpanEvent:
    name = type(entry.event).__name__
    attributes: dict[str, str | int | float] = {names.EVENT_TYPE: name, names.STREAM_SEQ: entry.seq}
    if entry.merged > 1 and entry.delta is not None:
        attributes[names.STREAM_MERGED] = entry.merged
    if policy.mode == "full" and entry.delta is not None:
        attributes[name] = redact_text(entry.text, policy, path=entry.delta, max_chars=policy.max_chars)
    elif captured := capture_event(entry.event, policy):
        attributes[name] = captured.text
    return span_event(names.SPAN_EVENT_STREAM, entry.at_ns, attributes)
