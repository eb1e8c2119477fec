"""Which classes a snapshot may name, and the class that a name stands for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any, cast, get_args

from pydantic import BaseModel

from workflows.context.json_values import is_named_tuple

__all__ = ["imported", "loaded", "may_be_rebuilt", "model_types", "name_of"]


def model_types(classes: Iterable[type]) -> list[type]:
    """These classes, and every class that a serializer writes and the fields of those among them name, at any depth."""
    found: dict[type, None] = {}
    todo = list(classes)
    while todo:
        cls = todo.pop()
        if cls in found:
            continue
        found[cls] = None
        todo.extend(_named_by(cls))
    return list(found)


def may_be_rebuilt(found: object) -> bool:
    """Whether something is a class of plain data, as serializers write: a model, enum, named tuple or dataclass."""
    if not isinstance(found, type):
        return False
    cls = cast("type[object]", found)
    return issubclass(cls, BaseModel | Enum) or is_named_tuple(cls) or is_dataclass(cls)


def _named_by(cls: type) -> Iterator[type]:
    if issubclass(cls, BaseModel):
        annotations: list[Any] = [f.annotation for f in cls.model_fields.values()]
    elif may_be_rebuilt(cast("object", cls)):
        annotations = list(getattr(cast("Any", cls), "__annotations__", {}).values())
    else:
        return
    while annotations:
        annotation = annotations.pop()
        annotations.extend(get_args(annotation))
        if may_be_rebuilt(annotation):
            yield annotation


def name_of(cls: type) -> str:
    """Its module and its name there."""
    return f"{cls.__module__}.{cls.__qualname__}"


def loaded(name: str) -> type | None:
    """The class of plain data of that name, if its module is loaded."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is not None:
            found = _walk(module, parts[cut:])
            return found if may_be_rebuilt(found) else None
    return None


def _walk(start: Any, names: list[str]) -> Any:
    for name in names:
        start = getattr(start, name, None)
    return start


def imported(name: str) -> type | None:
    """The class of that name, whose module is imported."""
    module, _, cls = name.rpartition(".")
    found = getattr(import_module(module), cls, None)
    return found if isinstance(found, type) else None
