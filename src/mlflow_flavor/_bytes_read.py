"""Bytes that come in as JSON: a text is base64, in the standard alphabet or in that for URLs, at any depth."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

from pydantic import BaseModel, SecretBytes
from pydantic.types import EncodedBytes

from mlflow_flavor._bytes import schema_of

__all__ = ["with_bytes"]

Schema = dict[str, Any]
"""What pydantic validates with, as data: a type's name, and the schemas of its parts."""

FIELDS = ("model-fields", "typed-dict", "dataclass-args", "named-tuple")
MAPS = ("dict", "ordered-dict")
ANY: Schema = {"type": "any"}
INSIDE = {"json-or-python": "json_schema", "lax-or-strict": "lax_schema"}
ITEMS = ("list", "set", "frozenset", "generator", "deque")
LEAVES = ("any", "str", "int", "float", "bool")
NEVER_TEXT = ("bytes", "none", "model", "dataclass", "int", "float", "bool", "tuple", *FIELDS, *MAPS, *ITEMS)
OF_URLS = str.maketrans("-_", "+/")


def with_bytes(fields: Mapping[str, Any], event: type[BaseModel]) -> dict[str, Any]:
    """Fields of an event, where bytes have been read that came as a text.

    A text stays one where the class may take it as such (`str | bytes`), and where a validator of its own comes before.

    Raises:
        ValueError: If such a text is no base64.
    """
    reader = _reader(event)
    return reader.read(dict(fields), reader.schema, "")


@lru_cache(1024)
def _reader(event: type[BaseModel]) -> _Reader:
    return _Reader(schema_of(event))


class _Reader:
    """Goes through a value and its schema side by side, as pydantic's validation will."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._shared: dict[str, Schema] = {item["ref"]: item for item in schema.get("definitions", ())}

    def read(self, value: Any, schema: Schema, where: str) -> Any:
        kind: str = schema["type"]
        if kind == "bytes":
            return _decoded(value, where) if isinstance(value, str) else value
        cls: Any = value.__class__  # what JSON is read as; classes of the user's stay as they are
        if cls is dict and kind in (*FIELDS, *MAPS):
            return self._dict(value, schema, where)
        if cls in (list, tuple) and kind in (*ITEMS, "tuple", "named-tuple"):
            if kind in ITEMS and schema.get("items_schema", ANY)["type"] in LEAVES:
                return value  # which may be a million numbers
            pairs = zip(value, _kinds(schema, len(value)), strict=False)
            read = [self.read(item, kind, f"{where}.{number}") for number, (item, kind) in enumerate(pairs)]
            return [*read, *value[len(read) :]] if cls is list else (*read, *value[len(read) :])
        if kind in ("union", "tagged-union"):
            return self._union(value, schema, where)
        inside = self._inside(schema)
        return value if inside is None else self.read(value, inside, where)

    def _inside(self, schema: Schema) -> Schema | None:
        """The schema that is asked next for the same value; None where a validator of the user's is."""
        match schema["type"]:
            case "definition-ref":
                return self._shared.get(schema["schema_ref"])
            case "function-before" | "function-wrap" | "function-plain" if not (
                _of_model(schema) or _of_pydantic(schema)
            ):
                return None
            case "function-after" if _takes_text(schema):
                return None
            case "json":
                return None
            case "chain":
                return schema["steps"][0]
            case kind:
                return schema.get(INSIDE.get(kind, "schema"))

    def _dict(self, value: Schema, schema: Schema, where: str) -> Schema:
        if schema["type"] in MAPS:
            kind: Schema = schema.get("values_schema", ANY)
            return {name: self.read(item, kind, f"{where}.{name}") for name, item in value.items()}
        made = dict(value)
        for name, field in _named(schema):
            for key in {name, *_aliases(field)} & value.keys():
                made[key] = self.read(value[key], field["schema"], f"{where}.{key}" if where else key)
        return made

    def _union(self, value: Any, schema: Schema, where: str) -> Any:
        """A text is read where no choice takes one; of the rest, that choice counts whose fields these are."""
        if schema["type"] == "tagged-union":
            chosen = _tagged(value, schema)
            return value if chosen is None else self.read(value, chosen, where)
        given: list[Any] = schema["choices"]
        choices: list[Schema] = [item[0] if isinstance(item, tuple) else item for item in given]
        cores = [self._core(choice) for choice in choices]
        if isinstance(value, str):
            of_bytes = [core for core in cores if core["type"] == "bytes"]
            only = all(core["type"] in NEVER_TEXT for core in cores)
            return self.read(value, of_bytes[0], where) if of_bytes and only else value
        fitting = [choice for choice, core in zip(choices, cores, strict=True) if self._fits(value, core)]
        if len(fitting) == 1:
            return self.read(value, fitting[0], where)
        return self._agreed(value, fitting, where)

    def _agreed(self, value: Any, choices: list[Schema], where: str) -> Any:
        """What every choice reads; else the value, of which pydantic then takes the choice whose types it has."""
        try:
            found = [self.read(value, choice, where) for choice in choices]
        except ValueError:
            return value
        return found[0] if found and all(other == found[0] for other in found) else value

    def _fits(self, value: object, core: Schema) -> bool:
        if isinstance(value, list | tuple):
            return core["type"] in (*ITEMS, "tuple", "named-tuple")
        if not isinstance(value, dict):
            return False
        given, inside = cast("Schema", value), core
        while inside["type"] not in FIELDS:
            found = self._inside(inside)
            if found is None:
                return core["type"] in MAPS
            inside = found
        known = {key: field["schema"] for name, field in _named(inside) for key in (name, *_aliases(field))}
        return given.keys() <= known.keys() and all(_may_be(item, known[name]) for name, item in given.items())

    def _core(self, schema: Schema) -> Schema:
        inside = None if schema["type"] in ("model", "dataclass") else self._inside(schema)
        return schema if inside is None else self._core(inside)


