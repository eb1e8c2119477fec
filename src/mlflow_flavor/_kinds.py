"""What kind of thing a value is, by its own type alone."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

__all__ = ["is_a"]

T = TypeVar("T")


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """Whether a value is of a kind; unlike `isinstance`, it asks no proxy, which may make what it stands for then.

    Such as `openai.chat`, whose `__class__` makes a client and sets variables of its module.
    """
    return issubclass(type(value), kind)
