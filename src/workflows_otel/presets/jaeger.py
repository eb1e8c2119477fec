"""Jaeger, which takes plain OTLP; links and tags are what it shows best."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from workflows_otel.presets.otlp import Protocol, otlp
from workflows_otel.presets.preset import Preset

__all__ = ["jaeger"]

UI_PORT = 16686


def jaeger(endpoint: str | None = None, *, protocol: Protocol | None = None, ui: str | None = None) -> Preset:
    """Jaeger from 1.35 on, by OTLP.

    Args:
        endpoint: As for `otlp()`; default: the `OTEL_EXPORTER_OTLP_*` variables, else port 4318 of this machine.
        protocol: As for `otlp()`.
        ui: Base URL of its pages, for `trace_of`; default: port 16686 of the endpoint's host.

    Raises:
        TelemetrySetupError: If the endpoint is no URL, or the protocol is unknown.
    """
    made = otlp(endpoint, protocol=protocol)
    host = urlsplit(made.url if "://" in made.url else f"//{made.url}").hostname
    pages = (ui or f"http://{host}:{UI_PORT}").rstrip("/")

    def trace_url(trace_id: str) -> str:
        return f"{pages}/trace/{trace_id}"

    return replace(made, name="jaeger", trace_url=trace_url)
