"""`ctx.store`: the typed or free-form state of a run, by dot path or as a whole."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from workflows.events import DictLikeModel

__all__ = ["MAX_DEPTH", "DictState", "InMemoryStateStore", "get_by_path", "set_by_path"]

MAX_DEPTH = 1000
MODEL_T = TypeVar("MODEL_T", bound=BaseModel)
_MISSING: Any = object()


class DictState(DictLikeModel):
    """Free-form state: attribute, item and mapping access to any key."""

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and give its value."""
        return self._data.pop(key, *default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys."""
        self._data.update(*args, **kwargs)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, set to `default` if it is missing."""
        return self._data.setdefault(key, default)


class InMemoryStateStore(Generic[MODEL_T]):
    """State in this process. Writers take turns; readers never wait and see the last committed state.

    `get` gives the live value: changing it in place changes the state.
    """

    def __init__(self, initial_state: MODEL_T) -> None:
        self._state = initial_state
        self._writer: asyncio.Lock | None = None
        self._editor: asyncio.Task[Any] | None = None

    @property
    def state_type(self) -> type[MODEL_T]:
        """The class of the state."""
        return cast("type[MODEL_T]", type(self._state))

    async def get(self, path: str, default: Any = _MISSING) -> Any:
        """The value at a dot path ("user.names.0"); "" is the whole state.

        Raises:
            ValueError: If there is nothing and no default was given.
        """
        return get_by_path(self._state, path, default)

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a dot path; missing dictionaries on the way are made.

        Raises:
            ValueError: If the path is empty, too deep, or does not fit the state's fields.
        """
        async with self._turn():
            set_by_path(self._state, path, value)

    async def get_state(self) -> MODEL_T:
        """A shallow copy of the whole state."""
        return self._state.model_copy()

    async def set_state(self, state: BaseModel) -> None:
        """Replace the state (same class or a subclass), or merge it in (a parent class).

        Raises:
            ValueError: If the class has nothing to do with the state's class.
        """
        async with self._turn():
            self._state = _merged(self._state, state)

    async def clear(self) -> None:
        """Reset every field to its default.

        Raises:
            ValueError: If a field has none.
        """
        async with self._turn():
            try:
                self._state = type(self._state)()
            except ValidationError as error:
                raise ValueError(
                    f"State must have defaults for all fields: {type(self._state).__name__} cannot be cleared, "
                    f"because {error.error_count()} of its fields have none."
                ) from error

    @asynccontextmanager
    async def edit_state(self) -> AsyncGenerator[MODEL_T]:
        """Edit a copy that becomes the state when the block ends, and is thrown away if it raises."""
        async with self._turn():
            edited = _deep_copy(self._state)
            self._editor = asyncio.current_task()
            try:
                yield edited
            finally:
                self._editor = None
            self._state = edited

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if self._editor is not None and self._editor is asyncio.current_task():
            raise RuntimeError("writer called inside edit_state: mutate the yielded state instead")
        if self._writer is None:
            self._writer = asyncio.Lock()
        async with self._writer:
            yield


def get_by_path(state: Any, path: str, default: Any = _MISSING) -> Any:
    """What is at a dot path: of a dictionary its key, of a sequence its index, of anything else its attribute."""
    value = state
    for segment in _segments(path) if path else ():
        try:
            value = _child(value, segment)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            if default is not _MISSING:
                return default
            raise ValueError(f"Path '{path}' not found in state: there is no {segment!r}.") from error
    return value


def set_by_path(state: Any, path: str, value: Any) -> None:
    """Put a value at a dot path, in place; missing dictionaries on the way are made."""
    if not path:
        raise ValueError("Path cannot be empty")
    *way, last = _segments(path)
    parent = state
    for segment in way:
        try:
            parent = _child(parent, segment)
        except (KeyError, AttributeError):
            made: dict[str, Any] = {}
            _put(parent, segment, made, path)
            parent = made
    _put(parent, last, value, path)


def _segments(path: str) -> list[str]:
    segments = path.split(".")
    if len(segments) > MAX_DEPTH:
        raise ValueError(f"Path has {len(segments)} segments, more than {MAX_DEPTH}")
    return segments


def _child(value: Any, segment: str) -> Any:
    if _is_a(value, dict, DictLikeModel):
        return value[segment]
    if _is_a(value, list, tuple) and segment.lstrip("-").isdigit():
        return value[int(segment)]
    return getattr(value, segment)


def _is_a(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds)


def _put(parent: Any, segment: str, value: Any, path: str) -> None:
    try:
        if _is_a(parent, MutableMapping, DictLikeModel):
            parent[segment] = value
        elif _is_a(parent, list) and segment.lstrip("-").isdigit():
            parent[int(segment)] = value
        else:
            setattr(parent, segment, value)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"Path '{path}' cannot be set: {type(parent).__name__} takes no {segment!r}.") from error


def _merged(current: Any, new: BaseModel) -> Any:
    if isinstance(new, type(current)):
        return new
    if isinstance(current, type(new)):
        return current.model_copy(update=dict(_fields(new)))
    raise ValueError(f"State must be of type {type(current).__name__}, or a parent of it, got {type(new).__name__}.")


def _fields(model: BaseModel) -> Iterator[tuple[str, Any]]:
    yield from model.__dict__.items()
    yield from (model.__pydantic_extra__ or {}).items()


_ATOMS = frozenset({str, int, float, bool, bytes, type(None), complex})


def _deep_copy(value: Any) -> Any:
    """A deep copy; what cannot be copied (a client, a lock) is shared, as are fields with `exclude=True`."""
    if type(value) in _ATOMS:
        return value
    if _is_exactly(value, dict):
        return {k: v if type(v) in _ATOMS else _deep_copy(v) for k, v in value.items()}
    if _is_exactly(value, list):
        return [v if type(v) in _ATOMS else _deep_copy(v) for v in value]
    if isinstance(value, BaseModel):
        return _copy_model(value)
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # copying runs the user's classes, which may raise anything
        return value


def _is_exactly(value: object, kind: type) -> bool:
    return type(value) is kind


def _copy_model(model: BaseModel) -> BaseModel:
    copied = model.model_copy()
    fields = type(model).model_fields
    for name, value in model.__dict__.items():
        if type(value) not in _ATOMS and not (name in fields and fields[name].exclude):
            vars(copied)[name] = _deep_copy(value)
    if model.__pydantic_extra__:
        object.__setattr__(copied, "__pydantic_extra__", _deep_copy(model.__pydantic_extra__))
    return copied
