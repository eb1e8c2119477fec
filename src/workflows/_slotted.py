"""`@slotted`: a dataclass that takes little time to define, and to make one of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar, dataclass_transform

__all__ = ["FieldsCompared", "FieldsShown", "slotted"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def slotted(cls: type[T]) -> type[T]:
    """A dataclass with slots, frozen to type checkers alone: at run time that makes it five times as dear to build.

    It gets no method but its constructor; the bases below have the others. To generate them for each class, and what
    refuses assignments, took a quarter of what `import workflows` adds to asyncio and pydantic.
    """
    return dataclass(slots=True, eq=False, repr=False)(cls)


class FieldsShown:
    """Shows its fields; equal to nothing but itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"  # type: ignore[arg-type]  # every subclass is a dataclass


class FieldsCompared(FieldsShown):
    """Shows its fields, and equals another of its class whose fields are equal; not hashable."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))  # type: ignore[arg-type]
