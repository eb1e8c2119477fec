"""Spans of steps and of their attempts. Hot code: it runs twice for every attempt of every step."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import context as otel_context
from opentelemetry.trace import Link, Span, SpanContext, Tracer, get_current_span, set_span_in_context

from workflows.events import Event
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import Captured, capture_value
from workflows.instrumentation.records import (
    Envelope,
    FanInReleased,
    RetryScheduled,
    RunOutcome,
    StepEnded,
    StepOutcome,
    StepStarted,
)
from workflows_otel.open_spans import Attributes, OpenAttempt, OpenCall, OpenRun
from workflows_otel.own_spans import SpanStarter, write
from workflows_otel.propagation import SHOWN_CAUSES, link_to, said_of, say_causes, sender_of, source_of
from workflows_otel.settings import Settings
from workflows_otel.showing import say_shown
from workflows_otel.statuses import error_type, set_completed, set_status, write_exception

__all__ = ["StepSpans"]

MAX_LINKS = 64
SHOWN_EMITTED = 32

_OUTCOME_OF_RUN: dict[RunOutcome, StepOutcome] = {
    "cancelled": "cancelled",
    "timed_out": "timed_out",
    "interrupted": "interrupted",
    "suspended": "suspended",
}


class StepSpans:
    """Opens and closes the spans of the calls of a run."""

    def __init__(self, tracer: Tracer, settings: Settings, name: str) -> None:
        self._tracer = tracer
        self._start = SpanStarter(tracer, settings.content.mode).start
        self._name = name
        self._settings = settings
        self._shows_values = settings.content.mode == "full"
        self._inputs = settings.content.for_inputs()
        self._outputs = settings.content.for_outputs()

    def started(self, run: OpenRun, record: StepStarted) -> None:
        """Open the span of an attempt (and of its step, with the first of several), and make it the current one."""
        exec_id = record.exec_id
        call = None
        if record.retry_policy is None:
            span = self._open_step(run, record)
        else:
            call = run.calls.get(exec_id)
            if call is None:
                call = run.calls[exec_id] = self._open_call(run, record)
            call.attempts += 1
            span = self._open_attempt(run, call, record)
        # Upon what is current, not upon the run's context: other handlers may have put something there.
        token = otel_context.attach(set_span_in_context(span))
        run.attempts[exec_id] = OpenAttempt(record.step, record.attempt, span, record.at_ns, token, call)

    def ended(self, run: OpenRun, record: StepEnded) -> None:
        """Close the span of an attempt, and that of its step unless another attempt follows."""
        attempt = run.attempts.pop(record.exec_id, None)
        if attempt is not None:
            # Told by another task than the attempt's own (it was abandoned), there is nothing of ours to detach here.
            if attempt.token is not None and get_current_span() is attempt.span:
                otel_context.detach(attempt.token)
            self._close_attempt(run, attempt, record)
        call = run.calls.get(record.exec_id) if run.calls else None
        if attempt is None and not record.started:
            self._draw_unstarted(run, call, record)
        if call is None:
            return
        call.emitted_count += len(record.emitted)
        call.emitted += _shown(record.emitted, SHOWN_EMITTED - len(call.emitted))
        if record.retry_delay is None:
            del run.calls[record.exec_id]
            self._close_call(run, call, record)
        elif attempt is not None:
            call.previous = attempt.span.get_span_context()

    def released(self, run: OpenRun, record: FanInReleased) -> None:
        """Link the call that got the last member of a join to the senders of all of them."""
        attempt = run.attempts.get(record.exec_id)
        if attempt is None:
            return
        attempt.joined = True
        span = attempt.span if attempt.call is None else attempt.call.span
        senders: list[SpanContext] = []
        for envelope in record.members[: MAX_LINKS - 1]:
            if (sender := sender_of(envelope, self._name)) is not None:
                link = link_to(sender, at.LINK_COLLECT_MEMBER, envelope)
                span.add_link(link.context, link.attributes)
                senders.append(sender)
        said: Attributes = {at.CAUSE_COUNT: len(record.members)}
        say_causes(said, senders, run.span_context.trace_id)
        write(span, said)

    def retry_scheduled(self, run: OpenRun, record: RetryScheduled) -> None:
        """Note on the step's span that another attempt follows."""
        call = run.calls.get(record.exec_id)
        if call is not None and call.attempts <= SHOWN_CAUSES:
            about = {
                at.STEP_ATTEMPT: record.attempt,
                at.RETRY_DELAY: float(record.delay),
                at.ERROR_TYPE: error_type(record.error),
            }
            call.span.add_event(at.SPAN_EVENT_RETRY_SCHEDULED, about, record.at_ns)

    def close_all(self, run: OpenRun, outcome: RunOutcome, at_ns: int) -> None:
        """Close what is still open when its run is over: calls between two attempts, and attempts nobody told about."""
        as_step = _OUTCOME_OF_RUN.get(outcome, "abandoned")
        still = {exec_id: (call.step, call.attempts) for exec_id, call in run.calls.items()}
        still.update((exec_id, (attempt.step, attempt.number)) for exec_id, attempt in run.attempts.items())
        for exec_id, (step, number) in still.items():
            end = StepEnded(run_id="", seq=0, at_ns=at_ns, exec_id=exec_id, step=step, attempt=number, outcome=as_step)
            self.ended(run, end)

    def _open_step(self, run: OpenRun, record: StepStarted) -> Span:
        causes = record.causes
        attributes = (run.constants.get(record.step) or _constants(run, record)).copy()
        attributes[at.STEP_EXECUTION_ID] = record.exec_id
        attributes[at.STEP_QUEUE_WAIT] = _seconds(record)
        if record.queue_depth:
            attributes[at.STEP_QUEUE_DEPTH] = record.queue_depth
        if record.retry_policy is None:
            attributes[at.STEP_ATTEMPT] = record.attempt
            attributes[at.STEP_WORKER] = record.worker
        elif record.max_attempts is not None:
            attributes[at.STEP_MAX_ATTEMPTS] = record.max_attempts
        if record.replay:
            attributes[at.STEP_REPLAY] = True
        links = _write_causes(attributes, run, causes, self._name) if causes else ()
        if self._shows_values and causes:
            _write_input(attributes, self._captured_input(run, causes))
        return self._start(f"run_step {record.step}", run.span_context, run.context, attributes, links, record.at_ns)

    def _captured_input(self, run: OpenRun, causes: tuple[Envelope, ...]) -> Captured | None:
        first, last = causes[0], run.last_output
        if len(causes) > 1:
            return capture_value([cause.event for cause in causes], self._inputs)
        if last is not None and last[0] == first.event_id and last[2] is self._inputs:
            return last[1]  # a moment ago it was what another step gave
        return capture_value(first.event, self._inputs)

    def _open_call(self, run: OpenRun, record: StepStarted) -> OpenCall:
        span = self._open_step(run, record)
        previous = run.retried.pop(record.exec_id, None)
        if previous is not None:
            link = link_to(previous, at.LINK_RETRY_OF)
            span.add_link(link.context, link.attributes)
            write(span, said_of(previous, at.LINK_RETRY_OF, run.span_context.trace_id))
        context = set_span_in_context(span, run.context)
        # Those of earlier segments count, too.
        return OpenCall(record.step, span, context, record.at_ns, previous, attempts=record.attempt - 1)

    def _open_attempt(self, run: OpenRun, call: OpenCall, record: StepStarted) -> Span:
        attributes = _constants(run, record).copy()
        attributes[at.STEP_EXECUTION_ID] = record.exec_id
        attributes[at.STEP_ATTEMPT] = record.attempt
        attributes[at.STEP_WORKER] = record.worker
        attributes[at.STEP_QUEUE_WAIT] = _seconds(record)
        attributes[at.RETRY_POLICY] = record.retry_policy or ""
        if record.previous_error is not None:
            attributes[at.RETRY_PREVIOUS_ERROR_TYPE] = error_type(record.previous_error)
        if record.replay:
            attributes[at.STEP_REPLAY] = True
        links: Sequence[Link] = ()
        if call.previous is not None:
            links = (link_to(call.previous, at.LINK_RETRY_OF),)
            attributes.update(said_of(call.previous, at.LINK_RETRY_OF, run.span_context.trace_id))
        parent = call.span.get_span_context()
        return self._start(f"attempt {record.step}", parent, call.context, attributes, links, record.at_ns)

    def _draw_unstarted(self, run: OpenRun, call: OpenCall | None, record: StepEnded) -> None:
        """An attempt that was cancelled before its task first ran: a span of no length, so that it does not vanish."""
        attributes: Attributes = {
            **run.identity,
            at.STEP_NAME: record.step,
            at.STEP_EXECUTION_ID: record.exec_id,
            at.STEP_ATTEMPT: record.attempt,
            at.STEP_OUTCOME: record.outcome,
            at.GRAPH_NODE_ID: f"{run.workflow}.{record.step}",
        }
        if call is not None:
            parent, around = call.span.get_span_context(), call.context
            span = self._start(f"attempt {record.step}", parent, around, attributes, (), record.at_ns)
        else:
            links = _write_causes(attributes, run, record.causes, self._name) if record.causes else ()
            span = self._start(
                f"run_step {record.step}", run.span_context, run.context, attributes, links, record.at_ns
            )
        span.end(record.at_ns)

    def _close_attempt(self, run: OpenRun, attempt: OpenAttempt, record: StepEnded) -> None:
        try:
            if attempt.kept_open:
                for tell in tuple(attempt.kept_open):  # before their parent ends
                    tell(None if record.outcome == "completed" else record.at_ns)
            self._write_end(run, attempt, record)
        finally:  # whatever a value of the user's did: an open span would be lost
            _finish(attempt.span, run, record.at_ns)

    def _write_end(self, run: OpenRun, attempt: OpenAttempt, record: StepEnded) -> None:
        span = attempt.span
        attributes: Attributes = {at.STEP_OUTCOME: record.outcome}
        if record.handled_by is not None:
            attributes[at.STEP_HANDLED_BY] = record.handled_by
        if attempt.call is None:
            emitted = record.emitted
            if emitted:
                attributes[at.EMITTED] = tuple(_shown(emitted, SHOWN_EMITTED))
                if len(emitted) > SHOWN_EMITTED:
                    attributes[at.EMITTED_COUNT] = len(emitted)
            self._write_result(run, span, attributes, record)
        elif record.retry_elapsed is not None:
            attributes[at.RETRY_ELAPSED] = record.retry_elapsed
            attributes[at.RETRY_WILL_RETRY] = record.retry_delay is not None
            if record.retry_delay is not None:
                attributes[at.RETRY_DELAY] = float(record.retry_delay)
        if record.buffered and not attempt.joined:
            attributes[at.COLLECT_BUFFERED] = True
        if attempt.stream is not None:
            attributes.update(attempt.stream.attributes(attempt.started_ns))
            attempt.stream.write_events(span)
        write(span, attributes)
        if record.outcome == "completed":
            set_completed(span)
        else:
            self._write_failure(span, attempt, record)

    def _write_failure(self, span: Span, attempt: OpenAttempt, record: StepEnded) -> None:
        error = record.error
        if error is not None and error is not attempt.child_error and record.outcome != "cancelled":
            write_exception(span, error, self._settings.content, record.at_ns)
        set_status(span, record.outcome, error, self._settings.content)

    def _close_call(self, run: OpenRun, call: OpenCall, record: StepEnded) -> None:
        try:
            self._write_end_of_call(run, call, record)
        finally:
            _finish(call.span, run, record.at_ns)

    def _write_end_of_call(self, run: OpenRun, call: OpenCall, record: StepEnded) -> None:
        attributes: Attributes = {at.STEP_OUTCOME: record.outcome, at.STEP_ATTEMPTS: call.attempts}
        if record.handled_by is not None:
            attributes[at.STEP_HANDLED_BY] = record.handled_by
        if call.emitted:
            attributes[at.EMITTED] = tuple(call.emitted)
        if call.emitted_count > SHOWN_EMITTED:
            attributes[at.EMITTED_COUNT] = call.emitted_count
        self._write_result(run, call.span, attributes, record)
        if call.stream is not None:
            attributes.update(call.stream.attributes(call.started_ns))
        write(call.span, attributes)
        set_status(call.span, record.outcome, record.error, self._settings.content)

    def _write_result(self, run: OpenRun, span: Span, attributes: Attributes, record: StepEnded) -> None:
        emitted = record.emitted
        if emitted and self._shows_values:
            shown: Event | list[Event] = emitted[0].event if len(emitted) == 1 else [sent.event for sent in emitted]
            captured = capture_value(shown, self._outputs)
            run.last_output = (emitted[0].event_id, captured, self._outputs) if len(emitted) == 1 else None
            say_shown(span, "full", at.OUTPUT_VALUE)  # it may have begun when less was shown
            _write_output(attributes, captured)


