"""Presets: what each back end is sent, byte for byte, and what is refused before anything is sent."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import workflows_otel
from tests.workflows_otel.flows import Echo, Failing, Flaky
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from workflows.testing import VirtualClockLoop
from workflows_otel import Preset, TelemetrySetupError, jaeger, langfuse, otlp, phoenix

pytestmark = pytest.mark.usefixtures("no_provider")

KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-2"}


async def one_run(preset: Preset | None) -> None:
    telemetry = workflows_otel.setup(preset)
    await Echo().run(text="hello")
    assert telemetry.flush().ok
    telemetry.shutdown()


# --- Jaeger -----------------------------------------------------------------------------------------------------------


async def test_jaeger_gets_start_markers_and_no_payloads(sink: OtlpSink) -> None:
    await one_run(jaeger(sink.endpoint))
    assert sink.requests[0].path == "/v1/traces"
    assert "workflow.started" in sink.names()
    assert b"hello" not in sink.raw


# --- Phoenix ----------------------------------------------------------------------------------------------------------


async def test_phoenix_gets_its_project_twice_and_payloads(sink: OtlpSink) -> None:
    await one_run(phoenix("shop", endpoint=sink.endpoint, api_key="k1", headers={"X-Team": "blue"}))
    (request,) = sink.requests
    assert request.path == "/v1/traces"
    wanted = {"content-type": "application/x-protobuf", "x-project-name": "shop", "x-team": "blue"}
    assert {**wanted, "authorization": "Bearer k1"}.items() <= request.headers.items()
    assert sink.spans[0].resource["openinference.project.name"] == "shop"
    assert sink.named("invoke_workflow Echo").attributes["input.value"] == '{"text":"hello"}'
    assert "workflow.started" not in sink.names()


async def test_phoenix_is_read_from_its_own_variables(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", sink.endpoint)
    monkeypatch.setenv("PHOENIX_PROJECT_NAME", "shop")
    monkeypatch.setenv("PHOENIX_API_KEY", "k1")
    monkeypatch.setenv("PHOENIX_CLIENT_HEADERS", "x-team=blue")
    await one_run(None)
    wanted = {"authorization": "Bearer k1", "x-project-name": "shop", "x-team": "blue"}
    assert wanted.items() <= sink.requests[0].headers.items()


async def test_phoenix_is_spoken_to_by_grpc_on_its_grpc_port(
    grpc_back_end: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_GRPC_PORT", grpc_back_end.endpoint.rpartition(":")[2])
    await one_run(phoenix("shop", endpoint=grpc_back_end.endpoint))
    assert grpc_back_end.requests[0].headers["x-project-name"] == "shop"


async def test_phoenix_ignores_what_protocol_another_back_end_speaks(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    await one_run(phoenix(endpoint=sink.endpoint))
    assert sink.requests[0].headers["content-type"] == "application/x-protobuf"


def test_spans_for_phoenix_may_have_as_many_attributes_as_openinference_writes() -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint="http://127.0.0.1:1"))
    with trace.get_tracer("x").start_as_current_span("x") as span:
        span.set_attributes({f"llm.input_messages.{n}.message.content": n for n in range(500)})
    assert len(getattr(span, "attributes", {})) == 500
    telemetry.shutdown(timeout=0)


# --- Langfuse ---------------------------------------------------------------------------------------------------------


async def test_langfuse_gets_what_its_endpoint_asks_for(sink: OtlpSink) -> None:
    await one_run(langfuse(**KEYS, base_url=sink.endpoint, environment="staging", release="v1"))
    (request,) = sink.requests
    assert request.path == "/api/public/otel/v1/traces"
    wanted = {"x-langfuse-ingestion-version": "4", "content-encoding": "gzip", "content-type": "application/x-protobuf"}
    assert wanted.items() <= request.headers.items()
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"pk-lf-1:sk-lf-2"
    stated = {"langfuse.environment": "staging", "langfuse.release": "v1"}
    assert stated.items() <= sink.spans[0].resource.items()


async def test_langfuse_environment_reaches_an_applications_own_provider(sink: OtlpSink) -> None:
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    await one_run(langfuse(**KEYS, base_url=sink.endpoint, environment="staging"))
    assert {span.resource["langfuse.environment"] for span in sink.spans} == {"staging"}


async def test_langfuse_finds_name_session_user_and_tags_on_every_span(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(langfuse(**KEYS, base_url=sink.endpoint))
    with workflows_otel.context(session_id="s1", user_id="u1", tags=["a"], metadata={"plan": "pro", "seats": 3}):
        await Echo().run()
    telemetry.shutdown()
    for span in sink.spans:
        wanted = {"langfuse.trace.name": "Echo", "langfuse.trace.tags": ["a"], "session.id": "s1", "user.id": "u1"}
        assert wanted.items() <= span.attributes.items()
    metadata = {"langfuse.trace.metadata.plan": "pro", "langfuse.trace.metadata.seats": "3"}
    assert metadata.items() <= sink.named("invoke_workflow Echo").attributes.items()


async def test_langfuse_shows_a_failed_attempt_as_a_warning(clock: VirtualClockLoop, sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(langfuse(**KEYS, base_url=sink.endpoint))
    await Flaky(failures=1).run()
    telemetry.shutdown()
    levels = [(span.name, span.attributes.get("langfuse.observation.level")) for span in sink.spans]
    assert levels == [
        ("attempt fetch", "WARNING"),
        ("attempt fetch", None),
        ("run_step fetch", None),
        ("invoke_workflow Flaky", None),
    ]
    assert sink.spans[0].attributes["langfuse.observation.metadata.retry_delay_s"] == 30.0


async def test_langfuse_shows_a_failed_run_by_its_status(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(langfuse(**KEYS, base_url=sink.endpoint))
    with pytest.raises(ValueError, match="broken"):
        await Failing().run(error=ValueError("broken"))
    telemetry.shutdown()
    assert [(span.status, span.description) for span in sink.spans] == [("ERROR", "ValueError: broken")] * 2
    assert not any("langfuse.observation.level" in span.attributes for span in sink.spans)


async def test_what_langfuse_needs_goes_to_langfuse_alone(sink: OtlpSink) -> None:
    with http_sink() as other:
        telemetry = workflows_otel.setup(
            [langfuse(**KEYS, base_url=sink.endpoint, release="v1"), jaeger(other.endpoint)]
        )
        await Echo().run()
        telemetry.shutdown()
    named = {key for span in other.spans for key in span.attributes if key.startswith("langfuse.")}
    assert named <= {"langfuse.trace.name"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: langfuse(), "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY is missing"),
        (lambda: langfuse(public_key="pk-lf-1"), "LANGFUSE_SECRET_KEY is missing"),
        (lambda: langfuse("sk-lf-2", "pk-lf-1"), "keys are swapped"),
        (lambda: langfuse(**KEYS, environment="Staging EU"), "'Staging EU' would be shown as 'default'"),
        (lambda: langfuse(**KEYS, environment="langfuse-prod"), "would be shown as 'default'"),
        (lambda: langfuse(**KEYS, base_url="cloud.langfuse.com"), "is not a URL"),
        (lambda: phoenix(endpoint="localhost:6006"), "is not a URL"),
        (lambda: jaeger("localhost:4318"), "is not a URL"),
    ],
)
def test_what_a_back_end_would_misread_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TelemetrySetupError, match=message) as caught:
        make()
    assert "sk-lf-2" not in str(caught.value)


def test_a_rate_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "often")
    with pytest.raises(TelemetrySetupError, match="LANGFUSE_SAMPLE_RATE='often'"):
        langfuse(**KEYS)


async def test_langfuse_samples_as_its_variable_says(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    await one_run(langfuse(**KEYS, base_url=sink.endpoint))
    assert sink.spans == []


async def test_the_rate_of_langfuse_is_for_langfuse_alone(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0.5")
    with http_sink() as other:
        telemetry = workflows_otel.setup([langfuse(**KEYS, base_url=sink.endpoint), otlp(other.endpoint)])
        for _ in range(40):
            await Echo().run()
        counted = telemetry.shutdown()
    assert counted.sent == len(sink.spans) + len(other.spans)
    there, all_of_them = ({span.trace_id for span in one.spans} for one in (sink, other))
    assert len(all_of_them) == 40
    assert 5 < len(there) < 35
    assert {f"{trace_id}: 2 spans" for trace_id in there} == {
        f"{trace_id}: {sum(span.trace_id == trace_id for span in sink.spans)} spans" for trace_id in there
    }


@pytest.mark.parametrize("first", ["langfuse", "otlp"])
async def test_the_rate_of_langfuse_is_for_langfuse_alone_whichever_comes_first(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    with http_sink() as other:
        presets = [langfuse(**KEYS, base_url=sink.endpoint), otlp(other.endpoint)]
        handles = [workflows_otel.setup(one) for one in (presets if first == "langfuse" else reversed(presets))]
        await Echo().run()
        for handle in handles:
            handle.shutdown()
    assert sink.spans == []
    assert {span.name for span in other.spans} == {"workflow.started", "invoke_workflow Echo", "run_step reply"}


async def test_the_rate_of_langfuse_holds_with_a_provider_of_the_applications(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
    await one_run(langfuse(**KEYS, base_url=sink.endpoint))
    assert sink.spans == []


async def test_the_rate_of_langfuse_holds_where_an_exporter_of_the_applications_feeds_it(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    preset = langfuse(**KEYS, base_url=sink.endpoint)
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=preset.url, headers=dict(preset.headers))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    await one_run(preset)
    assert sink.spans == []


async def test_langfuse_alone_draws_no_more_than_it_sends(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    with http_sink() as other:
        telemetry = workflows_otel.setup(langfuse(**KEYS, base_url=sink.endpoint))
        added = workflows_otel.setup(otlp(other.endpoint))
        added.shutdown()
        with trace.get_tracer("app").start_as_current_span("call") as span:
            assert not span.is_recording()
        telemetry.shutdown()


async def test_langfuse_can_be_switched_off(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "false")
    await one_run(langfuse(base_url=sink.endpoint))
    assert sink.requests == []


# --- the environment alone --------------------------------------------------------------------------------------------


async def test_the_environment_sets_up_every_back_end_it_names(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with http_sink() as second, http_sink() as third:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.endpoint)
        monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", second.endpoint)
        monkeypatch.setenv("LANGFUSE_BASE_URL", third.endpoint)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-2")
        with caplog.at_level(logging.INFO, "workflows.otel"):
            await one_run(None)
        (line,) = [record.getMessage() for record in caplog.records if record.name == "workflows.otel"]
    assert [request.path for one in (sink, second, third) for request in one.requests] == [
        "/v1/traces",
        "/v1/traces",
        "/api/public/otel/v1/traces",
    ]
    assert all(name in line for name in ("otlp (", "phoenix (", "langfuse ("))
    assert "lf-" not in line


async def test_the_standard_variable_has_the_last_word(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", sink.endpoint)
    await one_run(None)
    assert sink.requests == []


def test_a_log_line_holds_no_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "workflows.otel"):
        workflows_otel.setup(otlp("http://me:hunter2@127.0.0.1:1")).shutdown(timeout=0)
    assert "hunter2" not in caplog.text


# --- keys of the environment go to the endpoint of the environment alone ----------------------------------------------


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_API_KEY", "phoenix-secret")
    monkeypatch.setenv("PHOENIX_CLIENT_HEADERS", "x-client=phoenix-secret")
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-9")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-9")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("meant", ["https://phoenix.example", "http://127.0.0.1:1", "https://{place}"])
async def test_phoenix_elsewhere_gets_no_key_of_the_environment(
    meant: str, sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", meant.format(place=sink.endpoint.partition("://")[2]))
    await one_run(phoenix(endpoint=sink.endpoint))
    assert not any("phoenix-secret" in str(request.headers) for request in sink.requests)


@pytest.mark.usefixtures("keys")
async def test_phoenix_elsewhere_gets_the_key_that_it_is_given(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", "https://phoenix.example")
    await one_run(phoenix(endpoint=sink.endpoint, api_key="k2"))
    assert {request.headers["authorization"] for request in sink.requests} == {"Bearer k2"}


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("environments", [None, "{endpoint}/"])
async def test_phoenix_at_the_environments_place_or_the_only_one_gets_its_key(
    environments: str | None, sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    if environments is not None:
        monkeypatch.setenv("PHOENIX_COLLECTOR_ENDPOINT", environments.format(endpoint=sink.endpoint))
    await one_run(phoenix(endpoint=sink.endpoint))
    assert {request.headers["authorization"] for request in sink.requests} == {"Bearer phoenix-secret"}
    assert {request.headers["x-client"] for request in sink.requests} == {"phoenix-secret"}


@pytest.mark.usefixtures("keys")
def test_langfuse_elsewhere_wants_keys_of_its_own(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_BASE_URL", "https://langfuse.example")
    with pytest.raises(TelemetrySetupError, match=r"are for https://langfuse\.example, and are not sent elsewhere"):
        langfuse(base_url=sink.endpoint)


@pytest.mark.usefixtures("keys")
async def test_langfuse_at_the_environments_place_gets_its_keys(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_BASE_URL", sink.endpoint)
    await one_run(langfuse(base_url=f"{sink.endpoint}/"))
    basic = base64.b64encode(b"pk-lf-9:sk-lf-9").decode()
    assert {request.headers["authorization"] for request in sink.requests} == {f"Basic {basic}"}


KEY_IN_URL = "http://ann:hunter2@127.0.0.1:4318/?key=hunter3"


@pytest.mark.parametrize(
    "make",
    [
        lambda: otlp(KEY_IN_URL, headers={"x-key": "hunter4"}),
        lambda: jaeger(KEY_IN_URL),
        lambda: phoenix(endpoint=KEY_IN_URL, api_key="hunter4"),
        lambda: langfuse(**KEYS, base_url="http://ann:hunter2@127.0.0.1:3000"),
    ],
    ids=["otlp", "jaeger", "phoenix", "langfuse"],
)
def test_a_preset_shows_no_key(make: Callable[[], Preset]) -> None:
    preset = make()
    assert not any(key in repr(preset) + preset.where for key in ("hunter", "sk-lf-2"))


def test_an_endpoint_with_a_query_keeps_it_behind_the_path() -> None:
    assert otlp("http://collector:4318/?key=k1").url == "http://collector:4318/v1/traces?key=k1"
