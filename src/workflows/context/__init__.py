"""`Context`, and how its contents are stored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workflows._submodules import submodule
from workflows.context.context import Context

if TYPE_CHECKING:
    from workflows.context.serializers import BaseSerializer, JsonSerializer, PickleSerializer
    from workflows.context.state_store import DictState, InMemoryStateStore

__all__ = ["BaseSerializer", "Context", "DictState", "InMemoryStateStore", "JsonSerializer", "PickleSerializer"]


def __getattr__(name: str) -> Any:
    """What stores state and snapshots is loaded when somebody asks for it, for a quick `import workflows`."""
    if name in __all__:
        where = "serializers" if name.endswith("Serializer") else "state_store"
        return getattr(import_module(f"{__name__}.{where}"), name)
    return submodule(__name__, name)
