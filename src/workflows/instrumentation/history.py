"""What a run remembers of itself: which attempt took and gave which events, and when. Bounded, without payloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workflows.events import Event
from workflows.instrumentation.records import (
    Envelope,
    Record,
    RunEnded,
    RunOutcome,
    RunStarted,
    StepEnded,
    StepOutcome,
    StepStarted,
    WaitResolved,
)

__all__ = [
    "HISTORY_KEPT",
    "REFS_KEPT",
    "ChainedFacts",
    "EventRef",
    "HistoryEntry",
    "RunHistory",
    "history_from_records",
]

HISTORY_KEPT = 250
AT_ONCE = 50  # the oldest entries are let go of in pieces, which costs less than one by one
REFS_KEPT = 100

EventRef = tuple[str, type[Event]]
"""An event without its payload: its id (`x<n>` from outside, `<exec_id>.<n>` from a step) and its class."""


class HistoryEntry(NamedTuple):
    """One attempt that is over.

    Attributes:
        causes: The events it ran for; the first `REFS_KEPT` of them, as of `emitted`.
        emitted: What it sent and returned, in order.
        answers: The events that ended its waits, in order.
        outcome: As in the record `StepEnded`.
    """

    exec_id: str
    step: str
    attempt: int
    causes: Sequence[EventRef]
    emitted: Sequence[EventRef]
    started_ns: int
    ended_ns: int
    outcome: StepOutcome
    answers: Sequence[EventRef] = ()


ChainedFacts = tuple[str, str, int, str, type[Event], str, type[Event], int, int, StepOutcome]
"""An attempt with one cause that gave one event, all in one flat tuple: such is nearly every attempt, and each object
less that is kept for it is felt in the speed of the engine."""


class RunHistory:
    """The last attempts of one run, in the order in which they ended; holds neither the run nor its events.

    Attributes:
        ended: How many there were in all.
        outcome: How the run ended; None while it goes on.
    """

    __slots__ = ("_facts", "_kept", "ended", "outcome", "run_id", "workflow")

    def __init__(self, run_id: str, workflow: str, *, kept: int = HISTORY_KEPT) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self._kept = kept
        self._facts: list[HistoryEntry | ChainedFacts] = []
        self.ended = 0
        self.outcome: RunOutcome | None = None

    def note(self, facts: HistoryEntry | ChainedFacts) -> None:
        """Keep an attempt; the oldest goes once there are too many."""
        self.ended += 1
        self._facts.append(facts)
        if len(self._facts) > self._kept + AT_ONCE:
            del self._facts[:AT_ONCE]

    @property
    def entries(self) -> list[HistoryEntry]:
        """The last `HISTORY_KEPT` attempts."""
        return [facts if isinstance(facts, HistoryEntry) else _unfolded(facts) for facts in self._facts[-self._kept :]]

    def last_events(self, most: int = 10) -> tuple[str, ...]:
        """The last events that attempts gave, oldest first, as `step -> Class`."""
        given = [f"{e.step} -> {event_class.__name__}" for e in self.entries for _, event_class in e.emitted]
        return tuple(given[-most:])

    @property
    def lost(self) -> int:
        """How many attempts are no longer kept."""
        return max(0, self.ended - self._kept)


def _unfolded(facts: ChainedFacts) -> HistoryEntry:
    exec_id, step, attempt, cause, cause_class, emitted, emitted_class, started_ns, ended_ns, outcome = facts
    causes, gave = ((cause, cause_class),), ((emitted, emitted_class),)
    return HistoryEntry(exec_id, step, attempt, causes, gave, started_ns, ended_ns, outcome)


def history_from_records(records: Iterable[Record], run_id: str | None = None) -> RunHistory | None:
    """The history of a recorded run (the last that started, if no id is given); None if there is none."""
    records = list(records)
    started = [r for r in records if isinstance(r, RunStarted) and run_id in (None, r.run_id)]
    if not started:
        return None
    history = RunHistory(started[-1].run_id, started[-1].workflow)
    running: dict[tuple[str, int], HistoryEntry] = {}
    for record in records:
        if record.run_id == history.run_id:
            _follow(history, running, record)
    return history


def _follow(history: RunHistory, running: dict[tuple[str, int], HistoryEntry], record: Record) -> None:
    match record:
        case StepStarted():
            running[record.exec_id, record.attempt] = HistoryEntry(
                record.exec_id, record.step, record.attempt, _refs(record.causes), (), record.at_ns, 0, "completed"
            )
        case WaitResolved() if record.exec_id is not None:
            for key, entry in running.items():
                if key[0] == record.exec_id:
                    running[key] = entry._replace(answers=(*entry.answers, *_refs((record.answer,))))
        case StepEnded():
            entry = running.pop((record.exec_id, record.attempt), None)
            if entry is not None:
                emitted = _refs(record.emitted)
                history.note(entry._replace(emitted=emitted, ended_ns=record.at_ns, outcome=record.outcome))
        case RunEnded():
            history.outcome = record.outcome
        case _:
            pass


def _refs(envelopes: Iterable[Envelope]) -> tuple[EventRef, ...]:
    return tuple([(e.event_id, type(e.event)) for e in envelopes][:REFS_KEPT])
