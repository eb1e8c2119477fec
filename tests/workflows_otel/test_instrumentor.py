"""Zero code: an application that knows nothing of telemetry is drawn by `opentelemetry-instrument`."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog
from workflows_otel import instrument, otlp, setup, uninstrument
from workflows_otel.instrumentor import WorkflowsInstrumentor

ROOT = Path(__file__).parents[2]
APP = """
import asyncio
from tests.workflows_otel.flows import Echo

async def main():
    print(await Echo().run(text="hello"))

asyncio.run(main())
"""


def entry_points() -> dict[str, dict[str, str]]:
    """Those of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that makes Python believe that this source tree is installed."""
    info = tmp_path / "spanflow-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spanflow\nVersion: 0\n")
    # The package opentelemetry-distro, which people install beside it, adds only this to the SDK.
    configurator = {"sdk": "opentelemetry.sdk._configuration:_OTelSDKConfigurator"}
    groups = {**entry_points(), "opentelemetry_configurator": configurator}.items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {what}\n" for name, what in some.items()) for group, some in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


SETS_UP = APP.replace("asyncio.run(main())", "import workflows_otel; workflows_otel.setup(); asyncio.run(main())")


def _run_app(installed: Path, sink: OtlpSink, app: str = APP, **environment: str) -> str:
    path = os.pathsep.join([str(installed), str(ROOT / "src"), str(ROOT)])
    settings = {"PYTHONPATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_METRICS_EXPORTER": "none"}
    settings |= {"OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "otlp_proto_http", **environment}
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", app]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_application_is_drawn_without_a_line_of_code(installed: Path, sink: OtlpSink) -> None:
    assert _run_app(installed, sink, OTEL_SERVICE_NAME="shop") == "hello\n"
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply", "workflow.started"]
    assert sink.spans[0].resource["service.name"] == "shop"


@pytest.mark.parametrize("exporter", ["otlp", "otlp_proto_http"])
def test_an_application_that_calls_setup_as_well_is_drawn_once(installed: Path, sink: OtlpSink, exporter: str) -> None:
    variables = {"OTEL_TRACES_EXPORTER": exporter, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    assert _run_app(installed, sink, SETS_UP, **variables) == "hello\n"
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply", "workflow.started"]


REGISTERS = """
import sys
from phoenix.otel import register

provider = register(
    endpoint=sys.argv[1] + "/v1/traces",
    protocol="http/protobuf",
    project_name="shop",
    batch=True,
    verbose=False,
    auto_instrument=True,
)
"""


def test_phoenix_register_draws_runs_by_itself(installed: Path, sink: OtlpSink) -> None:
    pytest.importorskip("phoenix.otel", reason="runs with arize-phoenix-otel: `pip install 'spanflow[phoenix]'`")
    path = os.pathsep.join([str(installed), str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", REGISTERS + APP + "provider.shutdown()", sink.endpoint],
        env={**os.environ, "PYTHONPATH": path, "PHOENIX_DISCOVER_CONFIG": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert sorted(sink.names()) == ["invoke_workflow Echo", "run_step reply", "workflow.started"]
    assert sink.spans[0].resource["openinference.project.name"] == "shop"


def test_it_can_be_left_out(installed: Path, sink: OtlpSink) -> None:
    assert _run_app(installed, sink, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="workflows") == "hello\n"
    assert sink.spans == []


def test_both_groups_load_the_instrumentor() -> None:
    for group in ("opentelemetry_instrumentor", "openinference_instrumentor"):
        ((name, value),) = entry_points()[group].items()
        assert EntryPoint(name, value, group).load() is WorkflowsInstrumentor


async def test_it_draws_on_the_provider_it_is_given_until_told_to_stop() -> None:
    log = SpanLog()
    WorkflowsInstrumentor().instrument(tracer_provider=log.provider, skip_dep_check=True, start_marker=False)
    await Echo().run()
    WorkflowsInstrumentor().uninstrument()
    await Echo().run()
    assert log.outline() == ["invoke_workflow Echo OK completed", "  run_step reply OK completed"]


def test_it_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = "wrong"
    WorkflowsInstrumentor().instrument(tracer_provider=TracerProvider(shutdown_on_exit=False), run_parent=wrong)
    assert "run_parent='wrong' is unknown" in caplog.text
    WorkflowsInstrumentor().uninstrument()


async def test_a_cell_that_is_run_again_with_a_new_provider_draws_runs_once(caplog: pytest.LogCaptureFixture) -> None:
    logs = [SpanLog(), SpanLog()]
    instrumentor = WorkflowsInstrumentor()
    for log in logs:
        instrumentor.instrument(tracer_provider=log.provider)
    try:
        await Echo().run()
    finally:
        instrumentor.uninstrument()
    assert [len(log.all_named("run_step reply")) for log in logs] == [1, 0]
    assert "another tracer provider already" in caplog.text


@pytest.mark.parametrize("stop", [uninstrument, WorkflowsInstrumentor().uninstrument], ids=["ours", "its own"])
async def test_after_uninstrument_another_provider_may_be_named(stop: Callable[[], None]) -> None:
    first, second = SpanLog(), SpanLog()
    instrumentor = WorkflowsInstrumentor()
    instrumentor.instrument(tracer_provider=first.provider)
    stop()
    instrumentor.instrument(tracer_provider=second.provider)
    try:
        await Echo().run()
    finally:
        instrumentor.uninstrument()
    assert len(second.all_named("run_step reply")) == 1
    assert len(first.all_named("run_step reply")) == 0


async def test_it_ends_no_more_than_it_began() -> None:
    own = SpanLog()
    instrumentor = WorkflowsInstrumentor()
    instrumentor.instrument()
    instrument(own.provider)
    instrumentor.uninstrument()
    try:
        await Echo().run()
    finally:
        uninstrument()
    assert len(own.all_named("run_step reply")) == 1


@pytest.mark.usefixtures("no_provider")
@pytest.mark.parametrize("comes", ["first", "last"])
async def test_when_it_ends_setup_goes_on(sink: OtlpSink, comes: str) -> None:
    if comes == "first":
        WorkflowsInstrumentor().instrument()
    telemetry = setup(otlp(sink.endpoint))
    if comes == "last":
        WorkflowsInstrumentor().instrument()
    WorkflowsInstrumentor().uninstrument()
    await Echo().run()
    telemetry.shutdown()
    assert "run_step reply" in sink.names()
