"""`OtelHandler`: a reader of records that draws them as OpenTelemetry spans."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.trace import Tracer, get_current_span

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import capture_fields
from workflows.instrumentation.records import (
    EventStreamed,
    EventUnhandled,
    FanInReleased,
    Record,
    RetryScheduled,
    RunEnded,
    RunResumed,
    RunStarted,
    RunSuspended,
    StepEnded,
    StepStarted,
    WaitCancelled,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)
from workflows.instrumentation.scope import current_attempt
from workflows_otel.open_spans import OpenRun
from workflows_otel.own_spans import longest_attribute
from workflows_otel.propagation import HANDLER_NAME, carrier_of, carrier_of_run
from workflows_otel.runs import RunSpans, current_run
from workflows_otel.settings import Settings
from workflows_otel.showing import say_noted, say_shown
from workflows_otel.signals import Signals
from workflows_otel.steps import StepSpans
from workflows_otel.streams import StreamSummary
from workflows_otel.traces import note_trace, remember
from workflows_otel.turns import watch_collections
from workflows_otel.waits import WaitSpans
from workflows_otel.withholding import TAG

__all__ = ["OtelHandler"]

NOTED_UNHANDLED = 16
FORGET_AFTER_NS = 7 * 24 * 3600 * 10**9  # a run that told nothing of its end in a week has lost it


class OtelHandler:
    """Draws runs, steps, attempts and waits as spans of one tracer.

    The span of an attempt is current while the attempt runs, so whatever a step calls nests under it. A run that is
    not sampled costs one look into a dict a record.
    """

    def __init__(
        self,
        tracer: Tracer,
        settings: Settings | None = None,
        *,
        destination: str | None = None,
        name: str = HANDLER_NAME,
        signals: Signals | None = None,
    ) -> None:
        watch_collections()
        self.destination = destination
        self.name = name
        self._signals = signals
        self._tracer = tracer
        self._open: dict[str, OpenRun] = {}
        self._awaited: Callable[[], bool] | None = None
        self._is_closed = False
        self._draw: dict[type[Record], Callable[[Any], None]] = {
            RunStarted: self._run_started,
            RunResumed: self._run_started,
            RunSuspended: self._run_suspended,
            RunEnded: self._run_ended,
            StepStarted: self._step_started,
            StepEnded: self._step_ended,
            RetryScheduled: self._retry_scheduled,
            EventStreamed: self._event_streamed,
            EventUnhandled: self._event_unhandled,
            FanInReleased: self._fan_in_released,
            WaitStarted: self._wait_started,
            WaitResolved: self._wait_ended,
            WaitTimedOut: self._wait_ended,
            WaitCancelled: self._wait_ended,
        }
        self.configure(settings or Settings())

    def configure(self, settings: Settings) -> None:
        """Draw by other settings from now on."""
        settings = settings.within(longest_attribute(self._tracer))
        self.settings = settings
        self._runs = RunSpans(self._tracer, settings, self.name)
        self._steps = StepSpans(self._tracer, settings, self.name)
        self._waits = WaitSpans(self._tracer, self.name)
        self._shows_streams = settings.streams != "off"

    def at_next_run(self, look: Callable[[], bool]) -> None:
        """Call `look` when a run starts, until it says that it need not be called any more."""
        self._awaited = look

    @property
    def tracer(self) -> Tracer:
        """What makes the spans."""
        return self._tracer

    @property
    def open_runs(self) -> int:
        """How many runs have an open span; in a process at rest 0."""
        return len(self._open)

    @property
    def open_spans(self) -> int:
        """How many spans are open."""
        return sum(1 + len(run.calls) + len(run.attempts) for run in list(self._open.values()))

    def handle(self, record: Record) -> None:
        """Draw one record."""
        draw = self._draw.get(type(record))
        if draw is not None:
            draw(record)

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """The span in which an event is sent now, or, asked in a run's own context, what its next segment must know."""
        scope = current_attempt.get()
        if scope is None or scope.run_id != run_id:
            return _outside(run_id, self.name)
        run = self._open.get(run_id)
        attempt = run.attempts.get(scope.exec_id) if run is not None else None
        if attempt is None:
            return None
        if attempt.carrier is None:
            attempt.carrier = carrier_of(attempt.span.get_span_context())
        return attempt.carrier

    def note(self, name: str, fields: Mapping[str, Any]) -> None:
        """Put what the current step says of itself (by llama-index's `dispatcher.event`, say) on its span."""
        scope = current_attempt.get()
        run = self._open.get(scope.run_id) if scope is not None else None
        attempt = run.attempts.get(scope.exec_id) if scope is not None and run is not None else None
        if attempt is not None:
            policy = self.settings.content.for_outputs()
            say_noted(attempt.span, policy.mode, name)
            attempt.span.add_event(name, capture_fields(fields, policy))

    def tag(self, run_id: str, tags: Mapping[str, Any]) -> None:
        """Put tags that are around a run (by llama-index's `instrument_tags`) on its span."""
        run = self._open.get(run_id)
        if run is not None:
            policy = self.settings.content.for_inputs()
            shown = {f"{TAG}{name}": value for name, value in capture_fields(tags, policy).items()}
            say_shown(run.span, policy.mode, *shown)
            run.span.set_attributes(shown)

    def close(self) -> None:
        """Close every open span as interrupted: nobody is going to tell how those runs end. No more runs are drawn."""
        self._is_closed = True
        self.end_open()

    def end_open(self) -> None:
        """Close every open span as interrupted; runs that start later are drawn."""
        for run_id in list(self._open):
            self._interrupt(run_id, time.time_ns())

    def forget(self) -> None:
        """Let go of what is open, unended: in a forked child, whose parent ends and sends it."""
        self._open.clear()

    def _run_started(self, record: RunStarted) -> None:
        if self._open and record.at_ns - self._open[oldest := next(iter(self._open))].started_ns > FORGET_AFTER_NS:
            self._interrupt(oldest, record.at_ns)
        if self._signals is not None and not self._signals.awake:
            self._signals.look(record)
        if self._awaited is not None and self._awaited():
            self._awaited = None
            if self._is_closed:  # by what it saw: another draws this run
                return
        parent = self._open.get(record.parent[0]) if record.parent is not None else None
        run = self._runs.started(record, parent)
        remember(record.run_id, run.span.get_span_context())
        if run.span.is_recording():
            self._open[record.run_id] = run

    def _run_ended(self, record: RunEnded) -> None:
        if record.error is not None:
            note_trace(record.run_id, record.error)
        run = self._open.pop(record.run_id, None)
        if run is None:
            return
        try:
            self._steps.close_all(run, record.outcome, record.at_ns)
        finally:
            self._runs.ended(run, record)
        if record.error is not None and run.parent is not None:
            self._tell_parent(run.parent, record.error)

    def _tell_parent(self, parent: tuple[str, str], error: BaseException) -> None:
        run_id, exec_id = parent
        run = self._open.get(run_id)
        attempt = run.attempts.get(exec_id) if run is not None else None
        if attempt is not None:
            attempt.child_error = error

    def _run_suspended(self, record: RunSuspended) -> None:
        run = self._open.pop(record.run_id, None)
        if run is not None:
            self._steps.close_all(run, "suspended", record.at_ns)
            self._runs.suspended(run, record.counts, record.at_ns)

    def _interrupt(self, run_id: str, at_ns: int) -> None:
        run = self._open.pop(run_id, None)
        if run is not None:
            self._steps.close_all(run, "interrupted", at_ns)
            self._runs.interrupted(run, at_ns)

    def _step_started(self, record: StepStarted) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._steps.started(run, record)

    def _step_ended(self, record: StepEnded) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._steps.ended(run, record)

    def _retry_scheduled(self, record: RetryScheduled) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._steps.retry_scheduled(run, record)

    def _fan_in_released(self, record: FanInReleased) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._steps.released(run, record)

    def _event_streamed(self, record: EventStreamed) -> None:
        run = self._open.get(record.run_id)
        if run is None or not self._shows_streams:
            return
        attempt = run.attempts.get(record.exec_id) if record.exec_id is not None else None
        if attempt is None:
            run.stream = _noted(run.stream, record)
            return
        attempt.stream = _noted(attempt.stream, record)
        if attempt.call is not None:
            attempt.call.stream = _noted(attempt.call.stream, record)

    def _event_unhandled(self, record: EventUnhandled) -> None:
        run = self._open.get(record.run_id)
        if run is None:
            return
        sender = record.envelope.sender
        attempt = run.attempts.get(sender) if sender is not None else None
        holder = attempt if attempt is not None else run
        if holder.noted < NOTED_UNHANDLED:
            holder.noted += 1
            about = {at.EVENT_TYPE: type(record.envelope.event).__name__, at.EVENT_ID: record.envelope.event_id}
            holder.span.add_event(at.SPAN_EVENT_UNHANDLED, about, record.at_ns)

    def _wait_started(self, record: WaitStarted) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._waits.started(run, record)

    def _wait_ended(self, record: WaitResolved | WaitTimedOut | WaitCancelled) -> None:
        run = self._open.get(record.run_id)
        if run is not None:
            self._waits.ended(run, record)


def _outside(run_id: str, name: str) -> Mapping[str, str] | None:
    span, run = get_current_span(), current_run()
    if run is None or run.run_id != run_id or run.span is not span:
        return carrier_of(span.get_span_context())
    mine = run.as_drawn_by(name)
    if mine is None:
        return None
    said = mine.caller.said(mine.settings.content)
    return carrier_of_run(mine.span.get_span_context(), mine.first, mine.started_ns, said, mine.waiting)


def _noted(stream: StreamSummary | None, record: EventStreamed) -> StreamSummary:
    summary = stream if stream is not None else StreamSummary()
    summary.add(type(record.event).__name__, record.at_ns)
    return summary
