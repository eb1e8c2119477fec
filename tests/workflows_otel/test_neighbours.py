"""Who sends to the same place already: each span arrives once, whoever was first."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

import workflows_otel
from tests.workflows_otel.flows import Echo, Failing
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.span_log import SpanLog
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows_otel import TelemetrySetupError, otlp, phoenix
from workflows_otel.instrumentor import WorkflowsInstrumentor

pytestmark = pytest.mark.usefixtures("no_provider")

ONE_RUN = ["invoke_workflow Echo", "run_step reply"]
ONE_MARKED_RUN = ["invoke_workflow Echo", "run_step reply", "workflow.started"]


@pytest.fixture
def mine() -> Iterator[TracerProvider]:
    """A tracer provider that the application made and set."""
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    yield provider
    provider.shutdown()


def to(sink: OtlpSink, **headers: str) -> OTLPSpanExporter:
    return OTLPSpanExporter(endpoint=f"{sink.endpoint}/v1/traces", headers=headers)


@pytest.mark.parametrize("kind", [BatchSpanProcessor, SimpleSpanProcessor])
async def test_an_exporter_of_the_application_to_the_same_place_stays_the_only_one(
    mine: TracerProvider, sink: OtlpSink, kind: type[BatchSpanProcessor]
) -> None:
    mine.add_span_processor(kind(to(sink)))
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    result = telemetry.flush()
    telemetry.shutdown()
    assert sorted(sink.names()) == ONE_MARKED_RUN
    assert (result.sent, result.failed, result.dropped) == (3, 0, None)


async def test_one_that_comes_later_takes_over(mine: TracerProvider, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    mine.add_span_processor(BatchSpanProcessor(to(sink)))
    await Echo().run()
    result = telemetry.flush()
    telemetry.shutdown()
    assert sorted(sink.names()) == sorted(ONE_MARKED_RUN * 2)
    assert result.sent == 6


async def test_a_place_is_another_one_under_another_key(mine: TracerProvider, sink: OtlpSink) -> None:
    mine.add_span_processor(BatchSpanProcessor(to(sink, authorization="Bearer theirs")))
    telemetry = workflows_otel.setup(otlp(sink.endpoint, headers={"Authorization": "Bearer ours"}))
    await Echo().run()
    mine.force_flush()
    telemetry.shutdown()
    assert sorted(sink.names()) == sorted(ONE_MARKED_RUN * 2)


async def test_a_place_is_another_one_under_another_tenant(mine: TracerProvider, sink: OtlpSink) -> None:
    mine.add_span_processor(BatchSpanProcessor(to(sink, **{"X-Scope-OrgID": "theirs"})))
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    mine.force_flush()
    telemetry.shutdown()
    assert sorted(sink.names()) == sorted(ONE_MARKED_RUN * 2)


async def test_another_place_gets_its_own_spans(mine: TracerProvider, sink: OtlpSink) -> None:
    with http_sink() as other:
        mine.add_span_processor(BatchSpanProcessor(to(other)))
        telemetry = workflows_otel.setup(otlp(sink.endpoint))
        await Echo().run()
        mine.force_flush()
        telemetry.shutdown()
        assert sorted(other.names()) == sorted(sink.names()) == ONE_MARKED_RUN


async def test_what_the_applications_exporter_sends_is_masked_until_shutdown(
    mine: TracerProvider, sink: OtlpSink
) -> None:
    mine.add_span_processor(processor := SimpleSpanProcessor(theirs := to(sink)))
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    with trace.get_tracer("my.app").start_as_current_span("GET", attributes={"api_key": "hunter2"}):
        pass
    telemetry.shutdown()
    assert b"hunter2" not in sink.raw
    assert processor.span_exporter is theirs


async def test_a_second_provider_that_draws_runs_for_the_same_place_makes_no_second_tree(sink: OtlpSink) -> None:
    theirs = TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(to(sink)))
    WorkflowsInstrumentor().instrument(tracer_provider=theirs, start_marker=False)
    telemetry = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Echo().run()
    telemetry.shutdown()
    WorkflowsInstrumentor().uninstrument()
    assert sorted(sink.names()) == ONE_RUN


async def test_spans_of_other_libraries_still_arrive_where_a_second_provider_draws_the_runs(sink: OtlpSink) -> None:
    class Calling(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            with trace.get_tracer("library").start_as_current_span("call"):
                return StopEvent()

    theirs = TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(to(sink)))
    workflows_otel.instrument(theirs, start_marker=False)
    telemetry = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Calling().run()
    telemetry.shutdown()
    workflows_otel.uninstrument(theirs)
    assert sorted(sink.names()) == ["call", "invoke_workflow Calling", "run_step call"]


@pytest.mark.parametrize("first", ["register", "setup"])
async def test_phoenix_register_and_setup_make_one_tree(sink: OtlpSink, first: str) -> None:
    otel = pytest.importorskip("phoenix.otel", reason="runs with arize-phoenix-otel: `pip install 'spanflow[phoenix]'`")

    def register() -> TracerProvider:
        endpoint = f"{sink.endpoint}/v1/traces"
        return otel.register(
            endpoint=endpoint, protocol="http/protobuf", project_name="shop", batch=True, verbose=False
        )

    provider = register() if first == "register" else None
    telemetry = workflows_otel.setup(phoenix("shop", endpoint=sink.endpoint))
    if provider is None:
        provider = register()  # refused as the process's: it sees no runs
    await Echo().run()
    telemetry.flush()
    telemetry.shutdown()
    provider.shutdown()
    assert sorted(sink.names()) == ONE_RUN
    assert {span.resource["openinference.project.name"] for span in sink.spans} == {"shop"}


async def test_a_back_end_beside_phoenix_register_leaves_phoenix_its_spans(sink: OtlpSink) -> None:
    otel = pytest.importorskip("phoenix.otel", reason="runs with arize-phoenix-otel: `pip install 'spanflow[phoenix]'`")
    with http_sink() as other:
        provider = otel.register(endpoint=f"{sink.endpoint}/v1/traces", protocol="http/protobuf", verbose=False)
        telemetry = workflows_otel.setup(otlp(other.endpoint), start_marker=False)
        await Echo().run()
        telemetry.shutdown()
        provider.shutdown()
        assert sorted(sink.names()) == sorted(other.names()) == ONE_RUN


# --- neighbours that leave something out ------------------------------------------------------------------------------


class NoSteps(BatchSpanProcessor):
    """Filters, as Langfuse's does by `should_export_span=`."""

    def on_end(self, span: ReadableSpan) -> None:
        if not span.name.startswith("run_step"):
            super().on_end(span)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_neighbour_that_leaves_out_spans_of_runs_is_told_of_once(
    mine: TracerProvider, sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    mine.add_span_processor(NoSteps(to(sink)))
    telemetry = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Echo().run()
    telemetry.flush()
    await Echo().run()
    telemetry.shutdown()
    (said,) = warnings_of(caplog)
    assert "the application's own NoSteps, which sent 1 of 2 spans of runs" in said
    assert "Let it keep every span of the scope 'workflows'" in said


@pytest.mark.parametrize("kind", [BatchSpanProcessor, SimpleSpanProcessor])
async def test_a_neighbour_that_sends_all_is_not_warned_of(
    mine: TracerProvider, sink: OtlpSink, kind: type[BatchSpanProcessor], caplog: pytest.LogCaptureFixture
) -> None:
    mine.add_span_processor(kind(to(sink)))
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    telemetry.flush()
    telemetry.shutdown()
    assert warnings_of(caplog) == []


async def test_another_provider_that_samples_the_runs_of_a_back_end_is_told_of(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.1)), shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(to(sink)))
    workflows_otel.instrument(theirs, start_marker=False)
    telemetry = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    telemetry.shutdown()
    workflows_otel.uninstrument(theirs)
    (said,) = warnings_of(caplog)
    assert "another tracer provider of the application, whose sampler is ParentBased{root:TraceIdRatioBased" in said


