"""A span processor that says on the spans of other libraries whose run they belong to."""

from __future__ import annotations

import inspect
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from workflows.instrumentation import attributes as at
from workflows_otel.own_scope import SCOPE
from workflows_otel.runs import current_run

__all__ = ["StampingProcessor", "add_processor", "stamp_if_set"]

# Not `gen_ai.*`: with one of those Jaeger takes a span of any HTTP client for a model's.
STAMPED = (at.RUN_ID, at.SESSION_ID, at.USER_ID, at.LANGFUSE_TRACE_NAME, at.LANGFUSE_TRACE_TAGS)


class StampingProcessor(SpanProcessor):
    """Gives each span that begins below a step the run's id, session and user; what a span has already, it keeps.

    Back ends need them on every span: Phoenix takes a session from the first one that arrives, Langfuse from each.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp a span that another library begins."""
        scope = span.instrumentation_scope
        if scope is not None and scope.name == SCOPE:
            return
        run = current_run(parent_context)
        if run is None or not span.is_recording():
            return
        had = span.attributes or {}
        for key in STAMPED:
            if key in run.identity and key not in had:
                span.set_attribute(key, run.identity[key])


_stamped: WeakSet[TracerProvider] = WeakSet()


def stamp_if_set(provider: trace.TracerProvider) -> bool:
    """Have a provider's spans stamped, once; False where it is only a stand-in for one that is set later."""
    if isinstance(provider, TracerProvider) and provider not in _stamped:
        _stamped.add(provider)
        add_processor(provider, StampingProcessor())
    return not isinstance(provider, trace.ProxyTracerProvider)


def add_processor(provider: TracerProvider, processor: SpanProcessor) -> None:
    """Add a processor to those that a provider has; Phoenix' own provider would put it in their place."""
    if "replace_default_processor" in inspect.signature(provider.add_span_processor).parameters:
        provider.add_span_processor(processor, replace_default_processor=False)  # pyright: ignore[reportCallIssue]  # looked up above
    else:
        provider.add_span_processor(processor)
