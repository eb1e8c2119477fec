"""Any OTLP back end: Jaeger, Tempo, a collector, MLflow. HTTP with protobuf by default, gRPC where asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets.preset import Preset

__all__ = ["Protocol", "http_exporter", "otlp"]

Protocol = Literal["http/protobuf", "grpc"]

TRACES_PATH = "/v1/traces"
EXPORT_TIMEOUT = 5.0  # seconds; the exporters' own default of 10 delays the exit of a process whose back end is gone


def otlp(
    endpoint: str | None = None,
    *,
    protocol: Protocol | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Preset:
    """A back end that takes OTLP.

    Args:
        endpoint: Base URL (`http://localhost:4318`), or the full URL of the traces path; for gRPC a URL or
            `host:port`. Default: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`, this machine.
        protocol: Default: `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `OTEL_EXPORTER_OTLP_PROTOCOL`, else HTTP.
        headers: Sent with each request, in addition to those of `OTEL_EXPORTER_OTLP_HEADERS`.
        timeout: Seconds an export may take, retries included. Default: `OTEL_EXPORTER_OTLP_TIMEOUT`, else 5.

    Raises:
        TelemetrySetupError: If the endpoint is no URL, or the protocol is unknown.
    """
    spoken = protocol or _from_environment("PROTOCOL") or "http/protobuf"
    if spoken not in ("http/protobuf", "grpc"):
        raise TelemetrySetupError(
            f"OTLP protocol {spoken!r} is not supported. Use 'http/protobuf' or 'grpc', as protocol= or in "
            f"OTEL_EXPORTER_OTLP_PROTOCOL."
        )
    where = endpoint or _from_environment("ENDPOINT")
    if spoken == "grpc":
        target = _checked(where or "http://localhost:4317", schemes=("http", "https", ""))
        return Preset("otlp", lambda: _grpc_exporter(endpoint and target, headers, timeout), where=target)
    target = _checked(where or "http://localhost:4318", schemes=("http", "https"))
    url = _with_path(target) if endpoint else None  # the exporter reads the environment's itself
    return Preset("otlp", lambda: http_exporter(url, headers, timeout), where=url or target)


def http_exporter(url: str | None, headers: Mapping[str, str] | None, timeout: float | None = None) -> SpanExporter:
    """The OTLP/HTTP exporter, compressing, with a timeout that does not hold up the exit."""
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing_package("opentelemetry-exporter-otlp-proto-http", "otel") from error
    compression = None if _from_environment("COMPRESSION") else Compression.Gzip
    return OTLPSpanExporter(
        endpoint=url, headers=_all_headers(headers), timeout=_timeout(timeout), compression=compression
    )


def _grpc_exporter(endpoint: str | None, headers: Mapping[str, str] | None, timeout: float | None) -> SpanExporter:
    try:
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing_package("opentelemetry-exporter-otlp-proto-grpc", "otel") from error
    compression = None if _from_environment("COMPRESSION") else Compression.Gzip
    return OTLPSpanExporter(
        endpoint=endpoint, headers=_all_headers(headers), timeout=_timeout(timeout), compression=compression
    )


def missing_package(package: str, extra: str) -> TelemetrySetupError:
    """The error for an optional package that is not installed."""
    return TelemetrySetupError(f"{package} is not installed. Install it with `pip install 'spanflow[{extra}]'`.")


def _from_environment(what: str) -> str | None:
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        if text := os.environ.get(variable, "").strip():
            return text
    return None


def _all_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    # Not every version of the exporters adds the environment's headers to those that they are given.
    if not headers:
        return None
    merged: dict[str, str] = dict(parse_env_headers(_from_environment("HEADERS") or "", liberal=True))
    merged.update({name.lower(): value for name, value in headers.items()})
    return merged


def _timeout(asked: float | None) -> float | None:
    if asked is not None:
        return asked
    return None if _from_environment("TIMEOUT") else EXPORT_TIMEOUT


def _checked(endpoint: str, schemes: tuple[str, ...]) -> str:
    if "" in schemes and "://" not in endpoint:
        return endpoint  # `host:port`, which gRPC takes as it is
    if _is_url(endpoint, schemes):
        return endpoint
    raise TelemetrySetupError(
        f"OTLP endpoint {endpoint!r} is not a URL. Write it with its scheme and host, such as "
        f"'http://localhost:4318', as endpoint= or in OTEL_EXPORTER_OTLP_ENDPOINT."
    )


def _is_url(endpoint: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _with_path(endpoint: str) -> str:
    return endpoint if urlsplit(endpoint).path.rstrip("/").endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH
