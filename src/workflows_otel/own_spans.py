"""Spans of steps that cost a third of the SDK's: what every step pays is here, the rest is the SDK's own code.

The SDK's span is made for strangers: it copies and checks each value, holds a lock for each of its parts, and is copied
once more when it ends. The spans of steps are written by this package alone until somebody asks for the current span,
so that `OwnSpan` takes what we write as it is. To processors and exporters it is a span of the SDK, with the same
content; where something about the tracer is out of the ordinary, the SDK's own span is used.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    ProxyTracer,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
)
from opentelemetry.util.types import Attributes, AttributeValue

from workflows.instrumentation.content import Mode
from workflows_otel.showing import say_shown, scope_showing
from workflows_otel.thinning import Thinning

__all__ = ["OwnSpan", "SpanStarter", "longest_attribute", "reentrant", "write"]

FEWEST = 64  # limits below this could cut what we write ourselves: then the SDK's spans are used, which look
RANDOM_TRACE_ID = 0x02  # W3C Trace Context level 2; the SDK hands it on to children
_COUNTED = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"  # the SDK counts its spans where it makes them

_BOUNDED: Any = BoundedList  # which has no types


class _Room(_BOUNDED):
    """The SDK's list of events or links, which hangs where the middle of an `append` leads to another one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)  # pyright: ignore[reportUnknownMemberType]  # which has no types
        self._lock = threading.RLock()


logger = logging.getLogger("workflows.otel")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all spans of a tracer have in common; `ending` is a hook of processors that older SDKs do not have."""

    resource: Resource
    scope: InstrumentationScope
    processor: SpanProcessor
    ending: Callable[[sdk.Span], None] | None
    limits: SpanLimits


class OwnSpan(sdk.Span):
    """A span that is the SDK's to everybody, but keeps what we `write` as it is.

    Everything that only some spans have (events, more links, attributes of strangers) goes the SDK's way. It is its own
    readable span: once it has ended, nothing of it changes.

    It may be written on in the middle of a write: the garbage collector comes at any time, and may end a generator
    whose `finally` does so. What is made is made before the lock, and what is under it is right at every line.

    Attributes:
        written_by_others: Attributes that did not come by `write`: nobody has masked their values yet.
        is_renamed: Its name is not the one that it began with.
        has_room: Events or links were added to it.
    """

    # What the SDK's span does with an exception that leaves `with span:`.
    _record_exception = True
    _set_status_on_exception = True

    written_by_others: set[str] | None = None
    is_renamed = False
    has_room = False

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext,
        shared: _Shared,
        attributes: dict[str, AttributeValue],
        links: Sequence[Link],
        start_ns: int,
    ) -> None:
        ReadableSpan.__init__(
            self,
            name,
            context,
            parent,
            shared.resource,
            attributes,
            links=links,
            start_time=start_ns,
            instrumentation_scope=shared.scope,
        )
        self._span_processor = shared.processor
        self._ending = shared.ending
        self._limits = shared.limits
        self._lock = threading.RLock()
        self._own: dict[str, AttributeValue] = attributes
        self._lost = 0

    def write(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes whose values are known to be text, numbers, booleans, or tuples of one of them."""
        own = self._own
        if self.is_recording() and len(own) + len(attributes) <= FEWEST:
            own.update(attributes)
        else:
            self.set_attributes(attributes)

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes; over the limit the oldest go, as in the SDK."""
        clean = BoundedAttributes(None, attributes, immutable=False)
        most, own = self._limits.max_span_attributes, self._own
        others: set[str] = set()
        with self._lock:
            if not self.is_recording():
                logger.warning("Setting attribute on ended span.")
                return
            self._lost += clean.dropped
            if self.written_by_others is None:
                self.written_by_others = others
            self.written_by_others.update(clean)
            for key, value in clean.items():
                own.pop(key, None)
                if most is not None and len(own) >= most:
                    own.pop(next(iter(own.copy())), None)
                    self._lost += 1
                own[key] = value

    def update_name(self, name: str) -> None:
        """Call the span otherwise."""
        self.is_renamed = True
        super().update_name(name)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute."""
        self.set_attributes({key: value})

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Add an event."""
        self._make_room()
        super().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Add a link."""
        self._make_room()
        super().add_link(context, attributes)

    def _make_room(self) -> None:
        if not self.has_room:
            rooms = (_Room(self._limits.max_events), _Room.from_seq(self._limits.max_links, self.links))
            self._events, self._links = vars(self).setdefault("_rooms", rooms)  # those of whoever came first
            self.has_room = True

    def end(self, end_time: int | None = None) -> None:
        """End the span, and hand it to the processors as it is."""
        at_ns = end_time if end_time is not None else time.time_ns()
        with self._lock:
            if not self.is_recording():
                logger.warning("Calling end() on an ended span.")
                return
            self._end_time = at_ns
        if self._ending is not None:
            self._ending(self)
        self._span_processor.on_end(self)

    @property
    def dropped_attributes(self) -> int:
        """Attributes that were lost to the limit."""
        return self._lost


