"""`Context`, and how its contents are stored."""

from workflows.context.context import Context
from workflows.context.state_store import DictState, InMemoryStateStore

__all__ = ["Context", "DictState", "InMemoryStateStore"]
