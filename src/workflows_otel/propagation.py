"""Span contexts in and out of envelopes and snapshots: a W3C `traceparent` and, where there is one, a `tracestate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote, unquote

from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from workflows.events import StartEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.records import Envelope

__all__ = [
    "HANDLER_NAME",
    "LINKS_IN_WORDS",
    "SHOWN_CAUSES",
    "TraceCarrier",
    "carrier_of",
    "carrier_of_run",
    "first_segment_of",
    "link_to",
    "retried_of",
    "said_before",
    "said_of",
    "say_causes",
    "sender_of",
    "source_of",
    "span_context_of",
    "started_ns_of",
]

HANDLER_NAME = "opentelemetry"
"""The name of the first provider's handler, under which its carriers travel; each further one has its own."""

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
FIRST_SEGMENT = "first_segment"
STARTED_NS = "started_ns"
RETRIED = "retried."
BAGGAGE = "baggage"

SHOWN_CAUSES = 16

_SAID = {
    at.LINK_RETRY_OF: (at.RETRY_OF_SPAN_ID, at.RETRY_OF_TRACE_ID),
    at.LINK_WAIT_RESOLVED_BY: (at.WAIT_RESOLVED_BY_SPAN_ID, at.WAIT_RESOLVED_BY_TRACE_ID),
    at.LINK_RESUMED_FROM: (at.RESUMED_FROM_SPAN_ID, at.RESUMED_FROM_TRACE_ID),
    at.LINK_SPAWNED_BY: (at.SPAWNED_BY_SPAN_ID, at.SPAWNED_BY_TRACE_ID),
}

LINKS_IN_WORDS = tuple(name for names in _SAID.values() for name in names)
"""Attributes that name the target of a link, which not every back end shows."""


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
    span_context: SpanContext,
    first: SpanContext,
    started_ns: int,
    said: Mapping[str, str],
    retried: Mapping[str, SpanContext],
) -> dict[str, str]:
    """What a snapshot of a run carries.

    Args:
        span_context: This segment's span.
        first: The first segment's.
        started_ns: When this one began.
        said: For whom the run works, as baggage entries; metadata is none, and has an entry of its own.
        retried: The attempts that are to be made again, by exec_id.
    """
    carrier = dict(TraceCarrier(span_context))
    carrier[FIRST_SEGMENT] = TraceCarrier(first)[TRACEPARENT]
    carrier[STARTED_NS] = str(started_ns)
    carrier |= {f"{RETRIED}{exec_id}": TraceCarrier(failed)[TRACEPARENT] for exec_id, failed in retried.items()}
    if kept := [f"{name}={quote(value)}" for name, value in said.items() if name != at.METADATA]:
        carrier[BAGGAGE] = ",".join(kept)
    if at.METADATA in said:
        carrier[at.METADATA] = said[at.METADATA]
    return carrier


def said_before(carrier: Mapping[str, str] | None) -> dict[str, str]:
    """For whom the previous segment worked, as `carrier_of_run` was told it."""
    said: dict[str, str] = {}
    for entry in (carrier.get(BAGGAGE, "") if carrier else "").split(","):
        name, _, value = entry.partition("=")
        if value:
            said[name] = unquote(value)
    if carrier and at.METADATA in carrier:
        said[at.METADATA] = carrier[at.METADATA]
    return said


def first_segment_of(carrier: Mapping[str, str] | None) -> SpanContext | None:
    """The span of the first segment of a run that goes on."""
    first = carrier.get(FIRST_SEGMENT) if carrier else None
    return span_context_of({TRACEPARENT: first}) if first else None


def retried_of(carrier: Mapping[str, str] | None) -> dict[str, SpanContext]:
    """The last attempts of calls that waited for their next one when the previous segment ended, by exec_id."""
    found: dict[str, SpanContext] = {}
    for name, parent in (carrier or {}).items():
        if name.startswith(RETRIED) and (context := span_context_of({TRACEPARENT: parent})) is not None:
            found[name.removeprefix(RETRIED)] = context
    return found


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


def source_of(envelope: Envelope) -> str:
    """Where an event came from: a `step` of its run, whoever called `run()` (`start`), or outside (`external`)."""
    if envelope.sender is not None:
        return "step"
    return "start" if isinstance(envelope.event, StartEvent) else "external"


def said_of(span_context: SpanContext, link_type: str, trace_id: int) -> dict[str, str]:
    """What a link says, as attributes: not every back end shows links. The trace only where it is another one."""
    span_name, trace_name = _SAID[link_type]
    said = {span_name: f"{span_context.span_id:016x}"}
    if span_context.trace_id != trace_id:
        said[trace_name] = f"{span_context.trace_id:032x}"
    return said


def say_causes(attributes: dict[str, AttributeValue], senders: Sequence[SpanContext], trace_id: int) -> None:
    """Write what links to the senders of events say; their traces only where one is another."""
    shown = senders if len(senders) <= SHOWN_CAUSES else senders[:SHOWN_CAUSES]
    if not shown:
        return
    # By position (trace id, span id, ...): this runs for every step, and properties take twice as long.
    attributes[at.CAUSE_SPAN_IDS] = tuple([f"{sender[1]:016x}" for sender in shown])
    for sender in shown:
        if sender[0] != trace_id:
            attributes[at.CAUSE_TRACE_IDS] = tuple([f"{sender[0]:032x}" for sender in shown])
            return


def link_to(span_context: SpanContext, link_type: str, envelope: Envelope | None = None) -> Link:
    """A link, with its meaning and the event it stands for as attributes."""
    about = {at.LINK_TYPE: link_type}
    if envelope is not None:
        about[at.EVENT_TYPE] = type(envelope.event).__name__
        if envelope.event_id:
            about[at.EVENT_ID] = envelope.event_id
    return Link(span_context, about)
