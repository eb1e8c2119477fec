"""What a caller of a model passes, as rows of start event fields; what a run gives, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from mlflow_flavor._compat import invalid
from workflows.events import StartEvent, StopEvent

__all__ = ["Row", "plain_chunk", "plain_event", "plain_fields", "plain_result", "rows_of"]

Row = dict[str, Any]


def rows_of(data: object, start: type[StartEvent], names: Sequence[str] = ()) -> list[Row]:
    """The rows in `data`: a dict, a list of dicts, a DataFrame, or a bare value where the start event has one field.

    Args:
        data: What the caller passed.
        start: The workflow's start event class; its fields, if it declares any, are the only ones allowed.
        names: Input names of the model's signature, for a start event that declares no field.

    Raises:
        MlflowException: If it is none of these, is empty, or a row has a field that the start event lacks.
    """
    fields = tuple(start.model_fields) or tuple(names)
    rows = [_row(item, fields, start, number) for number, item in enumerate(_items(data), 1)]
    if not rows:
        raise invalid(f"There is no row to predict. Pass the fields of {start.__name__} as a dict.")
    if start.model_fields:
        for number, row in enumerate(rows, 1):
            _check_names(row, start, number)
    return rows


def _items(data: object) -> Iterable[object]:
    if data is None:
        return [{}]
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a DataFrame, which only its owner need import
        frame: Any = data
        return [_without_missing(row) for row in frame.to_dict(orient="records")]
    if isinstance(data, list | tuple):
        return cast("Sequence[object]", data)
    return [data]


def _without_missing(row: Mapping[Any, Any]) -> Row:
    """A DataFrame's row with plain values; what is missing (None, NaN) is left out."""
    found: Row = {}
    for name, value in row.items():
        plain = value.item() if hasattr(value, "item") and not hasattr(value, "__len__") else value
        if plain is not None and plain == plain:  # NaN differs from itself
            found[str(name)] = plain
    return found


def _row(item: object, fields: Sequence[str], start: type[StartEvent], number: int) -> Row:
    if isinstance(item, BaseModel):
        return dict(item)
    if isinstance(item, Mapping):
        return {str(name): value for name, value in cast("Mapping[object, Any]", item).items()}
    if len(fields) == 1:
        return {fields[0]: item}
    shape = f"a dict with the fields {', '.join(fields)}" if fields else "a dict"
    raise invalid(f"row {number}: got {type(item).__name__}, but StartEvent '{start.__name__}' needs {shape}.")


def _check_names(row: Row, start: type[StartEvent], number: int) -> None:
    known = {*start.model_fields, *(f.alias for f in start.model_fields.values() if f.alias)}
    unknown = [name for name in row if name not in known]
    if unknown:
        raise invalid(
            f"row {number}: unknown field '{unknown[0]}' for StartEvent '{start.__name__}' "
            f"(fields: {', '.join(start.model_fields)})."
        )


def plain_result(stop: StopEvent) -> Any:
    """The result of a run as plain data; the fields of a stop event of the user's own class."""
    return _plain(stop.result) if type(stop) is StopEvent else plain_fields(stop)


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
    fields = event.model_dump(mode="python")
    dynamic: dict[str, Any] = fields.pop("_data", None) or {}
    return _plain({**fields, **dynamic})


def _plain(value: object) -> Any:
    return to_jsonable_python(value, serialize_unknown=True)
