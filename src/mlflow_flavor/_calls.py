"""The spans of one call of a step: one for a plain step, a step span around the attempts where it may be retried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import mlflow
from mlflow.entities import LiveSpan, Span, SpanStatus, SpanStatusCode, SpanType

from mlflow_flavor._compat import HAS_LOG_LEVEL, SpanToken, attach, detach, set_facts
from mlflow_flavor._current import CurrentSpan
from mlflow_flavor._links import link_causes, link_left_trace, link_previous_attempt
from mlflow_flavor._payloads import (
    EventCaptures,
    Shown,
    content,
    describe,
    exception_event,
    set_media,
    show_causes,
    show_emitted,
    span_event,
)
from mlflow_flavor._settings import AutologSettings
from mlflow_flavor._stream import StreamLog
from workflows.errors import StepTimeoutError
from workflows.events import StartEvent
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, exception_type
from workflows.instrumentation.records import Envelope, EventStreamed, RetryScheduled, StepEnded, StepStarted
from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["ERRORS", "CallSpans", "end_span", "start_span"]

SHOWN_EMITTED = 32
SHOWN_CAUSES = 16

ERRORS = frozenset({"failed", "retrying", "timed_out"})
"""Outcomes that are errors. MLflow has no third state: whatever was only cut short is OK, and its outcome says so."""


class CallSpans:
    """What is open for one call; every attempt of the call goes through the same object.

    Attributes:
        span: Where the current attempt's own spans belong; None between two attempts.
        carrier: What an event that the current attempt sends carries.
    """

    def __init__(
        self,
        record: StepStarted,
        root: Span,
        settings: AutologSettings,
        captures: EventCaptures,
        currents: WeakSet[CurrentSpan],
    ) -> None:
        self.span: Span | None = None
        self.carrier: Mapping[str, str] | None = None
        self.step = record.step
        self._previous: Mapping[str, str] | None = None
        self._settings = settings
        self._captures = captures
        self._root = root
        self._started = record
        self._left: Mapping[str, str] | None = None
        self._waited = False
        self._inputs: Shown | None = None
        self._two_levels = record.retry_policy is not None
        self._attempts = record.attempt - 1  # those of earlier segments count, too
        self._started_ns = record.at_ns
        self._attempt_started_ns = record.at_ns
        self._token: SpanToken | None = None
        self._current: CurrentSpan | None = None
        self._currents = currents
        self._scope: AttemptScope | None = None
        self._stream: StreamLog | None = None
        self._streamed: Counter[str] = Counter()
        self._outer = self._open_outer(record) if self._two_levels else None

    def start(self, record: StepStarted) -> None:
        """Open the attempt's span and make it current: told in the attempt's own task."""
        self._attempts += 1
        self._started = record
        self._scope = current_attempt.get()
        self._open(record)
        self._current = CurrentSpan(self.span) if isinstance(self.span, LiveSpan) else None
        if self._current is not None:
            self._currents.add(self._current)
        self._token = attach(self._current or self.span) if self.span is not None else None

    @property
    def span_ids(self) -> set[str]:
        """The spans that are open for it."""
        return {span.span_id for span in (self.span, self._outer) if span is not None}

    @property
    def is_busy(self) -> bool:
        """Whether an attempt is open that does more than wait for events from outside."""
        return self.span is not None and not (self._scope is not None and self._scope.only_waits)

    def suspend(self, at_ns: int) -> None:
        """End the open spans because the run's trace ends; `go_on` opens others in the next one."""
        self._left = self.carrier
        self.abandon(at_ns, "suspended")
        self._waited = self.span is not None
        self.span = self._outer = None

    def go_on(self, root: Span, at_ns: int) -> None:
        """Open the spans again, in the run's next trace; what is current in the attempt's task stands for them then."""
        record = replace(self._started, at_ns=at_ns)
        self._root = root
        self._outer = self._open_outer(record) if self._two_levels else None
        if self._waited:
            self._previous = None
            self._open(record)
            if self.span is not None:
                link_left_trace(self.span, self._left)
                if self._current is not None:
                    self._current.stand_for(self.span)

    def _open(self, record: StepStarted) -> None:
        self._attempt_started_ns = record.at_ns
        previous, self.carrier = self._previous, None
        if self._outer is not None:
            name = f"attempt {record.step}"
            self.span = start_span(name, self._outer, record.at_ns, attempt_facts(record), self._inputs)
        else:
            inputs = show_causes(record.causes, self._settings.content.for_inputs(), self._captures)
            facts = {**step_facts(record), **cause_facts(record.causes), **attempt_facts(record)}
            self.span = start_span(record.step, self._root, record.at_ns, facts, inputs)
            link_causes(self.span, record.causes)
        link_previous_attempt(self.span, previous)
        if isinstance(self.span, LiveSpan):
            self.carrier = self._previous = {"trace_id": self.span.trace_id, "span_id": self.span.span_id}

    def streamed(self, record: EventStreamed) -> None:
        """Note an event that the current attempt streamed."""
        if self._stream is None:
            self._stream = StreamLog(self._settings.stream_events, self._settings.content.max_chars)
        self._stream.add(record)

    def retry_scheduled(self, record: RetryScheduled) -> None:
        """Note on the step's span that another attempt will come."""
        if self._outer is not None:
            facts = {names.STEP_ATTEMPT: record.attempt, names.RETRY_DELAY: record.delay}
            self._outer.add_event(span_event(names.SPAN_EVENT_RETRY_SCHEDULED, record.at_ns, facts))

    def end(self, record: StepEnded) -> bool:
        """End the attempt's span, and the step's with its last attempt; True if the call is over."""
        over = record.outcome != "retrying"
        outputs = show_emitted(record.emitted, self._settings.content.for_outputs(), self._captures)
        if (span := self.span) is not None:
            detach(self._token)
            self.span = self.carrier = self._token = None
            self._end_attempt(span, record, outputs)
        if over and self._outer is not None:
            self._end_outer(self._outer, record, outputs)
        return over

    def abandon(self, at_ns: int | None, outcome: str, description: str | None = None) -> None:
        """End what is still open because the run is over."""
        facts: dict[str, Any] = {names.STEP_OUTCOME: outcome}
        status = SpanStatus(SpanStatusCode.ERROR, description) if description else None
        for span in (self.span, self._outer):
            if span is not None:
                span.end(attributes=facts, status=status, end_time_ns=at_ns)

    def _open_outer(self, record: StepStarted) -> Span:
        self._inputs = show_causes(record.causes, self._settings.content.for_inputs(), self._captures)
        facts = {**step_facts(record), **cause_facts(record.causes)}
        span = start_span(record.step, self._root, record.at_ns, facts, self._inputs)
        link_causes(span, record.causes)
        return span

    def _end_attempt(self, span: Span, record: StepEnded, outputs: Shown | None) -> None:
        policy = self._settings.content
        facts: dict[str, Any] = {names.STEP_OUTCOME: record.outcome}
        if (stream := self._stream) is not None:
            self._stream = None
            self._streamed.update(stream.types)
            facts.update(stream.attributes(self._attempt_started_ns))
            for event in stream.span_events(policy.for_outputs()):
                span.add_event(event)
        if record.retry_delay is not None:
            facts.update({names.RETRY_DELAY: record.retry_delay, names.RETRY_WILL_RETRY: True})
        if record.retry_elapsed is not None:
            facts[names.RETRY_ELAPSED] = record.retry_elapsed
        if record.outcome in ERRORS and record.error is not None:
            facts[names.ERROR_TYPE] = exception_type(record.error)
            if not is_deadline(record):
                span.add_event(exception_event(record.error, record.at_ns, policy))
        facts.update(result_facts(record) if self._outer is None else handler_facts(record))
        if record.buffered:
            facts[names.COLLECT_BUFFERED] = True
            if HAS_LOG_LEVEL:
                span.set_log_level("DEBUG")
        end_span(span, record.at_ns, facts, outputs, status_of(record, policy))

    def _end_outer(self, span: Span, record: StepEnded, outputs: Shown | None) -> None:
        policy = self._settings.content
        facts: dict[str, Any] = {
            names.STEP_ATTEMPTS: self._attempts,
            names.STEP_OUTCOME: record.outcome,
            **result_facts(record),
        }
        if self._streamed:
            facts[names.STREAM_COUNT] = self._streamed.total()
            facts[names.STREAM_TYPES] = [f"{name}={n}" for name, n in self._streamed.most_common(16)]
        if record.outcome in ERRORS and record.error is not None:
            facts[names.ERROR_TYPE] = exception_type(record.error)
        end_span(span, record.at_ns, facts, outputs, status_of(record, policy))


