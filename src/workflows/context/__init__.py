"""`Context`, and how its contents are stored."""

from workflows.context.context import Context
from workflows.context.serializers import BaseSerializer, JsonSerializer, PickleSerializer
from workflows.context.state_store import DictState, InMemoryStateStore

__all__ = ["BaseSerializer", "Context", "DictState", "InMemoryStateStore", "JsonSerializer", "PickleSerializer"]
