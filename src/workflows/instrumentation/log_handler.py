"""`verbose=True`: the records of a workflow's runs as short text lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from workflows.instrumentation.records import (
    EventSent,
    EventStreamed,
    EventUnhandled,
    FanInReleased,
    Record,
    RetryScheduled,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    WaitRecord,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)

__all__ = ["LogHandler"]

logger = logging.getLogger("workflows.verbose")


class LogHandler:
    """Writes a line a record to the logger `workflows.verbose`, or prints it where that logger is off.

    Lines name classes, steps and times, never contents. Where they go is decided when the handler is made.
    """

    name = "log"
    destination = None

    def __init__(self) -> None:
        self._write = _sink()

    def handle(self, record: Record) -> None:
        """Write the record's line, if it has one."""
        if line := describe(record):
            self._write(f"[{record.run_id}] {line}")

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None


def describe(record: Record) -> str | None:  # noqa: C901  # one flat table
    """The line of a record; None for those that say nothing to a reader of logs."""
    match record:
        case RunStarted():
            return f"run of {record.workflow} started"
        case RunEnded():
            why = f": {type(record.error).__name__}" if record.error is not None else ""
            return f"run {record.outcome}{why} ({record.counts.steps} steps, {record.counts.retries} retries)"
        case EventSent() if record.queued_for:
            sender = record.envelope.sender_step or "outside"
            return f"{sender} -> {type(record.envelope.event).__name__} -> {', '.join(record.queued_for)}"
        case EventUnhandled():
            return f"nobody took {type(record.envelope.event).__name__}"
        case EventStreamed():
            return f"{record.step or 'engine'} streamed {type(record.event).__name__}"
        case StepStarted():
            return f"{record.step} started (attempt {record.attempt}, worker {record.worker})"
        case StepEnded():
            return f"{record.step} {record.outcome}{_ended(record)}"
        case RetryScheduled():
            return f"{record.step} will be tried again in {record.delay:g} s (attempt {record.attempt})"
        case FanInReleased():
            return f"{record.step} has all {len(record.members)} events"
        case WaitRecord():
            return _wait(record)
        case _:
            return None


def _ended(record: StepEnded) -> str:
    error = f": {type(record.error).__name__}" if record.error is not None else ""
    emitted = ", ".join(type(e.event).__name__ for e in record.emitted)
    return f"{error} with {emitted}" if emitted else error


def _wait(record: WaitRecord) -> str:
    who = record.step or "run"
    match record:
        case WaitStarted():
            return f"{who} waits for {record.event_type}"
        case WaitResolved():
            return f"{who} got its {record.event_type}"
        case WaitTimedOut():
            return f"{who} waited {record.timeout:g} s for {record.event_type} in vain"
        case _:
            return f"{who} stopped waiting for {record.event_type}"


def _sink() -> Callable[[str], None]:
    if logger.isEnabledFor(logging.DEBUG):
        return logger.debug
    return logger.info if logger.isEnabledFor(logging.INFO) else print
