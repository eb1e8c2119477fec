"""Fixtures for telemetry: spans in memory, and OTLP back ends on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import opentelemetry.trace
import pytest
from opentelemetry.util._once import Once

import workflows_otel
from tests.workflows_otel.otlp_sink import OtlpSink, grpc_sink, http_sink
from tests.workflows_otel.phoenix_server import Phoenix, running
from tests.workflows_otel.span_log import SpanLog
from workflows.testing import RecordLog


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry variable of this machine reaches a test."""
    for name in os.environ:
        if name.startswith(("OTEL_", "OPENINFERENCE_", "PHOENIX_", "LANGFUSE_")):
            monkeypatch.delenv(name)


@pytest.fixture
def spans(records: RecordLog, request: pytest.FixtureRequest) -> Iterator[SpanLog]:
    """The spans of every run of this test, with the mark `payloads` whole; errors of record handlers are raised."""
    log = SpanLog()
    whole = request.node.get_closest_marker("payloads") is not None
    workflows_otel.instrument(log.provider, start_marker=False, content="full" if whole else None)
    yield log
    workflows_otel.uninstrument(log.provider)


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has set a tracer provider; what a test sets is forgotten."""
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    yield
    workflows_otel.uninstrument()


@pytest.fixture
def sink() -> Iterator[OtlpSink]:
    """An OTLP/HTTP back end."""
    with http_sink() as sink:
        yield sink


@pytest.fixture
def grpc_back_end() -> Iterator[OtlpSink]:
    """An OTLP/gRPC back end."""
    with grpc_sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A real Phoenix server, one for all tests; each test has a project of its own."""
    with running(tmp_path_factory.mktemp("phoenix")) as found:
        yield found


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """The name of the test's own project."""
    return request.node.name.replace("[", "-").replace("]", "")