class Stuck(SpanExporter):
    """Sends to a place, as it says, and never comes back."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._released.wait(20)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._released.set()


async def test_a_neighbour_that_hangs_holds_up_neither_flush_nor_shutdown(mine: TracerProvider, sink: OtlpSink) -> None:
    stuck = Stuck(f"{sink.endpoint}/v1/traces")
    mine.add_span_processor(BatchSpanProcessor(stuck))
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    await Echo().run()
    started = time.monotonic()
    telemetry.flush(timeout=0.2)
    telemetry.shutdown(timeout=0.2)
    assert time.monotonic() - started < 5
    stuck.shutdown()


# --- two providers: what is current in a step -------------------------------------------------------------------------


class Calls(Workflow):
    """Its step calls a model by our helper, and another library by its own span."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with workflows_otel.llm_call(model="m"), trace.get_tracer("library").start_as_current_span("GET"):
            return StopEvent()


def lost(*logs: SpanLog) -> list[str]:
    """Spans whose parent is not among those of the same provider."""
    found: list[str] = []
    for log in logs:
        known = {span.context.span_id for span in log.finished if span.context is not None}
        found += [span.name for span in log.finished if span.parent is not None and span.parent.span_id not in known]
    return found


@pytest.mark.parametrize("first", ["own", "processes"])
async def test_with_two_providers_calls_are_in_the_trees_of_the_processes_own(first: str) -> None:
    processes, own = SpanLog(), SpanLog()
    trace.set_tracer_provider(processes.provider)
    logs = [own, processes] if first == "own" else [processes, own]
    for log in logs:
        workflows_otel.instrument(log.provider, start_marker=False)
    handler = Calls().run()
    await handler
    workflows_otel.uninstrument()
    assert lost(processes, own) == []
    assert [span.name for span in processes.finished] == ["GET", "chat m", "run_step call", "invoke_workflow Calls"]
    found = workflows_otel.trace_of(handler)
    assert found is not None
    assert {f"{span.context.trace_id:032x}" for span in processes.finished if span.context} == {found.trace_id}


