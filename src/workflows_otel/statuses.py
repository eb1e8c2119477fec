"""What an outcome is as a span's status: errors are errors, and control flow (cancelled, waiting, ...) is unset."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from workflows.errors import WorkflowTimeoutError
from workflows.instrumentation import attributes as at
from workflows.instrumentation.content import (
    STACK_CHARS,
    ContentPolicy,
    describe_exception,
    exception_message,
    exception_type,
)

__all__ = ["error_type", "outcome_of", "set_completed", "set_status", "write_exception"]

COMPLETED = Status(StatusCode.OK)
TIMEOUT = "timeout"
_TIMED_OUT_WITHOUT_ERROR = "the run timed out"


def set_status(span: Span, outcome: str, error: BaseException | None, policy: ContentPolicy) -> None:
    """Status and `error.type` of a run, step or attempt that ended with `outcome`."""
    if outcome == "completed":
        set_completed(span)
    elif outcome in ("failed", "retrying", "timed_out"):
        span.set_attribute(at.ERROR_TYPE, error_type(error))
        # Without an exception it was alive when its run timed out.
        span.set_status(StatusCode.ERROR, _TIMED_OUT_WITHOUT_ERROR if error is None else _in_words(error, policy))


def set_completed(span: Span) -> None:
    """OK, unless the application has said something else on the span: it knows better."""
    said: object = getattr(span, "status", None)
    if not isinstance(said, Status) or said.status_code is StatusCode.UNSET:
        span.set_status(COMPLETED)


def write_exception(
    span: Span, error: BaseException, policy: ContentPolicy, at_ns: int, stack_chars: int = STACK_CHARS
) -> None:
    """Write an exception, its secrets masked, as the span event that back ends look for."""
    text = describe_exception(error, policy, stack_chars)
    about = {
        at.EXCEPTION_TYPE: text.type,
        at.EXCEPTION_MESSAGE: text.message,
        at.EXCEPTION_STACKTRACE: text.stacktrace,
    }
    span.add_event(at.SPAN_EVENT_EXCEPTION, about, at_ns)


def outcome_of(attributes: Mapping[str, AttributeValue]) -> AttributeValue | None:
    """How the run, step or wait of a span ended, or that a call was cut short; None for other spans."""
    for key in (at.STEP_OUTCOME, at.RUN_OUTCOME, at.WAIT_OUTCOME, at.CALL_OUTCOME):
        if key in attributes:
            return attributes[key]
    return None


def error_type(error: BaseException | None) -> str:
    """What `error.type` says: `timeout`, or the full name of the exception's class."""
    return TIMEOUT if error is None or isinstance(error, WorkflowTimeoutError) else exception_type(error)


def _in_words(error: BaseException, policy: ContentPolicy) -> str:
    message = exception_message(error, policy)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
