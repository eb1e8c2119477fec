"""Tail sampling: what is kept, what is forgotten, and that it stays within its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, Flaky, Slow
from tests.workflows_otel.otlp_sink import OtlpSink
from workflows import Context as RunContext
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.testing import VirtualClockLoop
from workflows_otel import Setup, TelemetrySetupError, keep_errors_and_slow, otlp, sampling
from workflows_otel.sampling import SPANS_A_TRACE, KeepErrorsAndSlow, TailProcessor

pytestmark = pytest.mark.usefixtures("no_provider")


@contextmanager
def sending(sink: OtlpSink, keep: KeepErrorsAndSlow) -> Iterator[Setup]:
    telemetry = workflows_otel.setup(otlp(sink.endpoint), sampler=keep, start_marker=False)
    yield telemetry
    telemetry.shutdown()


async def test_of_ordinary_runs_none_is_sent(sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)) as telemetry:
        for _ in range(5):
            await Echo().run()
        assert telemetry.flush().sent == 0
    assert sink.spans == []


async def test_of_ordinary_runs_a_part_is_sent_whole(sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0.5)):
        for _ in range(100):
            await Echo().run()
    assert sink.names().count("run_step reply") == sink.names().count("invoke_workflow Echo")
    assert 10 < sink.names().count("run_step reply") < 90


async def test_failed_runs_are_sent_whole(sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)):
        await Echo().run()
        with pytest.raises(KeyError):
            await Failing().run(error=KeyError("x"))
    assert sink.names() == ["run_step fail", "invoke_workflow Failing"]


async def test_retried_runs_are_sent_though_they_went_well(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)):
        await Flaky(failures=0).run()
        await Flaky(failures=1).run()
    assert sink.names().count("invoke_workflow Flaky") == 1
    assert sink.names().count("attempt fetch") == 2


async def test_every_segment_of_a_suspended_run_is_sent(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)):
        workflow = AskPerson(timeout=None)
        handler = workflow.run(patience=None)
        await asyncio.sleep(1)
        handler = workflow.run(ctx=RunContext.from_dict(workflow, await handler.suspend()))
        await asyncio.sleep(1)
        handler.ctx.send_event(Answer(text="yes"))
        await handler
    known = {span.span_id for span in sink.spans}
    assert sink.names().count("invoke_workflow AskPerson") == 2
    assert [span.name for span in sink.spans if span.parent_id and span.parent_id not in known] == []


class LeavesTask(Workflow):
    """Goes well, and leaves a task behind that fails."""

    left: asyncio.Task[None]

    @step
    async def leave(self, ev: StartEvent) -> StopEvent:
        LeavesTask.left = asyncio.create_task(self._late())
        return StopEvent()

    async def _late(self) -> None:
        await asyncio.sleep(1)
        with workflows_otel.tool(name="late"):
            raise KeyError("x")


async def test_what_a_task_does_later_goes_the_way_its_run_went(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)):
        await LeavesTask().run()
        with pytest.raises(KeyError):
            await LeavesTask.left
    assert sink.spans == []


async def test_a_later_failure_is_sent_where_its_caller_lies_elsewhere(sink: OtlpSink) -> None:
    request = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with sending(sink, keep_errors_and_slow(0)):
        token = otel_context.attach(propagate.extract(request))
        await Echo().run()  # of no interest
        with pytest.raises(KeyError):
            await Failing().run(error=KeyError("x"))
        otel_context.detach(token)
    assert sink.names() == ["run_step fail", "invoke_workflow Failing"]


async def test_flush_tells_how_many_spans_are_held_back(sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)) as telemetry:
        with trace.get_tracer("my.app").start_as_current_span("request"):
            await Echo().run()
            assert telemetry.flush().pending == 2
        assert telemetry.flush().pending == 0


async def test_slow_runs_are_sent(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0, slow=10)):
        await Echo().run()
        await Slow().run()
    assert sink.names() == ["run_step wait", "invoke_workflow Slow"]


async def test_a_run_is_kept_with_the_request_it_belongs_to(sink: OtlpSink) -> None:
    with sending(sink, keep_errors_and_slow(0)), trace.get_tracer("my.app").start_as_current_span("request"):
        await Echo().run()
        with pytest.raises(KeyError):
            await Failing().run(error=KeyError("x"))
    assert sink.names() == [
        "run_step reply",
        "invoke_workflow Echo",
        "run_step fail",
        "invoke_workflow Failing",
        "request",
    ]


async def test_it_works_on_an_applications_own_provider(sink: OtlpSink) -> None:
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    with sending(sink, keep_errors_and_slow(0)):
        await Echo().run()
    assert sink.spans == []


def tail(keep: KeepErrorsAndSlow) -> tuple[trace.Tracer, TailProcessor, InMemorySpanExporter]:
    inner = InMemorySpanExporter()
    processor = TailProcessor(keep, [SimpleSpanProcessor(inner)])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider.get_tracer("test"), processor, inner


def test_a_trace_that_grows_too_long_is_sent_undecided() -> None:
    tracer, processor, inner = tail(keep_errors_and_slow(0))
    with tracer.start_as_current_span("root"):
        for _ in range(SPANS_A_TRACE + 10):
            tracer.start_span("child").end()
            assert processor.held < SPANS_A_TRACE
    assert len(inner.get_finished_spans()) == SPANS_A_TRACE + 11


def test_an_old_trace_with_nothing_held_keeps_no_other_from_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SPANS_IN_ALL", 100)
    tracer, processor, _ = tail(keep_errors_and_slow(0))
    waiting = tracer.start_span("waits")
    for _ in range(20):
        around = trace.set_span_in_context(tracer.start_span("open"), Context())
        for _ in range(10):
            tracer.start_span("inner", around).end()
    assert processor.held <= 100
    waiting.end()


def test_what_is_undecided_at_the_end_is_sent() -> None:
    tracer, processor, inner = tail(keep_errors_and_slow(0))
    root = tracer.start_span("root")
    tracer.start_span("child", trace.set_span_in_context(root)).end()
    processor.release()
    assert [span.name for span in inner.get_finished_spans()] == ["child"]
    root.end()
    assert [span.name for span in inner.get_finished_spans()] == ["child", "root"]


def test_nothing_is_kept_of_traces_that_have_ended() -> None:
    tracer, processor, inner = tail(keep_errors_and_slow(0))
    for _ in range(1000):
        with tracer.start_as_current_span("root"):
            tracer.start_span("child").end()
    assert (processor.held, len(processor._traces), inner.get_finished_spans()) == (0, 0, ())  # pyright: ignore[reportPrivateUsage]  # a leak has no other sign


@pytest.mark.parametrize("make", [lambda: keep_errors_and_slow(1.5), lambda: keep_errors_and_slow(0.1, slow=0)])
def test_a_part_or_a_limit_that_is_none_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TelemetrySetupError, match="Use "):
        make()
