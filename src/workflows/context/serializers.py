"""Values to text and back: JSON that keeps the types of models and common values, and never imports what it reads."""

from __future__ import annotations

import base64
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib import import_module
from pathlib import PurePath
from typing import Any, TypeVar, cast, get_args
from uuid import UUID

from pydantic import BaseModel

from workflows.events import DictLikeModel, rebuild_exception

__all__ = ["BaseSerializer", "JsonPickleSerializer", "JsonSerializer", "PickleSerializer", "model_types"]

SelfT = TypeVar("SelfT", bound="JsonSerializer")

_TO_JSON: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", timedelta.total_seconds),
    UUID: ("uuid", str),
    Decimal: ("decimal", str),
    bytes: ("bytes", lambda v: base64.b64encode(v).decode()),
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda v: timedelta(seconds=v),
    "uuid": UUID,
    "decimal": Decimal,
    "bytes": base64.b64decode,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}
_MARKS = ("__is_pydantic", "__is_component", "__is_value", "__is_enum", "__is_exception")


class BaseSerializer(ABC):
    """Turns one value into text and back."""

    @abstractmethod
    def serialize(self, value: Any) -> str:
        """The value as text."""

    @abstractmethod
    def deserialize(self, value: str) -> Any:
        """The value that `serialize` was given."""

    def validation_context(self) -> AbstractContextManager[None]:
        """Entered around the validation of models that are read; nothing by default."""
        return nullcontext()


class JsonSerializer(BaseSerializer):
    """JSON that keeps models, enums, dates, bytes, sets and tuples what they were.

    Args:
        allowed_types: The only classes that may be rebuilt (classes, or "module.Class" names that are imported). Left
            out: the classes given by `with_types`, and every pydantic model that is loaded already.
        allow_import: Import the module of a class that is not loaded. Only for text that you trust.
    """

    def __init__(self, *, allowed_types: Iterable[type | str] | None = None, allow_import: bool = False) -> None:
        self._closed = allowed_types is not None
        self._allow_import = allow_import
        self._types: dict[str, type] = {}
        self._short_names: dict[str, type] = {}
        self._names: set[str] = set()
        for allowed in allowed_types or ():
            if isinstance(allowed, str):
                self._names.add(allowed)
            else:
                self._types[_name_of(allowed)] = allowed

    def with_types(self: SelfT, *classes: type) -> SelfT:
        """A serializer like this one that may rebuild these classes as well."""
        made = object.__new__(type(self))
        vars(made).update(vars(self))
        made._types = {**self._types, **{_name_of(c): c for c in classes}}
        # llama-index-workflows leaves out what a nested class is nested in.
        made._short_names = {**self._short_names, **{f"{c.__module__}.{c.__name__}": c for c in classes}}
        return made

    def serialize(self, value: Any) -> str:
        """The value as JSON text.

        Raises:
            ValueError: If it holds something that JSON and the types above cannot say.
        """
        return json.dumps(self.serialize_value(value))

    def deserialize(self, value: str) -> Any:
        """The value that JSON text stands for.

        Raises:
            ValueError: If the text is no JSON, or names a class that may not be rebuilt.
        """
        return self.deserialize_value(json.loads(value))

    def serialize_value(self, value: Any) -> Any:
        """The value as something that `json.dumps` takes; classes are named beside their contents."""
        kind = value.__class__
        if value is None or kind in (str, int, float, bool):
            return value
        if kind is dict:
            return self._dictionary(value)
        if kind is list:
            return [self.serialize_value(v) for v in value]
        if isinstance(value, BaseModel):
            return self._model(value)
        if kind in _TO_JSON:
            name, convert = _TO_JSON[kind]
            return {"__is_value": name, "value": convert(value)}
        if kind in (tuple, set, frozenset):
            return {"__is_value": kind.__name__, "value": [self.serialize_value(v) for v in value]}
        return self._by_base(value, kind)

    def deserialize_value(self, data: Any) -> Any:
        """The value that `serialize_value` was given."""
        if isinstance(data, list):
            return [self.deserialize_value(v) for v in cast("list[Any]", data)]
        if not isinstance(data, dict):
            return data
        fields = cast("dict[str, Any]", data)
        mark = next((m for m in _MARKS if m in fields), None)
        if mark is None:
            return {k: self.deserialize_value(v) for k, v in fields.items()}
        value = fields["value"]
        if mark == "__is_value":
            return _FROM_JSON[fields[mark]](self.deserialize_value(value))
        if mark == "__is_exception":
            return rebuild_exception(fields["qualified_name"], value)
        cls: Any = self.resolve_class(fields["qualified_name"])
        if mark == "__is_enum":
            return cls(value)
        if mark == "__is_component":
            return cls.from_dict(value)
        with self.validation_context():
            return cls.model_validate(self.deserialize_value(value))

    def resolve_class(self, name: str) -> type:
        """The class of that name, if it may be rebuilt.

        Raises:
            ValueError: If it may not, or is not loaded.
        """
        found = self._types.get(name)
        if found is None and name in self._names:
            found = _imported(name)
        if found is None and not self._closed:
            found = _loaded(name) or (_imported(name) if self._allow_import else None)
        found = found or self._short_names.get(name)
        if found is None:
            raise ValueError(
                f"Class {name} may not be rebuilt: it is neither a class of this workflow nor loaded. Import its "
                f"module first, or allow it: JsonSerializer().with_types({name.rpartition('.')[2]})."
            )
        return found

    def _dictionary(self, value: dict[Any, Any]) -> Any:
        if all(type(k) is str for k in value) and not any(m in value for m in _MARKS):
            return {k: self.serialize_value(v) for k, v in value.items()}
        return {
            "__is_value": "dict",
            "value": [[self.serialize_value(k), self.serialize_value(v)] for k, v in value.items()],
        }

    def _model(self, model: BaseModel) -> dict[str, Any]:
        name = _name_of(type(model))
        if _is_component(model) and hasattr(model, "from_dict"):
            return {"__is_component": True, "value": cast(Any, model).to_dict(), "qualified_name": name}
        fields: dict[str, Any] = model.model_dump(mode="json", fallback=lambda v: self.serialize_value(v))
        for field, value in _loosely_typed(model):
            fields[field] = self.serialize_value(value)
        return {"__is_pydantic": True, "value": fields, "qualified_name": name}

    def _by_base(self, value: Any, kind: type) -> Any:
        if isinstance(value, Enum):
            return {"__is_enum": True, "value": self.serialize_value(value.value), "qualified_name": _name_of(kind)}
        if isinstance(value, BaseException):
            return {"__is_exception": True, "value": str(value), "qualified_name": _name_of(kind)}
        if isinstance(value, PurePath | str):
            return str(value)
        if isinstance(value, dict):
            return self._dictionary(cast("dict[Any, Any]", value))
        if isinstance(value, int | float):
            return value.__class__.__mro__[-2](value)
        if _is_component(value):
            return {"__is_component": True, "value": value.to_dict(), "qualified_name": _name_of(kind)}
        raise ValueError(
            f"Failed to serialize value: {kind.__module__}.{kind.__qualname__} is no model, container or plain value. "
            f"Use a pydantic model, or choose PickleSerializer."
        )


