"""`ctx.store`: the typed or free-form state of a run, by dot path or as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel

from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.context.state_draft import close_draft, open_draft
from workflows.context.state_merge import create_cleared_state, merge_state
from workflows.context.state_patch import StateCheckpoint, apply_state_patch
from workflows.context.state_paths import MAX_DEPTH, get_by_path, set_by_path, with_value_at
from workflows.context.state_serde import (
    KNOWN_UNSERIALIZABLE_KEYS,
    InMemorySerializedState,
    UnserializableKeyWarning,
    parse_in_memory_state,
    state_at_rest,
    state_from_rest,
)
from workflows.context.stored_state import StateRecord, StateStorage, StoredState
from workflows.context.writer_turns import WriterTurns
from workflows.events import DictLikeModel

__all__ = [
    "KNOWN_UNSERIALIZABLE_KEYS",
    "MAX_DEPTH",
    "MODEL_T",
    "DictState",
    "InMemorySerializedState",
    "InMemoryStateStore",
    "StateCheckpoint",
    "StateRecord",
    "StateStorage",
    "StateStore",
    "StateStoreFacade",
    "UnserializableKeyWarning",
    "apply_state_patch",
    "create_cleared_state",
    "decode_state",
    "deserialize_state_from_dict",
    "encode_state",
    "get_by_path",
    "infer_state_type",
    "merge_state",
    "parse_in_memory_state",
    "set_by_path",
]

MODEL_T = TypeVar("MODEL_T", bound=BaseModel)


class DictState(DictLikeModel):
    """Free-form state: attribute, item and mapping access to any key."""

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and give its value."""
        return self._data.pop(key, *default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, set to `default` if it is missing."""
        if key not in self:
            self[key] = default
        return self[key]


class StateStore(Protocol[MODEL_T]):
    """What `ctx.store` can be relied on to have, wherever the state lives."""

    async def get(self, path: str, default: Any = ...) -> Any:
        """The value at a dot path, else `default`."""
        ...

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a dot path."""
        ...

    async def get_state(self) -> MODEL_T:
        """A shallow copy of the whole state."""
        ...

    async def set_state(self, state: MODEL_T) -> None:
        """Replace the state, or merge a parent type into it."""
        ...

    async def clear(self) -> None:
        """Reset every field to its default."""
        ...

    def edit_state(self) -> AbstractAsyncContextManager[MODEL_T]:
        """Edit a copy that becomes the state when the block ends."""
        ...

    def to_dict(self, serializer: BaseSerializer) -> dict[str, Any]:
        """The state at rest."""
        ...


class InMemoryStateStore(Generic[MODEL_T]):
    """State in this process. Writers take turns; readers never wait and see the last committed state.

    `get` gives the live value: changing it in place changes the state. A write never changes an older copy: it puts a
    new state in the place of the old one, with copies of the containers on its path and everything else shared.
    """

    def __init__(self, initial_state: MODEL_T) -> None:
        self._state = initial_state
        self._turns = WriterTurns()
        self._editor: asyncio.Task[Any] | None = None

    @classmethod
    def from_dict(
        cls,
        serialized_state: Mapping[str, Any],
        serializer: BaseSerializer,
        state_type: type[BaseModel] | None = None,
    ) -> InMemoryStateStore[Any]:
        """A store with the state that `to_dict` gave; as a `state_type`, else as the class that the data names.

        Raises:
            ValueError: If it cannot be read, or does not fit the class.
        """
        return cls(cast("Any", deserialize_state_from_dict(serialized_state, serializer, state_type)))

    @property
    def state_type(self) -> type[MODEL_T]:
        """The class of the state."""
        return cast("type[MODEL_T]", type(self._state))

    async def get(self, path: str, default: Any = ...) -> Any:
        """The value at a dot path ("user.names.0"); "" is the whole state.

        Raises:
            ValueError: If there is nothing and no default was given.
        """
        return get_by_path(self._state, path, default)

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a dot path; missing dictionaries on the way are made.

        Raises:
            ValueError: If the path is empty, too deep, or does not fit the state's fields.
            RuntimeError: If called inside an `edit_state` block of the same task; so do all writers.
        """
        async with self._turn():
            self._state = with_value_at(self._state, path, value)

    async def get_state(self) -> MODEL_T:
        """A shallow copy of the whole state."""
        return self._state.model_copy()

    async def set_state(self, state: BaseModel) -> None:
        """Replace the state (same class or a subclass), or merge it in (a parent class).

        Raises:
            ValueError: If the class has nothing to do with the state's class.
        """
        async with self._turn():
            self._state = merge_state(self._state, state)

    async def clear(self) -> None:
        """Reset every field to its default.

        Raises:
            ValueError: If a field has none.
        """
        async with self._turn():
            self._state = create_cleared_state(type(self._state))

    def edit_state(self) -> AbstractAsyncContextManager[MODEL_T]:
        """Edit a copy that becomes the state when the block ends, and is thrown away if it raises.

        Costs what is touched, not what is there: a field is copied when it is first asked for.
        """
        return _Edit(self)

    def checkpoint(self, serializer: JsonSerializer | None = None) -> StateCheckpoint:
        """The committed state at this moment, by reference; give `diff` an older one to get what changed."""
        return StateCheckpoint(self._state, serializer or JsonSerializer())

    def to_dict(self, serializer: BaseSerializer) -> dict[str, Any]:
        """The state at rest.

        Raises:
            ValueError: If a value cannot be serialized; of the key "memory" it is left out, with a warning.
        """
        return state_at_rest(self._state, serializer)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if not self._takes_turn():
            await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    def _takes_turn(self) -> bool:
        if self._editor is not None and self._editor is asyncio.current_task():
            raise RuntimeError("writer called inside edit_state: mutate the yielded state instead")
        return self._turns.take()


class _Edit(Generic[MODEL_T]):
    """One `async with store.edit_state()`; a class, since generators cost three times as much here."""

    __slots__ = ("_draft", "_store")

    def __init__(self, store: InMemoryStateStore[MODEL_T]) -> None:
        self._store = store

    async def __aenter__(self) -> MODEL_T:
        store = self._store
        if not store._takes_turn():  # pyright: ignore[reportPrivateUsage]  # one class in two halves
            await store._turns.acquire()  # pyright: ignore[reportPrivateUsage]
        try:
            self._draft = open_draft(store._state)  # pyright: ignore[reportPrivateUsage]
            store._editor = asyncio.current_task()  # pyright: ignore[reportPrivateUsage]
        finally:
            if store._editor is None:  # pyright: ignore[reportPrivateUsage]  # copying the state failed
                store._turns.release()  # pyright: ignore[reportPrivateUsage]
        return self._draft

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        store = self._store
        store._editor = None  # pyright: ignore[reportPrivateUsage]
        try:
            if kind is None:
                store._state = close_draft(self._draft)  # pyright: ignore[reportPrivateUsage]
        finally:
            store._turns.release()  # pyright: ignore[reportPrivateUsage]


class StateStoreFacade(StoredState[MODEL_T]):
    """A `StateStore` over a storage of any kind; free-form state unless a `state_type` is given."""

    def __init__(
        self,
        storage: StateStorage,
        state_type: type[MODEL_T] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> None:
        super().__init__(storage, state_type or cast("type[MODEL_T]", DictState), serializer or JsonSerializer())


class HasStateType(Protocol):
    """A workflow instance, as far as its state goes."""

    @property
    def __definition__(self) -> Any: ...


def infer_state_type(workflow: HasStateType) -> type[BaseModel]:
    """The class of a workflow's state: the most derived `T` of its steps' `Context[T]`, else `DictState`.

    Raises:
        ValueError: If the steps name classes of which none derives from all others.
    """
    return workflow.__definition__.spec.state_type or DictState


def deserialize_state_from_dict(
    serialized_state: Mapping[str, Any], serializer: BaseSerializer, state_type: type[BaseModel] | None = None
) -> BaseModel:
    """The state that `to_dict` gave; as a `state_type`, else as the class that the data names.

    Raises:
        ValueError: If it cannot be read, or does not fit the class.
    """
    if state_type is None:
        named = parse_in_memory_state(serialized_state)
        typed = isinstance(named.state_data, str) or "__is_pydantic" in (named.state_data or ())
        state_type = BaseModel if typed else DictState
    return state_from_rest(serialized_state, serializer, state_type)


def encode_state(
    state: BaseModel, serializer: BaseSerializer, known_unserializable_keys: Iterable[str] = KNOWN_UNSERIALIZABLE_KEYS
) -> tuple[Any, str, str]:
    """What a store writes of a state, the name of its class and the module of that.

    Raises:
        ValueError: If a value cannot be serialized; one of `known_unserializable_keys` is left out with a warning.
    """
    at_rest = state_at_rest(state, serializer, known_unserializable_keys)
    return at_rest["state_data"], at_rest["state_type"], at_rest["state_module"]


def decode_state(state_data: Any, serializer: BaseSerializer) -> BaseModel:
    """The state that `encode_state` gave `state_data` of: free-form, or of the class that the data names.

    Raises:
        ValueError: If it cannot be read.
    """
    return deserialize_state_from_dict({"state_data": state_data}, serializer)
