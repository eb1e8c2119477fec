"""Whether a workflow that a written script made is the one that its author holds: same steps, same state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel

from workflows import Workflow
from workflows.representation import get_workflow_representation

__all__ = ["changed_name", "class_change", "instance_change"]

PLAIN = (str, bytes, int, float, complex, bool, type(None))
MAX_DEPTH = 8


def class_change(original: type[Workflow], rebuilt: type[Workflow]) -> str | None:
    """In words, what of a class's own functions is not what its source says; None if all is."""
    theirs = vars(rebuilt)
    for name, member in vars(original).items():
        if isinstance(member, FunctionType) and not _same(member, theirs.get(name), 0):
            return f"its method {name} is not the one in its source, which was changed since"
    return None


def instance_change(original: Workflow, rebuilt: Workflow) -> str | None:
    """In words, what of an instance's steps and state is not what its source makes; None if all is."""
    if (steps := _steps(original)) != _steps(rebuilt):
        return f"its steps {', '.join(sorted(steps ^ _steps(rebuilt)))} were attached or removed by hand"
    engine = vars(Workflow())
    own, theirs = vars(original), vars(rebuilt)
    for name in own.keys() | theirs.keys():
        if name.startswith("__"):
            continue
        value, other = own.get(name), theirs.get(name)
        # Of the engine's own attributes only settings count: the others differ between any two instances.
        if name in engine and not (isinstance(value, PLAIN) and isinstance(other, PLAIN)):
            continue
        if not _same(value, other, 0):
            return f"its {name.lstrip('_')} is not what its source makes"
    return None


def changed_name(names: Iterable[str], original: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> str | None:
    """The first of the names whose value in a module is not what the module's statements make."""
    for name in sorted(names):
        value = original.get(name)
        if not isinstance(value, Workflow) and not _same(value, rebuilt.get(name), 0):
            return name
    return None


def _steps(workflow: Workflow) -> set[str]:
    nodes = get_workflow_representation(workflow).nodes
    return {node.label for node in nodes if node.node_type == "step"}


def _same(one: object, other: object, depth: int) -> bool:
    """Whether two values are alike, where their classes may be two loads of one source.

    Objects that are neither plain data, nor pydantic models, nor functions are alike if their classes have one name.
    """
    if one is other or depth > MAX_DEPTH:
        return True
    if type(one).__qualname__ != type(other).__qualname__:
        return False
    match one:
        case str() | bytes() | int() | float() | complex():
            return one == other or (one != one and other != other) or (_is_uuid(one) and _is_uuid(other))
        case dict():
            return _same_items(cast("dict[object, object]", one), cast("dict[object, object]", other), depth)
        case list() | tuple():
            return _same_rows(cast("list[object]", one), cast("list[object]", other), depth)
        case set() | frozenset():
            return one == other or _names(cast("set[object]", one)) == _names(cast("set[object]", other))
        case FunctionType() | MethodType():
            return _same_code(_code(one), _code(other))
        case type():
            return one.__qualname__ == getattr(other, "__qualname__", None)
        case BaseModel() | Workflow():
            return _same_items(_state(one), _state(other), depth)
        case _:
            return True


def _same_items(one: dict[Any, object], other: dict[Any, object], depth: int) -> bool:
    return one.keys() == other.keys() and all(_same(value, other[key], depth + 1) for key, value in one.items())


def _same_rows(one: list[object], other: list[object], depth: int) -> bool:
    return len(one) == len(other) and all(_same(a, b, depth + 1) for a, b in zip(one, other, strict=True))


def _names(values: set[object]) -> set[str]:
    return {value.__qualname__ if isinstance(value, type) else repr(value) for value in values}


def _state(value: object) -> dict[str, object]:
    hidden = vars(Workflow()) if isinstance(value, Workflow) else {}
    return {name: item for name, item in vars(value).items() if name not in hidden}


def _is_uuid(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


def _code(function: object) -> CodeType | None:
    while (wrapped := getattr(function, "__wrapped__", None)) is not None:
        function = wrapped
    return getattr(function, "__code__", None)


def _same_code(one: CodeType | None, other: CodeType | None) -> bool:
    if one is None or other is None:
        return one is other
    if (one.co_code, one.co_names, len(one.co_consts)) != (other.co_code, other.co_names, len(other.co_consts)):
        return False
    pairs = zip(one.co_consts, other.co_consts, strict=True)
    return all(_same_code(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else a == b for a, b in pairs)
