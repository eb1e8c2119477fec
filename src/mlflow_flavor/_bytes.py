"""How values reach a caller in JSON: as their models say it, and bytes as base64 in the standard alphabet of MLflow."""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import GeneratorType
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationUnexpectedValue, SchemaSerializer, core_schema, to_jsonable_python

__all__ = ["plain", "plain_dump", "schema_of"]

NO_SCHEMA = ("config", "cls", "default", "expected", "function", "metadata", "serialization")
HOLDERS = ("list", "set", "frozenset", "generator", "deque")
KNOWN = 1024
OF_ANY = SchemaSerializer(core_schema.any_schema())
BUILDS_ANEW = "_use_prebuilt" in str(SchemaSerializer.__text_signature__)
"""Whether pydantic can leave out what it has built of nested classes; before 2.13, those of bytes are as in Python."""
PLAIN = (str, float, int, bool, type(None))
AS_PYTHON = {"f": "f8", "c": "c16", "M": "U", "m": "m8[us]"}
"""By the kind of an array of numpy's, what to make of it first: Python has no word for long doubles or nanoseconds."""


def plain(value: object, by_alias: bool = True) -> Any:
    """JSON's kinds of values, models as they say themselves; bytes are base64, also if they could be a text.

    Raises:
        ValueError: If the value holds itself.
    """
    try:
        return _plain(value, by_alias)
    except RecursionError as error:
        raise ValueError("Circular reference detected, or much too deep") from error


def plain_dump(value: object, by_alias: bool | None = None) -> Any:
    """A model's own dump for JSON; its fields that are bytes, and say nothing else of their JSON, are base64."""
    serializer = _serializer(type(value))
    if serializer is None:
        return _plain(OF_ANY.to_python(value, by_alias=by_alias), bool(by_alias))
    return serializer.to_python(value, mode="json", by_alias=by_alias, fallback=_rarer)


def _plain(value: Any, by_alias: bool) -> Any:
    if value.__class__ in PLAIN:
        return value
    match value:
        case bytes() | bytearray():
            return _base64(value)
        case Enum():
            return _plain(value.value, by_alias)
        case dict():
            items = cast("dict[Any, Any]", value).items()
            return {_key(name): _plain(item, by_alias) for name, item in items}
        case list() | tuple() | set() | frozenset() | deque() | GeneratorType():
            return [_plain(item, by_alias) for item in cast("list[Any]", value)]
        case _ if isinstance(value, type):
            return _text(value)
        case _ if hasattr(value.__class__, "__pydantic_core_schema__"):
            return plain_dump(value, by_alias)
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name), by_alias) for field in fields(value)}
        case _:
            return _rarer(value, by_alias)


def _rarer(value: Any, by_alias: bool = False) -> Any:
    """What is no model: numbers and arrays of numpy's as MLflow's own server writes them, else a text."""
    if type(value).__module__.partition(".")[0] != "numpy" or not hasattr(value, "tolist"):
        return _text(value)
    kind = value.dtype.kind
    found = (value.astype(AS_PYTHON[kind]) if kind in AS_PYTHON else value).tolist()
    return found if kind in "biuf" else _plain(found, by_alias)


def _text(value: object) -> Any:
    return to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64")


def _key(name: object) -> Any:
    return _base64(name) if isinstance(name, bytes) else next(iter(_text({name: None})))


def _base64(value: object) -> str:
    if not isinstance(value, bytes | bytearray):
        raise PydanticSerializationUnexpectedValue(f"expected bytes, got {type(value).__name__}")  # a union's other one
    return b64encode(value).decode()


def _inner(value: object, info: core_schema.SerializationInfo) -> Any:
    return _plain(value, bool(info.by_alias))


def _written_by(function: Callable[..., Any], *, info: bool = False) -> dict[str, Any]:
    ser = core_schema.plain_serializer_function_ser_schema(function, info_arg=info)
    return cast("dict[str, Any]", core_schema.any_schema(serialization=ser))


BYTES, KEY, ANY = _written_by(_base64), _written_by(_key), _written_by(_inner, info=True)


def schema_of(cls: type[Any]) -> dict[str, Any]:
    """What pydantic validates and dumps a class with."""
    if issubclass(cls, BaseModel):
        cls.model_rebuild()  # some are built late; of others this does nothing
    found: Any = cls
    return found.__pydantic_core_schema__


@lru_cache(KNOWN)
def _serializer(cls: type) -> SchemaSerializer | None:
    """The class's own serializer, with another way to write bytes: pydantic has no setting for the nested ones."""
    own: Any = schema_of(cls)
    schema: Any = _with_base64(own, {})
    if schema == own:
        return SchemaSerializer(own)
    return SchemaSerializer(schema, None, False) if BUILDS_ANEW else None


def _with_base64(schema: Any, config: Mapping[str, Any]) -> Any:
    """A schema whose bytes, and values of any type, are written by us, where nothing else is said of them."""
    if isinstance(schema, list):
        return [_with_base64(item, config) for item in cast("list[Any]", schema)]
    if isinstance(schema, tuple):  # a choice of a union, and its label
        return tuple(_with_base64(item, config) for item in cast("tuple[Any, ...]", schema))
    if not isinstance(schema, dict):
        return schema
    found = cast("dict[str, Any]", schema)
    config = found.get("config", {}) if found.get("type") in ("model", "dataclass", "typed-dict") else config
    own: dict[str, Any] | None = found.get("serialization")
    ours = own is None and config.get("ser_json_bytes", "base64") == "base64"
    if ours and found.get("type") in ("bytes", "any"):
        kept = {"ref": found["ref"]} if "ref" in found else {}
        return {**(BYTES if found["type"] == "bytes" else ANY), **kept}
    known = {**found, **(_implied(found, config) if ours else {})}
    made = {name: item if name in NO_SCHEMA else _with_base64(item, config) for name, item in known.items()}
    if own is not None:
        made["serialization"] = _own(own, config)
    return made


def _own(serialization: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What a class or a field says of its JSON: as it is. That of an event also hands on a result, whatever it is."""
    module = str(getattr(serialization.get("function"), "__module__", ""))
    names = ("schema", "return_schema") if module.partition(".")[0] == "workflows" else ("schema",)
    return {name: _with_base64(item, config) if name in names else item for name, item in serialization.items()}


def _implied(schema: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of what may be anything, and so has none."""
    kind = schema.get("type")
    if kind in HOLDERS and "items_schema" not in schema:
        return {"items_schema": ANY}
    if kind in ("dict", "ordered-dict"):
        keys = schema.get("keys_schema", {"type": "any"})
        return {
            "keys_schema": KEY if keys["type"] == "any" else keys,
            "values_schema": schema.get("values_schema", ANY),
        }
    if kind == "model-fields" and config.get("extra_fields_behavior") == "allow" and "extras_schema" not in schema:
        return {"extras_schema": ANY}
    return {}
