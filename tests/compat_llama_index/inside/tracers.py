"""Today's tracing set-ups of llama-index, each switched on for one test, and what they drew as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import llama_index_instrumentation
import mlflow
from llama_index.observability.otel import LlamaIndexOpenTelemetry
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class SpanList(SpanExporter):
    """Finished spans, in the order in which they ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def tree(self) -> list[str]:
        """A line a span, below its parent and in order of start; `?` is before one whose parent is missing."""
        return as_tree([(s.name, _id(s), s.parent and s.parent.span_id, s.start_time or 0) for s in self.spans])

    def traces(self) -> int:
        """How many traces there are."""
        return len({span.context.trace_id for span in self.spans if span.context})


class Back(SpanList):
    """A tracer provider, and what it exports."""

    def __init__(self) -> None:
        super().__init__()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self))


def as_tree(spans: Sequence[tuple[str, object, object, int]]) -> list[str]:
    """Lines for spans given as name, id, parent's id and time of start."""
    known = {span_id for _, span_id, _, _ in spans}

    def below(parent: object, depth: int) -> Iterator[str]:
        for name, span_id, above, _ in sorted(spans, key=lambda span: span[3]):
            if above == parent:
                yield "  " * depth + name
                yield from below(span_id, depth + 1)

    lost = [line for _, _, above, _ in spans if above is not None and above not in known for line in [above]]
    return [*below(None, 0), *(f"? {line}" for above in dict.fromkeys(lost) for line in below(above, 0))]


def mlflow_tree() -> list[str]:
    """The last trace in MLflow's store, likewise."""
    mlflow.flush_trace_async_logging()
    trace = mlflow.get_trace(mlflow.get_last_active_trace_id() or "", flush=True)
    assert trace is not None
    return as_tree([(s.name, s.span_id, s.parent_id, s.start_time_ns) for s in trace.data.spans])


@contextmanager
def openinference(back: Back) -> Iterator[None]:
    """`LlamaIndexInstrumentor().instrument()`."""
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=back.provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


@contextmanager
def llama_index_otel(provider: TracerProvider | None = None) -> Iterator[SpanList]:
    """`LlamaIndexOpenTelemetry(...).start_registering()`; gives what its own exporter gets."""
    exported = SpanList()
    root = llama_index_instrumentation.get_dispatcher()
    before = list(root.span_handlers), list(root.event_handlers)
    LlamaIndexOpenTelemetry(
        span_exporter=exported, span_processor="simple", tracer_provider=provider
    ).start_registering()
    try:
        yield exported
    finally:
        root.span_handlers[:], root.event_handlers[:] = before


@contextmanager
def mlflow_llama_index() -> Iterator[None]:
    """`mlflow.llama_index.autolog()`."""
    mlflow.llama_index.autolog()
    try:
        yield
    finally:
        mlflow.llama_index.autolog(disable=True)


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id
