"""Metrics of runs, steps, waits and events, through OpenTelemetry's API: they cost next to nothing until an SDK is set.

They are told of every run, also of those whose trace is sampled out, and never of a run's id.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows.instrumentation.records import (
    ContextSaved,
    EventSent,
    EventStreamed,
    EventUnhandled,
    Record,
    RetryScheduled,
    RunEnded,
    RunResumed,
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
from workflows_otel.instruments import Instruments
from workflows_otel.loop_lag import LoopLag
from workflows_otel.own_scope import SCHEMA_URL, SCOPE, VERSION
from workflows_otel.statuses import error_type
from workflows_otel.turns import in_turn

__all__ = ["MetricsHandler"]

FORGET_AFTER_NS = 7 * 24 * 3600 * 10**9  # a run that told nothing of its end in a week has lost it

Labels = dict[str, AttributeValue]
_ENDED_WAITS: dict[type[Record], str] = {
    WaitResolved: "resolved",
    WaitTimedOut: "timed_out",
    WaitCancelled: "cancelled",
}


@dataclass(slots=True)
class _Step:
    """What is going on in all calls of one step of one workflow."""

    labels: Labels
    active: int = 0
    queued: int = 0
    limit: int = 0


@dataclass(slots=True)
class _Run:
    """A run that is under way."""

    workflow: str
    labels: Labels
    started_ns: int
    loop: AbstractEventLoop | None
    started: dict[str, int] = field(default_factory=dict[str, int])
    waits: dict[str, Labels] = field(default_factory=dict[str, Labels])


class MetricsHandler:
    """Reads records and keeps metrics.

    At most three records a step: its duration, how long it was queued, and one counter.

    Args:
        meter_provider: Default: the process's own.
    """

    name = "opentelemetry.metrics"

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self.destination = "opentelemetry.metrics" if meter_provider is None else f"metrics:{id(meter_provider):x}"
        provider = meter_provider or metrics.get_meter_provider()
        self._made = Instruments(provider.get_meter(SCOPE, VERSION, SCHEMA_URL), self._observed)
        self._runs: dict[str, _Run] = {}
        self._steps: dict[tuple[str, str], _Step] = {}
        self._lag = LoopLag(partial(in_turn, self._made.loop_lag.record))
        self._tell: dict[type[Record], Callable[[Instruments, _Run, Any], None]] = {
            RunSuspended: self._run_suspended,
            RunEnded: self._run_ended,
            EventSent: self._event_sent,
            EventUnhandled: self._event_unhandled,
            EventStreamed: self._event_streamed,
            StepStarted: self._step_started,
            StepEnded: self._step_ended,
            RetryScheduled: self._retry_scheduled,
            WaitStarted: self._wait_started,
            WaitResolved: self._wait_ended,
            WaitTimedOut: self._wait_ended,
            WaitCancelled: self._wait_ended,
        }

    def handle(self, record: Record) -> None:
        """Count one record."""
        in_turn(self._count, record)

    def _count(self, record: Record) -> None:
        kind = type(record)
        if kind is RunStarted or kind is RunResumed:
            self._run_started(record)  # pyright: ignore[reportArgumentType]  # looked at above
            return
        if isinstance(record, ContextSaved):  # of a run that was just suspended, maybe
            self._made.context_size.record(_size(record.context), {at.GEN_AI_WORKFLOW_NAME: record.workflow})
            return
        run = self._runs.get(record.run_id)
        if run is not None and (tell := self._tell.get(kind)) is not None:
            tell(self._made, run, record)

    def close(self) -> None:
        """Let go of the event loops of runs that nobody will tell about any more."""
        self._lag.close()

    def forget(self) -> None:
        """Let go of the runs that are open: in a forked child, whose parent tells of them."""
        self._lag.close()
        self._runs.clear()

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing: metrics do not travel."""
        return None

    def _run_started(self, record: RunStarted) -> None:
        made = self._made
        labels: Labels = {at.GEN_AI_WORKFLOW_NAME: record.workflow}
        if self._runs and record.at_ns - self._runs[oldest := next(iter(self._runs))].started_ns > FORGET_AFTER_NS:
            self._forget(made, self._runs[oldest], oldest)
        self._runs[record.run_id] = _Run(record.workflow, labels, record.at_ns, self._lag.run_began())
        made.run_active.add(1, labels)
        if record.queue_wait:
            made.run_queue.record(record.queue_wait, labels)

    def _run_ended(self, made: Instruments, run: _Run, record: RunEnded) -> None:
        labels: Labels = {**run.labels, at.RUN_OUTCOME: record.outcome}
        if record.outcome in ("failed", "timed_out"):
            labels[at.ERROR_TYPE] = error_type(record.error)
        made.run_duration.record(_seconds(run.started_ns, record.at_ns), labels)
        self._forget(made, run, record.run_id)

    def _run_suspended(self, made: Instruments, run: _Run, record: RunSuspended) -> None:
        self._forget(made, run, record.run_id)

    def _forget(self, made: Instruments, run: _Run, run_id: str) -> None:
        del self._runs[run_id]
        made.run_active.add(-1, run.labels)
        for waiting in run.waits.values():  # of a suspended run: they end in another segment, maybe in another process
            made.wait_active.add(-1, waiting)
        if run.loop is not None:
            self._lag.run_ended(run.loop)

    def _event_sent(self, made: Instruments, run: _Run, record: EventSent) -> None:
        sender = record.envelope.sender_step
        event_type = type(record.envelope.event).__name__
        made.event_sent.add(1, {**run.labels, at.EVENT_TYPE: event_type, at.EVENT_SOURCE: sender or "external"})

    def _event_unhandled(self, made: Instruments, run: _Run, record: EventUnhandled) -> None:
        made.event_unhandled.add(1, {**run.labels, at.EVENT_TYPE: type(record.envelope.event).__name__})

    def _event_streamed(self, made: Instruments, run: _Run, record: EventStreamed) -> None:
        labels: Labels = {**run.labels, at.EVENT_TYPE: type(record.event).__name__}
        if record.step is not None:
            labels[at.EVENT_SOURCE] = record.step
        made.event_streamed.add(1, labels)

    def _step_started(self, made: Instruments, run: _Run, record: StepStarted) -> None:
        run.started[record.exec_id] = record.at_ns
        step = self._step(run, record.step)
        step.active += 1
        step.queued, step.limit = record.queue_depth, record.num_workers
        made.step_queue.record(_seconds(record.queued_at_ns, record.at_ns), step.labels)

    def _step_ended(self, made: Instruments, run: _Run, record: StepEnded) -> None:
        started = run.started.pop(record.exec_id, None)
        if started is None:
            return
        step = self._step(run, record.step)
        step.active -= 1
        labels: Labels = {**step.labels, at.STEP_OUTCOME: record.outcome}
        if record.error is not None and record.outcome in ("failed", "retrying", "timed_out"):
            labels[at.ERROR_TYPE] = error_type(record.error)
        made.step_duration.record(_seconds(started, record.at_ns), labels)

    def _step(self, run: _Run, name: str) -> _Step:
        key = (run.workflow, name)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = _Step({**run.labels, at.STEP_NAME: name})
        return step

    def _retry_scheduled(self, made: Instruments, run: _Run, record: RetryScheduled) -> None:
        labels = self._step(run, record.step).labels
        made.step_retries.add(1, {**labels, at.ERROR_TYPE: error_type(record.error)})
        made.retry_delay.record(record.delay, labels)

    def _wait_started(self, made: Instruments, run: _Run, record: WaitStarted) -> None:
        labels = run.waits[record.wait_id] = {**run.labels, at.WAIT_EVENT_TYPE: record.event_type}
        made.wait_active.add(1, labels)

    def _wait_ended(self, made: Instruments, run: _Run, record: WaitRecord) -> None:
        labels: Labels = {**run.labels, at.WAIT_EVENT_TYPE: record.event_type}
        if run.waits.pop(record.wait_id, None) is not None:  # else it was counted in the segment where it began
            made.wait_active.add(-1, labels)
        outcome = _ENDED_WAITS[type(record)]
        made.wait_duration.record(_seconds(record.started_at_ns, record.at_ns), {**labels, at.WAIT_OUTCOME: outcome})

    def _observed(self, what: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(getattr(step, what), step.labels) for step in list(self._steps.values())]

        return observe


def _size(value: object) -> int:
    """About how many bytes plain data takes as JSON: its texts are nearly all of it, and nothing is written."""
    match value:
        case str():
            return len(value) + 2
        case Mapping():
            fields = cast("Mapping[str, object]", value)
            return 2 + sum(len(name) + 4 + _size(item) for name, item in fields.items())
        case list() | tuple():
            return 2 + sum(1 + _size(item) for item in cast("Sequence[object]", value))
        case _:
            return 5


def _seconds(from_ns: int, to_ns: int) -> float:
    return max(to_ns - from_ns, 0) / 1e9
