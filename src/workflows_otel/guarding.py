"""What a provider's processors are to the spans of runs: one that raises hurts neither the run nor the others.

The SDK asks one after the other and lets the first error out, to whoever starts or ends a span.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, SynchronousMultiSpanProcessor, Tracer

from workflows_otel.turns import put_off

__all__ = ["GuardedProcessors", "guard", "processor_errors"]

LOG_SECONDS = 60.0

logger = logging.getLogger("workflows.otel")

_errors: Counter[str] = Counter()
_log_after = 0.0


def guard(tracer: trace.Tracer) -> None:
    """Have each processor that a tracer of ours tells of its spans guarded by itself.

    Without effect on a stand-in for the tracer of a provider that is set later, and on tracers that are not the SDK's.
    """
    if isinstance(tracer, trace.ProxyTracer):
        tracer = tracer._tracer  # pyright: ignore[reportPrivateUsage]  # there is no public way to the real one
    if isinstance(tracer, Tracer) and not isinstance(tracer.span_processor, GuardedProcessors):
        tracer.span_processor = GuardedProcessors(tracer.span_processor)  # pyright: ignore[reportAttributeAccessIssue]  # it is told what theirs is


def processor_errors() -> list[tuple[str, int]]:
    """How often processors raised on spans of runs, by the name of their class."""
    return list(_errors.items())


class GuardedProcessors(SpanProcessor):
    """The processors of a provider, also those that are added later.

    Args:
        guarded: What the provider has given its tracers.
    """

    def __init__(self, guarded: SpanProcessor) -> None:
        self.guarded = guarded
        alone = type(guarded) is not SynchronousMultiSpanProcessor
        self._holder: Any = _Alone(guarded) if alone else guarded  # of a tuple that is replaced when one is added

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell each that a span begins."""
        for processor in self._holder._span_processors:
            try:
                processor.on_start(span, parent_context=parent_context)
            except Exception as error:  # noqa: BLE001  # the guard around a processor
                _tell(processor, error)

    def _on_ending(self, span: Span) -> None:
        for processor in self._holder._span_processors:
            try:
                processor._on_ending(span)
            except Exception as error:  # noqa: BLE001  # the guard around a processor
                _tell(processor, error)

    def on_end(self, span: ReadableSpan) -> None:
        """Tell each that a span has ended; later, where the garbage collector came in the middle of one of them."""
        if put_off(self.on_end, span):
            return
        for processor in self._holder._span_processors:
            try:
                processor.on_end(span)
            except Exception as error:  # noqa: BLE001  # the guard around a processor
                _tell(processor, error)

    def shutdown(self) -> None:
        """Shut all of them down."""
        self.guarded.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush all of them."""
        return self.guarded.force_flush(timeout_millis)


class _Alone:
    """Holds a processor that is none of several, or that asks several its own way."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._span_processors = (processor,)


def _tell(processor: object, error: Exception) -> None:
    global _log_after  # at most one line a minute for the process
    name = type(processor).__name__
    _errors[name] += 1
    if time.monotonic() >= _log_after:
        _log_after = time.monotonic() + LOG_SECONDS
        logger.error(
            "the span processor %s raised on a span of a run; what it is for is incomplete", name, exc_info=error
        )
