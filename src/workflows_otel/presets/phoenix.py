"""Arize Phoenix, on this machine or in its cloud."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from workflows.instrumentation import attributes as at
from workflows_otel.presets.otlp import http_exporter, otlp
from workflows_otel.presets.preset import Preset

__all__ = ["phoenix"]

ENDPOINT = "http://localhost:6006"
GRPC_PORT = "4317"
SPAN_ATTRIBUTES = 10_000  # OpenInference writes each message of a conversation as attributes of its own


def phoenix(
    project: str | None = None,
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Preset:
    """A Phoenix server; it gets payloads, with secrets masked.

    Args:
        project: Default: `PHOENIX_PROJECT_NAME`, `PHOENIX_PROJECT`, else Phoenix' own ("default").
        endpoint: Base URL. Default: `PHOENIX_COLLECTOR_ENDPOINT`, else `http://localhost:6006`. An endpoint with the
            port of `PHOENIX_GRPC_PORT` (4317) is spoken to by gRPC.
        api_key: Default: `PHOENIX_API_KEY`; a server without authentication needs none.
        headers: Sent with each request, in addition to those of `PHOENIX_CLIENT_HEADERS`.

    Raises:
        TelemetrySetupError: If the endpoint is no URL.
    """
    name = project or _variable("PHOENIX_PROJECT_NAME") or _variable("PHOENIX_PROJECT")
    where = endpoint or _variable("PHOENIX_COLLECTOR_ENDPOINT") or ENDPOINT
    sent = _headers(api_key or _variable("PHOENIX_API_KEY"), name, headers)
    by_grpc = urlsplit(where).netloc.endswith(f":{_variable('PHOENIX_GRPC_PORT') or GRPC_PORT}")
    # By HTTP only protobuf, which is what our exporter sends; `OTEL_EXPORTER_OTLP_PROTOCOL` is about another back end.
    base = otlp(where, protocol="grpc" if by_grpc else "http/protobuf", headers=sent)
    return Preset(
        "phoenix",
        base.make_exporter if by_grpc else lambda: http_exporter(base.where, sent),
        where=f"{base.where}, project {name}" if name else base.where,
        content="full",
        resource={at.OPENINFERENCE_PROJECT: name} if name else {},
        start_marker=False,
        roots=True,
        span_attributes=SPAN_ATTRIBUTES,
    )


def _headers(api_key: str | None, project: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    sent: dict[str, str] = dict(parse_env_headers(_variable("PHOENIX_CLIENT_HEADERS") or "", liberal=True))
    if api_key:
        sent["authorization"] = f"Bearer {api_key}"
    if project:
        sent["x-project-name"] = project  # wins over the resource of an application's own provider
    sent.update({name.lower(): value for name, value in (headers or {}).items()})
    return sent


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None
