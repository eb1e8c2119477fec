"""Whether a value is what its source makes when that is loaded again: the two are compared by what they hold.

Their classes and functions may be two loads of one source. What cannot say what it holds (a connection, an open file)
is told by its name, for nobody can know whether it is the same one. Of an object of a library, what its class keeps for
itself (names with an underscore) may have been made since: a client opens its connections when it is first used.
"""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# What is compared here may be anything.
import _thread
import marshal
import re
import sys
import threading
from asyncio import Queue
from collections.abc import Collection, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, ContextVar
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from inspect import Parameter, signature
from logging import Logger
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, ForwardRef, ParamSpec, TypeVar, cast, get_args, get_origin
from uuid import UUID
from weakref import ReferenceType

from pydantic import BaseModel, TypeAdapter

from mlflow_flavor._code import same_code
from mlflow_flavor._model_imports import MODULE_PREFIX
from mlflow_flavor._moved import is_moved
from mlflow_flavor._origins import is_local
from mlflow_flavor._pairs import (
    Attributes,
    DifferenceError,
    IdentifierError,
    Pair,
    UnknownError,
    attributes_of_both,
    differ,
    expect,
    is_of_source,
    is_one_class,
    items_of_both,
    plain_name,
    rows_of_both,
)
from mlflow_flavor._reductions import reduced_parts
from workflows import Workflow

__all__ = ["PLAIN", "difference", "places_of_change", "places_of_new_identifiers"]

# They hold nothing that a source could set: each is as good as another.
EMPTY = (
    object,
    _thread.LockType,
    type(threading.RLock()),
    threading.local,
)
# Where pools, queues and pydantic's adapters keep what they were made with.
MADE_WITH = ("_max_workers", "_maxsize", "_type", "_config")
# What Python and its libraries write into a class beside what its author did.
WRITTEN_BY_PYTHON = frozenset({"__module__", "__qualname__", "__firstlineno__", "_abc_impl", "_value2member_map_"})
WRITTEN_BY_ENUM = frozenset({"__objclass__", "_sort_order_", "_inverted_"})
# What a function says of itself beside its code: of these a model is told what it is for, and how to call it.
SAID = ("__name__", "__doc__", "__annotations__")
STEP = "_step_config"
IDENTIFIER = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WITHOUT_REFERENCES = 2  # the last format of `marshal` in which a value's bytes do not depend on who else holds it
PLAIN = (str, bytes, int, float, complex, bool, type(None))


def difference(place: str, one: object, other: object, new_identifiers: Container[str] = ()) -> DifferenceError | None:
    """What of the value called `place` is not what its source makes, or cannot be known to be; None if all is.

    Args:
        place: What the value is called.
        one: What the user holds.
        other: What the source makes.
        new_identifiers: Places where the source makes another identifier each time.
    """
    found = (error for at, error in _differences(place, one, other) if not _is_new(at, error, new_identifiers))
    return next(found, None)


def places_of_new_identifiers(place: str, one: object, other: object) -> Iterator[str]:
    """Where two values, both made by one source, hold another identifier each."""
    return (at for at, error in _differences(place, one, other) if isinstance(error, IdentifierError))


def places_of_change(place: str, one: object, other: object) -> Iterator[str]:
    """Where two values are known to differ, but for identifiers."""
    found = _differences(place, one, other)
    return (at for at, error in found if not isinstance(error, IdentifierError | UnknownError))


def _is_new(place: str, error: DifferenceError, new_identifiers: Container[str]) -> bool:
    return isinstance(error, IdentifierError) and place in new_identifiers


def _differences(place: str, one: object, other: object) -> Iterator[tuple[str, DifferenceError]]:
    """What is not alike, and where."""
    todo = [Pair.of(place, one, other)]
    known: dict[tuple[int, int], Pair] = {}  # they hold what they are about: an id is not given to another object
    while todo:
        pair = todo.pop()
        if pair.one is pair.other or (id(pair.one), id(pair.other)) in known:
            continue
        known[id(pair.one), id(pair.other)] = pair
        try:
            todo.extend(reversed(list(_parts(pair))))
        except DifferenceError as error:
            yield pair.path, error


