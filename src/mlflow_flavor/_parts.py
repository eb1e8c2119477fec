"""What an object holds, as the garbage collector and Python's own types tell it: no code of anybody's is run."""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# What is held may be anything.
import functools
import marshal
from collections import deque
from collections.abc import Callable, Container, Iterable
from contextvars import ContextVar
from gc import get_referents, is_tracked
from logging import Logger
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple
from weakref import ReferenceType

__all__ = ["Kind", "may_hold"]

# What is in them is there by whoever put it there, and by no doing of theirs.
COLLECTIONS = (
    *(dict, list, tuple, set, frozenset, deque, MappingProxyType, ReferenceType, ContextVar),
    *(type, FunctionType, MethodType, CellType, functools.partial, staticmethod, classmethod, property),
)
# They lead to all that a process has.
CLOSED = (CodeType, FrameType, GeneratorType, CoroutineType, AsyncGeneratorType, Logger)
# What `isinstance` has once found out about other classes.
ASKED_ABOUT = "_abc_impl"
MUCH = 1000


def may_hold(value: object) -> bool:
    """Whether there can be anything in a value: not in a number or a text."""
    return is_tracked(value) or type(value) is ContextVar


class Kind(NamedTuple):
    """What is to be known of a type.

    Attributes:
        is_named: Its objects are functions or classes.
        is_transparent: It is no library's: what its objects hold, the author has put there.
        has_class: It is a class of the author's, whose methods may read more than its objects hold.
        parts: What an object of it holds.
    """

    is_named: bool
    is_transparent: bool
    has_class: bool
    parts: Callable[[Any, Container[str]], Iterable[object]]

    @classmethod
    def of(cls, kind: type, own: Container[str]) -> Kind:
        """The same of a type; `own` are the author's modules."""
        parts = next((found for base, found in PARTS.items() if issubclass(kind, base)), _of_object)
        is_transparent = issubclass(kind, COLLECTIONS) or kind.__module__ in own
        has_class = kind.__module__ in own and parts is _of_object
        return cls(issubclass(kind, (FunctionType, type)), is_transparent, has_class, parts)


def _of_function(function: FunctionType, _: Container[str]) -> Iterable[object]:
    """What it was made with, but not the variables of its module."""
    return function.__closure__, function.__defaults__, function.__kwdefaults__, vars(function)


def _of_class(cls: type, own: Container[str]) -> Iterable[object]:
    """What is in it, and in what it has its methods of: its bases, and its own class."""
    if cls.__module__ not in own:
        return ()
    bases: tuple[type, ...] = type.__getattribute__(cls, "__mro__")
    return *bases[1:], type(cls), *(value for name, value in vars(cls).items() if name != ASKED_ABOUT)


def _of_module(module: ModuleType, own: Container[str]) -> Iterable[object]:
    """Its variables, for whoever has it as a value may use any; not where code calls it by its name."""
    if module.__name__ not in own:
        return ()
    return [value for name, value in vars(module).items() if not name.startswith("__")]


def _of_dict(value: dict[Any, Any], _: Container[str]) -> Iterable[object]:
    """Its values and keys, but for what is counted: calls, by function."""
    if dict[Any, Any].__contains__(
        value, "__builtins__"
    ):  # it is a module's variables, by which annotations are evaluated
        return ()
    items = list(dict[Any, Any].items(value)) if not _is_data(value, dict[Any, Any].__len__(value)) else []
    return [*(item for _, item in items), *(key for key, item in items if type(item) not in (int, float))]


def _of_list(value: list[Any], _: Container[str]) -> Iterable[object]:
    return list(list[Any].__iter__(value)) if not _is_data(value, list[Any].__len__(value)) else ()


def _is_data(value: Any, length: int) -> bool:
    """Whether it is much, and plain data: of a million texts nobody need look at each."""
    if length < MUCH:
        return False
    try:
        return bool(marshal.dumps(value))
    except ValueError:  # an object is in it
        return False


def _of_reference(reference: ReferenceType[Any], _: Container[str]) -> Iterable[object]:
    return (ReferenceType[Any].__call__(reference),)


def _of_context_variable(variable: ContextVar[Any], _: Container[str]) -> Iterable[object]:
    return variable.get(None), *get_referents(variable)  # which are its default


def _of_object(value: object, _: Container[str]) -> Iterable[object]:
    return [part for part in get_referents(value) if part is not type(value)]


def _of_nothing(value: object, own: Container[str]) -> Iterable[object]:
    return ()


PARTS = {
    **dict.fromkeys(CLOSED, _of_nothing),
    FunctionType: _of_function,
    type: _of_class,
    ModuleType: _of_module,
    dict: _of_dict,
    list: _of_list,
    ReferenceType: _of_reference,
    ContextVar: _of_context_variable,
}
