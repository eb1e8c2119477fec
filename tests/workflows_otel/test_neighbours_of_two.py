"""`setup()` called twice where the application sends to the place itself: all is masked, and counted once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows_otel import Setup, otlp

pytestmark = pytest.mark.usefixtures("no_provider")

SPANS_OF_A_RUN = 3  # with that of the library


class Calling(Workflow):
    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with trace.get_tracer("library").start_as_current_span("call", attributes={"password": "hunter2"}):
            return StopEvent()


@pytest.fixture
def theirs(sink: OtlpSink) -> Iterator[BatchSpanProcessor]:
    """The application's own way to the back end."""
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sink.endpoint}/v1/traces"))
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    yield processor
    provider.shutdown()


@pytest.fixture
def two(theirs: BatchSpanProcessor, sink: OtlpSink) -> Iterator[tuple[Setup, Setup]]:
    """What a cell of a notebook gives that is run twice."""
    handles = [workflows_otel.setup(otlp(sink.endpoint), start_marker=False) for _ in range(2)]
    yield handles[0], handles[1]
    for handle in handles:
        handle.shutdown()


async def test_each_span_counts_once(two: tuple[Setup, Setup], sink: OtlpSink) -> None:
    await Calling().run()
    assert [handle.flush().sent for handle in two] == [SPANS_OF_A_RUN] * 2
    assert len(sink.spans) == SPANS_OF_A_RUN


@pytest.mark.parametrize("first", [0, 1])
async def test_all_stays_masked_and_counted_when_either_is_shut_down(
    two: tuple[Setup, Setup], sink: OtlpSink, first: int, caplog: pytest.LogCaptureFixture
) -> None:
    left = two[1 - first]
    await Calling().run()
    with caplog.at_level(logging.WARNING, logger="workflows.otel"):
        two[first].shutdown()
        before = left.flush().sent
        await Calling().run()
        assert left.flush().sent == before + SPANS_OF_A_RUN
    assert not caplog.records
    assert len(sink.spans) == 2 * SPANS_OF_A_RUN
    assert b"hunter2" not in sink.raw


async def test_what_is_on_its_way_at_the_second_call_is_masked_and_not_missed(
    theirs: BatchSpanProcessor, sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="workflows.otel"):
        first = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
        await Calling().run()
        second = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
        first.flush()
        for handle in (second, first):
            handle.shutdown()
    assert not caplog.records
    assert len(sink.spans) == SPANS_OF_A_RUN
    assert b"hunter2" not in sink.raw


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_applications_exporter_is_in_its_place_again_when_both_are_shut_down(
    theirs: BatchSpanProcessor, two: tuple[Setup, Setup], sink: OtlpSink, order: tuple[int, int]
) -> None:
    for number in order:
        two[number].shutdown()
    with trace.get_tracer("library").start_as_current_span("call", attributes={"password": "its own affair"}):
        pass
    assert theirs.force_flush()
    assert b"its own affair" in sink.raw