def _parts(pair: Pair) -> Iterator[Pair]:
    """What has to be alike for the two to be.

    Raises:
        DifferenceError: If they cannot be.
    """
    one, other = pair.one, pair.other
    if pair.private and (_is_nothing(other) or isinstance(other, Enum)):  # a state that use changes, as a client's
        return
    expect(pair, is_one_class(type(one), type(other)))
    if is_of_source(other):
        pair = replace(pair, held=False, private=False)
    yield from _parts_of_kind(pair)


def _parts_of_kind(pair: Pair) -> Iterator[Pair]:
    one, other = cast("Any", pair.one), cast("Any", pair.other)
    match one:
        case Enum():
            expect(pair, one.name == other.name)
            named = Pair.of(f"{type(one).__qualname__}.{one.name}", one, other)
            yield from attributes_of_both(named, _of_member(one), _of_member(other))
        case str() | bytes() | int() | float() | complex() | UUID():
            if one != other and _are_alike_but_for_uuids(one, other):
                raise IdentifierError(differ(pair))
            expect(pair, one == other or (one != one and other != other) or _is_said_otherwise(pair, one, other))
            yield from attributes_of_both(pair, _variables(one), _variables(other))
        case dict() | MappingProxyType() | list() | tuple() | set() | frozenset():
            yield from _parts_of_collection(pair)
            yield from attributes_of_both(pair, _variables(one), _variables(other))
        case GetSetDescriptorType() | MemberDescriptorType():
            return
        case PurePath():
            yield pair.at("", str(one), str(other))
        case type():
            expect(pair, is_one_class(one, other))
            named = Pair.of(one.__qualname__, one, other)
            yield from attributes_of_both(named, _members(one), _members(other))
            yield from _fields_of_both(named, one, other)
            yield from rows_of_both(named, one.__bases__, other.__bases__)
        case ModuleType():
            expect(pair, plain_name(one.__name__) == plain_name(other.__name__))
        case _:
            yield from _parts_of_callable(pair)


def _parts_of_collection(pair: Pair) -> Iterator[Pair]:
    one, other = cast("Any", pair.one), cast("Any", pair.other)
    match one:
        case dict() | list() | tuple() if _is_same_data(one, other):
            return
        case dict() | MappingProxyType():
            yield from items_of_both(pair)
        case list() | tuple():
            yield from rows_of_both(pair, one, other)
        case _:
            yield from _members_of_set(pair, one, other)


def _parts_of_callable(pair: Pair) -> Iterator[Pair]:
    one, other = cast("Any", pair.one), cast("Any", pair.other)
    match one:
        case FunctionType():
            yield from _of_function(pair, one, other)
        case CodeType():
            expect(pair, same_code(one, other))
        case MethodType():
            yield from rows_of_both(pair, [one.__func__, one.__self__], [other.__func__, other.__self__])
        case BuiltinFunctionType():
            expect(pair, one.__name__ == other.__name__)
            yield pair.at("", one.__self__, other.__self__)
        case property():
            yield from rows_of_both(pair, [one.fget, one.fset, one.fdel], [other.fget, other.fset, other.fdel])
        case classmethod() | staticmethod():
            yield pair.at("", one.__func__, other.__func__)
        case CellType():
            yield from rows_of_both(pair, _contents(one), _contents(other))
        case ReferenceType():
            yield pair.at("", one(), other())
        case _:
            yield from _parts_of_object(pair)


