"""State that lives in a storage outside this process: read for every look at it, written for every change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar, cast, runtime_checkable

from pydantic import BaseModel, ConfigDict

from workflows.context.class_names import model_types
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.context.state_merge import create_cleared_state, merge_state
from workflows.context.state_paths import get_by_path, set_by_path
from workflows.context.state_serde import KNOWN_UNSERIALIZABLE_KEYS, state_at_rest, state_from_rest
from workflows.context.writer_turns import WriterTurns

__all__ = ["StateRecord", "StateStorage", "StoredState", "string_record_from_state"]

ModelT = TypeVar("ModelT", bound=BaseModel)


class StateRecord(BaseModel):
    """A state as a storage keeps it: a text, and the class that it was of."""

    model_config = ConfigDict(defer_build=True)  # for a quick `import workflows`

    data: Any
    state_type: str | None = None
    state_module: str | None = None


@runtime_checkable
class StateStorage(Protocol):
    """Where the state of one run is kept; a table, a file, a key."""

    @property
    def run_id(self) -> str:
        """The run whose state this is."""
        ...

    async def load(self) -> StateRecord | None:
        """What was saved last; None before that."""
        ...

    async def save(self, record: StateRecord) -> None:
        """Keep a record in place of the last one."""
        ...

    def session(self) -> AbstractAsyncContextManager[Self]:
        """A block in which `load` and `save` are one transaction; one that raises leaves the record as it was."""
        ...

    def to_handle(self) -> dict[str, Any]:
        """What finds this storage again from a snapshot: its `store_type`, the run id, no values."""
        ...

    def parse_own_handle(self, payload: dict[str, Any]) -> Any | None:
        """What `copy_from_handle` needs, if this is a handle of a storage of this kind; else None."""
        ...

    async def copy_from_handle(self, handle: Any) -> None:
        """Begin with what another storage of this kind has."""
        ...


class StoredState(Generic[ModelT]):
    """A `StateStore` over a storage. Writers of this object take turns, each in a session of the storage."""

    def __init__(self, storage: StateStorage, state_type: type[ModelT], serializer: BaseSerializer) -> None:
        self._storage = storage
        self._state_type = state_type
        own = isinstance(serializer, JsonSerializer)
        self._serializer = serializer.with_types(*model_types([state_type])) if own else serializer
        self._seeds: list[tuple[Any, BaseModel | None]] = []
        self._turns = WriterTurns()
        self._seeding = WriterTurns()
        self._editor: asyncio.Task[Any] | None = None

    @property
    def run_id(self) -> str:
        """The run whose state this is."""
        return self._storage.run_id

    @property
    def state_type(self) -> type[ModelT]:
        """The class of the state."""
        return self._state_type

    async def get(self, path: str, default: Any = ...) -> Any:
        """The value at a dot path; changing it in place changes nothing that is stored.

        Raises:
            ValueError: If there is nothing and no default was given.
        """
        return get_by_path(await self.get_state(), path, default)

    async def get_state(self) -> ModelT:
        """The whole state, as stored."""
        await self.ensure_seeded()
        return await self._load(self._storage)

    async def set(self, path: str, value: Any) -> None:
        """Put a value at a dot path; missing dictionaries on the way are made.

        Raises:
            ValueError: If the path is empty, too deep, or does not fit the state's fields.
            RuntimeError: If called inside an `edit_state` block of the same task; so do all writers.
        """
        async with self._changing() as (_, state):
            set_by_path(state, path, value)

    async def set_state(self, state: BaseModel) -> None:
        """Replace the state (same class or a subclass), or merge it in (a parent class).

        Raises:
            ValueError: If the class has nothing to do with the state's class.
        """
        async with self._turn(), self._storage.session() as storage:
            await self._save(storage, merge_state(await self._load(storage), state))

    async def clear(self) -> None:
        """Reset every field to its default.

        Raises:
            ValueError: If a field has none.
        """
        cleared = create_cleared_state(self._state_type)
        async with self._turn(), self._storage.session() as storage:
            await self._save(storage, cleared)

    @asynccontextmanager
    async def edit_state(self) -> AsyncGenerator[ModelT]:
        """Edit a copy that is stored when the block ends, and is thrown away if it raises."""
        async with self._changing() as (editing, state):
            self._editor = editing
            try:
                yield state
            finally:
                self._editor = None

    def to_dict(self, serializer: BaseSerializer) -> dict[str, Any]:
        """What finds the state again: the storage's handle, not the values."""
        return self._storage.to_handle()

    async def snapshot(self, serializer: BaseSerializer) -> dict[str, Any]:
        """The state itself at rest, as an `InMemoryStateStore` reads it."""
        return state_at_rest(await self.get_state(), serializer)

    async def serialize_for_handoff(self, serializer: BaseSerializer) -> dict[str, Any]:
        """What the next run goes on from; everything that it finds there is stored by then."""
        await self.ensure_seeded()
        return self._storage.to_handle()

    def add_seed(self, payload: Mapping[str, Any], serializer: BaseSerializer) -> None:
        """Begin with a state at rest, or with what a handle of a storage of this kind names.

        Raises:
            ValueError: If it is neither.
        """
        handle = self._storage.parse_own_handle(dict(payload))
        if handle is not None:
            self._seeds.append((handle, None))
            return
        store_type = payload.get("store_type", "in_memory")
        if store_type != "in_memory":
            raise ValueError(
                f"Cannot seed this state store from a durable handle with store_type {store_type!r}. Give it a state "
                f"at rest (its snapshot()), or a handle of its own kind."
            )
        self._seeds.append((None, state_from_rest(payload, serializer, self._state_type)))

    async def ensure_seeded(self) -> None:
        """Store what `add_seed` was given, once; every other method does it first."""
        if not self._seeds:
            return
        async with self._seeding:
            while self._seeds:
                handle, state = self._seeds[0]
                if state is None:
                    await self._storage.copy_from_handle(handle)
                else:
                    await self._save(self._storage, state)
                del self._seeds[0]

    @asynccontextmanager
    async def _changing(self) -> AsyncGenerator[tuple[asyncio.Task[Any] | None, ModelT]]:
        async with self._turn(), self._storage.session() as storage:
            state = await self._load(storage)
            yield asyncio.current_task(), state
            await self._save(storage, state)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if self._editor is not None and self._editor is asyncio.current_task():
            raise RuntimeError("writer called inside edit_state: mutate the yielded state instead")
        await self.ensure_seeded()
        async with self._turns:
            yield

    async def _load(self, storage: StateStorage) -> ModelT:
        record = await storage.load()
        if record is None:
            return create_cleared_state(self._state_type)
        return state_from_rest({"state_data": _data_of(record)}, self._serializer, self._state_type)

    async def _save(self, storage: StateStorage, state: BaseModel) -> None:
        await storage.save(string_record_from_state(state, self._serializer))


def string_record_from_state(
    state: BaseModel,
    serializer: BaseSerializer,
    known_unserializable_keys: tuple[str, ...] = KNOWN_UNSERIALIZABLE_KEYS,
) -> StateRecord:
    """The record of a state whose `data` is one text.

    Raises:
        ValueError: If a value cannot be serialized and its key is not among the known ones.
    """
    at_rest = state_at_rest(state, serializer, known_unserializable_keys)
    data = at_rest["state_data"]
    return StateRecord(
        data=data if isinstance(data, str) else json.dumps(data),
        state_type=at_rest["state_type"],
        state_module=at_rest["state_module"],
    )


def _data_of(record: StateRecord) -> Any:
    """Free-form state is a JSON object of texts; whatever else the text is, the serializer wrote it."""
    if not isinstance(record.data, str):
        return record.data
    try:
        found = json.loads(record.data)
    except ValueError:
        return record.data
    if isinstance(found, dict) and set(cast("dict[str, Any]", found)) == {"_data"}:
        return cast("dict[str, Any]", found)
    return record.data
