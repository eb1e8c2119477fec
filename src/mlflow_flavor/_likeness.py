"""Whether two values are alike as far as a trace shows them: plain data then, and plain data that was a value now."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, cast

from pydantic import BaseModel

from workflows.instrumentation.encoder import fields_of

__all__ = [
    "Likeness",
    "Rule",
    "Sign",
    "Unordered",
    "are_alike",
    "in_all",
    "may_be_alike",
    "partners",
    "sign_of",
    "with_sets",
    "without_addresses",
]

Likeness = bool | None
"""None: as far as it is shown, which is not all of it."""

ATTACHMENT = "mlflow-attachment://"

_OMITTED = re.compile(r"…(\[|\": \")\d+ \w+ omitted")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=[^<>]*>)")

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
        case str(), str():
            return then == now or without_addresses(then) == without_addresses(now)
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
    found = partners(then, now, (Rule(sign_of, _are_the_same), Rule(sign_of, may_be_alike)))
    return len(found) == len(then) == len(now) and in_all(are_alike(then[i], now[j]) for i, j in found.items())


def _is_cut(items: Sequence[object]) -> bool:
    return _OMITTED.search(_as_json(items)) is not None


def _are_the_same(then: object, now: object) -> bool:
    return are_alike(then, now) is True


def may_be_alike(then: object, now: object) -> bool:
    """Whether nothing that is shown differs."""
    return are_alike(then, now) is not False


def without_addresses(text: str) -> str:
    """A text without the places in memory of objects that are described in it: `<Pool object at 0x7f3a..>`."""
    return _ADDRESS.sub("", text)


class Sign(NamedTuple):
    """What tells a value from others without comparing it with each.

    Attributes:
        key: The same for all that may be alike, unless one of them is vague.
        is_vague: It may be like one with another key.
        is_cut: Part of it is not shown.
    """

    key: int
    is_vague: bool = False
    is_cut: bool = False


def sign_of(shown: object) -> Sign:
    """The sign of what is shown of a value; that of a list is of any order, as it may be a set."""
    match shown:
        case str():
            return Sign(hash(without_addresses(shown)), shown.startswith(ATTACHMENT), bool(_OMITTED.search(shown)))
        case dict():
            signs = {name: sign_of(item) for name, item in cast("dict[str, object]", shown).items()}
            key = hash(frozenset((name, sign.key) for name, sign in signs.items()))
            is_cut = "…" in signs or any(sign.is_cut for sign in signs.values())
            return Sign(key, any(sign.is_vague for sign in signs.values()), is_cut)
        case list():
            items = [sign_of(item) for item in cast("list[object]", shown)]
            is_cut = any(sign.is_cut for sign in items)
            return Sign(
                hash(tuple(sorted(sign.key for sign in items))), is_cut or any(sign.is_vague for sign in items), is_cut
            )
        case _:
            return Sign(hash((type(shown), str(shown))))


class Rule(NamedTuple, Generic[T]):
    """Which two may be partners: those that it allows, which have the same sign unless that is vague."""

    sign: Callable[[T], Sign]
    allows: Callable[[T, T], bool]


def partners(then: Sequence[T], now: Sequence[T], rules: Iterable[Rule[T]]) -> dict[int, int]:
    """The place in `now` of the partner of each of `then`, by its place, for those that have one.

    Every pair that the first rule allows is made before the second is asked; each takes the first partner it may have,
    of those with its own sign before others. Only what is vague is compared with each, so that many take no long time.
    """
    found: dict[int, int] = {}
    left = dict.fromkeys(range(len(now)))
    for rule in rules:
        signs = {other: rule.sign(now[other]) for other in left}
        by_key: dict[int, dict[int, None]] = {}
        for other, sign in signs.items():
            by_key.setdefault(sign.key, {})[other] = None
        vague = {other: None for other, sign in signs.items() if sign.is_vague}
        for place, one in enumerate(then):
            if place in found:
                continue
            sign = rule.sign(one)
            those = chain(by_key.get(sign.key, ()), left if sign.is_vague else vague)
            partner = next((other for other in those if rule.allows(one, now[other])), None)
            if partner is not None:
                found[place] = partner
                del left[partner], by_key[signs[partner].key][partner]
                vague.pop(partner, None)
    return found


def _as_json(value: object) -> str:
    return json.dumps(cast("Any", value), sort_keys=True, default=str, ensure_ascii=False)
