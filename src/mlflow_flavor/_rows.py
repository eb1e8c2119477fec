"""What a caller of a model passes, as rows of start event fields; what a run gives, as plain data."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NewType, Union, cast, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from mlflow_flavor._bytes import plain, plain_dump
from mlflow_flavor._bytes_read import with_bytes
from mlflow_flavor._compat import invalid
from workflows.events import StartEvent, StopEvent

__all__ = ["Row", "holds_arrays", "names_of", "plain_chunk", "plain_event", "plain_fields", "plain_result", "rows_of"]

Row = dict[str, Any]

EXACT_FLOATS = 2**53


def rows_of(data: object, start: type[StartEvent], names: Sequence[str] = ()) -> list[Row]:
    """The rows in `data`: a dict, a list of dicts, a DataFrame, or a bare value where the start event has one field.

    Args:
        data: What the caller passed.
        start: The workflow's start event class; its fields, if it declares any, are the only ones allowed.
        names: Input names of the model's signature, for a start event that declares no field.

    Raises:
        MlflowException: If it is none of these, is empty, a row has a field that the start event lacks, or one that
            takes bytes a text that is no base64.
    """
    fields = tuple(start.model_fields) or tuple(names)
    rows = [_row(item, fields, start, number) for number, item in enumerate(_items(data, start), 1)]
    if not rows:
        known = f" ({', '.join(fields)}); MLflow leaves out what the signature does not name" if fields else ""
        raise invalid(f"There is no row to predict. Pass the fields of {start.__name__} as a dict{known}.")
    if start.model_fields:
        for number, row in enumerate(rows, 1):
            _check_names(row, start, number)
    return [_with_bytes(row, start, number) for number, row in enumerate(rows, 1)]


def _items(data: object, start: type[StartEvent]) -> Iterable[object]:
    if data is None:
        return [{}]
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a DataFrame, which only its owner need import
        frame: Any = data
        nullable = {name for name, field in start.model_fields.items() if _needs_none(field)}
        arrays = _array_fields(start)
        rows: list[Row] = [_without_missing(row, nullable, arrays) for row in frame.to_dict(orient="records")]
        _check_integers(rows, start)
        if rows or len(frame.columns) or any(field.is_required() for field in start.model_fields.values()):
            return rows
        return [Row()] * max(len(frame), 1)  # MLflow makes a frame without columns, and maybe without rows, of `{}`
    if isinstance(data, list | tuple):
        return cast("Sequence[object]", data)
    return [data]


def _check_integers(rows: Iterable[Row], start: type[StartEvent]) -> None:
    """Refuse what was an integer until pandas made a float of it, and may have been another one."""
    fields = start.model_fields.items()
    integers = {each for name, field in fields if _is_integer(field) for each in (name, *names_of(start, name, field))}
    for number, row in enumerate(rows if integers else (), 1):
        for name in integers & row.keys():
            if isinstance(row[name], float) and abs(row[name]) >= EXACT_FLOATS:
                raise invalid(
                    f"row {number}: '{name}' has lost digits on the way: MLflow puts rows in a DataFrame, and where "
                    f"one lacks an integer, that has floats, which are exact up to 2**53. Pass these rows one at a "
                    f"time, give '{name}' in each, or declare it as a text."
                )


def _is_integer(field: FieldInfo) -> bool:
    kinds = set(_kinds(field.annotation))
    return float not in kinds and any(isinstance(kind, type) and issubclass(kind, int) for kind in kinds)


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, or those of a union, without constraints."""
    if isinstance(annotation, NewType):
        yield from _kinds(annotation.__supertype__)
    elif get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield annotation


def _needs_none(field: FieldInfo) -> bool:
    """Whether a field has to be given, and may be None."""
    return field.is_required() and (field.annotation is Any or type(None) in get_args(field.annotation))


def _without_missing(row: Mapping[Any, Any], nullable: Container[str], arrays: Container[str]) -> Row:
    """A DataFrame's row with plain values; what is missing (None, NaN) is left out, where that is not a value."""
    cells = _plain_row(row, arrays)
    found = {name: None if _is_nan(value) else value for name, value in cells.items()}
    return {name: value for name, value in found.items() if value is not None or name in nullable}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value


