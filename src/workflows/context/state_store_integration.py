"""What a storage of state outside the process needs to join in: its protocol, its records, and hand-overs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import (
    StateRecord,
    StateStorage,
    StateStore,
    StateStoreFacade,
    deserialize_state_from_dict,
)
from workflows.context.stored_state import string_record_from_state

__all__ = [
    "StateRecord",
    "StateStorage",
    "StateStoreFacade",
    "decode_seed_state",
    "restored_run_id",
    "state_store_handoff",
    "string_record_from_state",
]


def decode_seed_state(serialized_state: Mapping[str, Any], serializer: BaseSerializer) -> BaseModel:
    """The state at rest that a run begins with, as the class that it names.

    Raises:
        ValueError: If it cannot be read, or names a class that may not be rebuilt.
    """
    return deserialize_state_from_dict(serialized_state, serializer)


def restored_run_id(run_id: str | None, payload: Mapping[str, Any]) -> str:
    """The given run id, else the one that a handle names, else a new one."""
    return run_id or payload.get("run_id") or str(uuid.uuid4())


async def state_store_handoff(store: StateStore[Any], serializer: BaseSerializer) -> dict[str, Any]:
    """What the next run goes on from: a handle where the state is stored, else the state at rest."""
    if isinstance(store, StateStoreFacade):
        return await store.serialize_for_handoff(serializer)
    return store.to_dict(serializer)
