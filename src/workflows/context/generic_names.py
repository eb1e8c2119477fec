"""Names of parametrized generic models (`Page[Item]`): the generic class and its parameters, without importing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import reduce
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel

from workflows.errors import UnserializableValueError

__all__ = ["generic_name", "named_generic"]

_PLAIN = (
    str,
    int,
    float,
    bool,
    bytes,
    datetime,
    date,
    time,
    timedelta,
    Decimal,
    UUID,
    list,
    dict,
    tuple,
    set,
    frozenset,
)
_BY_NAME: dict[str, Any] = {c.__name__: c for c in _PLAIN} | {
    "None": NoneType,
    "Any": Any,
    "...": ...,
    "Union": Union,
    "|": UnionType,
}
_NAMES: dict[Any, str] = {c: name for name, c in _BY_NAME.items()} | {None: "None"}


def generic_name(cls: type[BaseModel]) -> dict[str, Any]:
    """The name of a generic class and of its parameters.

    Raises:
        UnserializableValueError: If a parameter is something else than classes and containers of them.
    """
    told = cls.__pydantic_generic_metadata__
    origin = cast("type", told["origin"])
    return {
        "qualified_name": f"{origin.__module__}.{origin.__qualname__}",
        "parameters": [_name_of(argument, cls) for argument in told["args"]],
    }


def named_generic(origin: Any, parameters: list[Any], resolve: Callable[[str], type]) -> type[BaseModel]:
    """The generic class with the parameters that `generic_name` gave; `resolve` finds their classes by name.

    Raises:
        ValueError: If the class is not generic, or a parameter may not be rebuilt.
    """
    if not (isinstance(origin, type) and issubclass(origin, BaseModel)):
        raise ValueError(f"{origin!r} is no generic model")
    try:
        return cast("Any", origin)[tuple(_named(p, resolve) for p in parameters)]
    except TypeError as error:
        raise ValueError(f"{origin.__name__} does not take the parameters {parameters}: {error}") from error


def _name_of(argument: Any, cls: type) -> Any:
    base = get_origin(argument)
    if base is not None and base in _NAMES:
        return [_NAMES[base], *(_name_of(a, cls) for a in get_args(argument))]
    try:
        if argument in _NAMES:
            return _NAMES[argument]
    except TypeError:  # some have no hash, and are none of ours
        pass
    told: dict[str, Any] = getattr(argument, "__pydantic_generic_metadata__", {})
    if told.get("origin"):
        return generic_name(argument)
    if base is None and isinstance(argument, type):
        return f"{argument.__module__}.{argument.__qualname__}"
    raise UnserializableValueError(
        f"Failed to serialize value: the parameter {argument!r} of {cls.__name__} has no name to be found by. Give the "
        f"class a name of its own: class {cls.__name__.partition('[')[0]}OfThese({cls.__name__})."
    )


def _named(parameter: Any, resolve: Callable[[str], type]) -> Any:
    if isinstance(parameter, dict):
        told = cast("dict[str, Any]", parameter)
        return named_generic(resolve(told["qualified_name"]), told["parameters"], resolve)
    if isinstance(parameter, list):
        base, *told_of = cast("list[Any]", parameter)
        arguments = tuple(_named(a, resolve) for a in told_of)
        return reduce(lambda one, other: one | other, arguments) if base == "|" else _BY_NAME[base][arguments]
    return _BY_NAME[parameter] if parameter in _BY_NAME else resolve(parameter)
