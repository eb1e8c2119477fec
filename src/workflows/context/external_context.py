"""A run as seen from outside its steps, in the form that `llama-index-utils-workflow` draws."""

from __future__ import annotations

from workflows.events import Event
from workflows.instrumentation.history import EventRef, HistoryEntry, RunHistory
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

__all__ = ["ExternalContext"]


class ExternalContext:
    """What a run remembers of itself, told as ticks; its events are stand-ins of the right class, without values."""

    def __init__(self, history: RunHistory) -> None:
        self._history = history

    @property
    def _tick_log(self) -> list[WorkflowTick]:
        events: dict[str, Event] = {}
        ticks: list[WorkflowTick] = []
        for entry in sorted(self._history.entries, key=lambda e: e.started_ns):
            new = [r for r in (*entry.causes, *entry.answers) if r[0].startswith("x") and r[0] not in events]
            ticks += [TickAddEvent(_stand_in(ref, events)) for ref in new]
            ticks.append(_result(entry, events))
        return ticks


def _result(entry: HistoryEntry, events: dict[str, Event]) -> TickStepResult:
    causes = [_stand_in(ref, events) for ref in entry.causes]
    emitted = [StepWorkerResult(_stand_in(ref, events)) for ref in entry.emitted]
    return TickStepResult(entry.step, 0, causes[0] if causes else Event(), emitted)


def _stand_in(ref: EventRef, events: dict[str, Event]) -> Event:
    event_id, event_class = ref
    if event_id not in events:
        events[event_id] = event_class.model_construct()
    return events[event_id]