def _constants(run: OpenRun, record: StepStarted) -> Attributes:
    """What every span of a step has, built once a run."""
    attributes = run.constants.get(record.step)
    if attributes is None:
        attributes = run.constants[record.step] = {
            **run.identity,
            at.STEP_NAME: record.step,
            at.CODE_FUNCTION_NAME: record.function,
            at.GRAPH_NODE_ID: f"{run.workflow}.{record.step}",
        }
    return attributes


def _write_causes(attributes: Attributes, run: OpenRun, causes: tuple[Envelope, ...], name: str) -> list[Link]:
    """Say in attributes what caused a call, and give the links that say the same."""
    first = causes[0]
    attributes[at.EVENT_ID] = first.event_id
    attributes[at.EVENT_TYPE] = type(first.event).__name__
    attributes[at.EVENT_SOURCE] = source_of(first)
    if first.sender is not None:
        attributes[at.GRAPH_NODE_PARENT_ID] = f"{run.workflow}.{first.sender_step}"
    link_type = at.LINK_TRIGGER
    if len(causes) > 1:
        link_type = at.LINK_COLLECT_MEMBER
        attributes[at.CAUSE_COUNT] = len(causes)
    links: list[Link] = []
    senders: list[SpanContext] = []
    for cause in causes if len(causes) < MAX_LINKS else causes[: MAX_LINKS - 1]:
        sender = sender_of(cause, name)
        if sender is not None:
            links.append(link_to(sender, link_type if cause.sender is not None else at.LINK_EXTERNAL_SENDER, cause))
            senders.append(sender)
    say_causes(attributes, senders, run.span_context.trace_id)
    return links


