"""The trace of one run segment: its root span, its labels, what goes in and what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import LiveSpan, Span, SpanStatus, SpanType
from mlflow.tracing.constant import TraceMetadataKey

from mlflow_flavor._calls import end_span, start_span
from mlflow_flavor._compat import OpenTrace, attach, attachment, configured_metadata, detach, set_facts
from mlflow_flavor._facts import CONFIG_METADATA, run_facts, said_metadata, said_tags, trace_metadata
from mlflow_flavor._given_up import end_given_up
from mlflow_flavor._handover import Handover
from mlflow_flavor._links import link_previous_segment
from mlflow_flavor._payloads import EventCaptures, Shown, preview, shown_of
from mlflow_flavor._recording import RECORDING_SPAN, Recording
from mlflow_flavor._rows import plain_fields
from mlflow_flavor._settings import AutologSettings
from workflows.context.serializers import JsonSerializer
from workflows.events import Event
from workflows.instrumentation import attributes as names
from workflows.instrumentation.records import RunOutcome, RunStarted

__all__ = ["RunTrace"]

INPUT_SPAN = "workflow.input"

# Tags are a narrow column of MLflow's list: two, with short names.
NAME_TAG = "workflow"
OUTCOME_TAG = "outcome"

# What a run that is resumed, maybe in another process, takes over from its trace.
HANDED_ON = {"session": TraceMetadataKey.TRACE_SESSION, "user": TraceMetadataKey.TRACE_USER}


def _written(start: Event) -> str:
    """A start event as text that `reproduce` reads; its fields alone where one is of a class that cannot be written."""
    try:
        return JsonSerializer().serialize(start)
    except (ValueError, TypeError):
        return json.dumps(plain_fields(start))


class RunTrace:
    """The root of a run, and the trace that it is in.

    Attributes:
        root: The span of the run.
        is_live: Whether it is drawn at all; it is not where tracing is off, or the trace was not sampled.
        recording: Answers of its calls that are kept with it.
    """

    def __init__(self, record: RunStarted, settings: AutologSettings, handover: Handover) -> None:
        self._settings = settings
        self._handover = handover
        self._captures = EventCaptures()
        self._started = record
        self._segment = record.segment
        self.root = self._open(record, record.at_ns)
        link_previous_segment(self.root, record)
        self.is_live = isinstance(self.root, LiveSpan)
        # Previews are of a whole trace: only the run that began it sets them. Below a span of somebody else's (a
        # request, a test) the first outermost run of the trace gives it what nobody else did.
        self._owns_trace = self.is_live and self.root.parent_id is None
        self._labels_trace = self._owns_trace or (self.is_live and record.parent is None and self._is_first())
        # What the caller gave to `mlflow.tracing.context()` is on the trace already, and wins.
        self._metadata = {**trace_metadata(record), **configured_metadata()}
        # Never detached: it is the run's own context, which every attempt inherits and which ends with the run.
        attach(self.root)
        if self._owns_trace:
            self._record_input(record)
        if self._labels_trace:
            self._label(record)
        self.recording = Recording() if settings.record_calls and self.is_live else None

    @property
    def trace_id(self) -> str | None:
        """The trace the run is drawn in; None where tracing is off or the trace was not sampled."""
        return self.root.trace_id if self.is_live else None

    def handed_on(self) -> dict[str, str]:
        """What a run that goes on from here takes over from the trace."""
        handed = {name: self._metadata[key] for name, key in HANDED_ON.items() if key in self._metadata}
        if tags := said_tags(self._started):
            handed["tags"] = tags
        if metadata := said_metadata(self._started):
            handed["metadata"] = json.dumps(metadata)
        return handed

    def attribute(self, model_id: str, loaded: Mapping[str, str]) -> None:
        """Name the logged model whose run this is, and, as the trace's metadata, with what it was loaded."""
        if not self.is_live:
            return
        set_facts(self.root, {TraceMetadataKey.MODEL_ID: model_id}, {})
        trace = OpenTrace.of(self.root.trace_id)
        if trace is not None and CONFIG_METADATA not in trace.metadata:  # the outermost run of a model's is the first
            self._update_trace(metadata={TraceMetadataKey.MODEL_ID: model_id, **loaded})

    def _open(self, record: RunStarted, at_ns: int, experiment: str | None = None) -> Span:
        start, content = record.start_event, self._settings.content
        captured = self._captures.again(start, content.for_inputs()) if start is not None else None
        facts: dict[str, Any] = {**run_facts(record), names.RUN_SEGMENT: self._segment}
        if captured is not None:
            facts[names.INPUT_COMPLETE] = captured.complete
            if captured.truncated:
                facts[names.TRUNCATED] = True
        self._inputs = shown_of(captured)
        span_type = SpanType.AGENT if record.span_kind == "AGENT" else self._settings.run_span_type
        # Its parent, if any, is the span that is current where `run()` was called: a calling step, a request, a test.
        name = f"{record.workflow}.run"
        return start_span(name, None, at_ns, facts, self._inputs, span_type, experiment=experiment)

    def _label(self, record: RunStarted) -> None:
        tags = {NAME_TAG: record.workflow}
        if said := said_tags(record):
            tags["tags"] = said
        trace = None if self._owns_trace else OpenTrace.of(self.root.trace_id)
        taken = trace.metadata if trace is not None else configured_metadata()
        metadata = {key: value for key, value in self._metadata.items() if key not in taken}
        shown = preview(self._inputs) if self._owns_trace else None
        self._update_trace(tags=tags, metadata=metadata, request_preview=shown)

    def _is_first(self) -> bool:
        trace = OpenTrace.of(self.root.trace_id)
        return trace is not None and NAME_TAG not in trace.tags

    def _record_input(self, record: RunStarted) -> None:
        if self._settings.record_inputs and record.start_event is not None:
            whole = attachment(_written(record.start_event))
            span = start_span(
                INPUT_SPAN, self.root, record.at_ns, {}, Shown({"start_event": whole}, may_hold_media=True)
            )
            span.end(end_time_ns=record.at_ns)

    def _store_recording(self, at_ns: int | None) -> None:
        if self.recording:  # it holds answers
            whole = Shown({"calls": attachment(self.recording.to_json())}, may_hold_media=True)
            facts = {names.TRUNCATED: True} if self.recording.dropped else {}
            span = start_span(RECORDING_SPAN, self.root, at_ns or self._started.at_ns, facts, whole)
            span.end(end_time_ns=at_ns)
            self.recording = Recording()

    def _conclude(self, outcome: RunOutcome, shown: str | None = None) -> None:
        if not self._labels_trace:
            return
        if outcome != "completed":
            shown = f"({outcome}) {shown}" if shown else f"({outcome})"
        self._update_trace(tags={OUTCOME_TAG: outcome}, response_preview=shown if self._owns_trace else None)

    def _end_root(
        self, facts: dict[str, Any], at_ns: int | None, outputs: Shown | None = None, status: SpanStatus | None = None
    ) -> None:
        self._store_recording(at_ns)
        if isinstance(self.root, LiveSpan):
            end_given_up(self.root, at_ns)
        end_span(self.root, at_ns, facts, outputs, status)
        if self._owns_trace:
            assert isinstance(self.root, LiveSpan), "only a live span begins a trace"
            self._handover.hand_over(self.root)

    def _update_trace(self, **changes: Any) -> None:
        token = attach(self.root)  # MLflow updates the current trace, and this may be told in another context
        try:
            mlflow.update_current_trace(**changes)
        finally:
            detach(token)
