"""The parts of an object by its own word: what `pickle` and `copy` would make it anew from."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# What is compared here may be anything.
import copyreg
from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any, cast

from mlflow_flavor._pairs import (
    Attributes,
    Pair,
    UnknownError,
    attributes_of_both,
    expect,
    plain_name,
    rows_of_both,
)

__all__ = ["reduced_parts"]

SAID_OTHERWISE: dict[type, Callable[[Any], tuple[Any, ...]]] = {Struct: lambda value: (Struct, (value.format,))}
"""Of classes of Python's own whose objects cannot be copied, and yet say what they were made from."""


def reduced_parts(pair: Pair) -> Iterator[Pair]:
    """The parts of an object by its own word: what `pickle` and `copy` would make it anew from."""
    one, other = _reduced(pair, pair.one), _reduced(pair, pair.other)
    if one is None or other is None:
        return
    if isinstance(one, str) or isinstance(other, str):
        expect(pair, one == other)
        return
    yield from rows_of_both(pair, one[:2], other[:2])
    state, theirs = _named(one[2]), _named(other[2])
    if state is not None and theirs is not None:
        yield from attributes_of_both(pair, state, theirs)
    else:
        yield pair.at("", one[2], other[2])
    yield pair.at("", list(one[3]), list(other[3]))
    yield pair.at("", dict(one[4]), dict(other[4]))


def _reduced(pair: Pair, value: object) -> str | tuple[Any, Any, Any, Iterable[Any], Iterable[Any]] | None:
    """Callable, arguments, state, items and named items of an object; a name if it is a global.

    Nothing of what a library's object holds and cannot say itself: that object has said what it is.
    """
    reduce = SAID_OTHERWISE.get(type(value)) or copyreg.dispatch_table.get(type(value))
    try:
        found: Any = reduce(value) if reduce is not None else value.__reduce_ex__(4)
    except Exception as error:  # whatever a class raises that does not want to be copied
        if pair.held:
            return None
        cls = type(value)
        name = cls.__qualname__ if cls.__module__ == "builtins" else f"{plain_name(cls.__module__)}.{cls.__qualname__}"
        raise UnknownError(f"{pair.place}, a {name}, cannot be compared with what its source makes") from error
    if isinstance(found, str):
        return found
    made, arguments, state, items, named, *_ = (*found, None, None, None)
    return made, arguments, state, items or (), named or ()


def _named(state: object) -> Attributes | None:
    """The attributes of an object, if its state is a dict of them, or one for those in slots too."""
    match state:
        case None:
            return {}
        case dict():
            return cast("dict[str, object]", state)
        case (dict() | None, dict()):
            own, slots = cast("tuple[dict[str, object] | None, dict[str, object]]", state)
            return {**(own or {}), **slots}
        case _:
            return None
