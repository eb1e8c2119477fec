"""A value of the user's as bounded plain data: the walk behind `content`.

It stops where the budget is spent and never walks the rest, and calls no `__repr__` or `__str__` of the user's: what
JSON has no word for becomes a placeholder (`<bytes 12>`, `<vector 1536>`, `<Context>`).
"""

from __future__ import annotations

import dataclasses
import logging
import math
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from json.encoder import encode_basestring  # what `ensure_ascii=False` uses: the length of its result is a text's cost
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from workflows.events import StopEvent
from workflows.instrumentation.marks import HIDDEN, Hidden, marked_fields
from workflows.instrumentation.redaction import MASK, REDACTION_FAILED, is_secret_key, mask_secrets

__all__ = ["Encoder", "fields_of", "kind_of", "omitted_text", "printable"]

MARKER_KEY = "…"
MARKER_COST = 34  # ,"…":"123456789 items omitted"
ITEM_COST = 64  # below this, an item is not begun: room for any scalar, or for an empty container and its marker
MAX_DEPTH = 12
LONGEST_KEY = 256
VECTOR_LENGTH = 64  # as many numbers in a row are an embedding, not something to read
SMALL_INT_BITS = 128
MOST_VALUES = 512
"""Values in one payload, containers included: what a payload is made of must not decide how long its walk takes."""

LOOK_AHEAD = 512  # a secret that begins before the cut is still seen whole

RedactCallback = Callable[[str, Any], Any]

logger = logging.getLogger("workflows.instrumentation")


