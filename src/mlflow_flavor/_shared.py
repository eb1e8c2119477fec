"""MLflow on the application's own tracer provider: where `workflows_otel` draws runs there, nobody else needs to."""

from __future__ import annotations

import logging

from opentelemetry import trace

from mlflow_flavor._compat import begin_tracing, shares_provider
from workflows.instrumentation.dispatcher import process_dispatcher

__all__ = ["drawn_on_shared_provider"]

logger = logging.getLogger("workflows.mlflow")

_told = False


def drawn_on_shared_provider() -> bool:
    """Whether runs reach MLflow as spans of `workflows_otel` already, because both use one provider.

    That is the case with `MLFLOW_USE_DEFAULT_TRACER_PROVIDER=false`, where MLflow listens to the process's provider.
    """
    global _told
    if not shares_provider():
        return False
    # What `workflows_otel` calls its destination. It may have been told to draw on whatever becomes the provider.
    providers = (trace.get_tracer_provider(), getattr(trace, "_PROXY_TRACER_PROVIDER", None))
    here = {f"opentelemetry:{id(provider):x}" for provider in providers}
    drawn = any(told.handler.destination in here for told in process_dispatcher.handlers)
    if drawn and not _told:
        _told = True
        begin_tracing()  # told before `workflows_otel` is: it hears of this run already
        logger.info("workflows_otel draws runs on the provider that MLflow uses as well; mlflow_flavor draws none")
    return drawn
