"""Errors that recorded calls raised, as data, and from there the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from workflows.context.serializers import JsonSerializer

__all__ = ["Raised", "error_data", "error_of", "error_text"]

_to_plain = JsonSerializer()
_ARGS: Any = BaseException.__dict__["args"]

ErrorData = dict[str, Any]
"""An error's class and those above it, by name; its text, its arguments, and its attributes where they are data."""


@dataclass(frozen=True, slots=True)
class Raised:
    """What a call gave that raised."""

    error: Exception


def error_data(error: Exception) -> ErrorData:
    """An error as data; arguments that are none are kept as text."""
    classes = [cls for cls in type(error).__mro__ if issubclass(cls, Exception)]
    # An OSError has the name of its file beside its arguments.
    args: tuple[Any, ...] = cast("Any", error).__reduce__()[1] if isinstance(error, OSError) else error.args
    attributes = {name: _data(value) for name, value in _own(error).items() if name != "__notes__"}
    return {
        "classes": [f"{cls.__module__}.{cls.__qualname__}" for cls in classes],
        "text": _text(error),
        "args": [found[0] if (found := _data(value)) else str(value) for value in args],
        "attributes": {name: found[0] for name, found in attributes.items() if found},
        **({"details": validation_data(error)} if isinstance(error, ValidationError) else {}),
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
    text: str = data["text"]
    if issubclass(cls, ValidationError) and "details" in data:
        return validation_error(data["details"], rebuilt)
    args = tuple(rebuilt(value) for value in data["args"])
    attributes = {name: rebuilt(value) for name, value in data["attributes"].items()}
    try:
        error = _made(cls, args, attributes)
        # Where it differs, what the text is made of was no data.
        return error if _text(error) == text else _made(_with_text(cls, cls, text), args, attributes)
    except Exception:  # noqa: BLE001  # a class of somebody's own, which cannot be made as others are
        nearest = next(c for c in cls.__mro__ if c.__module__ == "builtins")
        return _made(_with_text(nearest, cls, text), (text,), {})


def _made(cls: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]) -> Exception:
    """An error by its arguments; a class of somebody's own may want others than it keeps, and make its text of them."""
    if cls.__module__ == "builtins":
        error = cls(*args)
    else:
        error = cls.__new__(cls, *args)
        _ARGS.__set__(error, args)  # not by assignment, which a frozen class refuses
    _own(error).update(attributes)
    return error


def _own(error: Exception) -> dict[str, Any]:
    return getattr(error, "__dict__", {})


def _with_text(base: type[Exception], named: type[Exception], text: str) -> type[Exception]:
    def told(_: Exception) -> str:
        return text

    about = {"__str__": told, "__module__": named.__module__, "__qualname__": named.__qualname__}
    return type(named.__name__, (base,), about)


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


def validation_data(error: ValidationError) -> dict[str, Any]:
    """What pydantic found wrong, as data."""
    return {"title": error.title, "lines": [_line_data(line) for line in error.errors(include_url=False)]}


def _line_data(line: ErrorDetails) -> dict[str, Any]:
    value, context = _data(line["input"]), _data(line.get("ctx"))
    return {
        "type": line["type"],
        "loc": list(line["loc"]),
        "msg": line["msg"],
        "input": value[0] if value else str(line["input"]),
        "ctx": context[0] if context else None,
    }


def validation_error(data: dict[str, Any], rebuilt: Callable[[Any], Any]) -> ValidationError:
    """The error that `validation_data` told: no other class of pydantic's can stand for it."""
    try:
        error = ValidationError.from_exception_data(data["title"], [_line(line, rebuilt) for line in data["lines"]])
    except (KeyError, TypeError):  # a kind of error that is made of what is no data
        lines = [_line(line, rebuilt, by_message=True) for line in data["lines"]]
        error = ValidationError.from_exception_data(data["title"], lines)
    _ARGS.__set__(error, ())  # as it is where a model raises it
    return error


def _line(line: dict[str, Any], rebuilt: Callable[[Any], Any], *, by_message: bool = False) -> InitErrorDetails:
    kind: Any = PydanticCustomError(line["type"], "{said}", {"said": line["msg"]}) if by_message else line["type"]
    made = InitErrorDetails(type=kind, loc=tuple(line["loc"]), input=rebuilt(line["input"]))
    context = rebuilt(line["ctx"])
    if context and not by_message:
        made["ctx"] = context
    return made
