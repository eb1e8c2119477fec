"""Modules that are found as attributes of their package without having been imported."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["submodule"]


def submodule(package: str, name: str) -> ModuleType:
    """A module such as `workflows.retry_policy`, for the package's `__getattr__`: few need all of them.

    Raises:
        AttributeError: If there is none of this name, or it needs a package that is not installed.
    """
    if not name.startswith("_"):
        try:
            return import_module(f"{package}.{name}")
        except ImportError as error:
            raise AttributeError(f"module {package!r} has no attribute {name!r}: {error}") from error
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
