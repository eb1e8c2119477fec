"""Log events of runs through OpenTelemetry's API, and the ids of the current run for the logs of an application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry._logs import (
    LoggerProvider,
    LogRecord,
    SeverityNumber,
    get_logger_provider,
)
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import ContentPolicy, exception_message, redact_text, to_jsonable
from workflows.instrumentation.records import (
    EventStreamed,
    EventUnhandled,
    Record,
    RetryScheduled,
    RunEnded,
    RunResumed,
    RunStarted,
    RunSuspended,
    WaitRecord,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)
from workflows.instrumentation.redaction import mask_secrets
from workflows.instrumentation.scope import current_attempt
from workflows_otel.own_scope import SCHEMA_URL, SCOPE, VERSION
from workflows_otel.runs import current_run
from workflows_otel.statuses import error_type
from workflows_otel.turns import in_turn

__all__ = ["LogsHandler", "RunIdFilter", "add_run_ids"]

About = dict[str, AttributeValue]

_RUN_ENDS: dict[str, tuple[str, SeverityNumber]] = {
    "completed": (at.LOG_RUN_COMPLETED, SeverityNumber.INFO),
    "failed": (at.LOG_RUN_FAILED, SeverityNumber.ERROR),
    "cancelled": (at.LOG_RUN_CANCELLED, SeverityNumber.INFO),
    "timed_out": (at.LOG_RUN_TIMED_OUT, SeverityNumber.ERROR),
}
_WAITS: dict[type[Record], str] = {
    WaitStarted: at.LOG_WAIT_STARTED,
    WaitResolved: at.LOG_WAIT_RESOLVED,
    WaitTimedOut: at.LOG_WAIT_TIMED_OUT,
}


class LogsHandler:
    """Reads records and emits log events, in the span that is current where the record is told.

    Args:
        logger_provider: Default: the process's own.
        content: What may be shown of messages and payloads.
        streams: Emit one more event (DEBUG) for each streamed event, with its payload where `content` is full.
    """

    name = "opentelemetry.logs"

    def __init__(
        self,
        logger_provider: LoggerProvider | None = None,
        *,
        content: ContentPolicy | None = None,
        streams: bool = False,
    ) -> None:
        self.destination = "opentelemetry.logs" if logger_provider is None else f"logs:{id(logger_provider):x}"
        self._logger = (logger_provider or get_logger_provider()).get_logger(SCOPE, VERSION, SCHEMA_URL)
        self._content = content or ContentPolicy()
        self._workflows: dict[str, str] = {}
        self._contexts: dict[str, Context] = {}
        self._tell: dict[type[Record], Callable[[Any], None]] = {
            RunStarted: self._run_started,
            RunResumed: self._run_started,
            RunSuspended: self._run_suspended,
            RunEnded: self._run_ended,
            RetryScheduled: self._retry_scheduled,
            EventUnhandled: self._event_unhandled,
            WaitStarted: self._wait,
            WaitResolved: self._wait,
            WaitTimedOut: self._wait,
        }
        self.configure(self._content, streams=streams)

    def handle(self, record: Record) -> None:
        """Emit what one record says."""
        tell = self._tell.get(type(record))
        if tell is not None:
            tell(record)

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing: logs do not travel."""
        return None

    def configure(self, content: ContentPolicy, *, streams: bool) -> None:
        """Show and mask by another policy from now on, and tell of streamed events, or do not."""
        self._content = content
        if streams:
            self._tell[EventStreamed] = self._event_streamed
        else:
            self._tell.pop(EventStreamed, None)

    def _emit(self, record: Record, name: str, severity: SeverityNumber, body: str, about: About | None = None) -> None:
        attributes: About = {at.RUN_ID: record.run_id}
        if (workflow := self._workflows.get(record.run_id)) is not None:
            attributes[at.GEN_AI_WORKFLOW_NAME] = workflow
        told = LogRecord(
            timestamp=record.at_ns,
            observed_timestamp=record.at_ns,
            context=self._context_of(record.run_id),
            severity_number=severity,
            severity_text=severity.name,
            body=body,
            attributes={**attributes, **(about or {})},
            event_name=name,
        )
        in_turn(self._logger.emit, told)

    def _context_of(self, run_id: str) -> Context:
        """What is current, if that is of the run: an answer from outside is told where it was given. Else the run's."""
        run, here = current_run(), otel_context.get_current()
        return here if run is not None and run.run_id == run_id else self._contexts.get(run_id, here)

    def _run_started(self, record: RunStarted) -> None:
        self._workflows[record.run_id] = record.workflow
        self._contexts[record.run_id] = otel_context.get_current()
        name = at.LOG_RUN_RESUMED if isinstance(record, RunResumed) else at.LOG_RUN_STARTED
        about: About = {at.RUN_SEGMENT: record.segment}
        if record.identity.session_id:
            about[at.SESSION_ID] = record.identity.session_id
        self._emit(record, name, SeverityNumber.INFO, f"{record.workflow} {name.rpartition('.')[2]}", about)

    def _run_suspended(self, record: RunSuspended) -> None:
        self._emit(record, at.LOG_RUN_SUSPENDED, SeverityNumber.INFO, "run suspended")
        self._forget(record.run_id)

    def _run_ended(self, record: RunEnded) -> None:
        name, severity = _RUN_ENDS.get(record.outcome, (f"workflow.run.{record.outcome}", SeverityNumber.INFO))
        about: About = {at.RUN_OUTCOME: record.outcome, at.RUN_STEPS: record.counts.steps}
        body = f"run {record.outcome}"
        if severity is SeverityNumber.ERROR:
            about[at.ERROR_TYPE] = error_type(record.error)
            if record.failed_step is not None:
                about[at.RUN_FAILED_STEP] = record.failed_step
            if record.error is not None:
                body = f"{body}: {type(record.error).__name__}: {exception_message(record.error, self._content)}"
        elif record.reason:
            about[at.CANCEL_REASON] = redact_text(record.reason, self._content)
        self._emit(record, name, severity, body, about)
        self._forget(record.run_id)

    def _forget(self, run_id: str) -> None:
        self._workflows.pop(run_id, None)
        self._contexts.pop(run_id, None)

    def _retry_scheduled(self, record: RetryScheduled) -> None:
        about: About = {at.STEP_NAME: record.step, at.STEP_ATTEMPT: record.attempt, at.RETRY_DELAY: float(record.delay)}
        body = f"step {record.step} is tried again in {record.delay:g} s"
        if record.error is not None:
            about[at.ERROR_TYPE] = error_type(record.error)
            body = f"{body}: {type(record.error).__name__}: {exception_message(record.error, self._content)}"
        self._emit(record, at.LOG_STEP_RETRY, SeverityNumber.WARN, body, about)

    def _event_unhandled(self, record: EventUnhandled) -> None:
        event_type = type(record.envelope.event).__name__
        about: About = {at.EVENT_TYPE: event_type, at.EVENT_ID: record.envelope.event_id}
        self._emit(record, at.SPAN_EVENT_UNHANDLED, SeverityNumber.WARN, f"no step takes {event_type}", about)

    def _wait(self, record: WaitRecord) -> None:
        name = _WAITS[type(record)]
        about: About = {at.WAIT_ID: mask_secrets(record.wait_id), at.WAIT_EVENT_TYPE: record.event_type}
        if record.step is not None:
            about[at.STEP_NAME] = record.step
        self._emit(record, name, SeverityNumber.INFO, f"wait for {record.event_type} {name.rpartition('.')[2]}", about)

    def _event_streamed(self, record: EventStreamed) -> None:
        about: About = {at.EVENT_TYPE: type(record.event).__name__}
        if record.step is not None:
            about[at.STEP_NAME] = record.step
        full = self._content.mode == "full"
        body = to_jsonable(record.event, self._content).text if full else f"{type(record.event).__name__} streamed"
        self._emit(record, at.SPAN_EVENT_STREAM, SeverityNumber.DEBUG, body, about)


class RunIdFilter(logging.Filter):
    """Puts the ids of the current run, attempt and span on log records; it lets every record pass.

    handler.addFilter(RunIdFilter())  # then "%(run_id)s %(step)s %(message)s" works in its formatter

    The names are `run_id`, `step`, `attempt`, `trace_id` and `span_id`; each is empty where there is none.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, with ids; those that it came with stay, since the engine's own tell of their run."""
        for name, value in _ids().items():
            if not getattr(record, name, ""):
                setattr(record, name, value)
        return True


def add_run_ids(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that adds the ids of the current run, attempt and span, where there are any."""
    for name, value in _ids().items():
        if value != "":
            event_dict.setdefault(name, value)
    return event_dict


def _ids() -> dict[str, str | int]:
    scope, span = current_attempt.get(), get_current_span().get_span_context()
    return {
        "run_id": scope.run_id if scope is not None else "",
        "step": scope.step if scope is not None else "",
        "attempt": scope.attempt if scope is not None else "",
        "trace_id": f"{span.trace_id:032x}" if span.is_valid else "",
        "span_id": f"{span.span_id:016x}" if span.is_valid else "",
    }
