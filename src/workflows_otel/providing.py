"""The tracer provider that `setup()` uses: the application's own, or a new one that becomes the process's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.neighbours import tell_of_refused_providers
from workflows_otel.presets import Preset
from workflows_otel.stamping import stamp_if_set
from workflows_otel.thinning import Thinning

__all__ = ["provider_for"]


def provider_for(presets: Sequence[Preset], sampler: Sampler | None) -> TracerProvider:
    """The application's tracer provider, or a new one that becomes it."""
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        if sampler is not None:
            raise TelemetrySetupError(
                "sampler= cannot be used: a tracer provider is set already, and its sampler decides. Give the sampler "
                "to that provider, or call setup() before it is set."
            )
        stamp_if_set(current)
        return current
    if not isinstance(current, trace.ProxyTracerProvider):
        raise TelemetrySetupError(
            f"The tracer provider of this process is a {type(current).__name__}, which takes no span processors. Call "
            f"workflows_otel.instrument() to send spans through it, and configure its back ends in its own way."
        )
    resource: dict[str, Any] = {}
    for preset in presets:
        resource.update(preset.resource)
    # Not shut down by the SDK at exit: `Setup` does that, with a cap on the time it takes.
    provider = TracerProvider(
        sampler=sampler or (None if os.environ.get("OTEL_TRACES_SAMPLER", "").strip() else Thinning()),
        resource=Resource.create(resource),
        span_limits=_span_limits(presets),
        shutdown_on_exit=False,
    )
    stamp_if_set(provider)
    trace.set_tracer_provider(provider)
    tell_of_refused_providers(provider)
    return provider


def _span_limits(presets: Sequence[Preset]) -> SpanLimits | None:
    wanted = [preset.span_attributes for preset in presets if preset.span_attributes is not None]
    variables = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")
    if not wanted or any(os.environ.get(variable, "").strip() for variable in variables):
        return None
    return SpanLimits(max_span_attributes=max(wanted))
