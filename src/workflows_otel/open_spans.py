"""The spans that are open now: one entry a run, and in it one for each running attempt and each retried call."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, Tracer
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation.content import Captured, ContentPolicy
from workflows_otel.identity import Caller
from workflows_otel.propagation import TraceCarrier
from workflows_otel.settings import Settings
from workflows_otel.streams import StreamSummary

__all__ = ["Attributes", "OpenAttempt", "OpenCall", "OpenRun"]

Attributes = dict[str, AttributeValue]


@dataclass(slots=True)
class OpenCall:
    """A call of a step that has a retry policy: the step's own span, around those of its attempts.

    Attributes:
        context: An OpenTelemetry context with that span as the current one.
        previous: The attempt that ended last.
        attempts: How many attempts began, also in earlier segments of the run.
        emitted: What they sent and returned so far, as it is shown; `emitted_count` also counts what is not.
    """

    step: str
    span: Span
    context: Context
    started_ns: int
    previous: SpanContext | None = None
    attempts: int = 0
    stream: StreamSummary | None = None
    emitted: list[str] = field(default_factory=list[str])
    emitted_count: int = 0


@dataclass(slots=True)
class OpenAttempt:
    """A running attempt and its span, which is the step's span unless the step has a retry policy.

    Attributes:
        token: What to detach when it ends.
        call: The step's span around it, where there is one.
        carrier: What its events carry, once one was asked for.
        child_error: How a child run of it failed; that exception is recorded where it was raised already.
        joined: It got the last member of a join.
        noted: How many span events of the bounded kinds it has.
        kept_open: Of each call that was begun in it and is still to be read or awaited, what to tell that the attempt
            is over, and when it left the call: it failed, say. None where somebody may go on with it.
    """

    step: str
    number: int
    span: Span
    started_ns: int
    token: Token[Context] | None = None
    call: OpenCall | None = None
    carrier: TraceCarrier | None = None
    stream: StreamSummary | None = None
    child_error: BaseException | None = None
    joined: bool = False
    noted: int = 0
    kept_open: set[Callable[[int | None], None]] | None = None


@dataclass(slots=True)
class OpenRun:
    """A run (segment) and its span.

    Attributes:
        span_context: Of the run's span.
        context: An OpenTelemetry context with the run's span as the current one: the parent of its steps.
        identity: Attributes that every span of the run has.
        attempts: Its running attempts, by exec_id.
        calls: Its unfinished calls of steps that have a retry policy, by exec_id; some wait for their next attempt.
        constants: Attributes that every span of a step has, by step name.
        parent: `(run_id, exec_id)` of the attempt that started it.
        first: The first segment's span, whose children later segments are.
        drawn_by: The name of the handler.
        ambient: The context in which the run was asked for.
        settings: How this run is drawn.
        tracer: Of the handler; spans of helpers inside its steps are made by it.
        last_output: The id of the event that a step gave last, how its content is shown, and by which policy.
        retried: Attempts of an earlier segment that are to be made again in this one, by exec_id.
        caller: For whom it works, as the next segment is told.
        other: The same run as the handler of another provider draws it, which was told before.
    """

    run_id: str
    span: Span
    span_context: SpanContext
    context: Context
    workflow: str
    kind: str
    started_ns: int
    identity: Attributes
    first: SpanContext
    drawn_by: str
    ambient: Context
    settings: Settings
    tracer: Tracer
    caller: Caller
    other: OpenRun | None = None
    parent: tuple[str, str] | None = None
    attempts: dict[str, OpenAttempt] = field(default_factory=dict[str, OpenAttempt])
    calls: dict[str, OpenCall] = field(default_factory=dict[str, OpenCall])
    constants: dict[str, Attributes] = field(default_factory=dict[str, Attributes])
    stream: StreamSummary | None = None
    last_output: tuple[str, Captured | None, ContentPolicy] | None = None
    retried: dict[str, SpanContext] = field(default_factory=dict[str, SpanContext])
    noted: int = 0

    @property
    def waiting(self) -> dict[str, SpanContext]:
        """The last attempts of calls that wait for their next one, by exec_id; also those of an earlier segment."""
        here = {exec_id: call.previous for exec_id, call in self.calls.items() if call.previous is not None}
        return {**self.retried, **here}

    def as_drawn_by(self, name: str) -> OpenRun | None:
        """This run as the handler of that name draws it."""
        run: OpenRun | None = self
        while run is not None and run.drawn_by != name:
            run = run.other
        return run
