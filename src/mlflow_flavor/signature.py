"""A model's signature, from the start event's fields where it declares any: no run is needed for that."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, ParamSchema, ParamSpec, Property, Schema
from pydantic import BaseModel, ConfigDict, PydanticUserError, RootModel, TypeAdapter
from pydantic.fields import FieldInfo

from mlflow_flavor._rows import names_of
from workflows import Workflow
from workflows.events import StartEvent

__all__ = ["PARAMS", "input_names", "signature_of"]

SpecType = DataType | Array | Object | Map | AnyType

PARAMS = ("session_id", "user", "resume")
"""Parameters that every model takes, beside its input; MLflow drops any that the signature does not name."""

_SCALARS: Mapping[Any, DataType] = {
    str: DataType.string,
    bool: DataType.boolean,
    int: DataType.long,
    float: DataType.double,
}
# Dates are not among them: MLflow's datetime takes neither the ISO text of a JSON caller nor a dict that holds one.

_DATES = ("date", "date-time", "time", "duration")
_SINGLE_IN_JSON = ("string", "integer", "number", "boolean", "null")
_ANY_TYPE = ConfigDict(arbitrary_types_allowed=True)

_NEVER_MISSING = (DataType.boolean, DataType.long)

_LISTS = (list, set, tuple, frozenset)

MAX_DEPTH = 4


def signature_of(
    workflow: Workflow, example: object = None, output: object = None, *, resumable: bool = False
) -> ModelSignature:
    """What the model takes and gives.

    Args:
        workflow: The model; the fields that its start event declares are the inputs.
        example: An input; its keys are the inputs where the start event declares none.
        output: What the example gave; the output is of any type without it.
        resumable: Runs may stop for a person: the parameter `resume` goes on with one, and then no input is needed.
    """
    return ModelSignature(
        inputs=_inputs(workflow.start_event_class, example, resumable),
        outputs=_outputs(output),
        params=ParamSchema([ParamSpec(name, DataType.string, "") for name in PARAMS]),
    )


def input_names(signature: ModelSignature | None) -> list[str]:
    """Names of the inputs that a stored signature tells."""
    inputs: Any = signature.inputs if signature is not None else None
    return [name for name in inputs.input_names() if isinstance(name, str)] if inputs is not None else []


def _inputs(start: type[StartEvent], example: object, optional: bool) -> Schema | None:
    if start.model_fields:
        columns: list[Any] = [_column(names[0], field) for names, field in _named(start)]
        if _all_optional(start) or _taken_apart(start, columns) or _has_choice(start):
            return None  # the row comes as it is then, and our own validation is the only one
    elif example is not None:
        found: Any = infer_signature(example).inputs
        if not optional or found is None or not all(isinstance(column, ColSpec) for column in found.inputs):
            return found
        columns = found.inputs
    else:
        return None
    if optional:
        columns = [ColSpec(column.type, column.name, required=False) for column in columns]
    return Schema(columns)


def _all_optional(start: type[StartEvent]) -> bool:
    """Whether `{}` is a row: with columns MLflow makes no row of it, nor of a dict whose only key is misspelt."""
    return not any(field.is_required() for field in start.model_fields.values())


def _named(owner: type[BaseModel]) -> list[tuple[list[str], FieldInfo]]:
    """The fields of a model, each with the names that a value of it may come by."""
    return [(sorted(names_of(owner, name, field)), field) for name, field in owner.model_fields.items()]


def _has_choice(owner: type[BaseModel]) -> bool:
    """Whether a field may come by several names; MLflow knows one of each, and leaves others out."""
    return any(len(names) > 1 for names, _ in _named(owner))


def _taken_apart(start: type[StartEvent], columns: list[ColSpec]) -> bool:
    """Whether MLflow could not hand on a row with these columns: of a dict that holds lists or dicts it makes many."""
    if any(isinstance(column.type, Array | Object) for column in columns):
        return False  # it takes the dict for one row then
    return not all(_is_single(field.annotation) for field in start.model_fields.values())


def _is_single(annotation: Any) -> bool:
    """Whether what JSON has for a value of this type is a text, a number or the like, which MLflow leaves as it is."""
    try:
        schema = TypeAdapter[Any](annotation, config=_ANY_TYPE).json_schema()
    except PydanticUserError:  # nothing in JSON is such a value; a date it would be, but none of MLflow's
        return False
    defined = schema.get("$defs", {})
    todo = [schema]
    while todo:
        found = todo.pop()
        found = defined.get(str(found.get("$ref")).rpartition("/")[2], found)
        parts = [*found.get("anyOf", ()), *found.get("oneOf", ())]
        todo += parts
        is_value = found.get("type") in _SINGLE_IN_JSON and found.get("format") not in _DATES
        if not (parts or is_value or "enum" in found or "const" in found):
            return False
    return True


def _outputs(output: object) -> Schema:
    if output is not None:
        try:
            found: Schema | None = infer_signature(model_output=output).outputs
        except Exception:  # noqa: BLE001  # an output that MLflow has no type for is of any type
            found = None
        if found is not None:
            return found
    return Schema([ColSpec(AnyType())])


def _column(name: str, field: FieldInfo) -> ColSpec:
    annotation, optional = _without_none(field.annotation)
    found = _spec_type(annotation, 0)
    if (optional and isinstance(found, DataType)) or (not field.is_required() and found in _NEVER_MISSING):
        # Of a None, MLflow's server makes the text "None", and refuses it for a number. A frame in which one row lacks
        # an integer has floats in that column, and those MLflow refuses too.
        found = AnyType()
    return ColSpec(found, name, required=field.is_required() and not optional)


def _spec_type(annotation: Any, depth: int) -> SpecType:
    annotation, optional = _without_none(annotation)
    if optional:
        return AnyType()  # of a None among texts MLflow makes texts of one letter, among others False or an error
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal and len({type(a) for a in args}) == 1:
        return _SCALARS.get(type(args[0]), AnyType())
    if depth >= MAX_DEPTH:
        return AnyType()
    if origin in _LISTS or annotation in _LISTS:
        members = {arg for arg in args if arg is not ...}
        return Array(_spec_type(members.pop(), depth + 1) if len(members) == 1 else AnyType())
    if origin is dict and args[0] is str:
        return Map(_spec_type(args[1], depth + 1))
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return AnyType()
    if issubclass(annotation, RootModel):
        return _spec_type(annotation.model_fields["root"].annotation, depth)
    is_open = annotation.model_config.get("extra") == "allow" or _has_choice(annotation)
    if annotation.model_fields and not is_open:
        return Object([_property(names[0], field, depth + 1) for names, field in _named(annotation)])
    return AnyType()


def _property(name: str, field: FieldInfo, depth: int) -> Property:
    annotation, optional = _without_none(field.annotation)
    return Property(name, _spec_type(annotation, depth), required=field.is_required() and not optional)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without its None part, and whether it had one; a union of several types stays as it is."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    args = [a for a in get_args(annotation) if a is not type(None)]
    optional = len(args) < len(get_args(annotation))
    return (args[0], optional) if len(args) == 1 else (annotation, optional)
