"""The second run, as a trace would show it: what its records tell, captured as they come."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from traceback import TracebackException

from mlflow_flavor._calls import ERRORS, is_deadline, status_of
from mlflow_flavor._likeness import with_sets
from mlflow_flavor._payloads import Shown, describe, show, show_causes, show_emitted, show_result
from mlflow_flavor._run_parts import Attempt, Part, Streamed, error_text, without_times
from mlflow_flavor._stream import StreamLog, text_delta
from mlflow_flavor._traced_run import streamed_events
from mlflow_flavor._waits import WAIT_SPAN
from mlflow_flavor.autolog import handler as drawer
from workflows.events import Event, StopEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation.content import ContentPolicy, capture_event, exception_message
from workflows.instrumentation.records import (
    Envelope,
    EventStreamed,
    Record,
    RunEnded,
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

__all__ = ["WatchedRun"]

CallKey = tuple[str, str]
"""Run and call: the ids of calls are a run's own."""


class WatchedRun:
    """A record handler that makes the parts of one run and of its child runs, whether or not anybody traces them.

    Attributes:
        root: The run.
        run_ids: Its own id, and the ids of its child runs, with what is shown of them.
    """

    name = "mlflow_watched_run"
    destination = None

    def __init__(self, started: RunStarted, policy: ContentPolicy) -> None:
        self._policy = policy
        self.root = Part(f"{started.workflow}.run", started.at_ns, None)
        self._run_id = started.run_id
        self.run_ids = {started.run_id: self.root}
        self._calls: dict[CallKey, Part] = {}
        self._streams: dict[CallKey, list[EventStreamed]] = {}
        self._waits: dict[CallKey, Part] = {}

    @contextmanager
    def watching(self) -> Generator[None]:
        """Inside the block, the records of these runs are taken."""
        remove = add_handler(self)
        try:
            yield
        finally:
            remove()

    def handle(self, record: Record) -> None:
        """Take one record of these runs."""
        if isinstance(record, RunStarted):
            self._child_started(record)
            return
        run = self.run_ids.get(record.run_id)
        if run is None:
            return
        match record:
            case StepStarted():
                self._step_started(record, run)
            case EventStreamed(exec_id=str(exec_id)):
                self._streams.setdefault((record.run_id, exec_id), []).append(record)
            case StepEnded() if (call := self._calls.get((record.run_id, record.exec_id))) is not None:
                self._step_ended(record, call)
            case WaitStarted():
                self._wait_started(record)
            case WaitResolved() | WaitTimedOut() | WaitCancelled():
                self._wait_ended(record, run)
            case RunEnded():
                self._run_ended(record, run)
            case RunSuspended():
                run.outcome = "suspended"
            case _:
                pass

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None

    def _child_started(self, record: RunStarted) -> None:
        call = self._calls.get(record.parent) if record.parent is not None else None
        if call is None or record.run_id in self.run_ids or record.start_event is None:
            return
        if drawer.trace_id(self._run_id) is not None and drawer.trace_id(record.run_id) is None:
            return  # its caller does not want it in a trace
        start = _with_sets(show(record.start_event, self._policy.for_inputs()), record.start_event)
        child = Part(f"{record.workflow}.run", record.at_ns, start.value, is_whole=start.complete)
        self.run_ids[record.run_id] = child
        call.below.append(child)

    def _run_ended(self, record: RunEnded, run: Part) -> None:
        run.outcome = record.outcome
        stop = record.stop_event
        if record.outcome in ERRORS:
            run.error, is_whole = self._error(record.error, record.outcome)
            run.is_whole &= is_whole
        elif record.outcome == "completed" and stop is not None:
            result = stop.result if type(stop) is StopEvent else stop
            shown = _with_sets(show_result(stop, self._policy.for_outputs()), result)
            run.gave = shown.value
            run.is_whole &= shown.complete

    # --- calls --------------------------------------------------------------------------------------------------------

    def _step_started(self, record: StepStarted, run: Part) -> None:
        key = record.run_id, record.exec_id
        call = self._calls.get(key)
        if call is None:
            took = _with_sets(show_causes(record.causes, self._policy.for_inputs()), _as_taken(record.causes))
            call = self._calls[key] = Part(record.step, record.at_ns, took.value)
            run.below.append(call)
        call.outcome = ""

    def _step_ended(self, record: StepEnded, call: Part) -> None:
        gave = _with_sets(show_emitted(record.emitted, self._policy.for_outputs()), _as_sent(record.emitted))
        call.outcome = record.outcome
        call.gave = gave.value
        call.is_buffered = record.buffered
        call.is_whole = gave.complete or not record.emitted
        attempt = self._streamed(self._streams.pop((record.run_id, record.exec_id), []))
        if record.outcome in ERRORS:
            status = status_of(record, self._policy)
            described = error_text(str(status.description)) if status is not None else record.outcome
            is_whole = record.error is None or is_deadline(record) or _is_whole(record.error, self._policy)
            if record.outcome == "retrying":
                attempt = replace(attempt, error=described, is_whole=attempt.is_whole and is_whole)
            else:
                call.error = described
                call.is_whole &= is_whole
        call.attempts[record.attempt] = attempt

    def _streamed(self, records: Sequence[EventStreamed]) -> Attempt:
        """What an attempt streamed: all of it, where a trace shows the first and last events of many."""
        policy = self._policy.for_outputs()
        log = StreamLog(sys.maxsize, policy.max_chars)
        for record in records:
            log.add(record)
        shown: list[Streamed] = []
        is_whole = True
        for each in streamed_events(log.span_events(policy)):
            merged = [record.event for record in records[each.first - 1 : each.first - 1 + each.merged]]
            is_whole = is_whole and _are_whole(merged, each, policy)
            shown.append(replace(each, fields=with_sets(each.fields, merged[0])))
        has_deltas = any(text_delta(record.event) is not None for record in records)
        return Attempt(streamed=shown, count=len(records), has_deltas=has_deltas, is_whole=is_whole)

    # --- waits --------------------------------------------------------------------------------------------------------

    def _wait_started(self, record: WaitStarted) -> None:
        asks = Shown({"waiting_for": record.event_type}, complete=True)
        if record.asked is not None:
            asked = {type(record.asked).__name__: record.asked}
            shown = _with_sets(show(asked, self._policy.for_inputs()), asked)
            if shown.value is not None:
                asks = Shown({"waiting_for": record.event_type, "request": shown.value}, complete=shown.complete)
        wait = Part(WAIT_SPAN, record.started_at_ns, asks.value, is_whole=asks.complete)
        self._waits[record.run_id, record.wait_id] = wait

    def _wait_ended(self, record: WaitRecord, run: Part) -> None:
        """A trace shows a wait when it is over."""
        wait = self._waits.pop((record.run_id, record.wait_id), None)
        if wait is None:
            return
        match record:
            case WaitResolved():
                answer = {type(record.answer.event).__name__: record.answer.event}
                shown = _with_sets(show(answer, self._policy.for_outputs()), answer)
                wait.outcome, wait.gave = "resolved", shown.value
                wait.is_whole &= shown.complete
            case WaitTimedOut():
                wait.outcome, wait.error = "timed_out", f"no {record.event_type} came in {record.timeout:g} s"
            case _:
                wait.outcome = "cancelled"
        call = self._calls.get((record.run_id, record.exec_id)) if record.exec_id is not None else None
        (call or run).below.append(wait)

    def _error(self, error: BaseException | None, outcome: str) -> tuple[str, bool]:
        if error is None:
            return outcome, True
        return error_text(describe(error, self._policy)), _is_whole(error, self._policy)


