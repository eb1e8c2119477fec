"""Any OTLP back end: Jaeger, Tempo, a collector, MLflow. HTTP with protobuf by default, gRPC where asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets.preset import Preset

__all__ = ["Protocol", "exporter_of", "is_meant_for", "otlp", "with_environment_headers"]

Protocol = Literal["http/protobuf", "grpc"]

TRACES_PATH = "/v1/traces"
EXPORT_TIMEOUT = 5.0  # seconds; the exporters' own default of 10 delays the exit of a process whose back end is gone


def otlp(
    endpoint: str | None = None,
    *,
    protocol: Protocol | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    trace_url: str | None = None,
) -> Preset:
    """A back end that takes OTLP.

    Args:
        endpoint: Base URL (`http://localhost:4318`), or the full URL of the traces path; for gRPC a URL or
            `host:port`. Default: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`, this machine.
        protocol: Default: `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `OTEL_EXPORTER_OTLP_PROTOCOL`, else HTTP.
        headers: Sent with each request, in addition to those of `OTEL_EXPORTER_OTLP_HEADERS`. Those stay away from an
            `endpoint` on another host or port than the environment's: they hold that one's key.
        timeout: Seconds an export may take, retries included. Default: `OTEL_EXPORTER_OTLP_TIMEOUT`, else 5.
        trace_url: Where a person sees a trace, with `{trace_id}` in it; for `trace_of`.

    Raises:
        TelemetrySetupError: If the endpoint is no URL, or the protocol is unknown.
    """
    spoken = protocol or _from_environment("PROTOCOL") or "http/protobuf"
    if spoken not in ("http/protobuf", "grpc"):
        raise TelemetrySetupError(
            f"OTLP protocol {spoken!r} is not supported. Use 'http/protobuf' or 'grpc', as protocol= or in "
            f"OTEL_EXPORTER_OTLP_PROTOCOL."
        )
    by_grpc = spoken == "grpc"
    url = _target(endpoint, by_grpc=by_grpc)
    sent = with_environment_headers(headers) if _is_the_environments(endpoint) else _lower(headers)
    return Preset(
        "otlp",
        exporter_of(url, sent, by_grpc=by_grpc, timeout=timeout),
        where=url,
        url=url,
        headers=sent,
        trace_url=_filled_in(trace_url) if trace_url else None,
    )


def _target(endpoint: str | None, *, by_grpc: bool) -> str:
    """The full URL (for gRPC also `host:port`) that an endpoint, or the environment, means."""
    if by_grpc:
        return _checked(endpoint or _from_environment("ENDPOINT") or "http://localhost:4317", ("http", "https", ""))
    whole = None if endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if whole:  # the one that is used as it is
        return _checked(whole, ("http", "https"))
    return _with_path(_checked(endpoint or _from_environment("ENDPOINT") or "http://localhost:4318", ("http", "https")))


def _is_the_environments(endpoint: str | None) -> bool:
    """Whether an endpoint may see the headers of `OTEL_EXPORTER_OTLP_HEADERS`."""
    return is_meant_for(endpoint, _from_environment("ENDPOINT"))


def is_meant_for(endpoint: str | None, environments: str | None) -> bool:
    """Whether an endpoint in code may see the key that the environment has for its own endpoint.

    It may where it has the same host and port, and does not leave TLS; and where the environment names no endpoint,
    so that the key can be meant for this one alone.
    """
    if endpoint is None or environments is None:
        return True
    asked, meant = _origin(endpoint), _origin(environments)
    return asked[1:] == meant[1:] and not (meant[0] == "https" and asked[0] == "http")


def _origin(endpoint: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # a port that is no number: who needs the endpoint says so
        port = None
    return parts.scheme, parts.hostname, port


def _filled_in(template: str) -> Callable[[str], str]:
    return lambda trace_id: template.replace("{trace_id}", trace_id)


def exporter_of(
    url: str, headers: Mapping[str, str], *, by_grpc: bool = False, timeout: float | None = None
) -> Callable[[], SpanExporter]:
    """Makes an OTLP exporter, compressing, that sends these headers alone, and does not hold up the exit."""
    return lambda: (_grpc_exporter if by_grpc else _http_exporter)(url, headers, timeout)


def _http_exporter(url: str, headers: Mapping[str, str], timeout: float | None) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing_package("opentelemetry-exporter-otlp-proto-http", "otel") from error
    compression = None if _from_environment("COMPRESSION") else Compression.Gzip
    with _no_environment_headers():
        return OTLPSpanExporter(endpoint=url, headers=dict(headers), timeout=_timeout(timeout), compression=compression)


def _grpc_exporter(url: str, headers: Mapping[str, str], timeout: float | None) -> SpanExporter:
    try:
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise missing_package("opentelemetry-exporter-otlp-proto-grpc", "otel") from error
    compression = None if _from_environment("COMPRESSION") else Compression.Gzip
    with _no_environment_headers():
        return OTLPSpanExporter(endpoint=url, headers=dict(headers), timeout=_timeout(timeout), compression=compression)


_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_making = threading.Lock()


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


def missing_package(package: str, extra: str) -> TelemetrySetupError:
    """The error for an optional package that is not installed."""
    return TelemetrySetupError(f"{package} is not installed. Install it with `pip install 'spanflow[{extra}]'`.")


def _from_environment(what: str) -> str | None:
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{what}", f"OTEL_EXPORTER_OTLP_{what}"):
        if text := os.environ.get(variable, "").strip():
            return text
    return None


def with_environment_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers in addition to those that the environment has for OTLP."""
    return {**parse_env_headers(_from_environment("HEADERS") or "", liberal=True), **_lower(headers)}


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


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
