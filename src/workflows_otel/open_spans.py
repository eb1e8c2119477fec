"""The spans that are open now: one entry a run, and within it one a call, each with at most one running attempt."""

from __future__ import annotations

from contextvars import Token
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext
from opentelemetry.util.types import AttributeValue

from workflows_otel.propagation import TraceCarrier
from workflows_otel.streams import StreamSummary

__all__ = ["Attributes", "OpenAttempt", "OpenCall", "OpenRun"]

Attributes = dict[str, AttributeValue]


@dataclass(slots=True)
class OpenAttempt:
    """A running attempt and its span, which is the step's span unless the step has a retry policy.

    Attributes:
        token: What to detach when it ends.
        carrier: What its events carry, once one was asked for.
        child_error: How a child run of it failed; that exception is recorded where it was raised already.
        noted: How many span events of the bounded kinds it has.
    """

    span: Span
    number: int
    started_ns: int
    token: Token[Context] | None = None
    carrier: TraceCarrier | None = None
    stream: StreamSummary | None = None
    child_error: BaseException | None = None
    noted: int = 0


@dataclass(slots=True)
class OpenCall:
    """A call of a step; `span` is the step's own where it has a retry policy, so that attempts are children of it."""

    step: str
    started_ns: int
    attempt: OpenAttempt | None = None
    span: Span | None = None
    context: Context | None = None
    previous: SpanContext | None = None
    attempts: int = 0
    stream: StreamSummary | None = None
    members: int = 0


@dataclass(slots=True)
class OpenRun:
    """A run (segment) and its span.

    Attributes:
        context: An OpenTelemetry context with the run's span as the current one: the parent of its steps.
        identity: Attributes that every span of the run has.
        constants: Attributes that every span of a step has, by step name.
        first: The first segment's span, whose children later segments are.
    """

    span: Span
    context: Context
    workflow: str
    started_ns: int
    segment: int
    identity: Attributes
    first: SpanContext
    calls: dict[str, OpenCall] = field(default_factory=dict[str, OpenCall])
    constants: dict[str, Attributes] = field(default_factory=dict[str, Attributes])
    stream: StreamSummary | None = None
    noted: int = 0
