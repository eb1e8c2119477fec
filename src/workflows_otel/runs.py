"""Spans of runs: what their parent is, what they say, and how they end."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from workflows.events import StopEvent
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import capture_value, redact_text, to_jsonable
from workflows.instrumentation.records import RunCounts, RunEnded, RunStarted
from workflows_otel.identity import Caller, caller_of
from workflows_otel.open_spans import Attributes, OpenRun
from workflows_otel.own_spans import reentrant
from workflows_otel.propagation import (
    first_segment_of,
    link_to,
    retried_of,
    said_before,
    said_of,
    span_context_of,
    started_ns_of,
)
from workflows_otel.settings import Settings
from workflows_otel.showing import say_shown
from workflows_otel.statuses import set_status

__all__ = ["RunSpans", "current_run"]

CONTINUE_WITHIN_NS = 24 * 3600 * 10**9

Linked = Mapping[str, SpanContext]

_RUN = otel_context.create_key("workflows-run")


def current_run(context: Context | None = None) -> OpenRun | None:
    """The run in whose context this code (or what `context` was taken from) runs; also once that run is over."""
    run = otel_context.get_value(_RUN, context)
    return run if isinstance(run, OpenRun) else None


class RunSpans:
    """Opens and closes the spans of runs."""

    def __init__(self, tracer: Tracer, settings: Settings, name: str) -> None:
        self._tracer = tracer
        self._name = name
        self._settings = settings

    def started(self, record: RunStarted, parent: OpenRun | None = None) -> OpenRun:
        """Open a run's span and make it the current one in the run's own context, which every attempt copies.

        `parent` is the run whose child this one is, where it is open here.
        """
        here = otel_context.get_current()
        other = current_run(here)
        if other is not None and other.run_id != record.run_id:
            other = None
        ambient = here if other is None else other.ambient  # without the span of another provider's handler
        carrier = record.carriers.get(self._name)
        caller = caller_of(record.identity, ambient).after(said_before(carrier))
        parent_context, linked = self._parent(record, ambient, parent)
        trace_id = get_current_span(parent_context).get_span_context().trace_id
        identity = self._identity(record, caller, parent)
        span = self._tracer.start_span(
            f"invoke_workflow {record.workflow}",
            parent_context,
            attributes={**identity, **_about_run(record, caller), **_said(linked, trace_id)},
            links=[link_to(other, link_type) for link_type, other in linked.items()],
            start_time=record.at_ns,
        )
        if span.is_recording():
            say_shown(reentrant(span), self._settings.content.mode)
            self._write_payload(span, record, caller)
            if getattr(span, "parent", None) is None:  # the OTLP endpoint of MLflow reads both on a trace's root
                kind = "AGENT" if record.span_kind == "AGENT" else "WORKFLOW"
                span.set_attributes({at.MLFLOW_SPAN_TYPE: f'"{kind}"', at.MLFLOW_TRACE_NAME: f"{record.workflow}.run"})
        context = set_span_in_context(span, here)
        run = OpenRun(
            record.run_id,
            span,
            span.get_span_context(),
            context,
            workflow=record.workflow,
            kind=_kind(record),
            started_ns=record.at_ns,
            identity=identity,
            first=first_segment_of(record.carriers.get(self._name)) or span.get_span_context(),
            drawn_by=self._name,
            ambient=ambient,
            settings=self._settings,
            tracer=self._tracer,
            other=other,
            parent=record.parent,
            retried=retried_of(carrier),
            caller=caller,
        )
        otel_context.attach(otel_context.set_value(_RUN, run, context))  # never detached: it ends with the run
        if self._settings.start_marker and span.is_recording():
            marker = self._tracer.start_span("workflow.started", context, attributes=identity, start_time=record.at_ns)
            marker.end(record.at_ns)
        return run

    def ended(self, run: OpenRun, record: RunEnded) -> None:
        """Close a run's span with its outcome, its result and its counts."""
        attributes: Attributes = {at.RUN_OUTCOME: record.outcome, **_counts(record.counts)}
        try:
            self._write_end(run.span, attributes, record)
        finally:
            self._finish(run, attributes, record.at_ns)

    def _write_end(self, span: Span, attributes: Attributes, record: RunEnded) -> None:
        if record.failed_step is not None:
            attributes[at.RUN_FAILED_STEP] = record.failed_step
        if record.outcome == "completed" and record.stop_event is not None:
            self._write_result(span, attributes, record.stop_event)
        if record.outcome in ("cancelled", "interrupted"):
            about = {at.CANCEL_REASON: redact_text(record.reason, self._settings.content)} if record.reason else {}
            attributes.update(about)
            span.add_event(at.SPAN_EVENT_CANCELLED, about, record.at_ns)
        set_status(span, record.outcome, record.error, self._settings.content)

    def suspended(self, run: OpenRun, counts: RunCounts, at_ns: int) -> None:
        """Close the span of a segment whose run goes on later."""
        self._finish(run, {at.RUN_OUTCOME: "suspended", **_counts(counts)}, at_ns)

    def interrupted(self, run: OpenRun, at_ns: int) -> None:
        """Close the span of a run that nobody will end any more."""
        self._finish(run, {at.RUN_OUTCOME: "interrupted"}, at_ns)

    def _finish(self, run: OpenRun, attributes: Attributes, at_ns: int) -> None:
        span = run.span
        if run.stream is not None:
            attributes.update(run.stream.attributes(run.started_ns))
            run.stream.write_events(span)
        span.set_attributes(attributes)
        if getattr(span, "dropped_attributes", 0):
            span.set_attributes({**run.identity, at.SPAN_KIND: run.kind})
        span.end(at_ns)

    def _parent(self, record: RunStarted, ambient: Context, parent: OpenRun | None) -> tuple[Context, Linked]:
        """In which context a run's span begins, and to which spans it is linked, by type of the link."""
        previous = span_context_of(record.carriers.get(self._name))
        current = get_current_span(ambient)
        caller = current.get_span_context()
        if previous is not None:
            return self._resumed(record, previous, caller)
        if record.parent is not None:
            return self._under(record.parent[1], ambient, parent), {}
        if not caller.is_valid:
            return ambient, {}
        how = self._settings.run_parent
        if how == "auto":
            how = "link" if self._settings.roots and _is_foreign(current) else "child"
        if how == "child":
            return ambient, {}
        return Context(), {at.LINK_SPAWNED_BY: caller} if how == "link" else {}

    def _under(self, exec_id: str, ambient: Context, parent: OpenRun | None) -> Context:
        """The context of a step that starts a child run, with a span of ours where another provider's is current."""
        around = current_run(ambient)
        if parent is None or around is None or around.drawn_by == self._name:
            return ambient
        attempt = parent.attempts.get(exec_id)
        return set_span_in_context(parent.span if attempt is None else attempt.span, ambient)

    def _resumed(self, record: RunStarted, previous: SpanContext, caller: SpanContext) -> tuple[Context, Linked]:
        linked = {at.LINK_RESUMED_FROM: previous}
        if caller.is_valid:
            linked[at.LINK_SPAWNED_BY] = caller
        how = self._settings.resume_trace
        carrier = record.carriers.get(self._name)
        if how == "link" or (how == "auto" and record.at_ns - started_ns_of(carrier) > CONTINUE_WITHIN_NS):
            return Context(), linked
        return set_span_in_context(NonRecordingSpan(first_segment_of(carrier) or previous), Context()), linked

    def _identity(self, record: RunStarted, caller: Caller, parent: OpenRun | None) -> Attributes:
        """What every span of a run has: whose it is."""
        identity: Attributes = {
            at.SPAN_KIND: "CHAIN",
            at.GEN_AI_WORKFLOW_NAME: record.workflow,
            at.RUN_ID: record.run_id,
        }
        if record.root_run_id != record.run_id:
            identity[at.ROOT_RUN_ID] = record.root_run_id
        if caller.session_id:
            identity[at.SESSION_ID] = caller.session_id
            if self._settings.conversation_id:
                identity[at.GEN_AI_CONVERSATION_ID] = caller.session_id
        if caller.user_id:
            identity[at.USER_ID] = caller.user_id
        if self._settings.names_traces:
            root = parent.identity.get(at.LANGFUSE_TRACE_NAME) if parent is not None else None
            identity[at.LANGFUSE_TRACE_NAME] = caller.trace_name or root or record.workflow
            if caller.tags:
                identity[at.LANGFUSE_TRACE_TAGS] = list(caller.tags)
        return identity

    def _write_payload(self, span: Span, record: RunStarted, caller: Caller) -> None:
        policy = self._settings.content
        if record.start_event is not None and (captured := capture_value(record.start_event, policy.for_inputs())):
            span.set_attributes(
                {
                    at.INPUT_VALUE: captured.text,
                    at.INPUT_MIME_TYPE: captured.mime_type,
                    at.INPUT_SIZE: captured.size,
                    at.INPUT_COMPLETE: captured.complete,
                }
            )
            if captured.truncated:
                span.set_attribute(at.TRUNCATED, True)
            if captured.uri is not None:
                span.set_attribute(at.INPUT_URI, captured.uri)
        if caller.metadata:
            span.set_attribute(at.METADATA, to_jsonable(dict(caller.metadata), policy).text)

    def _write_result(self, span: Span, attributes: Attributes, stop: StopEvent) -> None:
        result = stop.result if type(stop) is StopEvent else stop
        policy = self._settings.content.for_outputs()
        captured = capture_value(result, policy)
        if captured is None:
            return
        say_shown(span, policy.mode, at.OUTPUT_VALUE)  # it may have begun when more or less was shown
        attributes[at.OUTPUT_VALUE] = captured.text
        attributes[at.OUTPUT_MIME_TYPE] = captured.mime_type
        attributes[at.OUTPUT_SIZE] = captured.size
        if captured.truncated:
            attributes[at.TRUNCATED] = True
        if captured.uri is not None:
            attributes[at.OUTPUT_URI] = captured.uri


