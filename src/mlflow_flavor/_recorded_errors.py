"""Errors that recorded calls raised, as data, and from there the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from workflows.context.serializers import JsonSerializer

__all__ = ["Raised", "error_data", "error_of", "error_text"]

_to_plain = JsonSerializer()

ErrorData = dict[str, Any]
"""An error's class and those above it, by name; its text, its arguments, and its attributes where they are data."""


@dataclass(frozen=True, slots=True)
class Raised:
    """What a call gave that raised."""

    error: Exception


def error_data(error: Exception) -> ErrorData:
    """An error as data; arguments that are none are kept as text."""
    classes = [cls for cls in type(error).__mro__ if issubclass(cls, Exception)]
    attributes = {name: _data(value) for name, value in vars(error).items() if name != "__notes__"}
    return {
        "classes": [f"{cls.__module__}.{cls.__qualname__}" for cls in classes],
        "text": _text(error),
        "args": [found[0] if (found := _data(value)) else str(value) for value in error.args],
        "attributes": {name: found[0] for name, found in attributes.items() if found},
    }


def error_text(data: ErrorData) -> str:
    """An error as people are told of it."""
    return f"{data['classes'][0]}: {data['text']}"


def error_of(data: ErrorData, loaded: Callable[[str], object], rebuilt: Callable[[Any], Any]) -> Exception:
    """The error that `data` tells: of the nearest of its classes that is loaded, with the text it had.

    Args:
        data: What `error_data` gave.
        loaded: What a dotted name stands for in this process.
        rebuilt: The value of an argument or attribute.
    """
    named = (loaded(name) for name in data["classes"])
    cls: type[Exception] = next(c for c in named if isinstance(c, type) and issubclass(c, Exception))
    args = tuple(rebuilt(value) for value in data["args"])
    error = _made(cls, args)
    vars(error).update({name: rebuilt(value) for name, value in data["attributes"].items()})
    if _text(error) != data["text"]:  # what its text is made of was no data
        error.__class__ = _with_text(type(error), data["text"])
    return error


def _made(cls: type[Exception], args: tuple[Any, ...]) -> Exception:
    """An error by its arguments; a class of somebody's own may want others than it keeps, and make its text of them."""
    if cls.__module__ == "builtins":
        try:
            return cls(*args)
        except TypeError:
            return Exception(*args)
    error = cls.__new__(cls, *args)
    error.args = args
    return error


def _with_text(cls: type[Exception], text: str) -> type[Exception]:
    def told(_: Exception) -> str:
        return text

    return type(cls.__name__, (cls,), {"__str__": told, "__module__": cls.__module__, "__qualname__": cls.__qualname__})


def _data(value: object) -> list[Any]:
    """The value as data in a list; an empty one if it is none."""
    try:
        return [_to_plain.serialize_value(value)]
    except (ValueError, RecursionError):
        return []


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the text of somebody's class, which may need what is not there
        return cast("type[object]", type(error)).__name__
