"""What modules of the author's own hold of others' functions and classes, a registry by a decorator, say.

Nobody asks how it came there: what the author's modules hold is compared with what the model's copies of them hold, as
far as the model's script can see it. The garbage collector tells what an object holds, so that no code is run.
"""

from __future__ import annotations

# pyright: reportUnknownArgumentType=false
# What is held may be anything.
import ast
import functools
import marshal
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from gc import get_referents, is_tracked
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

from mlflow_flavor._kinds import is_a
from mlflow_flavor._origins import local_places
from mlflow_flavor._reading import SUBCLASSES, read_by
from mlflow_flavor._seen import seen_by

__all__ = ["Holding", "left_out"]

# What is in them is there by whoever put it there, and by no doing of theirs.
COLLECTIONS = (
    *(dict, list, tuple, set, frozenset, deque, MappingProxyType, ReferenceType),
    *(type, FunctionType, MethodType, CellType, functools.partial, staticmethod, classmethod, property),
)
# They lead to all that a process has.
CLOSED = (ModuleType, CodeType, FrameType, GeneratorType, CoroutineType, AsyncGeneratorType)
# What `isinstance` has once found out about other classes.
ASKED_ABOUT = "_abc_impl"
MUCH = 1000
MAX_DEPTH = 8
"""In objects of libraries: a tool that holds a function is one, and so is a server that has a list of them."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Something of a module of the author's that another module of theirs holds.

    Attributes:
        place: What holds it: `shop.tools.TOOLS`.
        module: The module that it, or what it is part of or made of, is at the top of.
        name: What that is called there.
        sure: It was put there by whoever owns what holds it, and is no part of something else.
    """

    place: str
    module: str
    name: str
    sure: bool


class Reached(NamedTuple):
    """Values, the variable by which they were reached, and how many objects of libraries are around them."""

    place: str
    depth: int
    values: Iterable[object]


def left_out(
    script: ast.Module, home: str, authors: Mapping[str, ModuleType], model: Mapping[str, ModuleType]
) -> list[Holding]:
    """What the author's modules hold, and the model's copies do not, as far as a script sees it.

    That is, of the module `home`, and of those that the model does not import. A script sees what it imports and uses,
    but for decorators, and what the functions among that read: a list of commands for the author's own program is no
    part of an agent, nor is what counts calls or is told of them.

    Args:
        script: What was written from `home`.
        home: The module's name; empty if the script is none of its source, but imports it.
        authors: The other modules of the author's, by name.
        model: The model's copies of them, as far as they are there; that with no name is the script.
    """
    here: dict[str, Holding] = {}
    others: dict[tuple[str, str], Holding] = {}
    for found in _held(seen_by(script, authors), authors, {home}):
        if found.module != home:
            if found.module not in model:
                others.setdefault((found.module, found.name), found)
        elif found.name not in here or found.sure:
            here[found.name] = found
    if here:
        copies = {name: module for name, module in model.items() if name}
        own = model[""].__name__
        names = {home, own, f"{own}.{home}"}
        for found in _held(seen_by(script, copies), copies, names):
            if found.module in names:
                here.pop(found.name, None)
    brought = {name.partition(".")[0] for name in model}  # also what is installed from where it is written
    local = {"__main__", *brought, *local_places(module.partition(".")[0] for module, _ in others)}
    return [*here.values(), *(each for each in others.values() if each.module.partition(".")[0] in local)]