def _kinds(schema: Schema, count: int) -> list[Schema]:
    """The schemas of so many items."""
    found: Any = schema.get("items_schema", ANY)
    if schema["type"] == "named-tuple":
        return [field["schema"] for _, field in _named(schema)]
    if schema["type"] != "tuple":
        return [found] * count
    rest: int | None = schema.get("variadic_item_index")
    if rest is None:
        return found
    return found[:rest] + [found[rest]] * (count - len(found) + 1) + found[rest + 1 :]


def _tagged(value: object, schema: Schema) -> Schema | None:
    """The choice that a value names itself."""
    name: object = schema["discriminator"]
    if not isinstance(value, dict) or not isinstance(name, str):
        return None
    return schema["choices"].get(cast("Schema", value).get(name))


def _named(schema: Schema) -> Iterable[tuple[str, Schema]]:
    found: Any = schema["fields"]
    if isinstance(found, dict):
        return cast("Schema", found).items()
    return [(field["name"], field) for field in cast("list[Schema]", found)]


def _aliases(field: Schema) -> list[str]:
    """The other names of a field that are keys; a path into what is below is none."""
    found: Any = field.get("validation_alias", [])
    if isinstance(found, str):
        return [found]
    paths: list[Any] = found if isinstance(next(iter(found), None), list) else [found]
    return [path[0] for path in paths if len(path) == 1]


def _may_be(value: object, schema: Schema) -> bool:
    """Whether a constant that tells classes apart is not another one."""
    return schema["type"] != "literal" or value in schema["expected"]


def _of_model(schema: Schema) -> bool:
    """Whether a validator is one of a whole class: it is given the fields that the class will take."""
    inside = schema.get("schema", {})
    return inside.get("type") in ("model", *FIELDS) or (
        inside.get("type", "").startswith("function") and _of_model(inside)
    )


def _of_pydantic(schema: Schema) -> bool:
    """Whether a validator makes a collection of the standard library's, which pydantic has no schema for."""
    function: Any = schema["function"]["function"]
    return str(getattr(getattr(function, "func", function), "__module__", "")).startswith("pydantic.")


def _takes_text(schema: Schema) -> bool:
    """Whether it is a type like pydantic's `Base64Bytes`, which decodes the text itself, or of a secret's letters."""
    function: Any = schema["function"]["function"]
    return function is SecretBytes or isinstance(getattr(function, "__self__", None), EncodedBytes)


def _decoded(text: str, where: str) -> bytes:
    try:
        return b64decode("".join(text.split()).translate(OF_URLS), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"'{where}' takes bytes, and its text is no base64 ({error})") from error
