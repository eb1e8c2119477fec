"""Older import path: from a value to the full name of its class, and from a full name to what it names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["get_qualified_name", "import_module_from_qualified_name"]


def get_qualified_name(value: Any) -> str:
    """`module.Class` of a value."""
    return f"{value.__class__.__module__}.{value.__class__.__name__}"


def import_module_from_qualified_name(qualified_name: str) -> Any:
    """What `module.attribute` names. It imports the module, and with it runs it: only for names that you trust.

    Raises:
        ValueError: If there is no dot in the name.
        ImportError: If the module cannot be imported.
        AttributeError: If the module has no such attribute.
    """
    module_name, _, attribute = qualified_name.rpartition(".")
    if not module_name:
        raise ValueError(
            f"Qualified name must be in format 'module.attribute', got {qualified_name!r}. Put the module before it."
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ImportError(f"Failed to import module {module_name}: {error}", name=module_name) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise AttributeError(f"Attribute {attribute} not found in module {module_name}.") from error