def _said(linked: Linked, trace_id: int) -> Attributes:
    said: Attributes = {}
    for link_type, other in linked.items():
        said.update(said_of(other, link_type, trace_id))
    return said


def _about_run(record: RunStarted, caller: Caller) -> Attributes:
    """What only the run's own span says at its start."""
    attributes: Attributes = {
        at.SPAN_KIND: _kind(record),
        at.GEN_AI_OPERATION_NAME: "invoke_workflow",
        at.ROOT_RUN_ID: record.root_run_id,
        at.RUN_SEGMENT: record.segment,
        at.GRAPH_HASH: record.graph_hash,
        at.GRAPH_NODE_ID: record.workflow,
    }
    if record.version is not None:
        attributes[at.WORKFLOW_VERSION] = record.version
    if record.timeout is not None:
        attributes[at.TIMEOUT] = record.timeout
    if record.queue_wait:
        attributes[at.RUN_QUEUE_WAIT] = record.queue_wait
    if record.parent is not None:
        attributes[at.PARENT_RUN_ID] = record.parent[0]
        attributes[at.GEN_AI_WORKFLOW_NESTED] = True
    if caller.tags:
        attributes[at.TAGS] = list(caller.tags)
    return attributes


def _is_foreign(span: Span) -> bool:
    """Whether a span is recorded elsewhere: in another process, or by another tracing library."""
    context = span.get_span_context()
    return context.is_remote or (context.trace_flags.sampled and not isinstance(span, ReadableSpan))


def _kind(record: RunStarted) -> str:
    return "AGENT" if record.span_kind == "AGENT" else "CHAIN"


def _counts(counts: RunCounts) -> Attributes:
    return {
        at.RUN_STEPS: counts.steps,
        at.RUN_RETRIES: counts.retries,
        at.RUN_EVENTS: counts.events,
        at.RUN_STREAMED: counts.streamed,
        at.RUN_HANDLED_ERRORS: counts.handled_errors,
        at.RUN_UNHANDLED: counts.unhandled,
    }
