"""What happened in a run, in the form that `llama-index-utils-workflow` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.events import Event
from workflows.runtime.types.results import AddCollectedEvent, StepWorkerResult

__all__ = ["TickAddEvent", "TickStepResult", "WorkflowTick"]


@dataclass(frozen=True, slots=True)
class TickAddEvent:
    """An event came from outside the steps."""

    event: Event
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class TickStepResult:
    """An attempt of a step ended: what it ran for, and what it gave."""

    step_id: str
    worker_id: int
    event: Event
    result: Sequence[StepWorkerResult | AddCollectedEvent]


WorkflowTick = TickAddEvent | TickStepResult