def _plain_row(row: Mapping[Any, Any], arrays: Container[str]) -> Row:
    return {str(name): value if name in arrays else _plain_cell(value) for name, value in row.items()}


def _array_fields(start: type[StartEvent]) -> set[str]:
    """Names of the fields that take arrays of numpy's, and so no lists in their place."""
    found = {name: field for name, field in start.model_fields.items() if holds_arrays(field.annotation)}
    return {each for name, field in found.items() for each in (name, *names_of(start, name, field))}


def names_of(owner: type[BaseModel], name: str, field: FieldInfo) -> set[str]:
    """Under which names a value of a field may come."""
    config, alias = owner.model_config, field.validation_alias
    if alias is None or config.get("validate_by_alias") is False:
        return {name}
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    names = {str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices}
    return {name, *names} if config.get("populate_by_name") or config.get("validate_by_name") else names


def holds_arrays(annotation: Any) -> bool:
    """Whether a type is of numpy's, or made of one."""
    of_numpy = str(getattr(annotation, "__module__", "")).partition(".")[0] == "numpy"
    return of_numpy or any(holds_arrays(arg) for arg in get_args(annotation))


def _plain_cell(value: Any) -> Any:
    """A value as Python has it: MLflow's server hands lists, and single values, as arrays of numpy's."""
    kind = cast("type[Any]", value.__class__)
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    if kind.__module__ == "numpy" and hasattr(value, "item"):
        return _plain_cell(value.tolist() if kind.__name__ == "ndarray" else value.item())
    if hasattr(value, "to_pydatetime"):  # a Timestamp of pandas
        return value.to_pydatetime()
    if kind is list:
        return [_plain_cell(item) for item in value]
    if kind is dict:
        return {key: _plain_cell(item) for key, item in value.items()}
    return value


def _row(item: object, fields: Sequence[str], start: type[StartEvent], number: int) -> Row:
    if isinstance(item, BaseModel):
        return {**vars(item), **dict(item)}  # of an event, the second has what it does not declare alone
    if isinstance(item, Mapping):
        return _plain_row(cast("Mapping[object, Any]", item), _array_fields(start))
    if len(fields) == 1:
        return {fields[0]: item}
    shape = f"a dict with the fields {', '.join(fields)}" if fields else "a dict"
    raise invalid(f"row {number}: got {type(item).__name__}, but StartEvent '{start.__name__}' needs {shape}.")


def _check_names(row: Row, start: type[StartEvent], number: int) -> None:
    known = {each for name, field in start.model_fields.items() for each in (name, *names_of(start, name, field))}
    unknown = [name for name in row if name not in known]
    if unknown:
        raise invalid(
            f"row {number}: unknown field '{unknown[0]}' for StartEvent '{start.__name__}' "
            f"(fields: {', '.join(start.model_fields)})."
        )


def _with_bytes(row: Row, start: type[StartEvent], number: int) -> Row:
    try:
        return with_bytes(row, start)
    except ValueError as error:
        raise invalid(f"row {number}: {error}.") from error


def plain_result(stop: StopEvent) -> Any:
    """The result of a run as plain data; the fields of a stop event of the user's own class."""
    return plain(stop.result) if type(stop) is StopEvent else plain_fields(stop)


def plain_event(event: BaseModel) -> dict[str, Any]:
    """An event as a chunk of a stream: `{"type": class name, "data": fields}`."""
    return {"type": type(event).__name__, "data": plain_fields(event)}


def plain_chunk(event: BaseModel) -> dict[str, Any]:
    """An event as a chunk of a stream; the stop event, whatever its class, as the result that a caller gets."""
    if isinstance(event, StopEvent):
        return {"type": "StopEvent", "data": {"result": plain_result(event)}}
    return plain_event(event)


def plain_fields(event: BaseModel) -> dict[str, Any]:
    """Declared and dynamic fields, side by side."""
    fields: dict[str, Any] = plain_dump(event)
    dynamic: dict[str, Any] = fields.pop("_data", None) or {}
    return {**fields, **dynamic}
