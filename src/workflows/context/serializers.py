"""Values to text and back: JSON that keeps the types of models and common values, and never imports what it reads."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import is_dataclass
from enum import Enum
from json import encoder
from pathlib import PurePath
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from workflows.context.class_names import imported, loaded, name_of
from workflows.context.generic_names import generic_name, named_generic
from workflows.context.json_values import (
    FROM_JSON,
    MARK_SET,
    MARKS,
    TO_JSON,
    NoPlainValueError,
    dataclass_fields,
    is_named_tuple,
    path_name,
    rebuilt_dataclass,
)
from workflows.context.model_forms import (
    Form,
    form_of,
    holds_other_classes,
    is_component,
    known_form,
    restored,
    validated,
)
from workflows.context.model_writer import written_model
from workflows.errors import UnserializableValueError
from workflows.events import rebuild_exception

__all__ = [
    "BaseSerializer",
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
]

SelfT = TypeVar("SelfT", bound="JsonSerializer")

_plain = json.JSONEncoder()
# What a `JSONEncoder` makes for each value anew: that takes longer than a small event. Not all Pythons have it.
_make_encoder: Callable[..., Callable[[Any, int], Iterable[str]]] | None = getattr(encoder, "c_make_encoder", None)
_chunks = _make_encoder and _make_encoder(
    None, _plain.default, encoder.encode_basestring_ascii, None, ": ", ", ", False, False, True
)
_ATOMS = frozenset({str, int, float, bool, type(None)})
_STR = frozenset({str})


class BaseSerializer(ABC):
    """Turns one value into text and back."""

    @abstractmethod
    def serialize(self, value: Any) -> str:
        """The value as text."""

    @abstractmethod
    def deserialize(self, value: str) -> Any:
        """The value that `serialize` was given."""

    def class_here(self, name: str) -> str:
        """How the class is called in this process that another one has written by a name: the same by default."""
        return name

    def validation_context(self) -> AbstractContextManager[None]:
        """Entered around the validation of models that are read; nothing by default."""
        return nullcontext()


class JsonSerializer(BaseSerializer):
    """JSON that keeps models, dataclasses, enums, dates, bytes, sets and tuples what they were, or does not write them.

    A model is read as it was written, whatever its aliases, strictness, validators and computed fields say. Where its
    author has a word on dumps (`exclude=True`, a serializer of a field or of the model), that word counts; a field
    whose value makes such a serializer fail is written as if there were none. Private attributes that JSON cannot say,
    such as clients and locks, are made again by the class. Components of llama-index (`class_name`, `to_dict`,
    `from_dict`) write and read themselves, and are read once while they are written.

    Args:
        allowed_types: The only classes that may be rebuilt (classes, or "module.Class" names that are imported). Left
            out: the classes given by `with_types`, and every pydantic model, enum, dataclass and named tuple that is
            loaded already.
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
                self._types[name_of(allowed)] = allowed

    def with_types(self: SelfT, *classes: type) -> SelfT:
        """A serializer like this one that may rebuild these classes as well."""
        made = object.__new__(type(self))
        vars(made).update(vars(self))
        made._types = {**self._types, **{name_of(c): c for c in classes}}
        # llama-index-workflows leaves out what a nested class is nested in.
        made._short_names = {**self._short_names, **{f"{c.__module__}.{c.__name__}": c for c in classes}}
        return made

    def serialize(self, value: Any) -> str:
        """The value as JSON text, which `deserialize` reads as an equal one.

        Raises:
            UnserializableValueError: If it holds something that JSON and the types above cannot say, or of a class that
                this serializer could not rebuild; it is a `ValueError`.
        """
        try:
            data = self.serialize_value(value)
            return "".join(_chunks(data, 0)) if _chunks is not None else _plain.encode(data)
        except RecursionError as error:
            raise UnserializableValueError(
                f"Failed to serialize value: a {type(value).__name__} holds itself, or is nested too deep. Keep a name "
                f"or a number in place of the value that leads back."
            ) from error

    def deserialize(self, value: str) -> Any:
        """The value that JSON text stands for.

        Raises:
            ValueError: If the text is no JSON, or names a class that may not be rebuilt.
        """
        return self.deserialize_value(json.loads(value))

    def serialize_value(self, value: Any) -> Any:
        """The value as something that `json.dumps` takes; classes are named beside their contents."""
        kind = value.__class__
        if kind in _ATOMS:
            return value
        if kind is dict:
            return self._dictionary(value)
        if kind is list:
            return list(value) if set(map(type, value)) <= _ATOMS else [self.serialize_value(v) for v in value]
        if (form := known_form(kind)) is not None or isinstance(value, BaseModel):
            return self._model(value, form or form_of(kind))
        if kind in TO_JSON:
            name, convert = TO_JSON[kind]
            return _value(name, self.serialize_value(convert(value)))
        return self._by_base(value, kind)

    def deserialize_value(self, data: Any) -> Any:
        """The value that `serialize_value` was given."""
        kind = data.__class__
        if kind is list:
            items = cast("list[Any]", data)
            return items if set(map(type, items)) <= _ATOMS else [self.deserialize_value(v) for v in items]
        if kind is not dict:
            return data
        fields = cast("dict[str, Any]", data)
        if not MARK_SET.isdisjoint(fields):
            return self._marked(next(m for m in MARKS if m in fields), fields)
        return {k: self.deserialize_value(v) for k, v in fields.items()}

    def resolve_class(self, name: str) -> type:
        """The class of that name, if it may be rebuilt.

        Raises:
            ValueError: If it may not, or is not loaded.
        """
        found = self._types.get(name)
        if found is None and name in self._names:
            found = imported(name)
        if found is None and not self._closed:
            found = loaded(name) or (imported(name) if self._allow_import else None)
        found = found or self._short_names.get(name)
        if found is None:
            short = name.rpartition(".")[2]
            raise ValueError(
                f"Class {name} may not be rebuilt: it is not among the allowed_types. Add {short} to them."
                if self._closed
                else f"Class {name} may not be rebuilt: it is neither a class of this workflow nor loaded. Import its "
                f"module first, or allow it: JsonSerializer().with_types({short})."
            )
        return found

    def _marked(self, mark: str, fields: dict[str, Any]) -> Any:
        if mark == "__is_component":
            return self._component_of(fields)
        value = self.deserialize_value(fields["value"])
        match mark:
            case "__is_pydantic":
                return self._rebuilt(fields, value)
            case "__is_value":
                return FROM_JSON[fields[mark]](value)
            case "__is_enum":
                return self._class_of(fields, Enum)(value)
            case "__is_exception":
                return rebuild_exception(fields["qualified_name"], value)
            case "__is_named_tuple":
                return cast("Any", tuple).__new__(self._class_of(fields, tuple), value)
            case _:
                return rebuilt_dataclass(self._class_of(fields, object), value)

    def _component_of(self, fields: dict[str, Any]) -> Any:
        """A component of llama-index, which reads itself: from its own JSON as it is, or from values written by us."""
        value = fields["value"]
        return self._class_of(fields, object).from_dict(self.deserialize_value(value) if "typed" in fields else value)

    def _rebuilt(self, fields: dict[str, Any], value: Any) -> BaseModel:
        """A model: validated, but for the fields that it had otherwise; `as_is` is true where none could be."""
        cls = self._class_of(fields, BaseModel)
        if "parameters" in fields:
            cls = named_generic(cls, fields["parameters"], self.resolve_class)
        as_is = fields.get("as_is")
        private = self.deserialize_value(fields.get("private", {}))
        if as_is is True:
            return restored(cls, value, self.deserialize_value(fields.get("extra", {})), private)
        with self.validation_context():
            model = validated(cls, value)
        for name in as_is or ():
            if name in cls.model_fields:
                cast("dict[str, Any]", model.__dict__)[name] = value[name]
        if model.__pydantic_private__ is not None:
            model.__pydantic_private__.update({n: v for n, v in private.items() if n in cls.__private_attributes__})
        return model

    def _class_of(self, fields: dict[str, Any], base: type) -> Any:
        found = self.resolve_class(fields["qualified_name"])
        if not issubclass(found, base):
            raise ValueError(f"{fields['qualified_name']} is no {base.__name__}, as which the text has it")
        return found

    def _dictionary(self, value: dict[Any, Any]) -> Any:
        if set(map(type, value)) <= _STR and MARK_SET.isdisjoint(value):
            if set(map(type, value.values())) <= _ATOMS:
                return dict(value)
            return {k: self.serialize_value(v) for k, v in value.items()}
        return _value("dict", [[self.serialize_value(k), self.serialize_value(v)] for k, v in value.items()])

    def _model(self, model: BaseModel, form: Form) -> dict[str, Any]:
        # One that holds others of classes that only they know, such as a node with its score, cannot read itself.
        if not form.is_component or holds_other_classes(model):
            return self._by_fields(model, form)
        try:
            content = _content_of(model)
        except UnserializableValueError:  # it is a model like any other
            return self._by_fields(model, form)
        return self._component(model, content)

    def _by_fields(self, model: BaseModel, form: Form) -> dict[str, Any]:
        written = written_model(model, form, self)
        written["__is_pydantic"] = True
        if self._types.get(form.name) is type(model):
            written["qualified_name"] = form.name
        else:
            written.update(self._names_of(type(model)))
        return written

    def _component(self, value: Any, content: Any) -> dict[str, Any]:
        """One of llama-index's: what it gives of itself, as it is if that is nothing but JSON without our marks.

        Raises:
            UnserializableValueError: If it does not read that again.
        """
        cls = cast("Any", type(value))
        told = self.serialize_value(content)
        typed = {"typed": True} if told != content else {}
        named = {"__is_component": True, "value": told, "qualified_name": self._readable_name(cls), **typed}
        try:
            cls.from_dict(self.deserialize_value(told) if typed else content)
        except Exception as error:  # its author's code
            raise UnserializableValueError(
                f"Failed to serialize value: what {cls.__qualname__}.to_dict() gives could not be read back, its "
                f"from_dict() fails: {error} Keep what it is made of in its place, or choose PickleSerializer."
            ) from error
        return named

    def _names_of(self, cls: type[BaseModel]) -> dict[str, Any]:
        if not cls.__pydantic_generic_metadata__["origin"]:
            return {"qualified_name": self._readable_name(cls)}
        generic = generic_name(cls)
        try:
            named_generic(
                cast(Any, self.resolve_class(generic["qualified_name"])), generic["parameters"], self.resolve_class
            )
        except ValueError as error:
            raise UnserializableValueError(f"Failed to serialize value: {error}") from error
        return generic

    def _readable_name(self, cls: type) -> str:
        """The name of a class that can be found by it again: what is written must be readable."""
        name = name_of(cls)
        if self._types.get(name) is not cls:
            try:
                self.resolve_class(name)
            except ValueError as error:
                raise UnserializableValueError(
                    f"Failed to serialize value: it holds a {cls.__qualname__}, which could not be read back. {error} "
                    f"A class within a function can be found if a step, an event or the state names it."
                ) from error
        return name

    def _by_base(self, value: Any, kind: type) -> Any:
        if isinstance(value, Enum):
            content = self.serialize_value(value.value)
            return {"__is_enum": True, "value": content, "qualified_name": self._readable_name(kind)}
        if isinstance(value, BaseException):
            name = getattr(value, "original_type", None) or name_of(kind)
            return {"__is_exception": True, "value": str(value), "qualified_name": name}
        if isinstance(value, PurePath):
            return _value(path_name(value), str(value))
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int | float):
            return value.__class__.__mro__[-2](value)
        if isinstance(value, dict | list | tuple):
            return self._container(cast("Any", value), kind)
        return self._object(value, kind)

    def _container(self, value: Any, kind: type) -> Any:
        """One of a class of its own is written as what it derives from, but a named tuple keeps its names."""
        if isinstance(value, dict):
            return self._dictionary(cast("dict[Any, Any]", value))
        content = [self.serialize_value(v) for v in value]
        if isinstance(value, list):
            return content
        name = self._name_of_tuple(kind)
        return (
            {"__is_named_tuple": True, "value": content, "qualified_name": name} if name else _value("tuple", content)
        )

    def _name_of_tuple(self, kind: type) -> str | None:
        """Of a named tuple whose class can be found again; any other is written as the tuple that it equals."""
        try:
            return self._readable_name(kind) if is_named_tuple(kind) else None
        except UnserializableValueError:
            return None

    def _object(self, value: Any, kind: type) -> Any:
        if is_component(kind):
            return self._component(value, _content_of(value))
        if is_dataclass(value) and not isinstance(value, type):
            content = {name: self.serialize_value(v) for name, v in dataclass_fields(value).items()}
            return {"__is_dataclass": True, "value": content, "qualified_name": self._readable_name(kind)}
        raise NoPlainValueError(
            f"Failed to serialize value: {kind.__module__}.{kind.__qualname__} is no model, dataclass, container or "
            f"plain value. Use a pydantic model, or choose PickleSerializer."
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


def _content_of(component: Any) -> Any:
    try:
        return component.to_dict()
    except Exception as error:  # its author's code
        raise UnserializableValueError(
            f"Failed to serialize value: {type(component).__qualname__}.to_dict() fails: {error}. Keep what it is made "
            f"of in its place, or choose PickleSerializer."
        ) from error


def _value(name: str, content: Any) -> dict[str, Any]:
    return {"__is_value": name, "value": content}