class Encoder:
    """Encodes one value; make a new one for the next.

    Args:
        max_chars: The budget: longest compact JSON of what `encode` gives, in characters.
        redact: The user's callback.
        max_values: How many values are looked at, containers included.

    Attributes:
        truncated: Something was left out because the budget was spent.
        altered: Something was masked, or became a placeholder.
        omitted: Characters that were left out of texts; items that were left out are not counted.
    """

    def __init__(self, max_chars: int, redact: RedactCallback | None, max_values: int = MOST_VALUES) -> None:
        self.truncated = False
        self.altered = False
        self.omitted = 0
        self._left = max_chars
        self._values = max_values
        self._redact = redact

    def encode(self, value: object, path: str = "", depth: int = 0) -> Any:
        """`value` as None, bool, int, float, str, list and dict; as compact JSON it fits into the budget.

        Args:
            value: Anything.
            path: Where it is in the whole, with dots; only the user's callback reads it.
            depth: How many containers it is in.
        """
        self._values -= 1
        if self._redact is not None:
            value = self._ask(self._redact, path, value)
        if type(value) is str:
            return self._text(value)
        if type(value) is int or type(value) is float:
            return self._number(value)
        if value is None or type(value) is bool:
            self._left -= 5
            return value
        kind = type(value)
        if kind is dict:
            return self._mapping(cast("dict[Any, Any]", value).items(), len(cast("dict[Any, Any]", value)), path, depth)
        if kind is list or kind is tuple:
            return self._sequence(cast("list[Any]", value), path, depth)
        if isinstance(value, BaseModel) and not isinstance(value, (Secret, SecretStr, SecretBytes)):
            fields = fields_of(value)
            return self._mapping(fields.items(), len(fields), path, depth)
        return self._rarer(value, path, depth)

    def _is_spent(self, cost: int) -> bool:
        """Whether there is no room for one more value beside something that costs `cost`."""
        return self._left - cost < ITEM_COST or self._values <= 0

    def _ask(self, redact: RedactCallback, path: str, value: object) -> object:
        if value is HIDDEN:
            return value
        try:
            answer = redact(path, value)
        except Exception:  # the guard around the user's callback: it fails closed
            logger.warning("the redact callback raised; the value is not shown", exc_info=True)
            answer = REDACTION_FAILED
        if answer is not value:
            self.altered = True
        return answer

    def _text(self, value: str) -> str:
        room = self._left - 2
        whole = len(value) <= room
        clean = mask_secrets(value if whole else value[: room + LOOK_AHEAD])
        if not clean.isascii():
            clean = printable(clean)
        if whole:
            cost = len(encode_basestring(clean))
            if cost <= self._left:
                self._left -= cost
                if clean is not value:
                    self.altered = True
                return clean
        self.truncated = True
        kept, cost = _cut(clean, max(room - MARKER_COST, 0))
        omitted = max(len(value) - len(kept), 1)
        self.omitted += omitted
        self._left -= cost + MARKER_COST
        return f"{kept}{omitted_text(omitted)}"

    def _number(self, value: float) -> Any:
        if isinstance(value, int):
            if value.bit_length() > SMALL_INT_BITS:
                return self._placeholder(f"<int {value.bit_length()} bits>")
            self._left -= len(str(value))
            return value
        if not math.isfinite(value):
            return self._placeholder(str(value))
        self._left -= len(repr(value))
        return value

    def _mapping(self, items: Iterable[tuple[Any, Any]], length: int, path: str, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            self.truncated = True
            return self._text(f"<{length} items>")
        self._left -= MARKER_COST + 2
        out: dict[str, Any] = {}
        for key, item in items:
            name, cost, is_secret = self._name(key)
            if self._is_spent(cost):
                self.truncated = True
                out[MARKER_KEY] = f"{length - len(out)} items omitted"
                return out
            self._left -= cost
            if item is HIDDEN or (is_secret and item is not None and not isinstance(item, bool)):
                self._values -= 1
                out[name] = self._placeholder(MASK)
            else:
                out[name] = self.encode(item, path if self._redact is None else _joined(path, name), depth + 1)
        self._left += MARKER_COST
        return out

    def _name(self, key: object) -> tuple[str, int, bool]:
        """A mapping's key as text, what it costs with its quotes, colon and comma, and whether it names a secret."""
        whole = key if type(key) is str else self._key(key)
        named = _named(whole[:LONGEST_KEY])
        if len(named[0]) < len(whole):
            self.truncated = True
        return named

    def _key(self, key: object) -> str:
        match key:
            case Enum():
                return key._name_
            case str() | int() | float() | None | UUID() | PurePath() | date():
                return _plain_text(key)
            case _:
                self.altered = True
                return f"<{type(key).__name__}>"

    def _sequence(self, items: Collection[Any], path: str, depth: int) -> Any:
        length = len(items)
        if length >= VECTOR_LENGTH and isinstance(items, (list, tuple)) and _is_vector(items):
            return self._placeholder(f"<vector {length}>")
        if depth >= MAX_DEPTH:
            self.truncated = True
            return self._text(f"<{length} items>")
        self._left -= MARKER_COST + 2
        out: list[Any] = []
        for index, item in enumerate(items):
            if self._is_spent(0):
                self.truncated = True
                out.append(f"{MARKER_KEY}[{length - index} items omitted]")
                return out
            self._left -= 1
            out.append(self.encode(item, path if self._redact is None else _joined(path, str(index)), depth + 1))
        self._left += MARKER_COST
        return out

    def _rarer(self, value: object, path: str, depth: int) -> Any:
        match value:
            case Enum():
                return self.encode(value._value_, path, depth)
            case Secret() | SecretStr() | SecretBytes():
                return self._placeholder(MASK)
            case int():
                return self._number(int.__int__(value))
            case float():
                return self._number(float.__float__(value))
            case str() | date() | time() | timedelta() | UUID() | Decimal() | PurePath():
                return self._text(_plain_text(value))
            case BaseException():
                line, is_whole = _exception_line(value)
                return self._text(line) if is_whole else self._placeholder(line)
            case list() | tuple() | set() | frozenset() | deque() if not _is_named_tuple(cast(object, value)):
                return self._sequence(cast("Collection[Any]", value), path, depth)
            case _ if (scalar := _scalar_of_numpy(value)) is not None:
                return self._text(scalar) if isinstance(scalar, str) else self._number(scalar)
            case _:
                fields = _named_parts(value)
                return self._placeholder(kind_of(value)) if fields is None else self._mapping(*fields, path, depth)

    def _placeholder(self, text: str) -> str:
        self.altered = True
        return self._text(text)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@lru_cache(maxsize=1024)  # the same few keys come again and again
def _named(key: str) -> tuple[str, int, bool]:
    """What `Encoder._name` says of a key of at most 256 characters; with escapes it may still be too long."""
    name, cost = _cut(key, LONGEST_KEY)
    shown = name if name.isascii() else printable(name)
    return shown, cost + 2, is_secret_key(shown)


def fields_of(model: BaseModel) -> dict[str, Any]:
    """Declared, then dynamic fields of a model (a stop event's `result` too); `HIDDEN` where marked, never computed."""
    values = model.__dict__
    fields = {name: HIDDEN if hidden else values.get(name) for name, hidden in _declared(type(model))}
    if model.__pydantic_extra__:
        fields.update(model.__pydantic_extra__)
    if isinstance(model, StopEvent) and "result" not in fields:
        private = model.__pydantic_private__
        if private is not None and private.get("_result") is not None:
            fields["result"] = private["_result"]
    return fields


@lru_cache(maxsize=1024)
def _declared(model: type[BaseModel]) -> tuple[tuple[str, bool], ...]:
    marked = marked_fields(model)
    return tuple((name, name in marked) for name in model.model_fields)


def _named_parts(value: Any) -> tuple[Iterable[tuple[Any, Any]], int] | None:
    """Names and values, and how many, of a mapping, named tuple or dataclass; None for anything else."""
    if isinstance(value, (dict, MappingProxyType)):
        mapping = cast("Mapping[Any, Any]", value)
        return mapping.items(), len(mapping)
    if _is_named_tuple(value):
        named = cast("tuple[Any, ...]", value)
        names = cast("Iterable[str]", type(value)._fields)  # pyright: ignore[reportUnknownMemberType]  # what makes it named
        marked = marked_fields(type(cast(object, value)))
        items = zip(names, named, strict=False)
        return ((name, HIDDEN if name in marked else item) for name, item in items), len(named)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names, marked = [field.name for field in dataclasses.fields(value)], marked_fields(type(value))
        # `object.__getattribute__`: a class's own `__getattr__` is the user's code.
        read = partial(object.__getattribute__, value)
        return ((name, HIDDEN if name in marked else read(name)) for name in names), len(names)
    return None


def _is_named_tuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(type(cast(object, value)), "_fields")


def kind_of(value: object) -> str:
    """A placeholder that says what a value is and how big, not what is in it: `<str 12>`, `<list 3>`, `<Context>`."""
    if (kind := _SIMPLE_KINDS.get(type(value))) is not None:
        return kind
    match value:
        case str():
            return f"<str {str.__len__(value)}>"
        case bytes() | bytearray():
            return f"<bytes {len(value)}>"
        case memoryview():
            return f"<bytes {value.nbytes}>"
        case list() | tuple() | dict() | set() | frozenset() | deque() | range():
            return f"<{type(cast(object, value)).__name__} {len(cast('Collection[Any]', value))}>"
        case array():
            return f"<vector {len(cast('array[Any]', value))}>"
        case type():
            return f"<class {value.__name__}>"
        case _:
            return _kind_of_array(value) or f"<{type(value).__name__}>"


_SIMPLE_KINDS: dict[type[Any], str] = {
    type(None): "<None>",
    bool: "<bool>",
    int: "<int>",
    float: "<float>",
    Hidden: MASK,
}


def _scalar_of_numpy(value: Any) -> str | float | None:
    """A number, truth value or time of numpy's own classes, as Python has it; None for anything else."""
    if type(value).__module__ != "numpy" or getattr(value, "shape", None) != ():
        return None
    as_python = _SCALARS_OF_NUMPY.get(value.dtype.kind)
    return as_python(value) if as_python is not None else None


_SCALARS_OF_NUMPY: Mapping[str, Callable[[Any], str | float]] = {
    "b": bool,
    "i": int,
    "u": int,
    "f": float,  # its own `item` leaves a long double as it is
    "M": str,  # and makes a plain number of nanoseconds
    "m": str,
}


def _kind_of_array(value: object) -> str | None:
    if type(value).__module__.partition(".")[0] not in ("numpy", "torch", "jax", "jaxlib", "tensorflow", "pandas"):
        return None
    shape = getattr(value, "shape", None)
    if not shape:
        return None
    sizes = "x".join(str(size) for size in shape)
    return f"<vector {sizes}>" if len(shape) == 1 else f"<{type(value).__name__} {sizes}>"


def _is_vector(items: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a sequence is numbers, judged by its first and last few (never walked)."""
    return all(type(item) is float or type(item) is int for item in (*items[:8], *items[-8:]))


def _plain_text(value: object) -> str:
    """The text of a standard type, by that type's own method: a subclass may override it, and that is user code."""
    for kind, text_of in _TEXT_OF:
        if isinstance(value, kind):
            return text_of(value)
    return "null"


_TEXT_OF: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (str, str.__str__),
    (int, int.__repr__),
    (float, float.__repr__),
    (datetime, datetime.isoformat),
    (date, date.isoformat),
    (time, time.isoformat),
    (timedelta, timedelta.__str__),
    (UUID, UUID.__str__),
    (Decimal, Decimal.__str__),
    (PurePath, PurePath.__str__),
)


def _exception_line(error: BaseException) -> tuple[str, bool]:
    """Its class and its text, and whether that is all that it holds."""
    name = type(error).__name__
    first = error.args[0] if error.args else None
    return (f"{name}: {_plain_text(first)}", len(error.args) == 1) if isinstance(first, str) else (f"<{name}>", False)


def _cut(text: str, room: int) -> tuple[str, int]:
    """The longest beginning, roughly, whose JSON form has at most `room` characters besides its quotes; that length."""
    kept = text[:room]
    while (cost := len(encode_basestring(kept))) - 2 > room and kept:
        kept = kept[: len(kept) * room // cost]
    return kept, cost


def printable(text: str) -> str:
    """`text` without lone surrogates, which no exporter can send as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def omitted_text(chars: int) -> str:
    """The marker at the end of a text that was cut."""
    return f"…[{chars} chars omitted]"
