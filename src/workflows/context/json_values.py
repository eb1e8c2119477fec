"""Values of the standard library that JSON has no word for: how each is written beside its name, and read."""

from __future__ import annotations

import base64
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, cast
from uuid import UUID

from workflows.errors import UnserializableValueError

__all__ = [
    "FROM_JSON",
    "MARKS",
    "MARK_SET",
    "TO_JSON",
    "NoPlainValueError",
    "dataclass_fields",
    "is_named_tuple",
    "path_name",
    "rebuilt_dataclass",
    "unmarked",
]

MARKS = (
    "__is_pydantic",
    "__is_component",
    "__is_value",
    "__is_enum",
    "__is_exception",
    "__is_named_tuple",
    "__is_dataclass",
)
"""Keys that say what the dictionary which has one stands for; one that has such a key by itself is written as pairs."""
MARK_SET = frozenset(MARKS)


class NoPlainValueError(UnserializableValueError):
    """A value is of a class that is none of ours; where a model declares it, pydantic may know a text for it."""


_FACTORIES: dict[str, Callable[[], Any]] = {c.__name__: c for c in (list, dict, set, tuple, int, float, str, bool)}


def _datetime(value: datetime) -> Any:
    """ISO text; of a time zone by name also that, since the rules of summer time are lost in an offset."""
    zone: Any = value.tzinfo
    name = zone.key if zone is not None and type(zone).__module__ == "zoneinfo" else None
    if name:
        value = value.replace(tzinfo=None)
    return [value.isoformat(), name, value.fold] if name or value.fold else value.isoformat()


def _read_datetime(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    text, name, fold = cast("list[Any]", value)
    found = datetime.fromisoformat(text).replace(fold=int(fold))
    if name is None:
        return found
    from zoneinfo import ZoneInfo  # few need it, and it takes a while

    return found.replace(tzinfo=ZoneInfo(name))


def _time(value: time) -> Any:
    return [value.isoformat(), value.fold] if value.fold else value.isoformat()


def _read_time(value: Any) -> time:
    if isinstance(value, str):
        return time.fromisoformat(value)
    return time.fromisoformat(value[0]).replace(fold=int(value[1]))


def _timedelta(value: timedelta) -> Any:
    seconds = value.total_seconds()
    exact = abs(value.days) < 10_000 and timedelta(seconds=seconds) == value
    return seconds if exact else [value.days, value.seconds, value.microseconds]


def _read_timedelta(value: Any) -> timedelta:
    if not isinstance(value, list):
        return timedelta(seconds=value)
    days, seconds, microseconds = cast("list[int]", value)
    return timedelta(days, seconds, microseconds)


def _defaultdict(value: defaultdict[Any, Any]) -> Any:
    factory = value.default_factory
    name = factory.__name__ if isinstance(factory, type) and _FACTORIES.get(factory.__name__) is factory else None
    return [name, [[k, v] for k, v in value.items()]]


def _read_defaultdict(value: Any) -> Any:
    return defaultdict(_FACTORIES.get(value[0]), [(k, v) for k, v in value[1]])


def _pairs(value: Any) -> Any:
    return [[k, v] for k, v in value.items()]


# What they give is still to be written, as it may hold anything.
TO_JSON: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", _datetime),
    date: ("date", date.isoformat),
    time: ("time", _time),
    timedelta: ("timedelta", _timedelta),
    UUID: ("uuid", str),
    Decimal: ("decimal", str),
    bytes: ("bytes", lambda v: base64.b64encode(v).decode()),
    tuple: ("tuple", list),
    set: ("set", list),
    frozenset: ("frozenset", list),
    deque: ("deque", lambda v: [v.maxlen, list(v)]),
    Counter: ("counter", _pairs),
    OrderedDict: ("ordered_dict", _pairs),
    defaultdict: ("defaultdict", _defaultdict),
}
FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "datetime": _read_datetime,
    "date": date.fromisoformat,
    "time": _read_time,
    "timedelta": _read_timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": base64.b64decode,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "deque": lambda v: deque(v[1], v[0]),
    "counter": lambda v: Counter(dict(v)),
    "ordered_dict": OrderedDict,
    "defaultdict": _read_defaultdict,
    "path": Path,
    "posix_path": PurePosixPath,
    "windows_path": PureWindowsPath,
}


def unmarked(written: dict[str, Any]) -> dict[str, Any]:
    """A dictionary of written values so that none of its keys is taken for a mark."""
    if MARK_SET.isdisjoint(written):
        return written
    return {"__is_value": "dict", "value": _pairs(written)}


def path_name(path: PurePath) -> str:
    """The name that a path is written beside: a path of this system is one of whatever system reads it."""
    if isinstance(path, Path):
        return "path"
    return "windows_path" if isinstance(path, PureWindowsPath) else "posix_path"


def is_named_tuple(cls: type) -> bool:
    """Whether a class is a `NamedTuple`."""
    return issubclass(cls, tuple) and hasattr(cast("Any", cls), "_fields")


def dataclass_fields(value: Any) -> dict[str, Any]:
    """The fields of an instance of a dataclass.

    Raises:
        NoPlainValueError: If it holds more than its fields, which only its own code could make again.
    """
    cls = cast("type[Any]", type(value))
    names = [f.name for f in fields(cls)]
    more = getattr(value, "__dict__", {}).keys() - set(names)
    if more or cls.__new__ is not object.__new__:
        raise NoPlainValueError(
            f"Failed to serialize value: {cls.__module__}.{cls.__qualname__} is a dataclass that holds more than its "
            f"fields ({', '.join(sorted(more)) or 'it has a __new__'}). Declare them, or use a pydantic model."
        )
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def rebuilt_dataclass(cls: type[Any], values: dict[str, Any]) -> Any:
    """An instance with these fields; no code of the class runs, but the factories of fields that it has got since.

    Raises:
        ValueError: If the class is no dataclass, has no such field, or needs one that is missing.
    """
    declared = {f.name: f for f in fields(cls)} if is_dataclass(cls) else {}
    if unknown := values.keys() - declared.keys():
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    made = object.__new__(cls)
    for name, field in declared.items():
        if name in values:
            object.__setattr__(made, name, values[name])
        elif field.default_factory is not MISSING:
            object.__setattr__(made, name, field.default_factory())
        elif field.default is not MISSING:
            object.__setattr__(made, name, field.default)
        elif field.init:
            raise ValueError(f"{cls.__name__} needs the field {name}, which is not in the snapshot")
    return made
