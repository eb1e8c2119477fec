"""Spans on standard output, one line each: to see that something is there, without any back end."""

from __future__ import annotations

import sys

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.trace import StatusCode

from workflows_otel.presets.preset import Preset

__all__ = ["console"]


def console() -> Preset:
    """Print each span when it ends, children before their parents."""
    return Preset(
        "console",
        lambda: ConsoleSpanExporter(out=sys.stdout, formatter=as_line),
        where="standard output",
        start_marker=False,
    )


def as_line(span: ReadableSpan) -> str:
    """One span as one line; it names its parent's id, since a parent ends, and is shown, later."""
    took = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    context, parent = span.get_span_context(), span.parent
    ids = f"{context.span_id:016x}" if context is not None else "-"
    under = f" < {parent.span_id:016x}" if parent is not None else ""
    status = "" if span.status.status_code is StatusCode.UNSET else f" {span.status.status_code.name}"
    why = f": {span.status.description}" if span.status.description else ""
    return f"{span.name}  {took:.1f} ms{status}{why}  [{ids}{under}]\n"
