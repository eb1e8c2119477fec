"""The JSON schema of a model, whatever types its fields have."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, PydanticUserError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

__all__ = ["schema_of"]


class _LenientSchema(GenerateJsonSchema):
    """A JSON schema in which a field of a type that JSON does not know may be anything."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}


def schema_of(model: type[BaseModel]) -> dict[str, Any] | None:
    """The JSON schema of a model's fields; None where pydantic cannot build one (yet)."""
    try:
        return model.model_json_schema(schema_generator=_LenientSchema)
    except (PydanticUserError, PydanticSchemaGenerationError):
        return None
