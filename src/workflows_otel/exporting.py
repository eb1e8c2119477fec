"""What stands before every exporter: secrets masked on all spans, also those of other libraries.

An ended span cannot be changed, so what a back end gets is a copy where something had to be masked or added.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, redact_text
from workflows.instrumentation.redaction import MASK, REDACTION_FAILED, is_secret_key
from workflows_otel.batching import shut_down
from workflows_otel.own_scope import SCOPE
from workflows_otel.own_spans import OwnSpan
from workflows_otel.rejections import rejected_by
from workflows_otel.showing import shown_by, shows_more
from workflows_otel.withholding import fields_without_values, without_values

__all__ = ["RedactingExporter", "redacting"]

SHUTDOWN_MILLIS = 5000.0
TRACE_ID_LIMIT = TraceIdRatioBased.TRACE_ID_LIMIT

# The user's callback has seen what we write under these names, and is not asked again.
_OURS = frozenset(value for name, value in vars(at).items() if name.isupper() and isinstance(value, str))

# What the user's callback is told that a text is, where it is no attribute's.
SPAN_NAME, SPAN_STATUS, EVENT_NAME = "span.name", "span.status", "event.name"

Plain = Mapping[str, Any]

logger = logging.getLogger("workflows.otel")


def redacting(exporter: SpanExporter, *, redact: Callable[[str, Any], Any] | None = None) -> SpanExporter:
    """An exporter that masks secrets on every span before `exporter` gets it, for an application's own provider.

        provider.add_span_processor(BatchSpanProcessor(redacting(OTLPSpanExporter())))

    Masked are the values of attributes whose name says that they are secret, and what looks like a secret anywhere in
    attributes, events, links, status and name. On pipelines made by `setup()` this is so already.

    Args:
        exporter: Where the spans go.
        redact: Called with the name and the value of each text of a span that is not ours; what it returns is sent.
            The span's name is asked about as "span.name", its status as "span.status", names of events as "event.name".
    """
    return RedactingExporter(exporter, ContentPolicy("full", redact=redact))


class RedactingExporter(SpanExporter):
    """Gives an exporter what its back end may see, in the form that it wants.

    Args:
        exporter: Where the spans go.
        policy: `redact` is asked about texts that are not ours; of our spans no more is shown than `mode` says: each
            says by which it was drawn.
        resource: Resource attributes that are added where a span's own resource lacks them.
        about: Attributes to add to a span for this back end.
        skip: Names of spans of ours that this back end has no use for.
        renew: Makes the exporter anew in a forked child, which must not write into its parent's open connections.
        rate: The part of traces that it gets, from 0 to 1, chosen by trace id; all by default.

    Attributes:
        policy: As given; what is put in its place counts for all spans that are exported from then on.
        sent: Spans that the back end took.
        failed: Spans that it did not take.
        rejected: Of those, the ones in requests that it took.
        left_out: Spans that it was not to get.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        policy: ContentPolicy,
        *,
        resource: Mapping[str, str] | None = None,
        about: Callable[[ReadableSpan], Mapping[str, AttributeValue]] | None = None,
        skip: frozenset[str] = frozenset(),
        renew: Callable[[], SpanExporter] | None = None,
        rate: float | None = None,
    ) -> None:
        self.exporter = exporter
        self.sent = self.failed = self.rejected = self.left_out = 0
        self._renew = renew
        self._process = os.getpid()
        self.policy = policy
        self._masking = ContentPolicy()  # the user's callback has seen what we wrote
        self._resource = Resource(resource) if resource else None
        self._resources: dict[int, tuple[Resource, Resource]] = {}
        self._about = about
        self._skip = skip
        self._below = None if rate is None else TraceIdRatioBased.get_bound_for_rate(rate)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the spans, masked; success where none is left to be exported."""
        if self._renew is not None and self._process != os.getpid():
            self._process, self.exporter = os.getpid(), self._renew()
        shown = [self._shown(span) for span in spans if self._is_wanted(span)]
        before = rejected_by(self.exporter)
        result = self.exporter.export(shown) if shown else SpanExportResult.SUCCESS
        rejected = min(rejected_by(self.exporter) - before, len(shown))
        failed = rejected if result is SpanExportResult.SUCCESS else len(shown)
        self.sent += len(shown) - failed
        self.failed += failed
        self.rejected += rejected
        self.left_out += len(spans) - len(shown)
        return result

    def _is_wanted(self, span: ReadableSpan) -> bool:
        if self._skip and span.name in self._skip and _is_ours(span):
            return False
        return self._below is None or span.context is None or self.takes(span.context.trace_id)

    def takes(self, trace_id: int) -> bool:
        """Whether a trace is of the part that the back end gets."""
        return self._below is None or trace_id & TRACE_ID_LIMIT < self._below

    def before(self, exporter: SpanExporter) -> RedactingExporter:
        """Another one, which shows the same to another exporter of the same back end."""
        other = RedactingExporter(exporter, self.policy, about=self._about, skip=self._skip)
        other._below = self._below
        return other

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        return self.exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = SHUTDOWN_MILLIS) -> None:
        """Shut the exporter down."""
        shut_down(self.exporter, timeout_millis / 1000)

    def _shown(self, span: ReadableSpan) -> ReadableSpan:
        try:
            return self._masked(span)
        except Exception:  # the guard around spans that are not ours: it fails closed
            logger.warning("a span could not be redacted; its content is not shown", exc_info=True)
            return _Copy(span, span.resource, REDACTION_FAILED, {}, (), (), Status(span.status.status_code))

    def _masked(self, span: ReadableSpan) -> ReadableSpan:
        ours = _is_ours(span)
        attributes = span.attributes or {}
        changed = self._attributes(attributes, ours, _unmasked(span, attributes) if ours else attributes)
        notes = frozenset[str]()
        if ours and self.policy.mode != "full" and shows_more((shown := shown_by(span)).mode, self.policy.mode):
            left = without_values(attributes if changed is None else changed, self.policy, shown.shapes)
            changed = changed if left is None else left
            notes = shown.notes - shown.shapes if self.policy.mode == "types" else shown.notes
        if self._about is not None and (more := self._about(span)):
            changed = {**(attributes if changed is None else changed), **more}
        own = span if isinstance(span, OwnSpan) else None
        events = self._events(span.events, ours, notes) if span.events else None
        links = self._links(span.links) if span.links and (own is None or own.has_room) else None
        status = self._status(span.status, ours and at.ERROR_TYPE in attributes)
        name = span.name if own is not None and not own.is_renamed else self._name(span.name, ours and own is None)
        resource = self._resource_of(span)
        if changed is events is links is status is None and name == span.name and resource is span.resource:
            return span
        return _Copy(
            span,
            resource,
            name,
            attributes if changed is None else changed,
            span.events if events is None else events,
            span.links if links is None else links,
            status or span.status,
        )

    def _attributes(self, attributes: Plain, ours: bool, asked: Iterable[str]) -> dict[str, Any] | None:
        """The attributes, those that are `asked` about masked; None where nothing changes."""
        changed: dict[str, Any] | None = None
        for key in asked:
            value = attributes[key]
            shown = _redacted(key, value, self._asked(ours and key in _OURS))
            if shown is not value:
                changed = dict(attributes) if changed is None else changed
                changed[key] = shown
        return changed

    def _events(self, events: Sequence[Event], ours: bool, notes: Set[str]) -> list[Event] | None:
        changed = False
        shown: list[Event] = []
        for event in events:
            about = self._event_attributes(event, ours)
            if event.name in notes:
                about = fields_without_values(event.attributes or {}, self.policy)
            name = redact_text(event.name, self._asked(ours and event.name in _OURS), path=EVENT_NAME)
            if about is None and name == event.name:
                shown.append(event)
            else:
                changed = True
                shown.append(Event(name, event.attributes if about is None else about, event.timestamp))
        return shown if changed else None

    def _event_attributes(self, event: Event, ours: bool) -> dict[str, Any] | None:
        # Also on a span of ours: the application may have recorded it there, under whatever names.
        attributes = event.attributes or {}
        known = ours and _OURS.issuperset(attributes)
        return self._attributes(attributes, known, attributes)

    def _links(self, links: Sequence[Link]) -> list[Link] | None:
        shown = [(link, self._attributes(link.attributes or {}, False, link.attributes or {})) for link in links]
        if all(about is None for _, about in shown):
            return None
        return [link if about is None else Link(link.context, about) for link, about in shown]

    def _status(self, status: Status, ours: bool) -> Status | None:
        """A status with its secrets masked; ours comes with an `error.type`, and what an application sets does not."""
        if status.status_code is not StatusCode.ERROR or not status.description:
            return None
        text = redact_text(status.description, self._asked(ours), path=SPAN_STATUS)
        return None if text == status.description else Status(status.status_code, text)

    def _name(self, name: str, ours: bool) -> str:
        return redact_text(name, self._asked(ours), path=SPAN_NAME)

    def _asked(self, ours: bool) -> ContentPolicy:
        """Whose callback is asked about a text."""
        return self._masking if ours else self.policy

    def _resource_of(self, span: ReadableSpan) -> Resource:
        own, added = span.resource, self._resource
        if added is None:
            return own
        known = self._resources.get(id(own))
        if known is None:  # one a provider: they live as long as the process
            missing = {key: value for key, value in added.attributes.items() if key not in own.attributes}
            known = self._resources[id(own)] = (own, own.merge(Resource(missing)) if missing else own)
        return known[1]


def _unmasked(span: ReadableSpan, attributes: Plain) -> Iterable[str]:
    """Attributes of a span of ours that may hold what nobody has masked: who knows their names can write them too."""
    if isinstance(span, OwnSpan):
        return [key for key in span.written_by_others or () if key in attributes]
    return attributes


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == SCOPE


def _redacted(key: str, value: Any, policy: ContentPolicy) -> Any:
    """A value with its secrets masked; the same object where it has none."""
    if isinstance(value, str):
        shown = MASK if is_secret_key(key) else redact_text(value, policy, path=key)
        return value if shown == value else shown
    if isinstance(value, Mapping):
        before = cast("Mapping[Any, Any]", value)
        after = {name: _redacted(str(name), item, policy) for name, item in before.items()}
        return before if _same(before.values(), after.values()) else after
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[Any]", value)
        shown = [_redacted(key, item, policy) for item in items]
        return items if _same(items, shown) else shown
    return cast(object, value)


def _same(before: Iterable[Any], after: Iterable[Any]) -> bool:
    return all(old is new for old, new in zip(before, after, strict=True))


class _Copy(ReadableSpan):
    """A span with other texts; what was dropped from the original is still told."""

    def __init__(
        self,
        span: ReadableSpan,
        resource: Resource,
        name: str,
        attributes: Plain,
        events: Sequence[Event],
        links: Sequence[Link],
        status: Status,
    ) -> None:
        super().__init__(
            name=name,
            context=span.context,
            parent=span.parent,
            resource=resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links)

    @property
    def dropped_attributes(self) -> int:
        """Attributes that the original lost to a limit."""
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        """Events that the original lost to a limit."""
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        """Links that the original lost to a limit."""
        return self._dropped[2]
