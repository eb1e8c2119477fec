"""Metrics of runs: what is counted, by what, and that nothing is where nobody takes it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import opentelemetry.metrics._internal
import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.util._once import Once

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, FanOut, Flaky, Form, Streaming
from tests.workflows_otel.span_log import SpanLog
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import RunRecorder, add_handler
from workflows.instrumentation.dispatcher import process_dispatcher
from workflows.instrumentation.records import Record
from workflows.testing import RecordLog, VirtualClockLoop


class Metrics:
    """What a meter provider was told."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def read(self, name: str) -> list[tuple[dict[str, Any], float]]:
        """The points of one metric: labels, and value (of histograms: count and sum)."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]
        points = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        shown = [(_short(point.attributes or {}), _value(point)) for point in points]
        return sorted(shown, key=str)

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """Between which bounds the values of a histogram lie that has one point."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics]
        (point,) = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        assert isinstance(point, HistogramDataPoint)
        bounds = [0.0, *point.explicit_bounds, float("inf")]
        return [(bounds[i], bounds[i + 1]) for i, count in enumerate(point.bucket_counts) if count]

    def names(self) -> set[str]:
        data = self.reader.get_metrics_data()
        return {m.name for r in (data.resource_metrics if data else ()) for s in r.scope_metrics for m in s.metrics}


def _value(point: Any) -> Any:
    return (point.count, round(point.sum, 3)) if isinstance(point, HistogramDataPoint) else point.value


def _short(labels: Any) -> dict[str, Any]:
    return {key.removeprefix("gen_ai.").removeprefix("workflow."): value for key, value in labels.items()}


@pytest.fixture
def metrics(records: RecordLog) -> Iterator[Metrics]:
    """Metrics of the runs of this test, whose spans are all sampled out."""
    found = Metrics()
    spans = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    workflows_otel.instrument(spans, meter_provider=found.provider)
    yield found
    workflows_otel.uninstrument(spans)


async def test_runs_are_counted_by_outcome_also_when_their_trace_is_sampled_out(metrics: Metrics) -> None:
    await Echo().run()
    with pytest.raises(KeyError):
        await Failing().run(error=KeyError("x"))
    labels = [labels for labels, _ in metrics.read("gen_ai.invoke_workflow.duration")]
    assert labels == [
        {"name": "Echo", "run.outcome": "completed"},
        {"name": "Failing", "run.outcome": "failed", "error.type": "KeyError"},
    ]
    assert metrics.read("workflow.run.active") == [({"name": "Echo"}, 0), ({"name": "Failing"}, 0)]


async def test_steps_are_timed_and_so_is_their_queue(clock: VirtualClockLoop, metrics: Metrics) -> None:
    await FanOut().run(n=6)
    work = {"name": "FanOut", "step.name": "work"}
    assert ({**work, "step.outcome": "completed"}, (6, 6.0)) in metrics.read("workflow.step.duration")
    assert (work, (6, 0 + 0 + 1 + 1 + 2 + 2)) in metrics.read("workflow.step.queue.duration")
    assert (work, 2) in metrics.read("workflow.step.workers.limit")
    assert (work, 0) in metrics.read("workflow.step.active")


async def test_retries_are_counted_with_their_reason(clock: VirtualClockLoop, metrics: Metrics) -> None:
    await Flaky(failures=2).run()
    fetch = {"name": "Flaky", "step.name": "fetch"}
    assert metrics.read("workflow.step.retries") == [({**fetch, "error.type": "ConnectionError"}, 2)]
    assert metrics.read("workflow.retry.delay") == [(fetch, (2, 60))]


async def test_waits_are_timed_by_outcome(clock: VirtualClockLoop, metrics: Metrics) -> None:
    handler = AskPerson().run()
    assert handler.ctx is not None
    clock.call_later(5, handler.ctx.send_event, Answer(text="yes"))
    await handler
    labels = {"name": "AskPerson", "wait.event_type": "Answer"}
    assert metrics.read("workflow.wait.duration") == [({**labels, "wait.outcome": "resolved"}, (1, 5.0))]
    assert metrics.read("workflow.wait.active") == [(labels, 0)]


