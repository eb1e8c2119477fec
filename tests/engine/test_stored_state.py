"""A state store over a storage outside the process, here a directory of JSON files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from workflows.context import JsonSerializer
from workflows.context.state_store import (
    DictState,
    InMemoryStateStore,
    StateRecord,
    StateStorage,
    StateStoreFacade,
)
from workflows.context.state_store_integration import (
    decode_seed_state,
    restored_run_id,
    state_store_handoff,
    string_record_from_state,
)

SERIALIZER = JsonSerializer()


class Trip(BaseModel):
    city: str = "Ulm"
    days: int = 1


class Strict(BaseModel):
    city: str


class Files:
    """One file a run; a session writes when it ends."""

    def __init__(self, directory: Path, run_id: str) -> None:
        self.run_id = run_id
        self._directory = directory
        self._path = directory / f"{run_id}.json"
        self.saves = 0

    async def load(self) -> StateRecord | None:
        await asyncio.sleep(0)  # as slow as a disk: others get a turn
        return StateRecord.model_validate_json(self._path.read_text()) if self._path.exists() else None

    async def save(self, record: StateRecord) -> None:
        await asyncio.sleep(0)
        self.saves += 1
        self._path.write_text(record.model_dump_json())

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Files]:
        yield self

    def to_handle(self) -> dict[str, Any]:
        return {"store_type": "files", "run_id": self.run_id}

    def parse_own_handle(self, payload: dict[str, Any]) -> Any | None:
        return payload["run_id"] if payload.get("store_type") == "files" else None

    async def copy_from_handle(self, handle: Any) -> None:
        record = await Files(self._directory, handle).load()
        if record is not None:
            await self.save(record)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path, "r1")


async def test_what_is_set_is_there_for_the_next_process(files: Files, tmp_path: Path) -> None:
    await StateStoreFacade(files).set("user.name", "Ada")
    assert await StateStoreFacade(Files(tmp_path, "r1")).get("user.name") == "Ada"


async def test_a_typed_state_keeps_its_class(files: Files) -> None:
    store = StateStoreFacade(files, Trip)
    await store.set("days", 4)
    assert (await store.get_state(), store.state_type) == (Trip(days=4), Trip)


async def test_nothing_is_stored_before_the_first_change(files: Files) -> None:
    assert await StateStoreFacade(files, Trip).get("city") == "Ulm"
    assert files.saves == 0


async def test_an_edit_is_stored_when_its_block_ends(files: Files) -> None:
    store = StateStoreFacade(files, Trip)
    async with store.edit_state() as trip:
        trip.days = 5
        assert await store.get("days") == 1
    assert await store.get("days") == 5


async def test_an_edit_that_fails_is_thrown_away(files: Files) -> None:
    store = StateStoreFacade(files, Trip)

    async def fail() -> None:
        async with store.edit_state() as trip:
            trip.days = 5
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert (await store.get("days"), files.saves) == (1, 0)


async def test_a_writer_inside_an_edit_is_refused(files: Files) -> None:
    store = StateStoreFacade(files)
    async with store.edit_state():
        with pytest.raises(RuntimeError, match="mutate the yielded state instead"):
            await store.set("a", 1)


async def test_edits_of_many_tasks_take_turns(files: Files) -> None:
    store = StateStoreFacade(files)

    async def add_one() -> None:
        async with store.edit_state() as state:
            state.count = state.get("count", 0) + 1
            await asyncio.sleep(0)

    await asyncio.gather(*[add_one() for _ in range(16)])
    assert await store.get("count") == 16


async def test_a_parent_state_is_merged_in(files: Files) -> None:
    class LongTrip(Trip):
        hotel: str = "none"

    store = StateStoreFacade(files, LongTrip)
    await store.set("hotel", "Lamm")
    await store.set_state(Trip(days=9))
    assert (await store.get_state()).model_dump() == {"city": "Ulm", "days": 9, "hotel": "Lamm"}


async def test_clear_goes_back_to_the_defaults(files: Files) -> None:
    store = StateStoreFacade(files, Trip)
    await store.set("days", 9)
    await store.clear()
    assert await store.get_state() == Trip()


async def test_a_state_without_defaults_cannot_be_cleared(files: Files) -> None:
    with pytest.raises(ValueError, match="must have defaults for all fields"):
        await StateStoreFacade(files, Strict).clear()


async def test_a_path_that_is_not_there_needs_a_default(files: Files) -> None:
    store = StateStoreFacade(files)
    assert await store.get("no.where", default=3) == 3
    with pytest.raises(ValueError, match="not found in state"):
        await store.get("no.where")


async def test_a_seed_is_stored_once(files: Files) -> None:
    store = StateStoreFacade(files, Trip)
    store.add_seed(InMemoryStateStore(Trip(days=7)).to_dict(SERIALIZER), SERIALIZER)
    assert await asyncio.gather(store.get("days"), store.get("days")) == [7, 7]
    assert files.saves == 1


async def test_a_seed_may_be_another_runs_handle(files: Files, tmp_path: Path) -> None:
    await StateStoreFacade(files).set("a", 1)
    later = StateStoreFacade(Files(tmp_path, "r2"))
    later.add_seed(await state_store_handoff(StateStoreFacade(files), SERIALIZER), SERIALIZER)
    assert await later.get("a") == 1


async def test_a_handle_of_another_kind_is_refused(files: Files) -> None:
    with pytest.raises(ValueError, match="durable handle with store_type 'sqlite'"):
        StateStoreFacade(files).add_seed({"store_type": "sqlite"}, SERIALIZER)


async def test_a_snapshot_holds_the_values_and_a_handle_does_not(files: Files) -> None:
    store = StateStoreFacade(files, Trip)
    await store.set("days", 3)
    assert store.to_dict(SERIALIZER) == {"store_type": "files", "run_id": "r1"}
    assert InMemoryStateStore.from_dict(await store.snapshot(SERIALIZER), SERIALIZER, Trip)._state == Trip(days=3)


async def test_state_in_memory_is_handed_over_whole() -> None:
    handed = await state_store_handoff(InMemoryStateStore(Trip(days=3)), SERIALIZER)
    assert decode_seed_state(handed, SERIALIZER) == Trip(days=3)


@pytest.mark.parametrize(("given", "payload", "found"), [("a", {"run_id": "b"}, "a"), (None, {"run_id": "b"}, "b")])
def test_a_restored_run_keeps_its_id(given: str | None, payload: dict[str, Any], found: str) -> None:
    assert restored_run_id(given, payload) == found


def test_a_restored_run_without_an_id_gets_a_new_one() -> None:
    assert restored_run_id(None, {}) != restored_run_id(None, {})


def test_a_record_is_one_text_and_the_name_of_a_class() -> None:
    record = string_record_from_state(DictState(a=1), SERIALIZER)
    assert (record.data, record.state_type) == ('{"_data": {"a": "1"}}', "DictState")


def test_a_storage_is_known_by_what_it_does(files: Files) -> None:
    assert isinstance(files, StateStorage)
