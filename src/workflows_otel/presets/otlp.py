"""Any OTLP back end: Jaeger, Tempo, a collector, MLflow. HTTP with protobuf by default, gRPC where asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets.otlp_exporters import exporter_of, from_environment
from workflows_otel.presets.preset import Preset, shown_url

__all__ = ["Protocol", "is_meant_for", "otlp", "with_environment_headers"]

Protocol = Literal["http/protobuf", "grpc"]

TRACES_PATH = "/v1/traces"


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
    spoken = protocol or from_environment("PROTOCOL") or "http/protobuf"
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
        where=shown_url(url),
        url=url,
        headers=sent,
        trace_url=_filled_in(trace_url) if trace_url else None,
    )


def _target(endpoint: str | None, *, by_grpc: bool) -> str:
    """The full URL (for gRPC also `host:port`) that an endpoint, or the environment, means."""
    if by_grpc:
        return _checked(endpoint or from_environment("ENDPOINT") or "http://localhost:4317", ("http", "https", ""))
    whole = None if endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if whole:  # the one that is used as it is
        return _checked(whole, ("http", "https"))
    return _with_path(_checked(endpoint or from_environment("ENDPOINT") or "http://localhost:4318", ("http", "https")))


def _is_the_environments(endpoint: str | None) -> bool:
    """Whether an endpoint may see the headers of `OTEL_EXPORTER_OTLP_HEADERS`."""
    return is_meant_for(endpoint, from_environment("ENDPOINT"))


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


def with_environment_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers in addition to those that the environment has for OTLP."""
    return {**parse_env_headers(from_environment("HEADERS") or "", liberal=True), **_lower(headers)}


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


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
    parts = urlsplit(endpoint)
    path = parts.path.rstrip("/")
    return endpoint if path.endswith(TRACES_PATH) else parts._replace(path=path + TRACES_PATH).geturl()
