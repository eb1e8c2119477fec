"""Parts of what models, retrievers and their clients give, read as data: nobody's code is called to look at them.

A property may do anything: `requests` reads the whole body of a streamed response for `response.content`. So a field is
what a mapping, a named tuple or an object holds, and what stands in its class; what its class would work out is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any, cast

from pydantic import BaseModel

from workflows.instrumentation.marks import marked_fields
from workflows.instrumentation.redaction import MASK

__all__ = ["first_part", "is_list", "items", "part", "path_part", "text_part"]

# Whose properties are asked: they are made of fields alone, and have what is shown (the text of a message, of a node).
_TRUSTED = ("llama_index",)

_NOTHING: Any = object()
_EMPTY: dict[str, Any] = {}

# Whose methods are called in place of those of classes that are made of them: a list may be read from somewhere else.
_dict: Any = dict
_list: Any = list
_tuple: Any = tuple


def part(value: object, name: str | int) -> Any:
    """An item of a sequence, or a field of a mapping or an object; None where there is none.

    What is marked `Redact()` is hidden.
    """
    kind = type(value)
    if value is None or kind is str:
        return None
    if isinstance(name, int):
        found = items(value)
        return found[name] if len(found) > name else None
    if kind is dict or kind is MappingProxyType:
        return cast("Mapping[str, Any]", value).get(name)
    return _reader_of(kind, name)(value)


def first_part(value: object, names: Iterable[str]) -> Any:
    """The first field of several that there is."""
    return next((found for name in names if (found := part(value, name)) is not None), None)


def path_part(value: object, path: Iterable[str | int]) -> Any:
    """A field of a field, and so on; None where one is missing."""
    for name in path:
        if value is None:
            return None
        value = part(value, name)
    return value


def text_part(value: object, name: str) -> str | None:
    """A field that is a text; None for any other."""
    found = part(value, name)
    return found if isinstance(found, str) else None


def is_list(value: object) -> bool:
    """Whether it is a list, or a tuple that has no names for its items."""
    kind: type[Any] = type(value)
    return issubclass(kind, list) or (_is_tuple(kind) and not _names_of(kind))


def items(value: object) -> Sequence[Any]:
    """The items of a list or a tuple; none of anything else, and none of a named tuple, which has fields."""
    kind: type[Any] = type(value)
    if kind is list or kind is tuple:
        return cast("Sequence[Any]", value)
    if not is_list(value):
        return ()
    return (_list if issubclass(kind, list) else _tuple).__getitem__(value, slice(None))


_Reader = Callable[[object], Any]


@lru_cache(maxsize=4096)  # the same few names are asked of each chunk of a stream
def _reader_of(kind: type[Any], name: str) -> _Reader:
    """What reads a field of things of a class."""
    if name in marked_fields(kind):
        return _constant(MASK)
    if issubclass(kind, dict):
        return partial(_item, name)
    if name in (names := _names_of(kind)):
        return partial(_item_of_tuple, names.index(name))
    in_class = _in_class(kind, name)
    if type(in_class) is property:
        return partial(_ask, in_class.fget) if _is_trusted(in_class) else _constant(None)
    return partial(_attribute, kind, name)


def _constant(value: Any) -> _Reader:
    return lambda _: value


def _item(name: str, value: Any) -> Any:
    return _dict.get(value, name)


def _item_of_tuple(place: int, value: Any) -> Any:
    return _tuple.__getitem__(value, place)


def _is_trusted(found: property) -> bool:
    return str(getattr(found.fget, "__module__", "")).partition(".")[0] in _TRUSTED


def _ask(getter: Any, value: Any) -> Any:
    try:
        return getter(value)
    except Exception:  # noqa: BLE001  # a node of llama-index without a text raises ValueError
        return None


def _attribute(kind: type[Any], name: str, value: Any) -> Any:
    """What an object has under a name, or else what stands in its class."""
    read = _reader_of_attributes(kind)
    own: Any = _NOTHING if read is None else _dict.get(read(value), name, _NOTHING)
    if own is _NOTHING and issubclass(kind, BaseModel):
        own = _dict.get(value.__pydantic_extra__ or _EMPTY, name, _NOTHING)
    if own is not _NOTHING:
        return own
    in_class: Any = _in_class(kind, name)
    if isinstance(in_class, MemberDescriptorType):  # a slot
        try:
            return in_class.__get__(value, kind)
        except AttributeError:  # it is empty
            return None
    return None if in_class is _NOTHING or _is_worked_out(in_class) else in_class


def _is_worked_out(in_class: object) -> bool:
    return hasattr(type(in_class), "__get__")


@lru_cache(maxsize=1024)
def _reader_of_attributes(kind: type[Any]) -> Callable[[object], Any] | None:
    """What reads `__dict__`; None where things of that class have none, or have a property of that name."""
    found = _in_class(kind, "__dict__")
    return found.__get__ if type(found) in (GetSetDescriptorType, MemberDescriptorType) else None


def _in_class(kind: type[Any], name: str) -> Any:
    """What stands in a class or its bases under a name, as it stands there."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), _NOTHING)


def _is_tuple(kind: type[Any]) -> bool:
    return issubclass(kind, tuple)


@lru_cache(maxsize=1024)
def _names_of(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a class of named tuples; none of any other."""
    names = _in_class(kind, "_fields") if _is_tuple(kind) else ()
    return cast("tuple[str, ...]", names) if type(names) is tuple else ()
