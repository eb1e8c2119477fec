"""Links between spans: what caused a step, which attempt an attempt repeats, which segment a run goes on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow.entities import LiveSpan, Span

from mlflow_flavor._compat import HAS_LINKS, add_link
from workflows.instrumentation import attributes as names
from workflows.instrumentation.records import Envelope, RunResumed, RunStarted

__all__ = ["link_causes", "link_left_trace", "link_previous_attempt", "link_previous_segment"]

MAX_LINKS = 64


def link_causes(span: Span, causes: Sequence[Envelope]) -> None:
    """Link a step to the spans that sent its events; a join to those of all its members."""
    kind = names.LINK_TRIGGER if len(causes) == 1 else names.LINK_COLLECT_MEMBER
    for cause in causes[:MAX_LINKS]:
        about = {names.EVENT_ID: cause.event_id, names.EVENT_TYPE: type(cause.event).__name__}
        _link(span, (cause.carriers or {}).get("mlflow"), kind, about)


def link_previous_attempt(span: Span, previous: Mapping[str, str] | None) -> None:
    """Link an attempt to the one that failed before it."""
    _link(span, previous, names.LINK_RETRY_OF)


def link_previous_segment(span: Span, record: RunStarted) -> None:
    """Link a resumed run to its previous segment, whose trace is never continued: MLflow would lose spans."""
    if isinstance(record, RunResumed):
        _link(span, record.carriers.get("mlflow"), names.LINK_RESUMED_FROM)


def link_left_trace(span: Span, left: Mapping[str, str] | None) -> None:
    """Link a span to the one that it goes on from, in the trace that the run left because it was open for long."""
    _link(span, left, names.LINK_RESUMED_FROM)


def _link(span: Span, to: Mapping[str, str] | None, kind: str, about: Mapping[str, str] | None = None) -> None:
    if HAS_LINKS and isinstance(span, LiveSpan) and to and to.keys() >= {"trace_id", "span_id"}:
        facts = {names.LINK_TYPE: kind, **(about or {})}
        add_link(span, to["trace_id"], to["span_id"], facts)
