"""What arrives at a back end, byte for byte, and what happens when it does not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import workflows_otel
from tests.workflows_otel.flows import Echo, FanOut
from tests.workflows_otel.otlp_sink import OtlpSink
from workflows.testing import VirtualClockLoop
from workflows_otel.batching import BatchProcessor
from workflows_otel.setting_up import Setup

pytestmark = pytest.mark.usefixtures("no_provider")

SPANS_OF_ECHO = ["workflow.started", "run_step reply", "invoke_workflow Echo"]


@pytest.fixture
def telemetry(sink: OtlpSink) -> Iterator[Setup]:
    made = workflows_otel.setup(workflows_otel.otlp(sink.endpoint))
    yield made
    sink.hold.set()
    made.shutdown()


async def test_spans_arrive_over_http(telemetry: Setup, sink: OtlpSink) -> None:
    await Echo().run(text="hello")
    result = telemetry.flush()
    assert (result.sent, result.failed, result.dropped, result.pending) == (3, 0, 0, 0)
    assert sink.names() == SPANS_OF_ECHO


async def test_http_requests_are_compressed_protobuf(telemetry: Setup, sink: OtlpSink) -> None:
    await Echo().run()
    telemetry.flush()
    (request,) = sink.requests
    assert request.path == "/v1/traces"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["content-encoding"] == "gzip"


async def test_spans_arrive_over_grpc(grpc_back_end: OtlpSink) -> None:
    telemetry = workflows_otel.setup(
        workflows_otel.otlp(grpc_back_end.endpoint, protocol="grpc", headers={"Key": "k1"})
    )
    await Echo().run()
    assert telemetry.flush().ok
    telemetry.shutdown()
    assert grpc_back_end.names() == SPANS_OF_ECHO
    assert grpc_back_end.requests[0].headers["key"] == "k1"


async def test_parents_and_links_survive_the_wire(clock: VirtualClockLoop, telemetry: Setup, sink: OtlpSink) -> None:
    await FanOut().run(n=1)
    telemetry.flush()
    run, split, work = (sink.named(name) for name in ("invoke_workflow FanOut", "run_step split", "run_step work"))
    assert work.parent_id == run.span_id
    assert [(span_id, link["workflow.link.type"]) for span_id, link in work.links] == [(split.span_id, "trigger")]
    assert work.attributes["workflow.cause.span_ids"] == [split.span_id]


async def test_every_span_is_of_our_scope(telemetry: Setup, sink: OtlpSink) -> None:
    await Echo().run()
    telemetry.flush()
    assert {span.scope for span in sink.spans} == {"workflows"}


async def test_the_environment_says_where_to(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    telemetry = workflows_otel.setup()
    await Echo().run()
    telemetry.shutdown()
    assert sink.requests[0].headers["x-team"] == "blue"
    assert sink.spans[0].resource["service.name"] == "orders"


async def test_the_environment_says_how(grpc_back_end: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", grpc_back_end.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    telemetry = workflows_otel.setup()
    await Echo().run()
    telemetry.shutdown()
    assert grpc_back_end.names() == SPANS_OF_ECHO


async def test_given_headers_do_not_replace_those_of_the_environment(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint, headers={"X-Key": "k1"}))
    await Echo().run()
    telemetry.shutdown()
    assert {"x-team": "blue", "x-key": "k1"}.items() <= sink.requests[0].headers.items()


async def test_two_back_ends_get_the_same_spans(sink: OtlpSink, grpc_back_end: OtlpSink) -> None:
    telemetry = workflows_otel.setup(
        [workflows_otel.otlp(sink.endpoint), workflows_otel.otlp(grpc_back_end.endpoint, protocol="grpc")]
    )
    await Echo().run()
    assert telemetry.flush().sent == 6
    telemetry.shutdown()
    assert sink.names() == grpc_back_end.names() == SPANS_OF_ECHO


async def test_an_overloaded_back_end_is_asked_again(telemetry: Setup, sink: OtlpSink) -> None:
    sink.replies = [503]
    await Echo().run()
    assert telemetry.flush().sent == 3
    assert [len(sink.requests), sink.names()] == [2, SPANS_OF_ECHO]


async def test_a_back_end_that_names_a_time_is_asked_again_then(telemetry: Setup, sink: OtlpSink) -> None:
    sink.replies, sink.retry_after = [503], 1
    await Echo().run()
    started = time.monotonic()
    assert telemetry.flush().sent == 3
    assert time.monotonic() - started >= 1


async def test_a_back_end_that_names_a_time_beyond_the_timeout_is_given_up(telemetry: Setup, sink: OtlpSink) -> None:
    sink.replies, sink.retry_after = [503], 60
    await Echo().run()
    assert telemetry.flush().failed == 3
    assert len(sink.requests) == 1


async def test_a_slow_back_end_gets_everything_in_the_end(telemetry: Setup, sink: OtlpSink) -> None:
    sink.hold.clear()
    for _ in range(3):
        await Echo().run()
    assert telemetry.flush(timeout=0.05).sent == 0
    sink.hold.set()
    assert telemetry.flush().sent == 9


async def test_a_refused_export_counts_as_failed(telemetry: Setup, sink: OtlpSink) -> None:
    sink.replies = [401]
    await Echo().run()
    assert telemetry.flush().failed == 3


async def test_spans_that_a_back_end_refuses_in_a_request_count_as_failed(
    telemetry: Setup, sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.rejects = 2
    await Echo().run()
    result = telemetry.flush()
    assert (result.sent, result.failed, result.ok) == (1, 2, False)
    assert "refused 2 spans in it: over the quota" in caplog.text


async def test_spans_that_are_refused_over_grpc_count_as_failed(grpc_back_end: OtlpSink) -> None:
    grpc_back_end.rejects = 2
    telemetry = workflows_otel.setup(workflows_otel.otlp(grpc_back_end.endpoint, protocol="grpc"))
    await Echo().run()
    result = telemetry.flush()
    telemetry.shutdown()
    assert (result.sent, result.failed) == (1, 2)


async def test_a_refused_span_that_is_sent_at_once_counts_as_failed(sink: OtlpSink) -> None:
    sink.rejects = 1
    telemetry = workflows_otel.setup(workflows_otel.otlp(sink.endpoint), debug=True)
    await Echo().run()
    result = telemetry.flush()
    telemetry.shutdown()
    assert (result.sent, result.failed) == (0, 3)


async def test_a_dead_endpoint_does_not_hurt_a_run(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = workflows_otel.setup(workflows_otel.otlp("http://127.0.0.1:1", timeout=0.2))
    assert await Echo().run(text="hello") == "hello"
    result = telemetry.flush()
    telemetry.shutdown()
    assert (result.sent, result.failed) == (0, 3)
    assert [r.getMessage() for r in caplog.records if r.name == "workflows.otel" and r.levelno >= logging.ERROR] == [
        "3 spans could not be sent and are lost; check that the back end is up"
    ]


async def test_a_hanging_back_end_does_not_block_a_run(
    clock: VirtualClockLoop, telemetry: Setup, sink: OtlpSink
) -> None:
    sink.hold.clear()
    assert await FanOut().run(n=3) == 3
    started = time.monotonic()
    result = telemetry.flush(timeout=0.05)
    assert time.monotonic() - started < 2
    assert (result.sent, result.pending) == (0, 9)


async def test_shutdown_keeps_its_time_with_a_hanging_back_end(telemetry: Setup, sink: OtlpSink) -> None:
    sink.hold.clear()
    await Echo().run()
    started = time.monotonic()
    telemetry.shutdown(timeout=0.05)
    assert time.monotonic() - started < 2


class Counting(SpanExporter):
    """Keeps what it gets; hangs while `held`, and raises when asked."""

    def __init__(self, *, raises: bool = False) -> None:
        self.spans: list[ReadableSpan] = []
        self.raises = raises
        self.free = threading.Event()
        self.free.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.free.wait()
        if self.raises:
            raise RuntimeError("exporter")
        self.spans += spans
        return SpanExportResult.SUCCESS


async def test_the_thread_of_the_event_loop_exports_nothing() -> None:
    threads: set[int] = set()

    class Telling(Counting):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            threads.add(threading.get_ident())
            return super().export(spans)

    telemetry = workflows_otel.setup(workflows_otel.Preset("telling", Telling))
    for _ in range(400):  # more than one batch
        await Echo().run()
    assert telemetry.flush().sent == 1200
    telemetry.shutdown()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def _end_spans(processor: BatchProcessor, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    for n in range(count):
        tracer.start_span(str(n)).end()


def test_a_full_queue_drops_the_oldest_and_says_so() -> None:
    exporter = Counting()
    processor = BatchProcessor(exporter, queue_size=10, batch_size=10, delay=60)
    exporter.free.clear()
    _end_spans(processor, 30)
    exporter.free.set()
    result = processor.flush()
    processor.shutdown()
    assert result.sent + (result.dropped or 0) == 30
    assert [span.name for span in exporter.spans][-10:] == [str(n) for n in range(20, 30)]


def test_an_exporter_that_raises_loses_its_batch_only() -> None:
    exporter = Counting(raises=True)
    processor = BatchProcessor(exporter, delay=60)
    _end_spans(processor, 2)
    assert processor.flush().failed == 2
    exporter.raises = False
    _end_spans(processor, 1)
    assert processor.flush().sent == 1
    processor.shutdown()


def test_a_flush_waits_for_what_ended_before_it() -> None:
    exporter = Counting()
    processor = BatchProcessor(exporter, delay=60)
    _end_spans(processor, 2000)
    assert processor.flush().sent == 2000
    processor.shutdown()


def test_spans_that_end_after_shutdown_are_dropped() -> None:
    processor = BatchProcessor(Counting())
    processor.shutdown()
    _end_spans(processor, 2)
    assert processor.flush().dropped == 2


@dataclass
class Listing(SpanExporter):
    """An exporter of an application's that is not hashable."""

    names: list[str] = field(default_factory=list[str])

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


async def test_an_exporter_that_is_not_hashable_gets_every_span(no_provider: None) -> None:
    mine = Listing()
    telemetry = workflows_otel.setup(workflows_otel.Preset("mine", lambda: mine, start_marker=False))
    await Echo().run()
    assert telemetry.shutdown().sent == 2
    assert sorted(mine.names) == ["invoke_workflow Echo", "run_step reply"]
