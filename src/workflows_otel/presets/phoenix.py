"""Arize Phoenix, on this machine or in its cloud."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from urllib.request import Request

from opentelemetry.util.re import parse_env_headers

from workflows.instrumentation import attributes as at
from workflows_otel.presets.otlp import is_meant_for, otlp
from workflows_otel.presets.otlp_exporters import exporter_of
from workflows_otel.presets.preset import Judgement, Preset, shown_url

__all__ = ["phoenix"]

ENDPOINT = "http://localhost:6006"
GRPC_PORT = "4317"
TRACES_PATH = "/v1/traces"
SPAN_ATTRIBUTES = 10_000  # OpenInference writes each message of a conversation as attributes of its own


def phoenix(
    project: str | None = None,
    *,
    endpoint: str | None = None,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    ui: str | None = None,
) -> Preset:
    """A Phoenix server; it gets payloads, with secrets masked.

    Args:
        project: Default: `PHOENIX_PROJECT_NAME`, `PHOENIX_PROJECT`, else Phoenix' own ("default").
        endpoint: Base URL. Default: `PHOENIX_COLLECTOR_ENDPOINT`, else `http://localhost:6006`. An endpoint with the
            port of `PHOENIX_GRPC_PORT` (4317) is spoken to by gRPC.
        api_key: Default: `PHOENIX_API_KEY`; a server without authentication needs none.
        headers: Sent with each request, in addition to those of `PHOENIX_CLIENT_HEADERS`; the headers of OTLP's own
            variables are another back end's, and are not. Neither the variables' headers nor their key are sent to an
            `endpoint` on another host or port than that of `PHOENIX_COLLECTOR_ENDPOINT`.
        ui: Base URL of its pages, for `trace_of` and `feedback`; default: the endpoint, for gRPC port 6006 of its host.

    Raises:
        TelemetrySetupError: If the endpoint is no URL.
    """
    name = project or _variable("PHOENIX_PROJECT_NAME") or _variable("PHOENIX_PROJECT")
    environments = _variable("PHOENIX_COLLECTOR_ENDPOINT")
    where = endpoint or environments or ENDPOINT
    sent = _headers(api_key, name, headers, from_environment=is_meant_for(endpoint, environments))
    by_grpc = urlsplit(where).netloc.endswith(f":{_variable('PHOENIX_GRPC_PORT') or GRPC_PORT}")
    # By HTTP only protobuf, which is what our exporter sends; `OTEL_EXPORTER_OTLP_PROTOCOL` is about another back end.
    url = otlp(where, protocol="grpc" if by_grpc else "http/protobuf").url
    pages = (ui or _pages(url, by_grpc=by_grpc)).rstrip("/")
    return Preset(
        "phoenix",
        exporter_of(url, sent, by_grpc=by_grpc),
        where=f"{shown_url(url)}, project {name}" if name else shown_url(url),
        url=url,
        headers=sent,
        trace_url=lambda trace_id: f"{pages}/redirects/traces/{trace_id}",
        judge=_judging(pages, sent),
        content="full",
        resource={at.OPENINFERENCE_PROJECT: name} if name else {},
        start_marker=False,
        roots=True,
        span_attributes=SPAN_ATTRIBUTES,
    )


def _pages(url: str, *, by_grpc: bool) -> str:
    if not by_grpc:
        return shown_url(url).removesuffix(TRACES_PATH)
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.hostname}:{urlsplit(ENDPOINT).port}"


def _judging(pages: str, headers: Mapping[str, str]) -> Callable[[Judgement], Request]:
    """Its annotations, of the run's span: those are on its list and in its tree. It waits for a span that is late."""

    def request(said: Judgement) -> Request:
        result: dict[str, str | float] = {}
        if not isinstance(said.value, str):
            result["score"] = float(said.value)
        if isinstance(said.value, (str, bool)):
            result["label"] = str(said.value).lower() if isinstance(said.value, bool) else said.value
        if said.comment:
            result["explanation"] = said.comment
        annotation = {
            "span_id": said.span_id,
            "name": said.name,
            "annotator_kind": said.judge,
            "result": result,
            "identifier": said.id,
        }
        body = json.dumps({"data": [annotation]}).encode()
        return Request(f"{pages}/v1/span_annotations", body, {**headers, "content-type": "application/json"})

    return request


def _headers(
    api_key: str | None, project: str | None, headers: Mapping[str, str] | None, *, from_environment: bool
) -> dict[str, str]:
    sent: dict[str, str] = {}
    if from_environment:
        sent.update(parse_env_headers(_variable("PHOENIX_CLIENT_HEADERS") or "", liberal=True))
        api_key = api_key or _variable("PHOENIX_API_KEY")
    if api_key:
        sent["authorization"] = f"Bearer {api_key}"
    if project:
        sent["x-project-name"] = project  # wins over the resource of an application's own provider
    sent.update({name.lower(): value for name, value in (headers or {}).items()})
    return sent


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None
