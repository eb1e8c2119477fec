"""Services of older versions: nested workflows by name. New code keeps a child workflow in an attribute and runs it."""

from __future__ import annotations

from typing import Any

from workflows.errors import WorkflowError

__all__ = ["ServiceManager", "ServiceNotFoundError"]


class ServiceNotFoundError(WorkflowError):
    """No service of that name was added, and there is no default."""


class ServiceManager:
    """Workflows by name."""

    def __init__(self) -> None:
        self._services: dict[str, Any] = {}

    def add(self, name: str, service: Any) -> None:
        """Keep a workflow under a name; one that had the name before is replaced."""
        self._services[name] = service

    def get(self, name: str, default: Any = None) -> Any:
        """The workflow of that name, else the default.

        Raises:
            ServiceNotFoundError: If there is neither.
        """
        found = self._services.get(name, default)
        if found is None:
            known = ", ".join(self._services) or "none"
            raise ServiceNotFoundError(f"Service {name} not found. Known services: {known}. Add it with add().")
        return found
