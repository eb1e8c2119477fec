"""What auto-instrumentation loads: `opentelemetry-instrument`, and `phoenix.otel.register(auto_instrument=True)`.

Neither guards its caller against an instrumentor that raises, so this one never does.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection
from typing import Any

from opentelemetry.trace import TracerProvider, get_tracer_provider

from workflows_otel.instrumenting import drawn_providers, instrument, withdraw

__all__ = ["WorkflowsInstrumentor"]

KNOWN = frozenset(inspect.signature(instrument).parameters)

logger = logging.getLogger("workflows.otel")


class WorkflowsInstrumentor:
    """Draws runs on the process's tracer provider, or on the one that it is given."""

    _provider: TracerProvider | None = None  # that was named
    _began: TracerProvider | None = None  # on that, or on the process's own

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: what is instrumented comes with it."""
        return ()

    def instrument(self, **options: Any) -> None:
        """Begin, by the options of `workflows_otel.instrument`; others, which frameworks pass along, are ignored.

        Called again, it stays with its tracer provider, as other libraries' instrumentors do: a cell of a notebook that
        is run again makes a new one each time.
        """
        try:
            before, asked = WorkflowsInstrumentor._provider, options.get("tracer_provider")
            if before not in drawn_providers():  # somebody has ended that meanwhile
                before = None
            if before is not None and asked not in (None, before):
                logger.warning(
                    "runs are drawn on another tracer provider already, and stay there; call uninstrument() before to "
                    "have them on this one"
                )
            provider = WorkflowsInstrumentor._provider = before or asked
            known = {name: value for name, value in options.items() if name in KNOWN - {"tracer_provider"}}
            instrument(provider, **known)
            WorkflowsInstrumentor._began = provider or get_tracer_provider()
        except Exception:  # the guard around the start of an application: it goes on without our spans
            logger.exception("workflows cannot be instrumented; their runs are not drawn")

    def uninstrument(self, **options: Any) -> None:
        """Stop what it began, and an `instrument()` on the same provider; what `setup()` was asked for goes on."""
        provider = options.get("tracer_provider") or WorkflowsInstrumentor._began
        if provider is not None:
            withdraw(provider)
        WorkflowsInstrumentor._provider = WorkflowsInstrumentor._began = None
