"""Spanflow's workflow engine: `Workflow`, `step`, `Context`, and events in `workflows.events`."""

from importlib import import_module
from pkgutil import extend_path
from typing import Any

__path__ = extend_path(__path__, __name__)

from workflows.context.context import Context
from workflows.decorators import catch_error, step
from workflows.workflow import Workflow

__all__ = ["Context", "Workflow", "catch_error", "step"]


def __getattr__(name: str) -> Any:
    """A module that nobody has imported yet, such as `workflows.retry_policy`: few need all of them."""
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
