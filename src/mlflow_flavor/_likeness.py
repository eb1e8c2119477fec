"""Whether two values are alike as far as a trace shows them: plain data then, and plain data that was a value now."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from workflows.instrumentation.encoder import fields_of

__all__ = ["Likeness", "Unordered", "are_alike", "in_all", "may_be_alike", "partners", "with_sets"]

Likeness = bool | None
"""None: as far as it is shown, which is not all of it."""

ATTACHMENT = "mlflow-attachment://"

_OMITTED = re.compile(r"…(\[|\": \")\d+ \w+ omitted")

T = TypeVar("T")


class Unordered(list[Any]):
    """What is shown of a set: its order is another one in each process, and says nothing."""


def in_all(parts: Iterable[Likeness]) -> Likeness:
    """Of several parts together: one that differs decides, else one that is not known."""
    found: Likeness = True
    for part in parts:
        if part is False:
            return False
        found = found and part
    return found


def with_sets(shown: object, value: object) -> object:
    """What is shown of a value, where sets are `Unordered`: a trace has lists for them as it has for lists."""
    match shown, value:
        case _, Enum():
            return with_sets(shown, value._value_)
        case list(), set() | frozenset():
            return Unordered(_items_with_sets(cast("list[object]", shown), cast("Iterable[object]", value)))
        case list(), list() | tuple() | deque():
            return _items_with_sets(cast("list[object]", shown), cast("Iterable[object]", value))
        case dict(), _ if (parts := _parts(value)) is not None:
            fields = cast("dict[str, object]", shown)
            return {name: with_sets(item, parts.get(name)) for name, item in fields.items()}
        case _:
            return shown


def _items_with_sets(shown: Sequence[object], value: Iterable[object]) -> list[object]:
    """Item by item; behind those that have room, there is one that says how many have not."""
    parts = [with_sets(item, part) for item, part in zip(shown, value, strict=False)]
    return [*parts, *shown[len(parts) :]]


def _parts(value: object) -> Mapping[object, object] | None:
    """The parts of a value that has names for them, as a trace names them."""
    match value:
        case BaseModel():
            return cast("Mapping[object, object]", fields_of(value))
        case dict() | MappingProxyType():
            parts = cast("Mapping[object, object]", value)
            return {key._name_ if isinstance(key, Enum) else str(key): item for key, item in parts.items()}
        case tuple() if names := cast("tuple[str, ...] | None", getattr(type(cast("object", value)), "_fields", None)):
            return dict(zip(names, cast("tuple[object, ...]", value), strict=False))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            # `object.__getattribute__`: a class's own `__getattr__` is the user's code.
            return {field.name: object.__getattribute__(value, field.name) for field in dataclasses.fields(value)}
        case _:
            return None


def are_alike(then: object, now: object) -> Likeness:
    """Whether both show the same; MLflow keeps an image or a sound beside the trace, which has a reference to it."""
    match then, now:
        case str(), str() if then.startswith(ATTACHMENT):
            return None
        case dict(), dict():
            one, other = cast("dict[str, object]", then), cast("dict[str, object]", now)
            return one.keys() == other.keys() and in_all(are_alike(one[name], other[name]) for name in one)
        case list(), Unordered():
            return _are_alike_in_any_order(cast("list[object]", then), now)
        case list(), list():
            items, others = cast("list[object]", then), cast("list[object]", now)
            return len(items) == len(others) and in_all(map(are_alike, items, others))
        case _:
            return type(then) is type(now) and then == now


def _are_alike_in_any_order(then: Sequence[object], now: Sequence[object]) -> Likeness:
    if _is_cut(then) or _is_cut(now):
        return None  # other items of it may be shown each time
    found = partners(then, now, (_are_the_same, may_be_alike))
    return len(found) == len(then) == len(now) and in_all(are_alike(then[i], now[j]) for i, j in found.items())


def _is_cut(items: Sequence[object]) -> bool:
    return _OMITTED.search(_as_json(items)) is not None


def _are_the_same(then: object, now: object) -> bool:
    return are_alike(then, now) is True


def may_be_alike(then: object, now: object) -> bool:
    """Whether nothing that is shown differs."""
    return are_alike(then, now) is not False


def partners(then: Sequence[T], now: Sequence[T], rules: Iterable[Callable[[T, T], bool]]) -> dict[int, int]:
    """The place in `now` of the partner of each of `then`, by its place, for those that have one.

    Every pair that the first rule allows is made before the second is asked; each takes the first partner it may have.
    """
    found: dict[int, int] = {}
    left = list(range(len(now)))
    for rule in rules:
        for place, one in enumerate(then):
            partner = None if place in found else next((other for other in left if rule(one, now[other])), None)
            if partner is not None:
                found[place] = partner
                left.remove(partner)
    return found


def _as_json(value: object) -> str:
    return json.dumps(cast("Any", value), sort_keys=True, default=str, ensure_ascii=False)
