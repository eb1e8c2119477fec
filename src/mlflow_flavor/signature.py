"""A model's signature, from the start event's fields where it declares any: no run is needed for that."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import types
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mlflow.models import ModelSignature, infer_signature
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, ParamSchema, ParamSpec, Property, Schema
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlflow_flavor._rows import holds_arrays
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
    bytes: DataType.binary,
}
# Dates are not among them: MLflow's datetime takes neither the ISO text of a JSON caller nor a dict that holds one.

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
        columns: list[Any] = [_column(field.alias or name, field) for name, field in start.model_fields.items()]
        if _all_optional(start) or _taken_apart(start, columns):
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


def _taken_apart(start: type[StartEvent], columns: list[ColSpec]) -> bool:
    """Whether MLflow could not hand on a row with these columns: it makes many rows of a dict that holds a dict."""
    if any(isinstance(column.type, Array | Object) for column in columns):
        return False  # it takes the dict for one row then
    return any(_may_hold_more(field.annotation) for field in start.model_fields.values())


def _may_hold_more(annotation: Any) -> bool:
    """Whether a value of this type may be what MLflow does not count as a single one."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return any(_may_hold_more(arg) for arg in args)
    found = origin or annotation
    return (
        found in (Any, object) or holds_arrays(found) or (isinstance(found, type) and issubclass(found, Mapping | date))
    )


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
    annotation, _ = _without_none(annotation)
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
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation.model_fields:
        return Object([_property(name, field, depth + 1) for name, field in annotation.model_fields.items()])
    return AnyType()


def _property(name: str, field: FieldInfo, depth: int) -> Property:
    annotation, optional = _without_none(field.annotation)
    return Property(field.alias or name, _spec_type(annotation, depth), required=field.is_required() and not optional)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The annotation without its None part, and whether it had one; a union of several types stays as it is."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    args = [a for a in get_args(annotation) if a is not type(None)]
    optional = len(args) < len(get_args(annotation))
    return (args[0], optional) if len(args) == 1 else (annotation, optional)