@pytest.mark.parametrize(("hours", "between"), [(0.01, (30, 60)), (3, (3600, 14400)), (70, (86400, 604800))])
async def test_the_time_that_people_take_is_told_apart(
    clock: VirtualClockLoop, metrics: Metrics, hours: float, between: tuple[float, float]
) -> None:
    handler = Form(timeout=None).run()
    await asyncio.sleep(hours * 3600)
    handler.ctx.send_event(Answer(text="yes"))
    await handler
    assert metrics.buckets("workflow.wait.duration") == [between]


async def test_a_suspended_run_has_no_wait_under_way(clock: VirtualClockLoop, metrics: Metrics) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(1)
    await handler.suspend()
    assert [count for _, count in metrics.read("workflow.wait.active")] == [0]


async def test_events_are_counted_by_type(clock: VirtualClockLoop, metrics: Metrics) -> None:
    await Streaming().run(n=3)
    assert ({"name": "Streaming", "event.type": "Progress", "event.source": "tell"}, 3) in metrics.read(
        "workflow.event.streamed"
    )


async def test_no_metric_knows_a_run(clock: VirtualClockLoop, metrics: Metrics) -> None:
    handler = FanOut().run(n=2)
    await handler
    assert handler.run_id not in str([metrics.read(name) for name in metrics.names()])


async def test_lost_telemetry_is_a_metric(metrics: Metrics, no_provider: None) -> None:
    gone = replace(workflows_otel.otlp("http://127.0.0.1:1", timeout=0.1), name="gone")
    telemetry = workflows_otel.setup(gone, start_marker=False)
    await Echo().run()
    telemetry.flush()
    telemetry.shutdown(timeout=0.5)
    lost = [
        (labels["reason"], n) for labels, n in metrics.read("workflow.telemetry.dropped") if labels["handler"] == "gone"
    ]
    assert lost == [("export", 2), ("queue", 0)]


async def test_a_blocked_event_loop_is_a_metric(metrics: Metrics) -> None:
    class Blocking(Workflow):
        @step
        async def block(self, ev: StartEvent) -> StopEvent:
            time.sleep(0.03)  # noqa: ASYNC251  # it is what the metric is for
            return StopEvent()

    await Blocking().run()
    ((labels, (count, total)),) = metrics.read("workflow.loop.lag")  # type: ignore[misc]  # a histogram's
    assert (labels, count) == ({}, 1)
    assert 0.03 <= total < 0.5


async def test_a_loop_of_virtual_time_is_never_late(clock: VirtualClockLoop, metrics: Metrics) -> None:
    await FanOut().run(n=2)
    assert metrics.read("workflow.loop.lag") == []


async def test_what_slow_readers_of_streams_have_not_read_is_a_metric(
    clock: VirtualClockLoop, metrics: Metrics
) -> None:
    handler = Streaming().run(n=5)
    events = handler.stream_events()
    await anext(events)
    clock.call_later(3.5, lambda: seen.append(metrics.read("workflow.stream.backlog")))
    seen: list[Any] = []
    await handler
    assert ({"name": "Streaming"}, 3) in seen[0]


async def test_the_size_of_snapshots_is_a_metric(clock: VirtualClockLoop, metrics: Metrics) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(1)
    assert handler.ctx is not None
    written = len(json.dumps(handler.ctx.to_dict()))
    await handler.cancel_run()
    ((labels, (count, size)),) = metrics.read("workflow.context.size")  # type: ignore[misc]  # a histogram's
    assert (labels, count) == ({"name": "AskPerson"}, 1)
    assert 0.8 * written < size <= written  # what JSON escapes is not counted


async def test_the_size_of_a_context_that_is_saved_between_runs_is_a_metric(metrics: Metrics) -> None:
    handler = Echo().run()
    await handler
    assert handler.ctx is not None
    written = len(json.dumps(handler.ctx.to_dict()))
    ((_, (count, size)),) = metrics.read("workflow.context.size")  # type: ignore[misc]  # a histogram's
    assert (count, 0.8 * written < size <= written) == (1, True)