def _parts_of_object(pair: Pair) -> Iterator[Pair]:
    one, other = cast("Any", pair.one), cast("Any", pair.other)
    yield pair.at("", type(one), type(other))
    match one:
        case Workflow():
            yield from attributes_of_both(pair, _state(one), _state(other))
        case BaseModel():
            yield from _of_model(pair, one, other)
        case ThreadPoolExecutor() | Queue() | TypeAdapter():
            yield from _of_what_made_it(pair, vars(one), vars(other))
        case Logger():
            expect(pair, _same_logger(one.name, other.name))
        case ContextVar():
            expect(pair, one.name == other.name)
            yield pair.at("", _default(one), _default(other))
        case TypeVar() | ParamSpec() | ForwardRef():  # which has more once somebody has looked it up
            expect(pair, _name(one) == _name(other))
        case _ if type(one) in EMPTY:
            return
        case _ if get_origin(one) is not None:
            yield from rows_of_both(pair, [get_origin(one), *get_args(one)], [get_origin(other), *get_args(other)])
        case _ if is_dataclass(one) and not isinstance(one, type):
            yield from attributes_of_both(pair, _of_dataclass(one), _of_dataclass(other))
        case _:
            yield from reduced_parts(pair)


def _of_what_made_it(pair: Pair, one: Attributes, other: Attributes) -> Iterator[Pair]:
    """What these were made with, and what the source put into a queue; all else comes of it, or of their use."""
    for name in MADE_WITH:
        yield pair.at("", one.get(name), other.get(name))
    yield replace(pair.at("", one.get("_queue"), other.get("_queue")), private=True)


def _variables(value: object) -> Attributes:
    """What an object of a class below one of Python's own has of its own."""
    return getattr(value, "__dict__", {})


def _of_member(member: Enum) -> Attributes:
    return {name: value for name, value in vars(member).items() if name not in WRITTEN_BY_ENUM}


def _default(variable: ContextVar[Any]) -> object:
    """What a context variable holds where nobody has set it."""
    try:
        return Context().run(variable.get)
    except LookupError:
        return None


def _name(one: TypeVar | ParamSpec | ForwardRef) -> str:
    return one.__forward_arg__ if isinstance(one, ForwardRef) else one.__name__


def _is_same_data(one: Any, other: Any) -> bool:
    """Whether both are plain data and alike: of a million numbers, there need not be a million pairs."""
    try:
        alike = marshal.dumps(one, WITHOUT_REFERENCES) == marshal.dumps(other, WITHOUT_REFERENCES)
        return alike and bool(one == other)  # `marshal` writes an array as its bytes, without their type
    except ValueError:  # an object is in it, it is in itself, or an array does not say whether it is equal
        return False


def _members_of_set(pair: Pair, one: Collection[object], other: Collection[object]) -> Iterator[Pair]:
    rest = [value for value in other if value not in one]
    own = [value for value in one if value not in other]
    identifiers = [[value for value in values if _is_uuid(value)] for values in (own, rest)]
    yield from rows_of_both(pair, *identifiers)
    own, rest = ([value for value in values if not _is_uuid(value)] for values in (own, rest))
    expect(pair, len(own) == len(rest) and not any(isinstance(value, PLAIN) for value in own))
    expect(pair, all(any(difference("", value, another) is None for another in rest) for value in own))


def _members(cls: type) -> dict[str, object]:
    """What the author of a class wrote into it: functions, plain settings, and all that has no name of Python's own."""
    return {name: member for name, member in vars(cls).items() if not _is_written_by_python(cls, name, member)}


def _is_written_by_python(cls: type, name: str, member: object) -> bool:
    if name in WRITTEN_BY_PYTHON or name.startswith("__pydantic_"):
        return True
    if name == "__doc__":  # of a dataclass without one it is its signature, which has the names of modules
        return str(member).startswith(f"{cls.__name__}(")
    return name.startswith("__") and not isinstance(member, (FunctionType, *PLAIN))


