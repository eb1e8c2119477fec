"""A state as a dictionary of plain values, and back: the `state` part of a snapshot."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from workflows.context.model_forms import changed_fields, form_of, validated
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.errors import UnserializableValueError
from workflows.events import DictLikeModel

__all__ = [
    "KNOWN_UNSERIALIZABLE_KEYS",
    "InMemorySerializedState",
    "UnserializableKeyWarning",
    "encode_state_tree",
    "parse_in_memory_state",
    "state_at_rest",
    "state_from_rest",
]

ModelT = TypeVar("ModelT", bound=BaseModel)

KNOWN_UNSERIALIZABLE_KEYS = ("memory",)


class UnserializableKeyWarning(UserWarning):
    """A key of the state that is known not to serialize was left out of a snapshot."""


class InMemorySerializedState(BaseModel):
    """A state at rest.

    Attributes:
        store_type: Always "in_memory": the values themselves are in `state_data`.
        state_type: Name of the state's class.
        state_module: Module of the state's class.
        state_data: `{"_data": {key: text}}` of a free-form state, one text of a typed model.
    """

    model_config = ConfigDict(defer_build=True)  # for a quick `import workflows`

    store_type: Literal["in_memory"] = "in_memory"
    state_type: str = "DictState"
    state_module: str = "workflows.context.state_store"
    state_data: Any = None


def state_at_rest(
    state: BaseModel, serializer: BaseSerializer, known_unserializable_keys: Iterable[str] = KNOWN_UNSERIALIZABLE_KEYS
) -> dict[str, Any]:
    """The state at rest: plain values, and texts by the serializer.

    Raises:
        UnserializableValueError: If a value cannot be serialized; of `known_unserializable_keys` such a value is left
            out instead, with an `UnserializableKeyWarning`. It is a `ValueError`.
    """
    if not isinstance(state, DictLikeModel) or not _is_its_values(state):
        return _at_rest(state, serializer.serialize(state))
    data: dict[str, str] = {}
    for key, value in _values(state).items():
        try:
            data[key] = serializer.serialize(value)
        except Exception as error:  # a serializer is the user's code, as are the values
            if key not in known_unserializable_keys:
                raise UnserializableValueError(
                    f"Failed to serialize state value for key {key}: {error} Store a plain value or a pydantic model "
                    f"there, or pass a serializer that knows it."
                ) from error
            warnings.warn(
                f"State key {key!r} was left out of the snapshot, as it does not serialize; set it again after the "
                f"snapshot is loaded.",
                UnserializableKeyWarning,
                stacklevel=3,
            )
    return _at_rest(state, {"_data": data})


def state_from_rest(data: Mapping[str, Any], serializer: BaseSerializer, state_type: type[ModelT]) -> ModelT:
    """The state that `state_at_rest` was given, as a `state_type`.

    Raises:
        ValueError: If the data is something else, or does not fit `state_type`.
    """
    found = parse_in_memory_state(data).state_data
    if found is None or found == {}:
        return state_type()
    if isinstance(found, str):
        return _fitted(serializer.deserialize(found), state_type)
    fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if "_tree" in fields:
        return _fitted(_from_tree(fields, serializer), state_type)
    if "_data" in fields:
        return _fitted({key: serializer.deserialize(text) for key, text in fields["_data"].items()}, state_type)
    raise ValueError(f"The state is no state at rest: state_data has neither text nor '_data', but {found!r:.80}.")


def encode_state_tree(state: BaseModel, serializer: JsonSerializer) -> dict[str, Any]:
    """The state at rest as one tree of JSON values, which patches (RFC 6902) can point into."""
    if not isinstance(state, DictLikeModel):
        return _at_rest(state, {"_tree": "model", **serializer.serialize_value(state)})
    data = {key: serializer.serialize_value(value) for key, value in _values(state).items()}
    return _at_rest(state, {"_tree": "dict", "_data": data})


def parse_in_memory_state(data: Mapping[str, Any]) -> InMemorySerializedState:
    """The state at rest that a dictionary holds; of missing keys the default.

    Raises:
        ValueError: If it was written by another kind of store.
    """
    store_type = data.get("store_type", "in_memory")
    if store_type != "in_memory":
        raise ValueError(
            f"The state was written by a store of type {store_type!r}, this one reads 'in_memory'. Load it with the "
            f"from_dict() of the store that wrote it."
        )
    return InMemorySerializedState.model_validate(dict(data))


def _at_rest(state: BaseModel, data: Any) -> dict[str, Any]:
    cls = type(state)
    return {
        "store_type": "in_memory",
        "state_type": cls.__name__,
        "state_module": cls.__module__,
        "state_data": data,
    }


def _is_its_values(state: DictLikeModel) -> bool:
    """Whether a state with declared fields is the same again when it is made of them, which is validation's to say."""
    cls = type(state)
    form = form_of(cls)
    if not form.fields or form.fits(state) or form.keeps(state):
        return True
    try:
        values = copy.deepcopy(_values(state))  # validators may change them
    except Exception:  # noqa: BLE001  # what cannot be copied is named when it is written
        return True
    try:
        return not changed_fields(state, validated(cls, values))
    except Exception:  # noqa: BLE001  # validators are the user's code
        return False


def _values(state: DictLikeModel) -> dict[str, Any]:
    declared = {n: getattr(state, n) for n, field in type(state).model_fields.items() if not field.exclude}
    return {**declared, **state.to_dict()}


def _from_tree(fields: dict[str, Any], serializer: BaseSerializer) -> Any:
    if not isinstance(serializer, JsonSerializer):
        raise ValueError("This state is a tree of JSON values, which a JsonSerializer reads.")
    if fields["_tree"] == "model":
        return serializer.deserialize_value({k: v for k, v in fields.items() if k != "_tree"})
    return {key: serializer.deserialize_value(value) for key, value in fields["_data"].items()}


def _fitted(found: Any, state_type: type[ModelT]) -> ModelT:
    if isinstance(found, state_type):
        return found
    # A class that changed since the snapshot: its fields are what counts.
    fields: Any = found.model_dump(by_alias=False) if isinstance(found, BaseModel) else found
    try:
        return cast("ModelT", validated(state_type, fields))
    except ValidationError as error:
        raise ValueError(f"The state at rest does not fit {state_type.__name__}: {error}") from error
