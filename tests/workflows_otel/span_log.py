"""Spans of a test as plain data: whole trees that can be compared with literals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

# Different in every run, or the same for every span of one: checked by tests of their own.
LEFT_OUT = {
    "workflow.run.id",
    "workflow.root_run.id",
    "workflow.graph.hash",
    "gen_ai.workflow.name",
    "code.function.name",
    "openinference.span.kind",
}


class SpanLog:
    """The finished spans of a tracer provider of its own."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.provider = provider or TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def finished(self) -> Sequence[ReadableSpan]:
        """Every finished span, in the order in which they ended."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = self.all_named(name)
        return span

    def all_named(self, name: str) -> list[ReadableSpan]:
        """Every span of that name."""
        return [span for span in self.finished if span.name == name]

    def by_id(self, span_id: int) -> ReadableSpan:
        """The only span with that id."""
        (span,) = [span for span in self.finished if _id(span) == span_id]
        return span

    def parent(self, span: ReadableSpan) -> str | None:
        """The name of a span's parent."""
        return self.by_id(span.parent.span_id).name if span.parent else None

    def links(self, span: ReadableSpan) -> list[tuple[str, str]]:
        """A span's links: their type, and the name of the span they lead to."""
        return [
            (str((link.attributes or {})["workflow.link.type"]), self.by_id(link.context.span_id).name)
            for link in span.links
        ]

    def outline(self) -> list[str]:
        """Every tree as indented lines: name, status, outcome."""
        return [line for root in self.trees() for line in _lines(root, 0)]

    def trees(self) -> list[dict[str, Any]]:
        """Every span as a dict, children in the order in which they began; ids are replaced by names."""
        names = self._names()
        by_parent: dict[int | None, list[ReadableSpan]] = {}
        known = {_id(span) for span in self.finished}
        for span in sorted(self.finished, key=lambda span: span.start_time or 0):
            parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
            by_parent.setdefault(parent, []).append(span)
        return [_tree(span, by_parent, names) for span in by_parent.get(None, [])]

    def _names(self) -> dict[str, str]:
        """What to write for ids: the span's name, and the step's for its execution."""
        names: dict[str, str] = {}
        for span in self.finished:
            names[f"{_id(span):016x}"] = span.name
            attributes = span.attributes or {}
            if execution := attributes.get("workflow.step.execution.id"):
                names[str(execution)] = str(attributes["workflow.step.name"])
        return names


def about(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes."""
    return dict(span.attributes or {})


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def _tree(span: ReadableSpan, by_parent: dict[int | None, list[ReadableSpan]], names: dict[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": span.name, "status": _status(span), "attributes": _plain(span.attributes, names)}
    if span.links:
        tree["links"] = [
            f"{(link.attributes or {})['workflow.link.type']} {names[f'{link.context.span_id:016x}']}"
            for link in span.links
        ]
    if span.events:
        tree["events"] = [(event.name, _plain(event.attributes, names)) for event in span.events]
    if children := by_parent.get(_id(span)):
        tree["children"] = [_tree(child, by_parent, names) for child in children]
    return tree


def _status(span: ReadableSpan) -> str:
    return ": ".join(filter(None, [span.status.status_code.name, span.status.description]))


def _plain(attributes: Any, names: dict[str, str]) -> dict[str, Any]:
    plain = {key: _named(value, names) for key, value in (attributes or {}).items() if key not in LEFT_OUT}
    if "exception.stacktrace" in plain:
        plain["exception.stacktrace"] = plain["exception.stacktrace"].strip().splitlines()[-1]
    return plain


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_named(item, names) for item in value]
    if isinstance(value, str):
        for known, name in names.items():
            value = value.replace(known, name)
    return value


def _lines(tree: dict[str, Any], depth: int) -> list[str]:
    attributes = tree["attributes"]
    keys = ("workflow.run.outcome", "workflow.step.outcome", "workflow.wait.outcome")
    outcome = next((f" {attributes[key]}" for key in keys if key in attributes), "")
    line = f"{'  ' * depth}{tree['name']} {tree['status']}{outcome}"
    return [line, *(inner for child in tree.get("children", []) for inner in _lines(child, depth + 1))]
