"""Through a collector that is not ours: `rotel` decodes what we send and sends it on."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import workflows_otel
from tests.workflows_otel.flows import FanOut
from tests.workflows_otel.otlp_sink import OtlpSink
from workflows.testing import VirtualClockLoop
from workflows_otel import jaeger

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_provider")]

rotel = pytest.importorskip("rotel", reason="runs with rotel, of the development group: `pip install rotel`")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def relay(sink: OtlpSink, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A collector's HTTP and gRPC endpoints; what it takes, it sends to `sink`."""
    http, grpc = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    agent = Path(rotel.__file__).with_name("rotel-agent")
    command = [str(agent), "start", "--otlp-http-endpoint", http, "--otlp-grpc-endpoint", grpc]
    command += ["--exporter", "otlp", "--otlp-exporter-endpoint", sink.endpoint, "--otlp-exporter-protocol", "http"]
    command += ["--batch-timeout", "100ms"]
    with (tmp_path / "rotel.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_open(http, process, tmp_path / "rotel.log")
        yield f"http://{http}", f"http://{grpc}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_open(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.partition(":")
    for _ in range(300):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"rotel did not start:\n{log.read_text()[-2000:]}")


def _wait_for(sink: OtlpSink, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(sink.spans) < count and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_collector_passes_our_spans_on_whole(
    clock: VirtualClockLoop, relay: tuple[str, str], sink: OtlpSink, protocol: str
) -> None:
    by_http, by_grpc = relay
    telemetry = workflows_otel.setup(
        jaeger(by_http) if protocol == "http/protobuf" else jaeger(by_grpc, protocol="grpc"), start_marker=False
    )
    await FanOut().run(n=2)
    assert telemetry.flush().ok
    telemetry.shutdown()
    _wait_for(sink, 6)
    split = sink.named("run_step split")
    assert sorted(sink.names()) == [
        "invoke_workflow FanOut",
        *["run_step join"] * 2,
        "run_step split",
        *["run_step work"] * 2,
    ]
    for work in (span for span in sink.spans if span.name == "run_step work"):
        assert [(span_id, link["workflow.link.type"]) for span_id, link in work.links] == [(split.span_id, "trigger")]
        assert work.attributes["workflow.cause.span_ids"] == [split.span_id]
        assert (work.scope, work.status) == ("workflows", "OK")
