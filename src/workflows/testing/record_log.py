"""`RecordLog`: the records of the runs in a test, as short lines that can be compared whole."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from workflows.instrumentation.dispatcher import process_dispatcher
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.records import (
    EventSent,
    EventStreamed,
    EventUnhandled,
    FanInBuffered,
    FanInReleased,
    Record,
    RetryScheduled,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    WaitRecord,
    WaitResolved,
    WaitTimedOut,
)

__all__ = ["RecordLog", "recording"]


class RecordLog(RunRecorder):
    """A recorder whose `timeline()` reads like a story: seconds since the first record, what, which, how."""

    def timeline(self, *kinds: type[Record]) -> list[str]:
        """One line a record (of the given classes, all by default), times in seconds since the first record."""
        if not self.records:
            return []
        start = self.records[0].at_ns
        return [
            " ".join(filter(None, [_number((r.at_ns - start) / 1e9), type(r).__name__, _about(r)]))
            for r in self.records
            if not kinds or isinstance(r, kinds)
        ]

    def steps(self) -> list[str]:
        """The timeline of step attempts and retries alone."""
        return self.timeline(StepStarted, StepEnded, RetryScheduled)


@contextmanager
def recording(*, strict: bool = True) -> Generator[RecordLog]:
    """Record every run of the process in the block; `strict`: errors of record handlers are raised."""
    log = RecordLog()
    before = process_dispatcher.strict
    process_dispatcher.set_strict(strict)
    remove = process_dispatcher.add(log)
    try:
        yield log
    finally:
        remove()
        process_dispatcher.set_strict(before)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _about(record: Record) -> str:  # noqa: C901  # one flat table
    match record:
        case RunStarted():
            return record.workflow
        case RunEnded():
            return record.outcome
        case EventSent():
            return f"{type(record.envelope.event).__name__} -> {', '.join(record.queued_for) or 'nobody'}"
        case EventUnhandled():
            return type(record.envelope.event).__name__
        case EventStreamed():
            return f"{type(record.event).__name__} by {record.step}"
        case StepStarted():
            return f"{record.step}#{record.attempt}"
        case StepEnded():
            handled = f" handled by {record.handled_by}" if record.handled_by else ""
            return f"{record.step}#{record.attempt} {record.outcome}{handled}"
        case RetryScheduled():
            return f"{record.step}#{record.attempt} {_number(record.delay)}s"
        case FanInBuffered():
            return f"{record.step} has {record.size}, needs {len(record.missing)}"
        case FanInReleased():
            return f"{record.step} of {len(record.members)}"
        case WaitRecord():
            return f"{record.event_type} in {record.step or 'run'}{_answer(record)}"
        case _:
            return ""


def _answer(record: WaitRecord) -> str:
    if isinstance(record, WaitResolved):
        return f" by {record.answer.event_id}"
    return f" {_number(record.timeout)}s" if isinstance(record, WaitTimedOut) else ""
