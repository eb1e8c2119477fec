"""Type variables of the public API."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from workflows.events import StopEvent

__all__ = ["RunResultT", "StopEventT"]

StopEventT = TypeVar("StopEventT", bound=StopEvent)
RunResultT = StopEventT | Any
