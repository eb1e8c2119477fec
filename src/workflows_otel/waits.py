"""Spans of waits, made when a wait is over, with the time at which it began: none is open meanwhile."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Link, StatusCode, Tracer, set_span_in_context

from workflows.instrumentation import attributes as at
from workflows.instrumentation.records import (
    Envelope,
    WaitCancelled,
    WaitRecord,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)
from workflows.instrumentation.redaction import mask_secrets
from workflows_otel.open_spans import Attributes, OpenRun
from workflows_otel.propagation import link_to, said_of, say_causes, sender_of, source_of

__all__ = ["WaitSpans"]

NOTED_WAITS = 16


class WaitSpans:
    """Draws the waits of a run: an event on the span that waits, and later a span of its own."""

    def __init__(self, tracer: Tracer, name: str) -> None:
        self._tracer = tracer
        self._name = name

    def started(self, run: OpenRun, record: WaitStarted) -> None:
        """Note on the waiting span that it waits, and for what."""
        attempt = run.attempts.get(record.exec_id) if record.exec_id else None
        holder = attempt if attempt is not None else run
        if holder.noted < NOTED_WAITS:
            holder.noted += 1
            about = {at.WAIT_ID: mask_secrets(record.wait_id), at.WAIT_EVENT_TYPE: record.event_type}
            holder.span.add_event(at.SPAN_EVENT_WAIT_STARTED, about, record.at_ns)

    def ended(self, run: OpenRun, record: WaitRecord) -> None:
        """Draw a wait that was answered, timed out, or ended with its run."""
        attributes: Attributes = {
            **run.identity,
            at.WAIT_ID: mask_secrets(record.wait_id),
            at.WAIT_EVENT_TYPE: record.event_type,
            at.WAIT_OUTCOME: _outcome(record),
            at.WAIT_DURATION: (record.at_ns - record.started_at_ns) / 1e9,
            # A wait that began before this segment did was begun by another one, maybe in another process.
            at.WAIT_CROSSED_PROCESS: record.started_at_ns < run.started_ns,
        }
        if record.step is not None:
            attributes[at.STEP_NAME] = record.step
        links: list[Link] = []
        trace_id = run.span_context.trace_id
        if record.question is not None:
            self._write_question(attributes, links, record.question, trace_id)
        if isinstance(record, WaitResolved):
            self._write_answer(attributes, links, record.answer, trace_id)
        elif isinstance(record, WaitTimedOut):
            attributes[at.EVENT_SOURCE] = "timer"
        span = self._tracer.start_span(
            f"wait {record.event_type}",
            _waiting_context(run, record),
            attributes=attributes,
            links=links,
            start_time=record.started_at_ns,
        )
        if isinstance(record, WaitResolved):
            span.set_status(StatusCode.OK)
        span.end(record.at_ns)

    def _write_question(self, attributes: Attributes, links: list[Link], question: Envelope, trace_id: int) -> None:
        """Of a wait of the run: which step asked, and what. Its span lies below the run, so only this says it."""
        if question.sender_step is not None:
            attributes[at.STEP_NAME] = question.sender_step
        attributes[at.WAIT_QUESTION_TYPE] = type(question.event).__name__
        if question.event_id:
            attributes[at.WAIT_QUESTION_ID] = question.event_id
        if (asker := sender_of(question, self._name)) is not None:
            links.append(link_to(asker, at.LINK_TRIGGER, question))
            say_causes(attributes, [asker], trace_id)

    def _write_answer(self, attributes: Attributes, links: list[Link], answer: Envelope, trace_id: int) -> None:
        attributes[at.EVENT_ID] = answer.event_id
        attributes[at.EVENT_TYPE] = type(answer.event).__name__
        attributes[at.EVENT_SOURCE] = source_of(answer)
        if (sender := sender_of(answer, self._name)) is not None:
            links.append(link_to(sender, at.LINK_WAIT_RESOLVED_BY, answer))
            attributes.update(said_of(sender, at.LINK_WAIT_RESOLVED_BY, trace_id))


def _waiting_context(run: OpenRun, record: WaitRecord) -> Context:
    """Below the step that waits; a wait of an earlier segment began before the step that now runs again."""
    here = record.exec_id is not None and record.started_at_ns >= run.started_ns
    attempt = run.attempts.get(record.exec_id or "") if here else None
    return run.context if attempt is None else set_span_in_context(attempt.span, run.context)


def _outcome(record: WaitRecord) -> str:
    match record:
        case WaitTimedOut():
            return "timed_out"
        case WaitCancelled():
            return "cancelled"
        case _:
            return "resolved"
