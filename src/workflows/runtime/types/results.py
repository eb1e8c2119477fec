"""What an attempt of a step came to, in the form that `llama-index-utils-workflow` draws."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.events import Event

__all__ = ["AddCollectedEvent", "StepWorkerResult", "WaitingForEvent"]


@dataclass(frozen=True, slots=True)
class StepWorkerResult:
    """The step gave this event, or none."""

    result: Event | None = None
    fanned_out: bool = False


@dataclass(frozen=True, slots=True)
class AddCollectedEvent:
    """The step kept this event for a later join."""

    event_id: str
    event: Event


class WaitingForEvent(Exception):
    """Kept because other packages let it pass through their `except`; never raised: a step that waits really waits."""
