"""Jaeger, which takes plain OTLP; links and tags are what it shows best."""

from __future__ import annotations

from dataclasses import replace

from workflows_otel.presets.otlp import Protocol, otlp
from workflows_otel.presets.preset import Preset

__all__ = ["jaeger"]


def jaeger(endpoint: str | None = None, *, protocol: Protocol | None = None) -> Preset:
    """Jaeger from 1.35 on, by OTLP.

    Args:
        endpoint: As for `otlp()`; default: the `OTEL_EXPORTER_OTLP_*` variables, else port 4318 of this machine.
        protocol: As for `otlp()`.

    Raises:
        TelemetrySetupError: If the endpoint is no URL, or the protocol is unknown.
    """
    return replace(otlp(endpoint, protocol=protocol), name="jaeger")