def _with_sets(shown: Shown | None, value: object) -> Shown:
    """What is shown of a value, sets told from lists; nothing where nothing may be shown."""
    if shown is None:
        return Shown(None)
    return Shown(with_sets(without_times(shown.value), value), complete=shown.complete)


def _as_taken(causes: Sequence[Envelope]) -> object:
    """Events as `show_causes` arranges them."""
    by_class: dict[str, list[Event]] = {}
    for cause in causes:
        by_class.setdefault(type(cause.event).__name__, []).append(cause.event)
    return {name: events[0] if len(events) == 1 else events for name, events in by_class.items()}


def _as_sent(emitted: Sequence[Envelope]) -> object:
    """Events as `show_emitted` arranges them."""
    events = [{type(each.event).__name__: each.event} for each in emitted]
    return events[0] if len(events) == 1 else events


def _are_whole(merged: Sequence[Event], shown: Streamed, policy: ContentPolicy) -> bool:
    """Whether all of a streamed event, or of a row of text deltas, is shown."""
    if text_delta(merged[0]) is not None:
        return "".join(text_delta(event) or "" for event in merged) == shown.text
    captured = capture_event(merged[0], policy)
    return captured is not None and captured.complete


def _is_whole(error: BaseException, policy: ContentPolicy) -> bool:
    """Whether all that an error says is its message as it is shown, which no cause, note or other error adds to."""
    before = error.__cause__ if error.__suppress_context__ else error.__context__
    if before is not None or getattr(error, "__notes__", None) or isinstance(error, BaseExceptionGroup):
        return False
    whole = TracebackException(type(error), error, None, compact=True)  # its text is safe where `str` raises
    return exception_message(error, policy) == str(whole)
