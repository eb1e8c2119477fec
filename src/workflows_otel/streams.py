"""What a span says about the events that were streamed while it was open: a summary that does not grow with them."""

from __future__ import annotations

from collections import deque

from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at

__all__ = ["StreamSummary"]

SHOWN_AT_EACH_END = 8
SHOWN_TYPES = 32


class StreamSummary:
    """Counts, types, and the first and last few of the streamed events of one attempt, step or run."""

    __slots__ = ("_first", "_first_ns", "_last", "_last_ns", "_types", "count")

    def __init__(self) -> None:
        self.count = 0
        self._types: dict[str, int] = {}
        self._first: list[tuple[int, str, int]] = []
        self._last: deque[tuple[int, str, int]] = deque(maxlen=SHOWN_AT_EACH_END)
        self._first_ns = 0
        self._last_ns = 0

    def add(self, event_type: str, at_ns: int) -> None:
        """Take note of one more event."""
        self.count = seq = self.count + 1
        self._types[event_type] = self._types.get(event_type, 0) + 1
        self._last_ns = at_ns
        if seq == 1:
            self._first_ns = at_ns
        (self._first if seq <= SHOWN_AT_EACH_END else self._last).append((seq, event_type, at_ns))

    def attributes(self, started_ns: int) -> dict[str, AttributeValue]:
        """Count, count by type, and when the first and the last came, in seconds after `started_ns`."""
        types = sorted(self._types.items(), key=lambda item: -item[1])[:SHOWN_TYPES]
        return {
            at.STREAM_COUNT: self.count,
            at.STREAM_TYPES: tuple([f"{name}={count}" for name, count in types]),
            at.STREAM_FIRST: (self._first_ns - started_ns) / 1e9,
            at.STREAM_LAST: (self._last_ns - started_ns) / 1e9,
        }

    def write_events(self, span: Span) -> None:
        """Write the first and the last few as span events."""
        for seq, event_type, at_ns in (*self._first, *self._last):
            span.add_event(at.SPAN_EVENT_STREAM, {at.EVENT_TYPE: event_type, at.STREAM_SEQ: seq}, at_ns)
