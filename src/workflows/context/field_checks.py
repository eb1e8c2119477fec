"""Whether a value of a field comes back: from plain JSON by its annotation alone, or as itself through validation."""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import TzInfo

from workflows.context.json_values import MARK_SET

__all__ = ["ATOMS", "Check", "Fits", "kept_check", "plain_check", "quick_kind"]

Check = Callable[[Any], bool]
Fits = Callable[[type[BaseModel], Iterable[BaseModel]], bool]
"""Whether models of one class are dumped and validated by pydantic without loss."""

ATOMS = (str, int, float, bool, NoneType)
_AS_TEXT = (datetime, date, UUID)  # what JSON has as text, which pydantic reads as such by the annotation
# Validation gives exactly what it got where the class is the very one.
_KEPT = (*ATOMS, datetime, date, time, timedelta, UUID, bytes)
_KEPT_CONTAINERS = (list, dict, tuple, set, frozenset, deque)
_NO_KIND = Callable
_STR = frozenset({str})


def quick_kind(annotation: Any) -> Any:
    """A class that a plain value may have without another look at it, for speed; none has that of most annotations."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((m for m in members if m in (str, int, bool)), _NO_KIND)


def plain_check(annotation: Any, fits: Fits | None) -> Check | None:
    """What tells whether a value is exactly of a type that JSON, read as that type, gives back; None: no value is.

    Args:
        annotation: The declared type.
        fits: Looks at a nested model; None: nested models, and texts that stand for something else, do not count.
    """
    if annotation is None or annotation in ATOMS:
        return _atom(annotation or NoneType)
    if fits is not None and annotation in _AS_TEXT:
        return _is_plain_time if annotation is datetime else lambda v: type(v) is annotation
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, UnionType):
        return None if _is_ambiguous(args) else _any_of([plain_check(m, fits) for m in args])
    if origin is list and args:
        return _in_list(_every(args[0], fits))
    if origin is dict and args and args[0] is str:
        return _in_dictionary(_every(args[1], fits))
    if fits is not None and _is_model_class(annotation):
        every = _of_models(annotation, fits)
        return lambda v: every((v,))
    return None


def _is_ambiguous(members: tuple[Any, ...]) -> bool:
    """Whether JSON of one of these types may be read as another: at most one may be no plain value, nor be as text."""
    return sum(m not in ATOMS for m in members) > 1 or (str in members and any(m in _AS_TEXT for m in members))


def kept_check(annotation: Any) -> Check | None:
    """What tells whether validation gives back the value that it is given; None: nobody can say."""
    if annotation is Any or annotation is object:
        return lambda v: True
    if annotation is None or annotation in _KEPT:
        kind = annotation or NoneType
        return lambda v: type(v) is kind
    if annotation is Decimal:
        return lambda v: type(v) is Decimal and v.is_finite()
    if _is_model_class(annotation) and annotation.model_config.get("revalidate_instances", "never") == "never":
        return _instance_of(annotation)
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return _instance_of(annotation)
    if annotation in _KEPT_CONTAINERS:
        return lambda v: type(v) is annotation
    return _kept_of(get_origin(annotation), get_args(annotation))


def _kept_of(origin: Any, args: tuple[Any, ...]) -> Check | None:
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, UnionType):
        return _any_of([kept_check(m) for m in args])
    if origin is dict and len(args) == 2:
        keys, values = kept_check(args[0]), kept_check(args[1])
        if keys is None or values is None:
            return None
        return lambda v: type(v) is dict and all(map(keys, _mapping(v))) and all(map(values, _mapping(v).values()))
    if origin in (list, set, frozenset) or (origin is tuple and args[1:] == (...,)):
        return _kept_items(origin, args[0])
    return None


def _kept_items(container: type, item: Any) -> Check | None:
    if item in ATOMS:
        kinds = {item}
        return lambda v: type(v) is container and set(map(type, v)) <= kinds
    check = kept_check(item)
    return None if check is None else lambda v: type(v) is container and all(map(check, v))


def _mapping(value: Any) -> dict[Any, Any]:
    return value


def _is_model_class(annotation: Any) -> bool:
    return get_origin(annotation) is None and inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _atom(kind: type) -> Check:
    return (lambda v: type(v) is float and isfinite(v)) if kind is float else lambda v: type(v) is kind


def _is_plain_time(value: Any) -> bool:
    if type(value) is not datetime or value.fold:
        return False
    zone = value.tzinfo
    return zone is None or zone is UTC or type(zone) is TzInfo


def _one_of(values: tuple[Any, ...]) -> Check | None:
    if not all(type(v) in ATOMS for v in values):
        return None
    return lambda v: any(type(v) is type(one) and v == one for one in values)


def _any_of(checks: list[Check | None]) -> Check | None:
    found = [c for c in checks if c is not None]
    return (lambda v: any(check(v) for check in found)) if len(found) == len(checks) else None


def _in_list(every: Check | None) -> Check | None:
    return None if every is None else lambda v: type(v) is list and every(cast("list[Any]", v))


def _in_dictionary(every: Check | None) -> Check | None:
    if every is None:
        return None
    return lambda v: type(v) is dict and _has_plain_keys(_mapping(v)) and every(_mapping(v).values())


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    """Whether all keys are text, and none would be taken for a mark: pydantic dumps them as they are."""
    return set(map(type, value)) <= _STR and MARK_SET.isdisjoint(value)


def _every(item: Any, fits: Fits | None) -> Check | None:
    """As `plain_check` for each of many, at the speed of C where they are plain."""
    kinds = {item} if item in (str, int, bool, float) else set[type]()
    if item is float:
        return lambda values: set(map(type, values)) <= kinds and isfinite(sum(values))
    if kinds:
        return lambda values: set(map(type, values)) <= kinds
    if fits is not None and _is_model_class(item):
        return _of_models(cast("type[BaseModel]", item), fits)
    check = plain_check(item, fits)
    if check is None:
        return None
    return lambda values: all(map(check, cast("Iterable[Any]", values)))


def _of_models(cls: type[BaseModel], fits: Fits) -> Check:
    wanted = weakref.ref(cls)

    def check(values: Any) -> bool:
        found = wanted()
        return found is not None and set(map(type, values)) <= {found} and fits(found, values)

    return check


def _instance_of(cls: type) -> Check:
    wanted = weakref.ref(cls)

    def check(value: Any) -> bool:
        found = wanted()
        return found is not None and isinstance(value, found)

    return check