async def test_what_another_provider_sends_in_our_place_has_the_calls_below_it(sink: OtlpSink) -> None:
    theirs = TracerProvider(shutdown_on_exit=False)
    theirs.add_span_processor(SimpleSpanProcessor(to(sink)))
    workflows_otel.instrument(theirs, start_marker=False)
    telemetry = workflows_otel.setup(otlp(sink.endpoint), start_marker=False)
    await Calls().run()
    await Calls().run()
    telemetry.shutdown()
    workflows_otel.uninstrument(theirs)
    known = {span.span_id for span in sink.spans}
    assert sorted(sink.names()) == sorted(["GET", "chat m", "run_step call", "invoke_workflow Calls"] * 2)
    assert [span.name for span in sink.spans if span.parent_id and span.parent_id not in known] == []


# --- Langfuse's client ------------------------------------------------------------------------------------------------


def langfuse_client(sink: OtlpSink, public_key: str) -> SpanProcessor:
    """What `Langfuse()` adds to the process's tracer provider; it keeps one client a key for as long as it lives."""
    lf = pytest.importorskip("langfuse", reason="runs with Langfuse's client: `pip install 'spanflow[langfuse]'`")
    lf.Langfuse(public_key=public_key, secret_key="sk-lf-2", base_url=sink.endpoint)
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    added = provider._active_span_processor._span_processors[-1]  # pyright: ignore[reportPrivateUsage]  # no public way
    assert type(added).__name__ == "LangfuseSpanProcessor"
    return added


