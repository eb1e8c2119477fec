"""Finds the workflows that a step starts, without running it: by the names its code mentions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

__all__ = ["child_workflows"]


def child_workflows(function: Callable[..., Any], owner: Any) -> list[Any]:
    """Workflow classes that a step's code names, and workflow instances in attributes of `owner` that it names.

    A guess, for drawings: a name that is mentioned need not be run, and one that is looked up at run time is missed.

    Args:
        function: The step.
        owner: The workflow the step belongs to, class or instance.
    """
    found: dict[type[Any], Any] = {}
    for value in _mentioned(inspect.unwrap(getattr(function, "__func__", function)), owner):
        cls = value if isinstance(value, type) else type(value)
        if hasattr(cls, "_get_steps_from_class") and not _is_same(value, owner):
            found.setdefault(cls, value)
    return list(found.values())


def _mentioned(function: Callable[..., Any], owner: Any) -> Iterator[Any]:
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return
    attributes = {} if isinstance(owner, type) else getattr(owner, "__dict__", {})
    closure = inspect.getclosurevars(function) if inspect.isfunction(function) else None
    free = {**closure.nonlocals} if closure is not None else {}
    names = getattr(function, "__globals__", {})
    for name in _names(code):
        for space in (attributes, free, names):
            if name in space:
                yield space[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_same(value: Any, owner: Any) -> bool:
    return value is owner or value is type(owner)
