"""The SDK's OTLP exporters as presets want them: compressing, quick to give up, and heard about refused spans."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.rejections import Rejections

__all__ = ["exporter_of", "from_environment"]

EXPORT_TIMEOUT = 5.0  # seconds; the exporters' own default of 10 delays the exit of a process whose back end is gone

_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_CREDENTIAL_PROVIDERS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
)
# What a request imports when it is the first one: in a child that is forked in the middle of that, nobody ends it.
_OF_FIRST_REQUEST = ("netrc", "encodings.idna")

logger = logging.getLogger("workflows.otel")


def exporter_of(
    url: str, headers: Mapping[str, str], *, by_grpc: bool = False, timeout: float | None = None
) -> Callable[[], SpanExporter]:
    """Makes an OTLP exporter, compressing, that sends these headers alone, and does not hold up the exit."""
    return lambda: (_grpc_exporter if by_grpc else _http_exporter)(url, headers, timeout)


def from_environment(what: str) -> str | None:
    """What OTLP's variables say of traces, for themselves or with the other signals."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        if text := os.environ.get(variable, "").strip():
            return text
    return None


def _http_exporter(url: str, headers: Mapping[str, str], timeout: float | None) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from requests import Session
    except ImportError as error:
        raise _missing_package("opentelemetry-exporter-otlp-proto-http") from error
    for module in _OF_FIRST_REQUEST:
        import_module(module)
    compression = None if from_environment("COMPRESSION") else Compression.Gzip
    rejections, session = Rejections(), None
    if not any(os.environ.get(name) for name in _CREDENTIAL_PROVIDERS):  # else the exporter takes the one that gives
        session = Session()
        session.hooks["response"].append(_listener(rejections))
    with _no_environment_headers():
        made = OTLPSpanExporter(
            endpoint=url, headers=dict(headers), timeout=_timeout(timeout), compression=compression, session=session
        )
    return rejections.of(made)


def _listener(rejections: Rejections) -> Callable[..., None]:
    """Reads the answers that an HTTP exporter gets."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    def listen(response: Any, **options: Any) -> None:
        if response.ok and response.content and "protobuf" in response.headers.get("content-type", ""):
            try:
                rejections.heard(ExportTraceServiceResponse.FromString(response.content))
            except DecodeError:
                logger.debug("an answer with status %s is none of OTLP", response.status_code)

    return listen


def _grpc_exporter(url: str, headers: Mapping[str, str], timeout: float | None) -> SpanExporter:
    try:
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise _missing_package("opentelemetry-exporter-otlp-proto-grpc") from error
    compression = None if from_environment("COMPRESSION") else Compression.Gzip
    with _no_environment_headers():
        made: Any = OTLPSpanExporter(
            endpoint=url, headers=dict(headers), timeout=_timeout(timeout), compression=compression
        )
    rejections, stub_of = Rejections(), getattr(made, "_stub", None)
    if stub_of is None or getattr(made, "_client", None) is None:
        return made  # another version of the SDK: there is no public way to the answers

    def listening(channel: Any) -> _ListeningStub:
        return _ListeningStub(stub_of(channel), rejections)

    # With a new channel the exporter makes a new stub.
    made._stub, made._client = listening, _ListeningStub(made._client, rejections)
    return rejections.of(made)


class _ListeningStub:
    """Reads the answers that a gRPC exporter gets."""

    def __init__(self, stub: Any, rejections: Rejections) -> None:
        self._stub = stub
        self._rejections = rejections

    def Export(self, *args: Any, **options: Any) -> Any:  # noqa: N802  # gRPC's name
        answer = self._stub.Export(*args, **options)
        self._rejections.heard(answer)
        return answer


_making = threading.RLock()


@contextmanager
def _no_environment_headers() -> Generator[None]:
    # The exporters add the environment's headers to those they are given, whoever they are for, and cannot be told
    # not to: Phoenix would get the key of the OTLP back end.
    with _making:
        kept = {name: os.environ.pop(name) for name in _HEADERS if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(kept)


def _missing_package(package: str) -> TelemetrySetupError:
    return TelemetrySetupError(f"{package} is not installed. Install it with `pip install 'spanflow[otel]'`.")


def _timeout(asked: float | None) -> float | None:
    if asked is not None:
        return asked
    return None if from_environment("TIMEOUT") else EXPORT_TIMEOUT
