"""Which back ends are meant: by name, by preset, or by what the environment says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace

from workflows_otel.errors import TelemetrySetupError
from workflows_otel.presets import Preset, console, jaeger, langfuse, otlp, phoenix

__all__ = ["BackEnd", "chosen", "is_configured_by_file"]

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
EXPORTERS = "opentelemetry_traces_exporter"
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


def _installed(name: str) -> Callable[[], Preset] | None:
    """An exporter that a package has put at OpenTelemetry's disposal, by the name that `OTEL_TRACES_EXPORTER` takes."""
    found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
    return None if found is None else lambda: Preset(name, lambda: found.load()(), where=found.value)


def is_configured_by_file() -> bool:
    """Whether `OTEL_CONFIG_FILE` says where spans go; the process's tracer provider is then the one of that file.

    Raises:
        TelemetrySetupError: The package that reads such files is not installed.
    """
    file = os.environ.get("OTEL_CONFIG_FILE", "").strip()
    if file and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        try:
            configuration: Any = import_module("opentelemetry.configuration")
        except ImportError as error:
            raise TelemetrySetupError(
                f"OTEL_CONFIG_FILE={file} cannot be read. Install `opentelemetry-sdk[file-configuration]`, or name the "
                f"back end: setup('otlp')."
            ) from error
        configuration.configure_sdk(configuration.load_config_file(file))
    return bool(file)


def _preset(backend: BackEnd) -> Preset:
    if isinstance(backend, Preset):
        return backend
    make = PRESETS.get(backend) or OF_THE_SDK.get(backend) or _installed(backend)
    if make is None:
        raise TelemetrySetupError(
            f"Back end {backend!r} is unknown. Use one of {', '.join(map(repr, sorted(PRESETS)))}, or a preset such as "
            f"workflows_otel.otlp('http://localhost:4318')."
        )
    return make()