@pytest.mark.parametrize("first", ["client", "setup"])
async def test_a_langfuse_client_and_setup_make_one_tree_with_all_we_say(sink: OtlpSink, first: str) -> None:
    pytest.importorskip("langfuse", reason="runs with Langfuse's client: `pip install 'spanflow[langfuse]'`")
    preset = workflows_otel.langfuse(f"pk-lf-{first}", "sk-lf-2", base_url=sink.endpoint)
    telemetry = workflows_otel.setup(preset) if first == "setup" else None
    processor = langfuse_client(sink, f"pk-lf-{first}")
    if telemetry is None:
        telemetry = workflows_otel.setup(preset)
    with pytest.raises(ValueError, match="broken"), workflows_otel.context(session_id="s1"):
        await Failing().run(error=ValueError("broken"))
    telemetry.flush()
    telemetry.shutdown()
    processor.shutdown()
    assert sorted(sink.names()) == ["invoke_workflow Failing", "run_step fail"]
    for span in sink.spans:
        assert span.attributes["session.id"] == "s1"
        assert span.attributes["langfuse.observation.metadata.run_id"] == span.attributes["workflow.run.id"]
        assert span.attributes["langfuse.trace.name"] == "Failing"


async def test_langfuse_keeps_every_span_of_ours_by_its_default_filter(sink: OtlpSink) -> None:
    filters = pytest.importorskip(
        "langfuse.span_filter", reason="runs with Langfuse's client: `pip install 'spanflow[langfuse]'`"
    )
    langfuse_client(sink, "pk-lf-filter")
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    kept: list[bool] = []

    class Asking(SpanProcessor):
        def on_end(self, span: object) -> None:
            kept.append(filters.is_default_export_span(span))

    provider.add_span_processor(Asking())
    workflows_otel.instrument(provider)
    await Echo().run()
    provider.shutdown()
    assert kept == [True] * 3


def test_a_provider_that_is_refused_after_setup_is_told_of_with_the_fix(
    sink: OtlpSink, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    for _ in range(2):
        trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    telemetry.shutdown()
    warnings = [r.getMessage() for r in caplog.records if r.name == "workflows.otel" and r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "tried to set a tracer provider of its own" in warnings[0]
    assert "before setup()" in warnings[0]


@pytest.mark.parametrize("endpoint", ["http://otlp.example:4318", "http://127.0.0.1:4318"])
def test_headers_of_the_otlp_variables_reach_no_other_back_end(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-otlp-key=otlp-secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-otlp-key=otlp-secret")
    presets = [
        phoenix(endpoint=sink.endpoint),
        workflows_otel.langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint),
        otlp(sink.endpoint),
        workflows_otel.jaeger(sink.endpoint),
    ]
    for preset in presets:
        telemetry = workflows_otel.setup(preset)
        trace.get_tracer("my.app").start_span("GET").end()
        assert telemetry.shutdown().sent == 1
    assert len(sink.requests) == 4
    assert not any("x-otlp-key" in request.headers for request in sink.requests)
    assert "otlp-secret" not in repr(presets)


def test_headers_of_the_otlp_variables_reach_no_other_back_end_by_grpc(
    grpc_back_end: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_GRPC_PORT", grpc_back_end.endpoint.rpartition(":")[2])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-otlp-key=otlp-secret")
    telemetry = workflows_otel.setup(phoenix(endpoint=grpc_back_end.endpoint))
    trace.get_tracer("my.app").start_span("GET").end()
    telemetry.shutdown()
    assert "x-otlp-key" not in grpc_back_end.requests[0].headers


def test_the_environment_is_as_it_was_after_setup(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue")
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    trace.get_tracer("my.app").start_span("GET").end()
    telemetry.shutdown()
    assert sink.requests[0].headers["x-team"] == "blue"  # the only endpoint that they can be meant for
    with pytest.raises(TelemetrySetupError):
        workflows_otel.setup("zipkin")