def start_span(
    name: str,
    parent: Span | None,
    at_ns: int,
    facts: dict[str, Any],
    inputs: Shown | None = None,
    span_type: str = SpanType.TASK,
    *,
    experiment: str | None = None,
) -> Span:
    """A child of `parent`, or of the current span, that starts at `at_ns`; nothing is made current.

    A trace that it begins is of `experiment`, by default of the active one.
    """
    span = mlflow.start_span_no_context(
        name,
        span_type=span_type,
        parent_span=parent,  # pyright: ignore[reportArgumentType]  # MLflow takes its own NoOpSpan here as well
        experiment_id=experiment,
        start_time_ns=at_ns,
    )
    set_facts(span, facts, content("inputs", inputs))
    set_media(span, "inputs", inputs)
    return span


def end_span(
    span: Span, at_ns: int | None, facts: dict[str, Any], outputs: Shown | None = None, status: SpanStatus | None = None
) -> None:
    """End a span with what is known by then."""
    set_media(span, "outputs", outputs)
    set_facts(span, facts, content("outputs", outputs))
    live: Any = span  # MLflow's stand-in for a span that is not recorded can be ended as well
    live.end(status=status, end_time_ns=at_ns)


def step_facts(record: StepStarted) -> dict[str, Any]:
    facts: dict[str, Any] = {names.STEP_NAME: record.step, names.STEP_EXECUTION_ID: record.exec_id}
    if record.retry_policy is not None:
        facts[names.RETRY_POLICY] = record.retry_policy
        if record.max_attempts is not None:
            facts[names.STEP_MAX_ATTEMPTS] = record.max_attempts
    return facts


