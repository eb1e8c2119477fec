"""The spans of one run segment: the calls that are open below its root, its waits, and what follows when it is long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, ClassVar
from weakref import WeakSet

from mlflow.entities import LiveSpan, SpanEvent, SpanStatus, SpanStatusCode

from mlflow_flavor._calls import CallSpans, start_span
from mlflow_flavor._compat import (
    keep_open,
    spans_of_open_trace,
    trace_lifetime,
)
from mlflow_flavor._current import CurrentSpan
from mlflow_flavor._facts import (
    FIRST_TRACE,
    count_facts,
)
from mlflow_flavor._handover import Handover
from mlflow_flavor._live import LeftTrace, publish
from mlflow_flavor._payloads import (
    describe,
    exception_event,
    preview,
    short_reason,
    show_result,
    span_event,
)
from mlflow_flavor._run_trace import RunTrace
from mlflow_flavor._settings import AutologSettings
from mlflow_flavor._waits import Waits
from workflows.errors import WorkflowTimeoutError
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import capture_fields, exception_type
from workflows.instrumentation.records import (
    EventStreamed,
    EventUnhandled,
    Record,
    RetryScheduled,
    RunEnded,
    RunOutcome,
    RunStarted,
    RunSuspended,
    StepEnded,
    StepStarted,
    WaitCancelled,
    WaitRecord,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)
from workflows.instrumentation.scope import current_attempt

__all__ = ["RunSpans"]

MAX_UNHANDLED = 16
THREAD_WAITS = 0.5
"""Seconds for which a thread waits for the event loop to open the next trace of a run, in which its spans are to be."""
STARTED_SPAN = "workflow.started"

# What a run's end says about a call that is still open, and about an attempt that never told its own end.
CUT_SHORT: Mapping[RunOutcome, str] = {
    "completed": "abandoned",
    "failed": "abandoned",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
    "suspended": "suspended",
    "interrupted": "interrupted",
}


class RunSpans(RunTrace):
    """Everything MLflow is told about one run (segment), from its `RunStarted` to its `RunEnded` or `RunSuspended`."""

    def __init__(self, record: RunStarted, settings: AutologSettings, handover: Handover) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_started = self._loop.time()
        self._thread = threading.get_ident()
        super().__init__(record, settings, handover)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._overdue = self._closed = False
        self._left: LeftTrace | None = None
        self._calls: dict[str, CallSpans] = {}
        self._currents: WeakSet[CurrentSpan] = WeakSet()  # also of attempts that are over, and left tasks behind
        self._waits = Waits(settings.content)
        self._unhandled = 0
        if self._labels_trace:
            self._set_timers()

    def tell(self, record: Record) -> None:
        """Draw one record; the kinds that MLflow has no picture for are ignored."""
        draw = self._drawn.get(type(record))
        if draw is None or not self.is_live:
            return
        if self._overdue and self._left is None and isinstance(record, StepStarted) and not self._is_busy():
            self._cut(record.at_ns)
        if self._left is not None:
            Context().run(self._go_on, self._left, record.at_ns)
        draw(self, record)

    def carrier(self) -> Mapping[str, str] | None:
        """Where an event sent now comes from: the current attempt of this run, else the span around the sender."""
        scope = current_attempt.get()
        if scope is not None and (call := self._calls.get(scope.exec_id)) is not None and call.carrier is not None:
            return call.carrier
        if not self.is_live:
            return None
        return {"trace_id": self.root.trace_id, "span_id": self.root.span_id, **self.handed_on()}

    def note(self, exec_id: str, name: str, fields: Mapping[str, Any]) -> None:
        """Show what an attempt says of itself on its span."""
        call = self._calls.get(exec_id)
        if call is not None and call.span is not None:
            facts = capture_fields(fields, self._settings.content.for_outputs())
            call.span.add_event(SpanEvent(name, attributes=dict(facts)))

    def close(self, at_ns: int | None) -> None:
        """End everything that is open though the run goes on (autologging was switched off)."""
        self._closed = True
        if self._left is not None:
            return
        self._stop_timers()
        self._close_calls(at_ns, "interrupted")
        self._conclude("interrupted")
        self._end_root({names.RUN_OUTCOME: "interrupted"}, at_ns)

    # --- the run ------------------------------------------------------------------------------------------------------

    def _ended(self, record: RunEnded) -> None:
        self._stop_timers()
        self._close_calls(record.at_ns, CUT_SHORT[record.outcome])
        policy = self._settings.content
        facts: dict[str, Any] = {names.RUN_OUTCOME: record.outcome, **count_facts(record)}
        status = None
        outputs = None
        match record.outcome:
            case "completed" if record.stop_event is not None:
                outputs = show_result(record.stop_event, policy.for_outputs(), self._captures)
            case "cancelled" | "interrupted":
                why = facts[names.CANCEL_REASON] = record.reason or record.outcome
                self.root.add_event(span_event(names.SPAN_EVENT_CANCELLED, record.at_ns, {names.CANCEL_REASON: why}))
            case "failed" | "timed_out":
                status = self._failed(record, facts)
            case _:
                pass
        self._conclude(record.outcome, preview(outputs) if status is None else short_reason(status.description))
        self._end_root(facts, record.at_ns, outputs, status)

    def _failed(self, record: RunEnded, facts: dict[str, Any]) -> SpanStatus:
        error = record.error
        if error is None:
            return SpanStatus(SpanStatusCode.ERROR, record.outcome)
        facts[names.ERROR_TYPE] = exception_type(error)
        if record.failed_step is not None:
            facts[names.RUN_FAILED_STEP] = record.failed_step
        elif not isinstance(error, WorkflowTimeoutError):
            # Where a step failed, its own span shows the stack; here nobody else does.
            self.root.add_event(exception_event(error, record.at_ns, self._settings.content))
        return SpanStatus(SpanStatusCode.ERROR, describe(error, self._settings.content))

    def _suspended(self, record: RunSuspended) -> None:
        self._stop_timers()
        self._close_calls(record.at_ns, "suspended")
        self._conclude("suspended")
        self._end_root({names.RUN_OUTCOME: "suspended", **count_facts(record)}, record.at_ns)

    def _close_calls(self, at_ns: int | None, outcome: str) -> None:
        why = "cancelled: workflow timed out" if outcome == "timed_out" else None
        for call in self._calls.values():
            call.abandon(at_ns, outcome, why)
        self._calls.clear()

    # --- while it is open for long ------------------------------------------------------------------------------------

    def _set_timers(self) -> None:
        if not self._owns_trace:
            self._stay_open()
            return
        after = self._settings.publish_after
        if after is not None:
            self._timers["publish"] = self._loop.call_later(after, self._publish)
        due = min(self._settings.max_open, trace_lifetime() / 2)
        self._timers["open"] = self._loop.call_later(due, self._is_due, context=Context())

    def _stay_open(self) -> None:
        """See to it, now and then, that MLflow does not forget a trace that cannot be cut."""
        keep_open(self.root.trace_id)
        self._timers["open"] = self._loop.call_later(trace_lifetime() / 4, self._stay_open, context=Context())

    def _stay_uncut(self) -> None:
        """Cut the trace as soon as nothing is at work."""
        keep_open(self.root.trace_id)
        due = min(self._settings.max_open, trace_lifetime() / 4)
        self._timers["open"] = self._loop.call_later(due, self._is_due, context=Context())

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _publish(self) -> None:
        """Show the run in MLflow's list though it is not over."""
        started_ns = self.root.start_time_ns
        start_span(STARTED_SPAN, self.root, started_ns, {}).end(end_time_ns=started_ns)
        publish(self.root)

    def _is_due(self) -> None:
        self._overdue = True
        if self._is_busy():
            self._stay_uncut()
        else:
            self._cut(self._now_ns())

    def _now_ns(self) -> int:
        return self._started.at_ns + int((self._loop.time() - self._loop_started) * 1e9)

    def _is_busy(self) -> bool:
        """Whether an attempt is open that does more than wait for an event from outside, or a span of the user's own.

        Such a span would hold the trace back until it ends, and MLflow forgets that before.
        """
        own = {self.root.span_id}.union(*(call.span_ids for call in self._calls.values()))
        spans = spans_of_open_trace(self.root.trace_id).values()
        if any(span.end_time_ns is None and span.span_id not in own for span in spans):
            return True
        return any(call.is_busy for call in self._calls.values())

    def _cut(self, at_ns: int) -> None:
        """End this trace though the run goes on: MLflow forgets traces that are open for an hour."""
        self._stop_timers()
        self._left = LeftTrace.of(self.root)
        for call in self._calls.values():
            call.suspend(at_ns)
        for current in list(self._currents):
            current.is_over(self._asked_for)
        self._conclude("suspended")
        self._end_root({names.RUN_OUTCOME: "suspended"}, at_ns)

    def _asked_for(self) -> None:
        """A step only waited when its trace was cut, and does something else now, perhaps in a thread."""
        if threading.get_ident() == self._thread:
            if self._left is not None and not self._closed:
                Context().run(self._go_on, self._left, self._now_ns())
        elif not self._loop.is_closed():
            gone_on = threading.Event()
            self._loop.call_soon_threadsafe(lambda: (self._asked_for(), gone_on.set()))
            gone_on.wait(THREAD_WAITS)

    def _go_on(self, left: LeftTrace, at_ns: int) -> None:
        """Open the next trace of the run; in an empty context, or it would become a child in the one that ended."""
        self._left, self._overdue = None, False
        self._segment += 1
        self.root = self._open(self._started, at_ns, left.experiment)
        self.is_live = isinstance(self.root, LiveSpan)
        for current in list(self._currents):
            if isinstance(self.root, LiveSpan):
                current.stand_for(self.root)
            else:
                current.is_over(None)
        if not self.is_live:
            return
        left.hand_over(self.root)
        self._metadata = {FIRST_TRACE: left.trace_id, **self._metadata}
        metadata = {**left.metadata, FIRST_TRACE: self._metadata[FIRST_TRACE]}
        self._update_trace(tags=left.tags, metadata=metadata, request_preview=preview(self._inputs))
        for call in self._calls.values():
            call.go_on(self.root, at_ns)
        self._set_timers()

    # --- its calls ----------------------------------------------------------------------------------------------------

    def _step_started(self, record: StepStarted) -> None:
        call = self._calls.get(record.exec_id)
        if call is None:
            call = self._calls[record.exec_id] = CallSpans(
                record, self.root, self._settings, self._captures, self._currents
            )
        call.start(record)

    def _step_ended(self, record: StepEnded) -> None:
        call = self._calls.get(record.exec_id)
        if call is not None and call.end(record):
            del self._calls[record.exec_id]
        elif call is None and not record.started:
            facts = {names.STEP_NAME: record.step, names.STEP_OUTCOME: record.outcome}
            start_span(record.step, self.root, record.at_ns, facts).end(end_time_ns=record.at_ns)

    def _retry_scheduled(self, record: RetryScheduled) -> None:
        if (call := self._calls.get(record.exec_id)) is not None:
            call.retry_scheduled(record)

    def _event_streamed(self, record: EventStreamed) -> None:
        if record.exec_id is not None and (call := self._calls.get(record.exec_id)) is not None:
            call.streamed(record)

    def _event_unhandled(self, record: EventUnhandled) -> None:
        self._unhandled += 1
        if self._unhandled <= MAX_UNHANDLED:
            envelope = record.envelope
            facts = {names.EVENT_ID: envelope.event_id, names.EVENT_TYPE: type(envelope.event).__name__}
            self.root.add_event(span_event(names.SPAN_EVENT_UNHANDLED, record.at_ns, facts))

    # --- its waits ----------------------------------------------------------------------------------------------------

    def _wait_started(self, record: WaitStarted) -> None:
        self._waits.began(record)
        if self._overdue and not self._is_busy():
            self._cut(record.at_ns)

    def _wait_ended(self, record: WaitRecord) -> None:
        call = self._calls.get(record.exec_id) if record.exec_id is not None else None
        parent = call.span if call is not None and call.span is not None else self.root
        # In a later trace than that in which it began, it begins with that trace.
        self._waits.ended(record, parent, max(record.started_at_ns, self.root.start_time_ns))

    _drawn: ClassVar[Mapping[type[Record], Callable[..., None]]] = {
        RunEnded: _ended,
        RunSuspended: _suspended,
        StepStarted: _step_started,
        StepEnded: _step_ended,
        RetryScheduled: _retry_scheduled,
        EventStreamed: _event_streamed,
        EventUnhandled: _event_unhandled,
        WaitStarted: _wait_started,
        WaitResolved: _wait_ended,
        WaitTimedOut: _wait_ended,
        WaitCancelled: _wait_ended,
    }
