"""Span contexts in and out of envelopes and snapshots: a W3C `traceparent` and, where there is one, a `tracestate`."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

from workflows.instrumentation import attributes as at
from workflows.instrumentation.records import Envelope

__all__ = [
    "HANDLER_NAME",
    "TraceCarrier",
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


class TraceCarrier(dict[str, str]):
    """A carrier that remembers the span context it was made of, so that inside this process nothing is parsed."""

    __slots__ = ("span_context",)

    def __init__(self, span_context: SpanContext) -> None:
        trace_id, span_id, _, flags, *_ = span_context
        super().__init__(traceparent=f"00-{trace_id:032x}-{span_id:016x}-{flags & 0xFF:02x}")
        if span_context.trace_state:
            self[TRACESTATE] = span_context.trace_state.to_header()
        self.span_context = span_context

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (dict(self),)  # copied or stored, it is a plain mapping again


def carrier_of(span_context: SpanContext) -> TraceCarrier | None:
    """The carrier of a span context; None for an invalid one."""
    return TraceCarrier(span_context) if span_context.is_valid else None


def carrier_of_run(span_context: SpanContext, first: SpanContext, started_ns: int) -> dict[str, str]:
    """What a snapshot of a run carries: this segment's span, the first segment's, and when this one began."""
    carrier: dict[str, str] = TraceCarrier(span_context)
    carrier[FIRST_SEGMENT] = TraceCarrier(first)[TRACEPARENT]
    carrier[STARTED_NS] = str(started_ns)
    return carrier


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
