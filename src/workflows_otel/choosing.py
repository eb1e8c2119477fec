"""Which back ends are meant: by name, by preset, or by what the environment says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets import Preset, console, jaeger, langfuse, otlp, phoenix

__all__ = ["BackEnd", "chosen"]

BackEnd = str | Preset

PRESETS: dict[str, Callable[[], Preset]] = {
    "console": console,
    "jaeger": jaeger,
    "langfuse": langfuse,
    "otlp": otlp,
    "phoenix": phoenix,
}
# Names of the SDK's own exporters, for `OTEL_TRACES_EXPORTER`.
OF_THE_SDK: dict[str, Callable[[], Preset]] = {
    "otlp_proto_grpc": partial(otlp, protocol="grpc"),
    "otlp_proto_http": partial(otlp, protocol="http/protobuf"),
}
# A back end is on where one of its variables is set and `OTEL_TRACES_EXPORTER` does not say otherwise.
SET_UP_BY = {
    "otlp": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "phoenix": ("PHOENIX_COLLECTOR_ENDPOINT",),
    "langfuse": ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"),
}


def chosen(backend: BackEnd | Iterable[BackEnd] | None) -> list[Preset]:
    """The back ends that are meant, without those that their own environment variable switches off."""
    if backend is None:
        asked: Iterable[BackEnd] = _named_by_environment()
    else:
        asked = [backend] if isinstance(backend, (str, Preset)) else backend
    return [preset for preset in map(_preset, asked) if preset.enabled]


def _named_by_environment() -> list[str]:
    if asked := os.environ.get("OTEL_TRACES_EXPORTER", "").strip():
        return [name for each in asked.split(",") if (name := each.strip()) not in ("none", "")]
    return [name for name, variables in SET_UP_BY.items() if any(map(_is_set, variables))] or ["otlp"]


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


def _preset(backend: BackEnd) -> Preset:
    if isinstance(backend, Preset):
        return backend
    make = PRESETS.get(backend) or OF_THE_SDK.get(backend)
    if make is None:
        raise TelemetrySetupError(
            f"Back end {backend!r} is unknown. Use one of {', '.join(map(repr, sorted(PRESETS)))}, or a preset such as "
            f"workflows_otel.otlp('http://localhost:4318')."
        )
    return make()