def attempt_facts(record: StepStarted) -> dict[str, Any]:
    facts: dict[str, Any] = {
        names.STEP_ATTEMPT: record.attempt,
        names.STEP_WORKER: record.worker,
        names.STEP_QUEUE_WAIT: max(record.at_ns - record.queued_at_ns, 0) / 1e9,
    }
    if record.queue_depth:
        facts[names.STEP_QUEUE_DEPTH] = record.queue_depth
    if record.replay:
        facts[names.STEP_REPLAY] = True
    if record.previous_error is not None:
        facts[names.RETRY_PREVIOUS_ERROR_TYPE] = exception_type(record.previous_error)
    return facts


def cause_facts(causes: tuple[Envelope, ...]) -> dict[str, Any]:
    """What triggered the call; the sender's span by its id, since MLflow's children are not nested by cause."""
    if not causes:
        return {}
    first = causes[0]
    facts: dict[str, Any] = {
        names.EVENT_ID: first.event_id,
        names.EVENT_TYPE: type(first.event).__name__,
        names.EVENT_SOURCE: source_of(first),
        names.CAUSE_COUNT: len(causes),
    }
    senders = [c.carriers["mlflow"]["span_id"] for c in causes[:SHOWN_CAUSES] if c.carriers and "mlflow" in c.carriers]
    if senders:
        facts[names.CAUSE_SPAN_IDS] = senders
    return facts


def source_of(envelope: Envelope) -> str:
    if envelope.sender is not None:
        return "step"
    return "start" if isinstance(envelope.event, StartEvent) else "external"


def result_facts(record: StepEnded) -> dict[str, Any]:
    facts: dict[str, Any] = {names.EMITTED_COUNT: len(record.emitted)}
    if record.emitted:
        facts[names.EMITTED] = [f"{type(e.event).__name__}:{e.event_id}" for e in record.emitted[:SHOWN_EMITTED]]
    return {**facts, **handler_facts(record)}


def handler_facts(record: StepEnded) -> dict[str, Any]:
    return {} if record.handled_by is None else {names.STEP_HANDLED_BY: record.handled_by}


def is_deadline(record: StepEnded) -> bool:
    """Whether the run's timeout, not the step's own, ended the attempt."""
    return record.outcome == "timed_out" and not isinstance(record.error, StepTimeoutError)


def status_of(record: StepEnded, policy: ContentPolicy) -> SpanStatus | None:
    if record.outcome not in ERRORS:
        return None
    if is_deadline(record):
        return SpanStatus(SpanStatusCode.ERROR, "cancelled: workflow timed out")
    return SpanStatus(
        SpanStatusCode.ERROR, describe(record.error, policy) if record.error is not None else record.outcome
    )