def _fields_of_both(pair: Pair, one: type, other: type) -> Iterator[Pair]:
    """The fields of two pydantic models, as far as these can say them: not before what they name is there."""
    models = [cls for cls in (one, other) if issubclass(cls, BaseModel) and cls.__pydantic_complete__]
    if len(models) == 2:
        yield from attributes_of_both(pair, *(cls.model_fields for cls in models))


def _of_function(pair: Pair, one: FunctionType, other: FunctionType) -> Iterator[Pair]:
    expect(pair, same_code(one.__code__, other.__code__))
    inside = pair if is_of_source(other) else replace(pair, held=True, private=True)
    given = (one.__defaults__, one.__kwdefaults__, one.__closure__)
    yield from rows_of_both(inside, given, (other.__defaults__, other.__kwdefaults__, other.__closure__))
    for name in SAID:
        yield inside.at(f".{name}", getattr(one, name), getattr(other, name))
    own, theirs = vars(one), vars(other)
    for name in dict.fromkeys((*own, *theirs)):
        # A step whose annotations name something that is defined later is compiled when it is first used.
        if name != STEP or (is_dataclass(own.get(name)) and is_dataclass(theirs.get(name))):
            yield inside.at("", own.get(name), theirs.get(name))


def _contents(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # its variable has no value yet
        return []


def _of_model(pair: Pair, one: BaseModel, other: BaseModel) -> Iterator[Pair]:
    yield from attributes_of_both(pair, vars(one), vars(other))
    yield from attributes_of_both(pair, one.__pydantic_extra__ or {}, other.__pydantic_extra__ or {})
    own, theirs = one.__pydantic_private__ or {}, other.__pydantic_private__ or {}
    yield from attributes_of_both(pair, own, theirs)


def _of_dataclass(value: Any) -> Attributes:
    declared = {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
    return {**declared, **getattr(value, "__dict__", {})}


SETTINGS = frozenset(
    name
    for name, parameter in signature(Workflow.__init__).parameters.items()
    if parameter.kind is not Parameter.VAR_KEYWORD and name not in ("self", "resource_manager", "runtime", "serializer")
)


def _state(workflow: Workflow) -> Attributes:
    """What its author gave an instance; what the engine keeps there differs between any two, and after a run."""
    engine = vars(Workflow()).keys()
    own = {name: value for name, value in vars(workflow).items() if name not in engine and not name.startswith("__")}
    kept = workflow.__definition__
    settings = {n: getattr(kept, n) if hasattr(kept, n) else vars(workflow).get(f"_{n}") for n in SETTINGS}
    return {**settings, **own, "steps": workflow._get_steps()}  # pyright: ignore[reportPrivateUsage]  # attached ones too


def _same_logger(one: str, other: str) -> bool:
    """Whether two loggers have one name, or each has that of its module, `getLogger(__name__)`."""
    below = plain_name(other)
    return one == other or (other.startswith(MODULE_PREFIX) and (not below or f".{one}".endswith(f".{below}")))


def _is_said_otherwise(pair: Pair, one: object, other: object) -> bool:
    """Whether two texts are the name of a module of the author's and that of the model's, or paths beside these."""
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    return (_same_logger(one, other) and one in sys.modules and is_local(one)) or is_moved(pair, one, other)


def _is_nothing(value: object) -> bool:
    if not isinstance(value, Collection) or isinstance(value, str):
        return value is None
    try:
        return len(value) == 0  # `not` asks an array about each of its items
    except TypeError:  # an array that is one number
        return False


def _are_alike_but_for_uuids(one: object, other: object) -> bool:
    """Whether both are identifiers, or texts that hold some in the same places."""
    if isinstance(one, str) and isinstance(other, str) and IDENTIFIER.sub("", one) == IDENTIFIER.sub("", other):
        return True
    return _is_uuid(one) and _is_uuid(other)


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str):
        return isinstance(value, UUID)
    try:
        UUID(value)
    except ValueError:
        return False
    return True