async def test_the_length_of_a_wait_counts_what_lay_before_a_suspension(
    clock: VirtualClockLoop, metrics: Metrics
) -> None:
    workflow = Form(timeout=None)
    handler = workflow.run()
    await asyncio.sleep(100)
    handler = workflow.run(ctx=Context.from_dict(workflow, await handler.suspend()))
    await asyncio.sleep(50)
    handler.ctx.send_event(Answer(text="yes"))
    await handler
    labels = {"name": "Form", "wait.event_type": "Answer"}
    assert metrics.read("workflow.wait.duration") == [({**labels, "wait.outcome": "resolved"}, (1, 150.0))]
    assert metrics.read("workflow.wait.active") == [(labels, 0)]


async def test_open_spans_are_a_metric(clock: VirtualClockLoop, metrics: Metrics, spans: SpanLog) -> None:
    handler = Flaky(failures=1).run()
    await asyncio.sleep(1)  # between its attempts: the run's and the step's span are open
    between = [count for _, count in metrics.read("workflow.telemetry.open_spans")]
    await handler
    after = [count for _, count in metrics.read("workflow.telemetry.open_spans")]
    assert (sum(between), sum(after)) == (2, 0)


async def test_what_a_reader_of_runs_fails_on_is_a_metric(metrics: Metrics) -> None:
    class Broken(RunRecorder):
        name = "broken"

        def handle(self, record: Record) -> None:
            raise LookupError("no such record")

    process_dispatcher.set_strict(False)
    remove = add_handler(Broken())
    await Echo().run()
    failed = [(labels, n) for labels, n in metrics.read("workflow.telemetry.errors") if labels["handler"] == "broken"]
    remove()
    assert failed == [({"signal": "records", "reason": "exception", "handler": "broken"}, 5)]


async def test_values_that_were_cut_are_counted(metrics: Metrics, spans: SpanLog) -> None:
    before = metrics.read("workflow.telemetry.truncated")
    workflows_otel.instrument(spans.provider, content="full")
    await Echo().run(text="x" * 10_000)
    cut = [span for span in spans.finished if (span.attributes or {}).get("workflow.truncated")]
    ((labels, after),) = metrics.read("workflow.telemetry.truncated")
    assert labels == {"signal": "traces", "reason": "size", "handler": "all"}
    assert after - before[0][1] == 4  # the run's input and output, the step's input and output
    assert len(cut) == 2


@pytest.fixture
def no_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry.metrics._internal, "_METER_PROVIDER", None)
    monkeypatch.setattr(opentelemetry.metrics._internal, "_METER_PROVIDER_SET_ONCE", Once())


async def test_nothing_listens_for_metrics_until_somebody_takes_them(no_meters: None) -> None:
    spans = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    workflows_otel.instrument(spans)
    await Echo().run()
    assert _told() == {"opentelemetry"}
    set_meter_provider((found := Metrics()).provider)
    await Echo().run()
    workflows_otel.uninstrument(spans)
    assert metrics_of_runs(found) == 1
    assert _told() == set()


def _told() -> set[str]:
    """Who listens; MLflow's listener is there as soon as its package was imported by any test."""
    return {told.handler.name for told in process_dispatcher.handlers} - {"mlflow"}


def metrics_of_runs(found: Metrics) -> int:
    ((_, (count, _)),) = found.read("gen_ai.invoke_workflow.duration")  # type: ignore[misc]  # a histogram's
    return count


async def test_all_metrics_move_to_a_meter_provider_that_is_named_later(spans: SpanLog) -> None:
    first, second = Metrics(), Metrics()
    workflows_otel.uninstrument(spans.provider)
    workflows_otel.instrument(spans.provider, meter_provider=first.provider)
    await Echo().run()
    workflows_otel.instrument(spans.provider, meter_provider=second.provider)
    await Echo().run()
    sent = ({"name": "Echo", "event.type": "StartEvent", "event.source": "external"}, 1)
    assert [metrics.read("workflow.event.sent") for metrics in (first, second)] == [[sent], [sent]]
