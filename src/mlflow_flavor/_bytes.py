"""How bytes reach a caller and come back, in JSON: as base64 with its standard alphabet, which is MLflow's too."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import SchemaSerializer, core_schema, to_jsonable_python

__all__ = ["plain", "with_bytes"]

ANY = SchemaSerializer(core_schema.any_schema())
BYTES: tuple[object, ...] = (bytes, bytes | None)
HEX = re.compile("(?:[0-9a-f]{2})+")


def plain(value: object) -> Any:
    """JSON's kinds of values; bytes are base64, also if they could be a text."""
    fields = ANY.to_python(value, by_alias=True)  # of models, whose own setting is that bytes are texts
    # pydantic's base64 is that for URLs, which other decoders drop parts of; what is otherwise in hex is bytes.
    urls, digits = (to_jsonable_python(fields, serialize_unknown=True, bytes_mode=mode) for mode in ("base64", "hex"))
    return _standard(urls, digits)


def _standard(urls: Any, digits: Any) -> Any:
    if urls == digits:
        return urls
    match urls, digits:
        case str(), str() if HEX.fullmatch(digits):
            return b64encode(bytes.fromhex(digits)).decode()
        case dict(), dict():
            rows = zip(_items(urls), _items(digits), strict=False)
            return {_standard(name, other): _standard(item, its) for (name, item), (other, its) in rows}
        case list(), list():
            # Of an iterator, say, which gives its items once, the second list is empty.
            rest = cast("list[Any]", digits) or cast("list[Any]", urls)
            return [_standard(item, other) for item, other in zip(cast("list[Any]", urls), rest, strict=True)]
        case _:
            return urls


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(cast("dict[Any, Any]", value).items())


def with_bytes(fields: Mapping[str, Any], event: type[BaseModel]) -> dict[str, Any]:
    """Fields of an event, where bytes have been read that came as a text.

    Raises:
        ValueError: If such a text is no base64.
    """
    found = {name: field for name, field in event.model_fields.items() if not field.metadata}
    found |= {field.alias: field for field in found.values() if field.alias}
    return {name: _read(value, name, found.get(name)) for name, value in fields.items()}


def _read(value: Any, name: str, field: FieldInfo | None) -> Any:
    takes_bytes = field is not None and field.annotation in BYTES
    if not takes_bytes or not isinstance(value, str):
        return value
    try:
        return b64decode("".join(value.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"'{name}' takes bytes, and its text is no base64 ({error})") from error
