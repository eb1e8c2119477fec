"""Spanflow's workflow engine: `Workflow`, `step`, `Context`, and events in `workflows.events`."""

from pkgutil import extend_path
from types import ModuleType

__path__ = extend_path(__path__, __name__)

from workflows._submodules import submodule
from workflows.context.context import Context
from workflows.decorators import catch_error, step
from workflows.workflow import Workflow

__all__ = ["Context", "Workflow", "catch_error", "step"]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
