"""`Context`, and how its contents are stored."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workflows.context.context import Context

if TYPE_CHECKING:
    from workflows.context.serializers import BaseSerializer, JsonSerializer, PickleSerializer
    from workflows.context.state_store import DictState, InMemoryStateStore

__all__ = ["BaseSerializer", "Context", "DictState", "InMemoryStateStore", "JsonSerializer", "PickleSerializer"]


def __getattr__(name: str) -> Any:
    """What stores state and snapshots is loaded when somebody asks for it, for a quick `import workflows`."""
    if name in ("serializers", "state_store"):
        return import_module(f"{__name__}.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = "serializers" if name.endswith("Serializer") else "state_store"
    return getattr(import_module(f"{__name__}.{where}"), name)
