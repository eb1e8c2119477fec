"""The instrumentation scope of our spans, metrics and logs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["SCHEMA_URL", "SCOPE", "VERSION"]

SCOPE = "workflows"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"


def _version() -> str:
    try:
        return version("spanflow")
    except PackageNotFoundError:  # run from a source tree
        return ""


VERSION = _version()
