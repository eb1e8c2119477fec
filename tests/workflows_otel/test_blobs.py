"""Payloads that are too long for a span are kept elsewhere, whole and masked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.processes import run
from tests.workflows_otel.span_log import SpanLog
from workflows_otel import TelemetrySetupError, jaeger, kept_in, phoenix
from workflows_otel.blobs import MOST_UNDER_WAY

pytestmark = pytest.mark.usefixtures("no_provider")

LONG = "sk-abcdefghijklmnop and " + "x" * 10_000


def _read(uri: object) -> str:
    path = Path(urlsplit(str(uri)).path)
    for _ in range(1000):
        if path.exists():
            break
        threading.Event().wait(0.01)  # it is written by another thread
    return path.read_text()


async def test_a_long_payload_is_kept_whole_and_masked(sink: OtlpSink, tmp_path: Path) -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), blob=kept_in(tmp_path.as_uri()))
    await Echo().run(text=LONG)
    telemetry.shutdown()
    about = sink.named("invoke_workflow Echo").attributes
    assert json.loads(about["input.value"])["text"].endswith("chars omitted]")
    kept = json.loads(_read(about["workflow.input.uri"]))["text"]
    assert kept == "********** and " + "x" * 10_000
    assert _read(about["workflow.output.uri"]) == kept


async def test_what_is_sent_often_is_kept_once(sink: OtlpSink, tmp_path: Path) -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), blob=kept_in(tmp_path.as_uri()))
    for _ in range(2):
        await Echo().run(text=LONG)
    telemetry.shutdown()
    uris = {span.attributes["workflow.input.uri"] for span in sink.spans}
    assert len(uris) == 1
    _read(*uris)


async def test_a_short_payload_is_kept_nowhere_else(sink: OtlpSink) -> None:
    kept: list[object] = []
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), blob=lambda *what: kept.append(what))
    await Echo().run(text="hello")
    telemetry.shutdown()
    assert kept == []
    assert not any(key.endswith(".uri") for span in sink.spans for key in span.attributes)


async def test_a_back_end_that_gets_no_payload_gets_no_uri(sink: OtlpSink, tmp_path: Path) -> None:
    with http_sink() as other:
        presets = [phoenix(endpoint=sink.endpoint), jaeger(other.endpoint)]
        telemetry = workflows_otel.setup(presets, blob=kept_in(tmp_path.as_uri()))
        await Echo().run(text=LONG)
        telemetry.shutdown()
    assert "workflow.input.uri" in sink.named("invoke_workflow Echo").attributes
    assert "workflow.input.uri" not in other.named("invoke_workflow Echo").attributes
    _read(sink.named("invoke_workflow Echo").attributes["workflow.input.uri"])


async def test_another_store_is_given_what_to_put_where() -> None:
    log, put, done = SpanLog(), list[tuple[str, bytes, str]](), threading.Event()

    def take(*what: object) -> None:
        put.append(what)  # pyright: ignore[reportArgumentType]
        if {mime_type for _, _, mime_type in put} == {"application/json", "text/plain"}:
            done.set()

    workflows_otel.instrument(log.provider, content="full", blob=kept_in("s3://bucket/spans/", take))
    await Echo().run(text="x" * 5000)
    workflows_otel.uninstrument(log.provider)
    assert done.wait(10)
    assert {uri.rpartition("/")[0] for uri, _, _ in put} == {"s3://bucket/spans"}
    assert {uri.rpartition(".")[2] for uri, _, _ in put} == {"json", "txt"}


async def test_a_store_that_fails_costs_a_run_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log, failed = SpanLog(), threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise OSError("no disk")

    workflows_otel.instrument(log.provider, content="full", blob=kept_in("s3://bucket", fail))
    assert await Echo().run(text=LONG) == LONG
    workflows_otel.uninstrument(log.provider)
    assert failed.wait(10)


async def test_a_hook_that_raises_costs_a_run_nothing_and_a_span_no_payload() -> None:
    def fail(text: str, mime_type: str) -> str:
        raise OSError("no disk")

    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full", blob=fail, start_marker=False)
    assert await Echo().run(text=LONG) == LONG
    workflows_otel.uninstrument(log.provider)
    assert all("input.value" in (span.attributes or {}) for span in log.finished)


def test_a_slow_store_does_not_fill_the_memory() -> None:
    free = threading.Event()
    keep = kept_in("s3://bucket", lambda *_: free.wait(10))
    uris = [keep(f"{n}", "text/plain") for n in range(MOST_UNDER_WAY + 3)]
    free.set()
    assert uris[MOST_UNDER_WAY:] == [None] * 3
    assert None not in uris[:MOST_UNDER_WAY]


def test_a_store_that_nobody_can_write_to_is_refused() -> None:
    with pytest.raises(TelemetrySetupError, match="put="):
        kept_in("s3://bucket/spans")


STORE_THAT_HANGS = """
    import logging, os, threading, workflows_otel
    from workflows_otel.blobs import MOST_UNDER_WAY

    logging.basicConfig(format="%(message)s", stream=__import__("sys").stdout)
    parent, ever = os.getpid(), threading.Event()
    keep = workflows_otel.kept_in("s3://bucket", put=lambda *_: os.getpid() == parent and ever.wait())
"""


def test_a_forked_child_has_room_of_its_own_for_payloads() -> None:
    fork = """
    for number in range(MOST_UNDER_WAY):
        keep(str(number), "text/plain")
    if (child := os.fork()) == 0:
        print(keep("of the child", "text/plain"), flush=True)
    else:
        os.waitpid(child, 0)
    os._exit(0)
"""
    assert run(STORE_THAT_HANGS + fork).startswith("s3://bucket/")


def test_a_store_that_hangs_at_exit_is_given_up_and_that_is_logged() -> None:
    printed = run(STORE_THAT_HANGS + "    keep('one', 'text/plain')\n")
    assert printed == "1 payloads were not kept: their store did not take them in 5 s\n"