def reentrant(span: Span) -> Span:
    """The same span, which one of the SDK is not of itself: it may be written on in the middle of a write."""
    if isinstance(span, sdk.Span) and not isinstance(span, OwnSpan):
        lock = threading.RLock()
        parts: list[Any] = [span, *(getattr(span, name, None) for name in ("_attributes", "_events", "_links"))]
        for part in parts:
            if hasattr(part, "_lock"):  # which nobody else holds yet
                part._lock = lock
    return span


def write(span: Span, attributes: Mapping[str, AttributeValue]) -> None:
    """Set attributes with known values on a span of whatever kind."""
    if type(span) is OwnSpan:
        span.write(attributes)
    else:
        span.set_attributes(attributes)


class SpanStarter:
    """Starts spans below a span of a run, the cheap way where that is the same to everybody.

    Args:
        tracer: Makes the spans where it is not the SDK's own, or where its limits are low.
        mode: By which payloads are drawn on them.
    """

    def __init__(self, tracer: Tracer, mode: Mode) -> None:
        self._tracer = tracer
        self._mode: Mode = mode
        self._sdk: sdk.Tracer | None = None
        self._looked = False

    def start(
        self,
        name: str,
        parent: SpanContext,
        context: Context,
        attributes: dict[str, AttributeValue],
        links: Sequence[Link],
        start_ns: int,
    ) -> Span:
        """Start a span.

        Args:
            name: Its name.
            parent: The span context that `context` has as the current one.
            context: What samplers and processors are told.
            attributes: Values as for `OwnSpan.write`; the span keeps this very dict.
            links: Links with values of the same kind.
            start_ns: Wall-clock time.
        """
        tracer = self._sdk if self._looked else self._look()
        if tracer is None:
            made = self._tracer.start_span(name, context, attributes=attributes, links=links, start_time=start_ns)
            say_shown(made, self._mode)
            return reentrant(made)
        flags = parent.trace_flags
        state = parent.trace_state
        sampler = tracer.sampler
        if not flags & TraceFlags.SAMPLED or not (
            sampler is DEFAULT_ON or type(sampler) is Thinning or sampler is ALWAYS_ON
        ):
            found: Any = sampler.should_sample(context, parent.trace_id, name, SpanKind.INTERNAL, attributes, links)
            sampled = TraceFlags.SAMPLED if found.decision.is_sampled() else TraceFlags.DEFAULT
            flags, state = TraceFlags(sampled | flags & RANDOM_TRACE_ID), found.trace_state
            if not found.decision.is_recording():
                return NonRecordingSpan(_child_of(parent, tracer, flags, state))
            given: dict[str, AttributeValue] = dict(found.attributes)
            if given != attributes:
                attributes = dict(BoundedAttributes(None, given))
        if tracer.resource is not self._shared.resource:  # in a forked child
            self._shared = replace(self._shared, resource=tracer.resource)
        span = OwnSpan(name, _child_of(parent, tracer, flags, state), parent, self._shared, attributes, links, start_ns)
        tracer.span_processor.on_start(span, context)
        return span

    def _look(self) -> sdk.Tracer | None:
        """The tracer, where its spans can be made here: it is the SDK's own, counts none, and has no low limits."""
        tracer, limits = _real(self._tracer)
        self._looked = True
        scope: object = getattr(tracer, "_instrumentation_scope", None)
        if (
            type(tracer) is sdk.Tracer
            and isinstance(limits, SpanLimits)
            and isinstance(scope, InstrumentationScope)
            and not _are_low(limits)
            and os.environ.get(_COUNTED, "").strip().lower() != "true"
        ):
            processor, scope = tracer.span_processor, scope_showing(scope, self._mode)
            self._shared = _Shared(tracer.resource, scope, processor, getattr(processor, "_on_ending", None), limits)
            self._sdk = tracer
        return self._sdk


def longest_attribute(tracer: Tracer) -> int | None:
    """The longest text that the spans of a tracer keep, in characters; None without a limit.

    Where it is not known yet who makes the spans, the environment says it, as it will to the SDK.
    """
    _, limits = _real(tracer)
    if not isinstance(limits, SpanLimits):
        try:
            limits = SpanLimits()
        except ValueError:  # the SDK says so, where somebody sets it up
            return None
    return limits.max_span_attribute_length


def _real(tracer: Tracer) -> tuple[Tracer, object]:
    """The tracer that makes the spans, and its limits, where it is one of the SDK's."""
    if isinstance(tracer, ProxyTracer):
        tracer = tracer._tracer  # pyright: ignore[reportPrivateUsage]  # there is no public way to the real one
    return tracer, getattr(tracer, "_span_limits", None)


def _child_of(parent: SpanContext, tracer: sdk.Tracer, flags: TraceFlags, state: TraceState | None) -> SpanContext:
    span_id = tracer.id_generator.generate_span_id()
    return SpanContext(parent.trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=state)


def _are_low(limits: SpanLimits) -> bool:
    """Whether a limit could cut what we write ourselves."""
    counts = (limits.max_span_attributes, limits.max_link_attributes, limits.max_links)
    lengths = (limits.max_span_attribute_length, limits.max_attribute_length)
    return any(count is not None and count < FEWEST for count in counts) or lengths != (None, None)