def _held(
    roots: Iterable[tuple[str, object]], modules: Mapping[str, ModuleType], homes: Container[str]
) -> Iterator[Holding]:
    """What some variables lead to, by what these modules have: of the homes, and what is certain of any others."""
    own = {module.__name__: module for module in modules.values()}
    importable = {**modules, **own}  # a model's copy imports another one by the author's name
    todo = deque(Reached(place, 0, [value]) for place, value in roots)
    seen: set[int] = set()
    kinds: dict[type, Kind] = {}
    while todo:
        place, depth, values = todo.popleft()
        for value in filter(is_tracked, values):
            if id(value) in seen:
                continue
            seen.add(id(value))
            kind = kinds.get(type(value)) or kinds.setdefault(type(value), Kind.of(type(value), own))
            named: Any = value if kind.is_named else type(value)
            name, _, below = named.__qualname__.partition(".")
            is_itself = not below and not depth
            if named.__module__ in homes:
                yield Holding(place, named.__module__, name, sure=kind.is_named and is_itself)
                continue
            if is_itself or (is_a(value, FunctionType) and not below):  # a library's tool is made of a function
                yield Holding(place, str(named.__module__), name, sure=True)
            if kind.is_transparent and not depth:
                todo.appendleft(Reached(place, 0, kind.parts(value, own)))  # what is sure comes first
                if is_a(value, FunctionType) and value.__globals__.get("__name__") in own:
                    todo.extend(Reached(read, 0, [variable]) for read, variable in read_by(value, importable))
            elif depth < MAX_DEPTH:
                todo.append(Reached(place, depth + 1, kind.parts(value, own)))


class Kind(NamedTuple):
    """What is to be known of a type.

    Attributes:
        is_named: Its objects are functions or classes.
        is_transparent: It is no library's: what its objects hold, the author has put there.
        parts: What an object of it holds.
    """

    is_named: bool
    is_transparent: bool
    parts: Callable[[Any, Container[str]], Iterable[object]]

    @classmethod
    def of(cls, kind: type, own: Container[str]) -> Kind:
        """The same of a type; `own` are the author's modules."""
        parts = next((found for base, found in PARTS.items() if issubclass(kind, base)), _of_object)
        is_transparent = issubclass(kind, COLLECTIONS) or kind.__module__ in own
        if kind.__module__ in own and parts is _of_object:
            parts = _of_own_object
        return cls(issubclass(kind, (FunctionType, type)), is_transparent, parts)


def _of_function(function: FunctionType, _: Container[str]) -> Iterable[object]:
    """What it was made with, but not the variables of its module."""
    return function.__closure__, function.__defaults__, function.__kwdefaults__, vars(function)


def _of_class(cls: type, own: Container[str]) -> Iterable[object]:
    if cls.__module__ not in own:
        return ()
    parts = [value for name, value in vars(cls).items() if name != ASKED_ABOUT]
    functions = [part for each in parts if is_a(part := getattr(each, "__func__", each), FunctionType)]
    if any(SUBCLASSES in function.__code__.co_names for function in functions):  # `cls.__subclasses__()`
        parts += type.__subclasses__(cls)
    return parts


def _of_dict(value: dict[Any, Any], _: Container[str]) -> Iterable[object]:
    """Its values and keys, but for what is counted: calls, by function."""
    items = list(dict[Any, Any].items(value)) if not _is_data(value) else []
    return [*(item for _, item in items), *(key for key, item in items if type(item) not in (int, float))]


def _of_list(value: list[Any], _: Container[str]) -> Iterable[object]:
    return list(value) if not _is_data(value) else ()


def _is_data(value: Any) -> bool:
    """Whether it is much, and plain data: of a million texts nobody need look at each."""
    if len(value) < MUCH:
        return False
    try:
        return bool(marshal.dumps(value))
    except ValueError:  # an object is in it
        return False


def _of_reference(reference: ReferenceType[Any], _: Container[str]) -> Iterable[object]:
    return (ReferenceType[Any].__call__(reference),)


def _of_object(value: object, _: Container[str]) -> Iterable[object]:
    return [part for part in get_referents(value) if part is not type(value)]


def _of_own_object(value: object, own: Container[str]) -> Iterable[object]:
    """What it holds, and its class, whose methods may read more."""
    return get_referents(value)


def _of_nothing(value: object, own: Container[str]) -> Iterable[object]:
    return ()


PARTS = {
    **dict.fromkeys(CLOSED, _of_nothing),
    FunctionType: _of_function,
    type: _of_class,
    dict: _of_dict,
    list: _of_list,
    ReferenceType: _of_reference,
}
