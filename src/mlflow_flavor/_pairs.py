"""Two values that should be alike, one of them made by another load of its source, and the parts of both."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# What is compared here may be anything.
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, cast

from mlflow_flavor._model_imports import MODULE_PREFIX

__all__ = [
    "AbsentError",
    "Attributes",
    "DifferenceError",
    "IdentifierError",
    "Pair",
    "UnknownError",
    "UnsetError",
    "attributes_of_both",
    "differ",
    "expect",
    "is_of_source",
    "is_one_class",
    "items_of_both",
    "plain_name",
    "rows_of_both",
]

Attributes = Mapping[str, object]

# What the engine keeps with a resource, and pydantic with a function, until and after their annotations can be read.
READ_ANNOTATIONS = frozenset(
    {"_localns", "_needs", "ns_resolver", "__pydantic_validator__", "__return_pydantic_validator__"}
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two values that should be alike, and where they are.

    Attributes:
        place: What the first one is called.
        one: What the user holds.
        other: What the source makes.
        path: The same, and which of a list's items or an object's parts they are.
        held: An object of a library holds them.
        private: It keeps them for itself.
    """

    place: str
    one: object
    other: object
    path: str
    held: bool = False
    private: bool = False

    @classmethod
    def of(cls, place: str, one: object, other: object) -> Pair:
        """Two values by a name of their own."""
        return cls(place, one, other, place)

    def at(self, place: str, one: object, other: object) -> Pair:
        """Two parts of these two."""
        return replace(self, place=f"{self.place}{place}", one=one, other=other, path=f"{self.path}{place}")


class DifferenceError(Exception):
    """Two values are not alike; its text says so."""


class UnsetError(DifferenceError):
    """The source leaves it None."""


class AbsentError(DifferenceError):
    """The source has no such attribute."""


class UnknownError(DifferenceError):
    """Nobody can know whether two values are alike."""


class IdentifierError(DifferenceError):
    """Two values are not alike, and both are what `uuid4()` gives, which is another one each time."""


def attributes_of_both(pair: Pair, one: Attributes, other: Attributes) -> Iterator[Pair]:
    """Their attributes; of an object of a library, what only one of them keeps for itself is no difference."""
    library = not is_of_source(pair.other)
    for name in dict.fromkeys((*one, *other)):
        once = (name not in one or name not in other) and _is_cache(type(pair.one), name)
        if once or (library and name in READ_ANNOTATIONS):
            continue
        private = pair.private or (library and name.startswith("_"))
        found = replace(pair.at(f".{name}", one.get(name), other.get(name)), held=library, private=private)
        if name in one and name in other:
            yield found
        elif not private:
            raise AbsentError(str(differ(found))) if name in one else differ(found)


def _is_cache(cls: type, name: str) -> bool:
    """Whether the class itself fills an attribute when it is first read, as `functools.cached_property` does."""
    kind: type[Any] = type(next((vars(c)[name] for c in cls.__mro__ if name in vars(c)), None))
    if hasattr(kind, "__set__") or issubclass(kind, FunctionType | staticmethod | classmethod):
        return False
    return hasattr(kind, "__get__")


def items_of_both(pair: Pair) -> Iterator[Pair]:
    """What two dicts hold."""
    one, other = cast("dict[Any, Any]", pair.one), cast("dict[Any, Any]", pair.other)
    if isinstance(one, defaultdict) and isinstance(other, defaultdict):
        yield pair.at("", one.default_factory, other.default_factory)
    if one.keys() == other.keys():
        expect(pair, pair.held or list(one) == list(other))
        yield from (pair.at(f"[{key!r}]", value, other[key]) for key, value in one.items())
        return
    yield from rows_of_both(pair, list(one), list(other))  # keys of two loads are not equal, but come in one order
    yield from rows_of_both(pair, list(one.values()), list(other.values()))


def rows_of_both(pair: Pair, one: Collection[object], other: Collection[object]) -> Iterator[Pair]:
    """What two lists hold."""
    expect(pair, len(one) == len(other))
    for number, both in enumerate(zip(one, other, strict=True)):
        yield replace(pair.at("", *both), path=f"{pair.path}[{number}]")


def is_one_class(one: type, other: type) -> bool:
    """Whether two classes are the same, or two loads of the same."""
    if one is other:
        return True
    return one.__qualname__ == other.__qualname__ and (
        one.__module__ == other.__module__ or other.__module__.startswith(MODULE_PREFIX)
    )


def is_of_source(value: object) -> bool:
    """Whether a class, a function, or an object's class is of the model's own source.

    A function is asked for the module that it runs in: what `functools.wraps` makes has the name of what is in it.
    """
    if isinstance(value, FunctionType):
        return str(value.__globals__.get("__name__")).startswith(MODULE_PREFIX)
    named: Any = value if isinstance(value, type) else type(value)
    return str(named.__module__).startswith(MODULE_PREFIX)


def plain_name(module: str) -> str:
    """A module's name without what a loaded model puts before it."""
    return module.partition(".")[2] if module.startswith(MODULE_PREFIX) else module


def expect(pair: Pair, alike: bool) -> None:
    """Raise `DifferenceError` unless they are alike."""
    if not alike:
        raise differ(pair)


def differ(pair: Pair) -> DifferenceError:
    """That they are not alike."""
    kind = UnsetError if pair.other is None else DifferenceError
    return kind(f"{pair.place} is not what its source makes")
