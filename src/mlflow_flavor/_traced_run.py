"""The first run, as its traces show it: read from their spans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from mlflow.entities import Span, SpanEvent, Trace

from mlflow_flavor._calls import ERRORS
from mlflow_flavor._run_parts import Attempt, Part, Streamed, error_text, without_times
from workflows.instrumentation import attributes as names

__all__ = ["streamed_events", "traced_run"]

Key = tuple[str, ...]


def traced_run(segments: Sequence[tuple[Trace, Span]]) -> Part:
    """A run as its traces show it: one that was open for long went on in others.

    Args:
        segments: The run's traces in order, each with the span of the run in it.
    """
    tree = _Tree()
    for trace, _ in segments:
        tree.add(trace.data.spans)
    root = segments[0][1]
    return tree.parts["run", str(root.attributes[names.RUN_ID])]


class _Tree:
    """Parts by what identifies them; what was open when a trace of the run ended is in the next one as well."""

    def __init__(self) -> None:
        self.parts: dict[Key, Part] = {}

    def add(self, spans: Iterable[Span]) -> None:
        """Take the spans of one trace."""
        known = {span.span_id: span for span in spans}
        keys = [(key, span) for span in known.values() if (key := _key(span, known)) is not None]
        new = [(key, span) for key, span in keys if key not in self.parts]
        for key, span in new:
            self.parts[key] = Part(span.name, span.start_time_ns, without_times(span.inputs))
        for key, span in new:
            above = self._nearest(known.get(span.parent_id or ""), known)
            if above is not None:
                above.below.append(self.parts[key])
        for key, span in keys:
            _note_end(self.parts[key], span)
        for span in known.values():
            number = cast("int | None", span.attributes.get(names.STEP_ATTEMPT))
            if number is not None and (call := self._nearest(span, known)) is not None:
                call.attempts[number] = _attempt(span)
                call.is_buffered |= span.attributes.get(names.COLLECT_BUFFERED) is True

    def _nearest(self, span: Span | None, known: dict[str, Span]) -> Part | None:
        """The part that a span is of or below: spans of attempts, and of others, may be between."""
        while span is not None:
            key = _key(span, known)
            if key is not None:
                return self.parts.get(key)
            span = known.get(span.parent_id or "")
        return None


def _key(span: Span, known: dict[str, Span]) -> Key | None:
    """What tells a part from all others; None if the span is of none. Ids of calls and waits are a run's own."""
    facts = span.attributes
    if names.RUN_ID in facts:
        return "run", str(facts[names.RUN_ID])
    for name in (names.STEP_EXECUTION_ID, names.WAIT_ID):
        if name in facts:
            return name, _run_id(span, known), str(facts[name])
    return None


def _note_end(part: Part, span: Span) -> None:
    outcomes = (names.RUN_OUTCOME, names.STEP_OUTCOME, names.WAIT_OUTCOME)
    part.outcome = next((str(span.attributes[name]) for name in outcomes if name in span.attributes), "")
    part.gave = without_times(span.outputs)
    part.error = error_text(_reason(span, part.outcome)) if part.outcome in ERRORS else None


def _run_id(span: Span, known: dict[str, Span]) -> str:
    above: Span | None = span
    while above is not None and names.RUN_ID not in above.attributes:
        above = known.get(above.parent_id or "")
    return str(above.attributes[names.RUN_ID]) if above is not None else ""


def _attempt(span: Span) -> Attempt:
    facts: Mapping[str, Any] = span.attributes
    return Attempt(
        error_text(_reason(span, "retrying")) if facts.get(names.STEP_OUTCOME) == "retrying" else None,
        list(streamed_events(span.events)),
        int(facts.get(names.STREAM_COUNT, 0)),
        int(facts.get(names.STREAM_DROPPED, 0)),
    )


def _reason(span: Span, outcome: str) -> str:
    return span.status.description or outcome


def streamed_events(events: Iterable[SpanEvent]) -> Iterable[Streamed]:
    """What a span shows of streamed events."""
    for event in events:
        if event.name == names.SPAN_EVENT_STREAM:
            facts = cast("Mapping[str, Any]", event.attributes)
            name = str(facts[names.EVENT_TYPE])
            text: object = facts.get(name)
            first, merged = int(facts[names.STREAM_SEQ]), int(facts.get(names.STREAM_MERGED, 1))
            yield Streamed(name, text, _fields_of_text(text), first, merged)


def _fields_of_text(text: object) -> object:
    """The fields of an event, of which a span has the JSON; a text delta is a text."""
    try:
        found: object = json.loads(text) if isinstance(text, str) and text.startswith("{") else text
    except ValueError:
        return text
    return found
