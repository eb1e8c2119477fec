"""Span contexts in and out of envelopes and snapshots: a W3C `traceparent` and, where there is one, a `tracestate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.records import Envelope

__all__ = [
    "HANDLER_NAME",
    "TraceCarrier",
    "carried",
    "carrier_of",
    "carrier_of_run",
    "first_segment_of",
    "link_to",
    "sender_of",
    "span_context_of",
    "started_ns_of",
]

HANDLER_NAME = "opentelemetry"
"""The name of the first provider's handler, under which its carriers travel; each further one has its own."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
FIRST_SEGMENT = "first_segment"
STARTED_NS = "started_ns"
BAGGAGE = "baggage"
_KEPT = (at.SESSION_ID, at.USER_ID)


class TraceCarrier(Mapping[str, str]):
    """The carrier of a span context: nothing is parsed in this process, and nothing is written before it leaves it."""

    __slots__ = ("_fields", "_span_id", "span_context")

    def __init__(self, span_context: SpanContext) -> None:
        self.span_context = span_context
        self._span_id: str | None = None
        self._fields: dict[str, str] | None = None

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        if self._span_id is None:
            self._span_id = f"{self.span_context.span_id:016x}"
        return self._span_id

    def _written(self) -> dict[str, str]:
        if self._fields is None:
            trace_id, _, _, flags, state, *_ = self.span_context
            self._fields = {TRACEPARENT: f"00-{trace_id:032x}-{self.span_id}-{flags & 0xFF:02x}"}
            if state:
                self._fields[TRACESTATE] = state.to_header()
        return self._fields

    def __getitem__(self, name: str) -> str:
        return self._written()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written())

    def __len__(self) -> int:
        return len(self._written())

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (dict(self),)  # copied or stored, it is a plain mapping again


def carrier_of(span_context: SpanContext) -> TraceCarrier | None:
    """The carrier of a span context; None for an invalid one."""
    return TraceCarrier(span_context) if span_context.is_valid else None


def carrier_of_run(
    span_context: SpanContext, first: SpanContext, started_ns: int, identity: Mapping[str, AttributeValue]
) -> dict[str, str]:
    """What a snapshot of a run carries: this segment's span, the first segment's, when this one began, and for whom."""
    carrier = dict(TraceCarrier(span_context))
    carrier[FIRST_SEGMENT] = TraceCarrier(first)[TRACEPARENT]
    carrier[STARTED_NS] = str(started_ns)
    if kept := [f"{name}={quote(str(identity[name]))}" for name in _KEPT if name in identity]:
        carrier[BAGGAGE] = ",".join(kept)
    return carrier


def carried(carrier: Mapping[str, str] | None, name: str) -> str | None:
    """A baggage entry of the previous segment: its session, or its user."""
    for entry in (carrier.get(BAGGAGE, "") if carrier else "").split(","):
        found, _, value = entry.partition("=")
        if found == name and value:
            return unquote(value)
    return None


def first_segment_of(carrier: Mapping[str, str] | None) -> SpanContext | None:
    """The span of the first segment of a run that goes on."""
    first = carrier.get(FIRST_SEGMENT) if carrier else None
    return span_context_of({TRACEPARENT: first}) if first else None


def started_ns_of(carrier: Mapping[str, str] | None) -> int:
    """When the previous segment began; 0 where the carrier does not say."""
    text = carrier.get(STARTED_NS, "") if carrier else ""
    return int(text) if text.isdecimal() else 0


def span_context_of(carrier: Mapping[str, str] | None) -> SpanContext | None:
    """The span context that a carrier names; None where it names none, or nothing that can be read."""
    if isinstance(carrier, TraceCarrier):
        return carrier.span_context
    parts = carrier.get(TRACEPARENT, "").split("-") if carrier else []
    if carrier is None or len(parts) < 4:
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    state = carrier.get(TRACESTATE)
    context = SpanContext(
        trace_id,
        span_id,
        is_remote=True,
        trace_flags=TraceFlags(flags),
        trace_state=TraceState.from_header([state]) if state else None,
    )
    return context if context.is_valid else None


def sender_of(envelope: Envelope, name: str) -> SpanContext | None:
    """The span in which an event was sent, as the handler of that name drew it."""
    carriers = envelope.carriers
    return span_context_of(carriers.get(name)) if carriers else None


def link_to(span_context: SpanContext, link_type: str, envelope: Envelope | None = None) -> Link:
    """A link, with its meaning and the event it stands for as attributes."""
    about = {at.LINK_TYPE: link_type}
    if envelope is not None:
        about[at.EVENT_ID] = envelope.event_id
        about[at.EVENT_TYPE] = type(envelope.event).__name__
    return Link(span_context, about)