class PickleSerializer(JsonSerializer):
    """JSON where it can, else pickle. Reading pickled text runs code: only for text that you trust."""

    def serialize(self, value: Any) -> str:
        """The value as JSON text, else as base64 of its pickle."""
        try:
            return super().serialize(value)
        except (ValueError, TypeError):
            import pickle  # few need it, and it takes a while

            return base64.b64encode(pickle.dumps(value)).decode()

    def deserialize(self, value: str) -> Any:
        """The value; text that is no JSON is unpickled."""
        try:
            data = json.loads(value)
        except ValueError:
            import pickle

            return pickle.loads(base64.b64decode(value))  # the caller chose this by choosing the class
        return self.deserialize_value(data)


JsonPickleSerializer = PickleSerializer


def model_types(classes: Iterable[type]) -> list[type]:
    """These classes, and every model or enum that the fields of the models among them name, at any depth."""
    found: dict[type, None] = {}
    todo = list(classes)
    while todo:
        cls = todo.pop()
        if cls in found:
            continue
        found[cls] = None
        if issubclass(cls, BaseModel):
            todo.extend(_named_by(cls))
    return list(found)


def _named_by(cls: type[BaseModel]) -> Iterator[type]:
    annotations: list[Any] = [f.annotation for f in cls.model_fields.values()]
    while annotations:
        annotation = annotations.pop()
        annotations.extend(get_args(annotation))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel | Enum):
            yield annotation


def _is_component(value: Any) -> bool:
    """Whether a value is one of llama-index's, which say themselves what they are made of."""
    return hasattr(value, "class_name") and callable(getattr(value, "to_dict", None))


def _loosely_typed(model: BaseModel) -> Iterator[tuple[str, Any]]:
    """Fields that validation alone could not give their type back, with the keys that a dump has them under."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        annotation = cast("object", field.annotation)
        loose = annotation is Any or annotation is object
        if not field.exclude and (loose or (isinstance(value, BaseModel) and value.__class__ is not annotation)):
            yield name, value
    if model.__pydantic_extra__ and isinstance(model, DictLikeModel):
        yield "_data", dict(model.__pydantic_extra__)
    private = model.__pydantic_private__ or {}
    if private.get("_result") is not None:
        yield "result", private["_result"]


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _loaded(name: str) -> type | None:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is not None:
            found = _walk(module, parts[cut:])
            return found if isinstance(found, type) and issubclass(found, BaseModel | Enum) else None
    return None


def _walk(start: Any, names: list[str]) -> Any:
    for name in names:
        start = getattr(start, name, None)
    return start


def _imported(name: str) -> type | None:
    module, _, cls = name.rpartition(".")
    found = getattr(import_module(module), cls, None)
    return found if isinstance(found, type) else None