def _shown(emitted: tuple[Envelope, ...], most: int) -> list[str]:
    return [f"{type(sent.event).__name__}:{sent.event_id}" for sent in emitted[: max(most, 0)]]


def _write_input(attributes: Attributes, captured: Captured | None) -> None:
    if captured is not None:
        attributes[at.INPUT_VALUE] = captured.text
        attributes[at.INPUT_MIME_TYPE] = captured.mime_type
        if captured.truncated:
            attributes[at.INPUT_SIZE] = captured.size
            attributes[at.TRUNCATED] = True
            if captured.uri is not None:
                attributes[at.INPUT_URI] = captured.uri


def _write_output(attributes: Attributes, captured: Captured | None) -> None:
    if captured is not None:
        attributes[at.OUTPUT_VALUE] = captured.text
        attributes[at.OUTPUT_MIME_TYPE] = captured.mime_type
        if captured.truncated:
            attributes[at.OUTPUT_SIZE] = captured.size
            attributes[at.TRUNCATED] = True
            if captured.uri is not None:
                attributes[at.OUTPUT_URI] = captured.uri


def _finish(span: Span, run: OpenRun, at_ns: int) -> None:
    # A span with too many attributes loses the oldest first, and those are the ones that say whose it is.
    if getattr(span, "dropped_attributes", 0):
        span.set_attributes(run.identity)
    span.end(at_ns)


def _seconds(record: StepStarted) -> float:
    return max(record.at_ns - record.queued_at_ns, 0) / 1e9
