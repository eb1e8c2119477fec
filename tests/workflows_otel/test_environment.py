"""`OTEL_*` and the back ends' own variables, each read by a process of its own that calls `setup()` and no more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.processes import run
from workflows_otel import TelemetrySetupError

pytestmark = pytest.mark.slow

APP = """
    import asyncio
    import workflows_otel
    from tests.workflows_otel.flows import Echo

    async def main():
        await asyncio.gather(*[Echo().run(text="hello") for _ in range(8)])

    telemetry = workflows_otel.setup(start_marker=False)
    asyncio.run(main())
    result = telemetry.flush()
    print(result.sent, result.failed, result.dropped)
"""


def test_endpoint_headers_service_and_resource(sink: OtlpSink) -> None:
    run(
        APP,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTEL_EXPORTER_OTLP_HEADERS="x-team=blue,x-key=k%201",
        OTEL_SERVICE_NAME="orders",
        OTEL_RESOURCE_ATTRIBUTES="service.version=7,deployment.environment.name=staging",
    )
    assert sink.requests[0].path == "/v1/traces"
    assert {"x-team": "blue", "x-key": "k 1"}.items() <= sink.requests[0].headers.items()
    wanted = {"service.name": "orders", "service.version": "7", "deployment.environment.name": "staging"}
    assert wanted.items() <= sink.spans[0].resource.items()


def test_the_traces_endpoint_is_used_as_it_is(sink: OtlpSink) -> None:
    with http_sink() as other:
        run(
            APP,
            OTEL_EXPORTER_OTLP_ENDPOINT=other.endpoint,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.endpoint}/ingest",
            OTEL_EXPORTER_OTLP_HEADERS="x-all=1",
            OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-traces=1",
        )
        assert other.requests == []
    assert [request.path for request in sink.requests] == ["/ingest"]
    assert "x-traces" in sink.requests[0].headers


@pytest.mark.parametrize("protocol", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_the_protocol(grpc_back_end: OtlpSink, protocol: str) -> None:
    run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=grpc_back_end.endpoint, **{protocol: "grpc"})
    assert len(grpc_back_end.spans) == 16


@pytest.mark.parametrize(("compression", "sent"), [("none", None), ("deflate", "deflate"), ("gzip", "gzip")])
def test_the_compression(sink: OtlpSink, compression: str, sent: str | None) -> None:
    run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_EXPORTER_OTLP_COMPRESSION=compression)
    assert sink.requests[0].headers.get("content-encoding") == sent
    assert len(sink.spans) == 16


@pytest.mark.parametrize(
    ("sampler", "spans"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, 16),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, 0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, 16),
    ],
)
def test_the_sampler(sink: OtlpSink, sampler: dict[str, str], spans: int) -> None:
    assert run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, **sampler) == f"{spans} 0 0\n"
    assert len(sink.spans) == spans


def test_the_size_of_a_batch(sink: OtlpSink) -> None:
    run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="3")
    assert len(sink.spans) == 16
    assert len(sink.requests) >= 6


def test_the_size_of_the_queue(sink: OtlpSink) -> None:
    printed = run(
        APP,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTEL_BSP_MAX_QUEUE_SIZE="4",
        OTEL_BSP_SCHEDULE_DELAY="60000",
    )
    sent, failed, dropped = map(int, printed.split())
    assert (sent + dropped, failed) == (16, 0)
    assert dropped > 0
    assert len(sink.spans) == sent


def test_the_timeout(sink: OtlpSink) -> None:
    sink.hold.clear()
    assert run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="0.2") == "0 16 0\n"
    sink.hold.set()


def test_the_limits_of_a_span(sink: OtlpSink) -> None:
    run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="6")
    assert {len(span.attributes) for span in sink.spans} == {6}
    kept = {"openinference.span.kind", "gen_ai.workflow.name", "workflow.run.id"}
    assert all(kept <= set(span.attributes) for span in sink.spans if span.name.startswith("invoke_workflow"))


def test_the_sdk_can_be_disabled(sink: OtlpSink) -> None:
    assert run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, OTEL_SDK_DISABLED="true") == "0 0 0\n"
    assert sink.requests == []


@pytest.mark.parametrize(("mode", "shown"), [("true", True), ("false", False)])
def test_whether_payloads_are_shown(sink: OtlpSink, mode: str, shown: bool) -> None:
    variable = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": mode}
    run(APP, OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, **variable)
    assert (b"hello" in sink.raw) is shown


def test_each_back_end_gets_its_own_key_and_no_other(sink: OtlpSink) -> None:
    with http_sink() as second, http_sink() as third:
        run(
            APP,
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer otlp-key",
            PHOENIX_COLLECTOR_ENDPOINT=second.endpoint,
            PHOENIX_API_KEY="phoenix-key",
            LANGFUSE_BASE_URL=third.endpoint,
            LANGFUSE_PUBLIC_KEY="pk-lf-1",
            LANGFUSE_SECRET_KEY="sk-lf-2",
        )
        keys = [one.requests[0].headers["authorization"] for one in (sink, second, third)]
    assert keys == ["Bearer otlp-key", "Bearer phoenix-key", "Basic cGstbGYtMTpzay1sZi0y"]


# --- what the SDK itself knows ----------------------------------------------------------------------------------------

BY_FILE = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: by-file
tracer_provider:
  processors:
    - simple:
        exporter:
          otlp_http:
            endpoint: {endpoint}/v1/traces
"""


def test_a_configuration_file_says_all(sink: OtlpSink, tmp_path: Path) -> None:
    pytest.importorskip(
        "opentelemetry.configuration",
        reason="runs where `pip install 'opentelemetry-sdk[file-configuration]'` was done",
    )
    file = tmp_path / "otel.yaml"
    file.write_text(BY_FILE.format(endpoint=sink.endpoint))
    path = os.pathsep.join(sys.path)
    run(APP, OTEL_CONFIG_FILE=str(file), PHOENIX_COLLECTOR_ENDPOINT="http://127.0.0.1:9", PYTHONPATH=path)
    assert len(sink.spans) == 16
    assert {span.resource["service.name"] for span in sink.spans} == {"by-file"}


def test_a_configuration_file_that_nobody_can_read_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    with pytest.raises(TelemetrySetupError, match=r"Install `opentelemetry-sdk\[file-configuration\]`"):
        workflows_otel.setup()


def test_an_exporter_of_another_package_is_found_by_its_name(tmp_path: Path) -> None:
    installed = tmp_path / "shouting-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nshout = shouting:Shout\n")
    (tmp_path / "shouting.py").write_text(
        "from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult\n"
        "class Shout(SpanExporter):\n"
        "    def export(self, spans):\n"
        "        print(*(span.name.upper() for span in spans))\n"
        "        return SpanExportResult.SUCCESS\n"
    )
    path = os.pathsep.join((str(tmp_path), *sys.path))
    said = run(APP, OTEL_TRACES_EXPORTER="shout", PYTHONPATH=path)
    assert "INVOKE_WORKFLOW ECHO" in said
