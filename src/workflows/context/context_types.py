"""What `Context.to_dict()` gave in formats 0, 1 and 2: those of llama-index-workflows, which are read, not written.

Texts (`str` where an event is meant) are what a serializer wrote. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator

from workflows.events import SerializableOptionalException

__all__ = [
    "CURRENT_SERIALIZED_VERSION",
    "SerializedCollectionReleasePayload",
    "SerializedCollectionReleaseState",
    "SerializedCollectionStreamInstance",
    "SerializedContext",
    "SerializedContextV0",
    "SerializedDelivery",
    "SerializedEventAttempt",
    "SerializedInProgressAttempt",
    "SerializedStepWorkerState",
    "SerializedWaiter",
]

CURRENT_SERIALIZED_VERSION = 2
"""The newest format of llama-index-workflows that is read; what Spanflow writes says "spanflow-1" instead."""


class SerializedCollectionReleasePayload(BaseModel):
    """The events that a list fan-in gave to the step that gathers them."""

    binding_id: str
    stream_id: str
    events: list[str]
    output_scope_path: list[str] = []


class SerializedCollectionReleaseState(BaseModel):
    """What a list fan-in has so far; `binding_id` reads `producer->gatherer:...`."""

    binding_id: str
    stream_id: str
    buffer: list[str] = []
    released: bool = False

    @property
    def step(self) -> str:
        """Name of the step that gathers."""
        return self.binding_id.partition("->")[2].partition(":")[0]


class SerializedCollectionStreamInstance(BaseModel):
    """An open fan-out: the branches of one returned list."""

    stream_id: str
    source_step: str
    scope_path: list[str] = []
    open_work_items: int = 0
    accepting_binding_ids: list[str] = []


class SerializedDelivery(BaseModel):
    """An event that was sent or returned, and not given to any step yet."""

    invocation_id: str
    index: int
    event: str
    step_id: str | None = None
    recovery_counts: dict[str, int] = {}
    scope_path: list[str] = []


class SerializedEventAttempt(BaseModel):
    """An event that queues for a step; `attempts` counts those that failed."""

    event: str
    bound_events: dict[str, str] | None = None
    attempts: int = 0
    first_attempt_at: float | None = None
    last_exception: SerializableOptionalException = None
    last_failed_at: float | None = None
    recovery_counts: dict[str, int] = {}
    not_before: float | None = None
    scope_path: list[str] = []
    collection_release_payload: SerializedCollectionReleasePayload | None = None
    work_item_id: str | None = None


class SerializedInProgressAttempt(SerializedEventAttempt):
    """An event that a step was running for; what it had sent by then is in `received`, by number."""

    worker_id: int | None = None
    invocation_id: str | None = None
    received: list[int] = []
    collected_events: dict[str, list[str]] = {}
    collect_generations: dict[str, int] = {}


class SerializedWaiter(BaseModel):
    """A wait of a step: its own event, what it waits for, and the answer if there is one."""

    waiter_id: str
    event: str
    bound_events: dict[str, str] | None = None
    waiting_for_event: str
    has_requirements: bool = False
    resolved_event: str | None = None
    scope_path: list[str] = []
    collection_release_payload: SerializedCollectionReleasePayload | None = None
    work_item_id: str | None = None


class SerializedStepWorkerState(BaseModel):
    """The work of one step."""

    queue: list[SerializedEventAttempt] = []
    in_progress: list[SerializedInProgressAttempt] = []
    collected_events: dict[str, list[str]] = {}
    collect_generations: dict[str, int] = {}
    static_collect_events: list[str] = []
    collected_waiters: list[SerializedWaiter] = []

    @field_validator("queue", "in_progress", mode="before")
    @classmethod
    def _from_texts(cls, attempts: Any) -> Any:
        """Format 1 has the bare event where nothing else is to be said."""
        return [{"event": a} if isinstance(a, str) else a for a in attempts]


class SerializedContextV0(BaseModel):
    """Format 0, of versions 1.x: it has no `version`. Queues and buffers name every event, taken or not."""

    state: dict[str, Any] = {}
    streaming_queue: str = "[]"
    queues: dict[str, str] = {}
    event_buffers: dict[str, dict[str, list[str]]] = {}
    in_progress: dict[str, list[str]] = {}
    accepted_events: list[tuple[str, str]] = []
    broker_log: list[str] = []
    is_running: bool = False
    waiting_ids: list[str] = []

    def streamed(self) -> list[str]:
        """Texts of the events that were streamed and not read."""
        return json.loads(self.streaming_queue)


class SerializedContext(BaseModel):
    """Formats 1 and 2."""

    version: int = CURRENT_SERIALIZED_VERSION
    state: dict[str, Any] = Field(default_factory=dict[str, Any])
    is_running: bool = False
    workers: dict[str, SerializedStepWorkerState] = {}
    stream_seq: int = 0
    work_item_seq: int = 0
    invocation_seq: int = 0
    deliveries: list[SerializedDelivery] = []
    streams: dict[str, SerializedCollectionStreamInstance] = {}
    collection_release_states: dict[str, SerializedCollectionReleaseState] = {}
    elapsed_alive: float = 0.0
    last_alive_stamp: float | None = None
    journal_seq: int = 0

    @classmethod
    def from_dict_auto(cls, data: Mapping[str, Any]) -> SerializedContext:
        """The snapshot in any of the formats 0, 1 and 2.

        Raises:
            ValueError: If it is in none of them.
        """
        if "version" not in data:
            return cls.from_v0(SerializedContextV0.model_validate(dict(data)))
        if data["version"] not in (1, CURRENT_SERIALIZED_VERSION):
            raise ValueError(
                f"A snapshot of version {data['version']!r} is not read; the newest is {CURRENT_SERIALIZED_VERSION}."
            )
        return cls.model_validate({**data, "version": CURRENT_SERIALIZED_VERSION})

    @classmethod
    def from_v0(cls, saved: SerializedContextV0) -> SerializedContext:
        """A snapshot of format 0; a collect buffer of no step's name is given to every step."""
        steps = {name for name in (*saved.queues, *saved.in_progress) if not name.startswith(("waiter_", "_done"))}
        workers = {
            name: SerializedStepWorkerState(
                queue=[SerializedEventAttempt(event=text) for text in json.loads(saved.queues.get(name, "[]"))],
                in_progress=[SerializedInProgressAttempt(event=text) for text in saved.in_progress.get(name, [])],
                collected_events={
                    "default" if buffer == name else buffer: [text for texts in found.values() for text in texts]
                    for buffer, found in saved.event_buffers.items()
                    if buffer == name or buffer not in steps
                },
            )
            for name in sorted(steps)
        }
        return cls(state=saved.state, is_running=saved.is_running, workers=workers)
