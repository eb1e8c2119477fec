"""Spans on standard output, a tree a trace: to see that something is there, without any back end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from workflows_otel.presets.preset import Preset

__all__ = ["TreePrinter", "as_line", "console"]

MOST_SPANS = 10_000  # of unfinished traces; beyond, they are printed as far as they are known


def console() -> Preset:
    """Print the tree of a trace when its root ends; what has no end by then is printed at exit."""
    return Preset("console", TreePrinter, where="standard output", start_marker=False)


class TreePrinter(SpanExporter):
    """Keeps spans until the root of their trace came, and prints them as one tree."""

    def __init__(self) -> None:
        self._traces: dict[int, list[ReadableSpan]] = {}
        self._count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans, and print each trace whose root is among them."""
        for span in spans:
            trace_id = _ids(span)[0]
            self._traces.setdefault(trace_id, []).append(span)
            self._count += 1
            if span.parent is None or span.parent.is_remote:
                self._print(trace_id)
        while self._count > MOST_SPANS:
            self._print(next(iter(self._traces)))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Print what is left, under roots that did not come."""
        for trace_id in list(self._traces):
            self._print(trace_id)

    def _print(self, trace_id: int) -> None:
        spans = self._traces.pop(trace_id)
        self._count -= len(spans)
        known = {_ids(span)[1] for span in spans}
        below: dict[int | None, list[ReadableSpan]] = {}
        for span in sorted(spans, key=lambda span: span.start_time or 0):
            parent = span.parent.span_id if span.parent is not None and span.parent.span_id in known else None
            below.setdefault(parent, []).append(span)
        for root in below.get(None, []):
            sys.stdout.write("".join(f"{line}\n" for line in _tree(root, below)))
        sys.stdout.flush()


def _tree(span: ReadableSpan, below: dict[int | None, list[ReadableSpan]]) -> Iterator[str]:
    yield as_line(span)
    children = below.get(_ids(span)[1], [])
    for child in children:
        head, rest = ("└─ ", "   ") if child is children[-1] else ("├─ ", "│  ")
        for line in _tree(child, below):
            yield head + line
            head = rest


def as_line(span: ReadableSpan) -> str:
    """One span as one line: name, duration, status."""
    took = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    status = "" if span.status.status_code is StatusCode.UNSET else f" {span.status.status_code.name}"
    why = f": {span.status.description}" if span.status.description else ""
    return f"{span.name}  {took:.1f} ms{status}{why}"


def _ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    return (context.trace_id, context.span_id) if context is not None else (0, 0)
