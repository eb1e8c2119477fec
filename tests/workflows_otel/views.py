"""What Jaeger and Langfuse make of the OTLP that they get, as their sources were read and their own code was run.

Only what decides how our spans look: which attribute becomes which field, and what is dropped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.workflows_otel.otlp_sink import ReceivedSpan

SAFE_INTEGER = 2**53 - 1


@dataclass
class JaegerSpan:
    """One span in Jaeger's page: what is searched by, tags, logs, references, warnings, and whether it is red."""

    service: str
    operation: str
    parent: str | None
    tags: dict[str, Any]
    logs: list[dict[str, Any]]
    references: list[str]
    is_red: bool
    icon: str | None
    warnings: list[str]


_JAEGER_ICONS = {
    "chat": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "embeddings": "llm",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "agent",
    "retrieval": "retrieval",
}


def jaeger_view(spans: list[ReceivedSpan]) -> list[JaegerSpan]:
    """Spans as Jaeger shows them."""
    traces = {span.span_id: span.trace_id for span in spans}
    return [_jaeger_span(span, traces) for span in spans]


def _jaeger_span(span: ReceivedSpan, traces: dict[str, str]) -> JaegerSpan:
    tags = {key: _jaeger_value(value) for key, value in span.attributes.items()}
    tags |= {"otel.scope.name": span.scope, "span.kind": span.kind.lower()}
    if span.status != "UNSET":
        tags["otel.status_code"] = span.status
    if span.status == "ERROR":
        tags |= {"error": True, "otel.status_description": span.description}
    parent = span.parent_id or None
    if parent is None:  # the page takes the first link within the trace for the parent
        same = [span_id for span_id, _ in span.links if traces.get(span_id) == span.trace_id]
        parent = same[0] if same else None
    return JaegerSpan(
        service=span.resource.get("service.name", "missing-service-name") or "empty-service-name",
        operation=span.name,
        parent=parent,
        tags=tags,
        logs=[{"event": name, **attributes} for name, attributes in span.events],
        references=[span_id for span_id, _ in span.links],  # their attributes are lost
        is_red=bool(tags.get("error")),
        icon=_JAEGER_ICONS.get(span.attributes.get("gen_ai.operation.name", "")),
        warnings=_jaeger_warnings(span, traces),
    )


def _jaeger_warnings(span: ReceivedSpan, traces: dict[str, str]) -> list[str]:
    """What its adjusters complain of."""
    found = ["negative duration"] if span.end_ns < span.start_ns else []
    return [*found, *(["invalid parent"] if span.parent_id and span.parent_id not in traces else [])]


def _jaeger_value(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > SAFE_INTEGER:
        return str(value)
    return value


@dataclass
class LangfuseRow:
    """One observation as Langfuse's newest table holds it: nothing is inherited from the trace's root."""

    name: str
    type: str
    parent: str | None
    trace_name: str | None
    session: str | None
    user: str | None
    tags: list[str]
    input: Any
    output: Any
    level: str
    status_message: str | None
    model: str | None
    usage: dict[str, int]
    metadata: dict[str, Any]
    environment: str
    release: str | None
    parameters: dict[str, Any]


_LANGFUSE_TYPES = {
    "LLM": "generation",
    "CHAIN": "chain",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "AGENT": "agent",
    "EMBEDDING": "embedding",
}
_LANGFUSE_LEVELS = {"WARN": "WARNING", "WARNING": "WARNING", "ERROR": "ERROR", "DEBUG": "DEBUG"}


def langfuse_view(spans: list[ReceivedSpan]) -> list[LangfuseRow]:
    """Spans as Langfuse maps them when they are written directly (ingestion version 4)."""
    return [_langfuse_row(span) for span in spans]


def _langfuse_row(span: ReceivedSpan) -> LangfuseRow:
    about = span.attributes
    level = _LANGFUSE_LEVELS.get(str(about.get("langfuse.observation.level", "")).upper())
    prefix = "langfuse.observation.metadata."
    return LangfuseRow(
        name=about.get("gen_ai.tool.name") or span.name,
        type=_LANGFUSE_TYPES.get(about.get("openinference.span.kind", ""), "span"),
        parent=span.parent_id or None,
        trace_name=about.get("langfuse.trace.name"),
        session=_first(about, "langfuse.session.id", "session.id", "gen_ai.conversation.id"),
        user=_first(about, "langfuse.user.id", "user.id"),
        tags=_first(about, "langfuse.trace.tags", "langfuse.tags", "tag.tags") or [],
        input=_hijacked(about, "input", "prompt"),
        output=_hijacked(about, "output"),
        level=level or ("ERROR" if span.status == "ERROR" else "DEFAULT"),
        status_message=about.get("langfuse.observation.status_message") or span.description or None,
        model=_first(about, "gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "model"),
        usage=_usage(about),
        metadata={key.removeprefix(prefix): value for key, value in about.items() if key.startswith(prefix)},
        environment=_environment({**span.resource, **about}),
        release=_first({**span.resource, **about}, "langfuse.release"),
        parameters={k.removeprefix("gen_ai.request."): v for k, v in about.items() if k.startswith("gen_ai.request.")},
    )


def _first(about: dict[str, Any], *names: str) -> Any:
    return next((about[name] for name in names if about.get(name)), None)


def _hijacked(about: dict[str, Any], side: str, *before: str) -> Any:
    """The payload of one side; names that stand before OpenInference's own would take its place."""
    for name in (f"langfuse.observation.{side}", *before, "events", f"{side}.value", side):
        if name in about:
            return about[name]
    return None


def _usage(about: dict[str, Any]) -> dict[str, int]:
    counted = {
        "input": _first(about, "gen_ai.usage.input_tokens", "llm.token_count.prompt"),
        "output": _first(about, "gen_ai.usage.output_tokens", "llm.token_count.completion"),
    }
    if about.get("gen_ai.operation.name") == "invoke_agent":  # its guard against counting twice
        return {}
    return {key: value for key, value in counted.items() if value is not None}


def _environment(about: dict[str, Any]) -> str:
    found = _first(about, "langfuse.environment", "deployment.environment.name", "deployment.environment")
    text = str(found or "default").lower().removeprefix("langfuse")[:40]
    return text if all(c.isascii() and (c.isalnum() or c in "-_") for c in text) and text else "default"
