"""The instruments of our metrics: names, units, buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from workflows.instrumentation import attributes as at
from workflows.instrumentation.backlog import backlogs
from workflows.instrumentation.content import cut_values
from workflows.instrumentation.dispatcher import RecordHandler, process_dispatcher
from workflows_otel.dropped import dropped_spans
from workflows_otel.guarding import processor_errors

__all__ = ["CallInstruments", "Instruments"]

# Source: OpenTelemetry's semantic conventions for generative AI, `gen_ai.client.operation.duration`, `.token.usage`.
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
# Of what people take their time for, and of queues: up to a week.
LONG_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0, 604800.0)
SHORT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BYTES = tuple(float(4**power) for power in range(4, 15))  # 256 B to 256 MB
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

Observe = Callable[[CallbackOptions], Iterable[Observation]]

_SIGNALS = {
    "opentelemetry": "traces",
    "mlflow": "traces",
    "llama_index": "traces",
    "opentelemetry.metrics": "metrics",
    "opentelemetry.logs": "logs",
}


@runtime_checkable
class _Draws(RecordHandler, Protocol):
    """A handler that has spans open."""

    @property
    def open_spans(self) -> int: ...


class Instruments:
    """What is measured of runs, made of one meter; `observed` gives the callback of a gauge over all steps."""

    def __init__(self, meter: Meter, observed: Callable[[str], Observe]) -> None:
        def histogram(name: str, about: str, buckets: Sequence[float] = SECONDS) -> Histogram:
            return meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=buckets)

        self.run_duration = histogram(
            at.METRIC_RUN_DURATION, "Runs, from start to end; of a resumed one its last segment."
        )
        self.run_queue = histogram(at.METRIC_RUN_QUEUE, "Time runs waited for `num_concurrent_runs`.", LONG_SECONDS)
        self.run_active = meter.create_up_down_counter(at.METRIC_RUN_ACTIVE, "{run}", "Runs under way.")
        self.step_duration = histogram(at.METRIC_STEP_DURATION, "Attempts of steps.")
        self.step_queue = histogram(at.METRIC_STEP_QUEUE, "Time an event waited for a worker of its step.")
        self.step_retries = meter.create_counter(at.METRIC_STEP_RETRIES, "{retry}", "Attempts that are made again.")
        self.retry_delay = histogram(at.METRIC_RETRY_DELAY, "Time until the next attempt.")
        self.event_sent = meter.create_counter(at.METRIC_EVENT_SENT, "{event}", "Events sent.")
        self.event_unhandled = meter.create_counter(at.METRIC_EVENT_UNHANDLED, "{event}", "Events no step took.")
        self.event_streamed = meter.create_counter(at.METRIC_EVENT_STREAMED, "{event}", "Events streamed.")
        self.wait_duration = histogram(at.METRIC_WAIT_DURATION, "Waits for events from outside.", LONG_SECONDS)
        self.wait_active = meter.create_up_down_counter(at.METRIC_WAIT_ACTIVE, "{wait}", "Waits under way.")
        meter.create_observable_gauge(at.METRIC_STEP_ACTIVE, [observed("active")], "{execution}", "Attempts running.")
        meter.create_observable_gauge(at.METRIC_STEP_QUEUE_DEPTH, [observed("queued")], "{event}", "Events queued.")
        meter.create_observable_gauge(
            at.METRIC_STEP_WORKERS_LIMIT, [observed("limit")], "{execution}", "`num_workers`."
        )
        meter.create_observable_counter(at.METRIC_TELEMETRY_DROPPED, [_dropped], "{item}", "Spans that were lost.")
        meter.create_observable_counter(at.METRIC_TELEMETRY_TRUNCATED, [_truncated], "{item}", "Values that were cut.")
        self.context_size = meter.create_histogram(
            at.METRIC_CONTEXT_SIZE, "By", "Snapshots of runs.", explicit_bucket_boundaries_advisory=BYTES
        )
        self.loop_lag = meter.create_histogram(
            at.METRIC_LOOP_LAG,
            "s",
            "How late an event loop with runs is.",
            explicit_bucket_boundaries_advisory=SHORT_SECONDS,
        )
        meter.create_observable_gauge(at.METRIC_STREAM_BACKLOG, [_backlog], "{event}", "Streamed events not read yet.")
        meter.create_observable_counter(
            at.METRIC_TELEMETRY_ERRORS,
            [_errors],
            "{item}",
            "Records a handler failed on, and spans a processor failed on.",
        )
        meter.create_observable_gauge(at.METRIC_TELEMETRY_OPEN, [_open], "{span}", "Spans of runs that are open.")


class CallInstruments:
    """What is measured of calls of models and tools inside a step."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, unit: str, about: str, buckets: Sequence[float] = SECONDS) -> Histogram:
            return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=buckets)

        self.client = histogram(at.METRIC_CLIENT_DURATION, "s", "Calls of models and retrievers.")
        self.first_chunk = histogram(at.METRIC_CLIENT_FIRST_CHUNK, "s", "Time until a model's first chunk.")
        self.tokens = histogram(at.METRIC_CLIENT_TOKENS, "{token}", "Tokens of models.", TOKENS)
        self.tool = histogram(at.METRIC_TOOL_DURATION, "s", "Calls of tools.")


def _dropped(options: CallbackOptions) -> Iterable[Observation]:
    return [
        Observation(count, {"signal": "traces", "reason": reason, "handler": back_end})
        for back_end, reason, count in dropped_spans()
    ]


def _truncated(options: CallbackOptions) -> Iterable[Observation]:
    # One value is captured once for all who show it, so no handler of them is the one.
    return [Observation(cut_values(), {"signal": "traces", "reason": "size", "handler": "all"})]


def _backlog(options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(behind, {at.GEN_AI_WORKFLOW_NAME: workflow}) for workflow, behind in backlogs().items()]


def _errors(options: CallbackOptions) -> Iterable[Observation]:
    handlers = process_dispatcher.handlers
    return [
        Observation(
            told.errors, {"signal": _signal_of(told.handler), "reason": "exception", "handler": told.handler.name}
        )
        for told in handlers
    ] + [
        Observation(count, {"signal": "traces", "reason": "exception", "handler": processor})
        for processor, count in processor_errors()
    ]


def _open(options: CallbackOptions) -> Iterable[Observation]:
    handlers = [told.handler for told in process_dispatcher.handlers]
    return [
        Observation(handler.open_spans, {"handler": handler.name})
        for handler in handlers
        if isinstance(handler, _Draws)
    ]


def _signal_of(handler: RecordHandler) -> str:
    """What a handler makes of records: `traces`, `metrics` or `logs`; `records` where we do not know it."""
    return _SIGNALS.get(handler.name.rstrip("0123456789").rstrip("."), "records")
