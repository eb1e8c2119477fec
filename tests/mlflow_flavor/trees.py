"""Stored traces as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow.entities import Span, Trace


def lines(trace: Trace) -> list[str]:
    """Every span on a line, `step TASK OK`, indented by depth; children in the order of their start."""
    children: dict[str | None, list[Span]] = {}
    for span in trace.data.spans:
        children.setdefault(span.parent_id, []).append(span)

    def walk(parent: str | None, depth: int) -> Iterator[str]:
        for span in sorted(children.get(parent, []), key=lambda s: (s.start_time_ns, s.end_time_ns or 0)):
            status = f"{span.status.status_code.value} {span.status.description}".strip()
            yield f"{'  ' * depth}{span.name} {span.span_type} {status}"
            yield from walk(span.span_id, depth + 1)

    return list(walk(None, 0))


def span_named(trace: Trace, name: str) -> Span:
    """The only span of that name."""
    (found,) = [span for span in trace.data.spans if span.name == name]
    return found
