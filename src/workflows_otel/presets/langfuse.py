"""Langfuse, in its cloud or self-hosted."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.request import Request

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets.otlp import is_meant_for, otlp
from workflows_otel.presets.otlp_exporters import exporter_of
from workflows_otel.presets.preset import Judgement, Preset, shown_url
from workflows_otel.propagation import LINKS_IN_WORDS
from workflows_otel.statuses import outcome_of

__all__ = ["langfuse"]

BASE_URL = "https://cloud.langfuse.com"
PATH = "/api/public/otel/v1/traces"
ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")  # anything else it calls "default", without a word
INGESTION_VERSION = "4"  # written where its newest pages read: shown at once

# What a run went through; Langfuse shows neither links nor span events, and filters by top-level metadata alone.
SHOWN = (
    at.RUN_ID,
    at.STEP_NAME,
    at.STEP_ATTEMPT,
    at.STEP_ATTEMPTS,
    at.STEP_QUEUE_WAIT,
    at.RETRY_DELAY,
    at.EVENT_TYPE,
    at.CAUSE_SPAN_IDS,
    at.CAUSE_TRACE_IDS,
    *LINKS_IN_WORDS,
    at.STREAM_COUNT,
    at.RUN_OUTCOME,
    at.STEP_OUTCOME,
)
# Not errors, and yet something to look at.
WARNINGS = frozenset(("retrying", "cancelled", "abandoned", "interrupted"))

logger = logging.getLogger("workflows.otel")


def langfuse(
    public_key: str | None = None,
    secret_key: str | None = None,
    *,
    base_url: str | None = None,
    environment: str | None = None,
    release: str | None = None,
    project: str | None = None,
) -> Preset:
    """A Langfuse project; it gets payloads, with secrets masked.

    `LANGFUSE_TRACING_ENABLED=false` switches it off; `LANGFUSE_SAMPLE_RATE` is the part of traces to keep, where
    `setup()` makes the tracer provider.

    Args:
        public_key: Default: `LANGFUSE_PUBLIC_KEY`.
        secret_key: Default: `LANGFUSE_SECRET_KEY`.
        base_url: Default: `LANGFUSE_BASE_URL`, `LANGFUSE_HOST`, else Langfuse's cloud in the EU. The environment's keys
            are not sent to another host or port than the environment's.
        environment: Lower-case letters, digits, `-` and `_`, at most 40; default: `LANGFUSE_TRACING_ENVIRONMENT`.
        release: Default: `LANGFUSE_RELEASE`.
        project: The project's id, for the URLs of `trace_of`; default: `LANGFUSE_PROJECT_ID`. Without it they are of
            a page that looks the project up.

    Raises:
        TelemetrySetupError: If a key is missing or of the other kind, or the URL or the environment cannot be used.
    """
    enabled = (_variable("LANGFUSE_TRACING_ENABLED") or "true").lower() not in ("false", "0")
    environments = _variable("LANGFUSE_BASE_URL") or _variable("LANGFUSE_HOST")
    ours = is_meant_for(base_url, environments)
    public = public_key or (_variable("LANGFUSE_PUBLIC_KEY") if ours else None)
    secret = secret_key or (_variable("LANGFUSE_SECRET_KEY") if ours else None)
    url = otlp(_traces_url(base_url), protocol="http/protobuf").url
    headers = {"x-langfuse-ingestion-version": INGESTION_VERSION}
    if enabled:
        headers["authorization"] = _authorization(public, secret, environments if not ours else None)
    resource = _resource(environment, release)
    base = url.removesuffix(PATH)
    return Preset(
        "langfuse",
        exporter_of(url, headers),
        where=shown_url(base),
        url=url,
        headers=headers,
        trace_url=_trace_url(base, project or _variable("LANGFUSE_PROJECT_ID")),
        judge=_judging(base, headers, resource.get(at.LANGFUSE_ENVIRONMENT)),
        content="full",
        resource=resource,
        start_marker=False,
        roots=True,
        names_traces=True,
        about=_about,
        sample_rate=_sample_rate(),
        enabled=enabled,
    )


def _trace_url(base: str, project: str | None) -> Callable[[str], str]:
    where = f"{base}/project/{project}/traces" if project else f"{base}/trace"
    return lambda trace_id: f"{where}/{trace_id}"


def _judging(base: str, headers: Mapping[str, str], environment: str | None) -> Callable[[Judgement], Request]:
    """Its scores, of the whole trace. It takes them before the trace as well."""

    def request(said: Judgement) -> Request:
        score: dict[str, Any] = {
            "id": said.id,
            "traceId": said.trace_id,
            "name": said.name,
            "value": said.value if isinstance(said.value, str) else float(said.value),
            "dataType": _data_type(said.value),
            "metadata": {"annotator_kind": said.judge},
        }
        if said.comment:
            score["comment"] = said.comment
        if environment:
            score["environment"] = environment
        sent = {name: value for name, value in headers.items() if name == "authorization"}
        return Request(
            f"{base}/api/public/scores", json.dumps(score).encode(), {**sent, "content-type": "application/json"}
        )

    return request


def _data_type(value: float | bool | str) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    return "CATEGORICAL" if isinstance(value, str) else "NUMERIC"


def _traces_url(base_url: str | None) -> str:
    base = base_url or _variable("LANGFUSE_BASE_URL") or _variable("LANGFUSE_HOST") or BASE_URL
    return base.rstrip("/").removesuffix(PATH) + PATH


def _authorization(public: str | None, secret: str | None, others: str | None) -> str:
    if not public or not secret:
        missing = " and ".join(
            name for name, key in (("LANGFUSE_PUBLIC_KEY", public), ("LANGFUSE_SECRET_KEY", secret)) if not key
        )
        if others is not None:
            raise TelemetrySetupError(
                f"The Langfuse keys of the environment are for {others}, and are not sent elsewhere. Write "
                f"langfuse(public_key=..., secret_key=..., base_url=...) with the keys of that project."
            )
        raise TelemetrySetupError(
            f"Langfuse needs a public and a secret key; {missing} is missing. Set it in the environment, or write "
            f"langfuse(public_key=..., secret_key=...)."
        )
    if public.startswith("sk-") or secret.startswith("pk-"):
        raise TelemetrySetupError(
            "The two Langfuse keys are swapped: the public one begins with 'pk-', the secret one with 'sk-'. Use each "
            "in its own place."
        )
    return "Basic " + base64.b64encode(f"{public}:{secret}".encode()).decode()


def _resource(environment: str | None, release: str | None) -> dict[str, str]:
    resource: dict[str, str] = {}
    if chosen := environment or _variable("LANGFUSE_TRACING_ENVIRONMENT"):
        if not ENVIRONMENT.fullmatch(chosen):
            raise TelemetrySetupError(
                f"Langfuse environment {chosen!r} would be shown as 'default'. Use at most 40 lower-case letters, "
                f"digits, '-' and '_', not beginning with 'langfuse'."
            )
        resource[at.LANGFUSE_ENVIRONMENT] = chosen
    if chosen := release or _variable("LANGFUSE_RELEASE"):
        resource[at.LANGFUSE_RELEASE] = chosen
    return resource


def _sample_rate() -> float | None:
    text = _variable("LANGFUSE_SAMPLE_RATE")
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise TelemetrySetupError(f"LANGFUSE_SAMPLE_RATE={text!r} is no rate. Use a number from 0 to 1.")
    return rate


def _about(span: ReadableSpan) -> Mapping[str, AttributeValue]:
    """Level and status message, and as top-level metadata what else it would bury or drop."""
    attributes = span.attributes or {}
    about: dict[str, AttributeValue] = {}
    outcome = outcome_of(attributes)
    if outcome in WARNINGS or at.STEP_HANDLED_BY in attributes:
        about[at.LANGFUSE_LEVEL] = "WARNING"
        if not span.status.description:
            reason = attributes.get(at.CANCEL_REASON)
            about[at.LANGFUSE_STATUS_MESSAGE] = f"{outcome}: {reason}" if reason else str(outcome)
    for key in SHOWN:
        if (value := attributes.get(key)) is not None:
            about[at.LANGFUSE_METADATA + key.removeprefix("workflow.").replace(".", "_")] = value
    metadata = attributes.get(at.METADATA)
    if isinstance(metadata, str):
        for key, value in _loaded(metadata).items():
            about[f"{at.LANGFUSE_TRACE_METADATA}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return about


def _loaded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:  # another library's
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _variable(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None
