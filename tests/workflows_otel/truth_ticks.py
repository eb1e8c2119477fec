"""What really happened, by the ticks alone: a runtime that keeps them, and a fold that asks nothing but the reducer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from workflows._engine.effects import (
    Effect,
    EndRun,
    EndRunWait,
    EndWait,
    PublishEvent,
    ReleaseFanIn,
    StartCall,
    TellSent,
)
from workflows._engine.live import RunPlan
from workflows._engine.loop import Run
from workflows._engine.reduce import reduce
from workflows._engine.state import RunState
from workflows._engine.ticks import AttemptCompleted, AttemptFailed, EventArrived, Tick
from workflows._spec import WorkflowSpec
from workflows.events import InputRequiredEvent
from workflows.instrumentation import current_attempt
from workflows.instrumentation.records import Envelope
from workflows.plugins import BasicRuntime

__all__ = ["CallTruth", "RunTruth", "TickLog", "WaitTruth", "as_data", "streams_of"]

WHEN_RUN_ENDED = {"cancelled": "cancelled", "timed_out": "timed_out", "interrupted": "interrupted"}


@dataclass
class CallTruth:
    """A call: the ids of the events it ran for, how its attempts ended, and what it emitted, as `Type:id`."""

    step: str
    causes: frozenset[str] = frozenset()
    attempts: list[str] = field(default_factory=list[str])
    outcome: str = ""
    emitted: list[str] = field(default_factory=list[str])
    streamed: int = 0


@dataclass
class WaitTruth:
    """A wait: who waited (None: the idle run), for what, how it ended, by which event, and after how many seconds."""

    exec_id: str | None
    outcome: str
    answer: str | None
    seconds: float


@dataclass
class RunTruth:
    """A run: its parent `(run_id, exec_id)`, its end, its calls by exec_id, its waits by id, and its own stream."""

    workflow: str
    parent: tuple[str, str] | None
    outcome: str = ""
    calls: dict[str, CallTruth] = field(default_factory=dict[str, CallTruth])
    waits: dict[str, list[WaitTruth]] = field(default_factory=dict[str, "list[WaitTruth]"])
    unhandled: int = 0
    streamed: int = 0


class TickLog(BasicRuntime):
    """A runtime that keeps the ticks of all its runs."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks: dict[str, list[Tick]] = {}
        self._specs: dict[str, WorkflowSpec] = {}
        self._parents: dict[str, tuple[str, str] | None] = {}

    def start(self, plan: RunPlan) -> Run:
        """Start a run whose journal is a list."""
        ticks = self._ticks[plan.run_id] = []
        self._specs[plan.run_id] = plan.spec
        scope = current_attempt.get()
        self._parents[plan.run_id] = (scope.run_id, scope.exec_id) if scope is not None else None
        return super().start(replace(plan, journal=ticks.append))

    def truth(self) -> dict[str, RunTruth]:
        """Every run, by its id."""
        return {
            run_id: _Fold(self._specs[run_id], run_id, self._parents[run_id]).of(ticks)
            for run_id, ticks in self._ticks.items()
        }

    @property
    def ticks(self) -> int:
        """How many ticks there were."""
        return sum(map(len, self._ticks.values()))


class _Fold:
    """Folds the ticks of one run."""

    def __init__(self, spec: WorkflowSpec, run_id: str, parent: tuple[str, str] | None) -> None:
        self._state = RunState(spec, run_id)
        self._state.watched = True
        self._run = RunTruth(spec.name, parent)
        self._running: set[str] = set()

    def of(self, ticks: list[Tick]) -> RunTruth:
        """The run that these ticks make."""
        for tick in ticks:
            self._note(tick)
            for effect in reduce(self._state, tick):
                self._follow(effect, tick.at_ns)
        return self._run

    def _note(self, tick: Tick) -> None:
        match tick:
            case EventArrived():
                if tick.envelope.sender is not None:
                    self._run.calls[tick.envelope.sender].emitted.append(_ref(tick.envelope))
            case AttemptCompleted():
                self._ended(tick.exec_id, "completed", tick.returned)
            case AttemptFailed():
                outcome = "retrying" if tick.retry_delay is not None else "timed_out" if tick.timed_out else "failed"
                self._ended(tick.exec_id, outcome, tick.returned)
            case _:
                pass

    def _ended(self, exec_id: str, outcome: str, returned: tuple[Envelope, ...]) -> None:
        call = self._run.calls[exec_id]
        call.attempts[-1] = call.outcome = outcome
        call.emitted += map(_ref, returned)
        self._running.discard(exec_id)

    def _follow(self, effect: Effect, at_ns: int) -> None:
        calls = self._run.calls
        match effect:
            case StartCall():
                causes = frozenset(e.event_id for e in effect.call.inputs)
                call = calls.setdefault(effect.call.exec_id, CallTruth(effect.call.step.name, causes))
                call.attempts.append("")
                self._running.add(effect.call.exec_id)
            case ReleaseFanIn() if (call := calls.get(effect.call.exec_id)) is not None:
                call.causes |= {member.event_id for member in effect.members}
            case TellSent():
                asks = isinstance(effect.envelope.event, InputRequiredEvent)
                self._run.unhandled += not (effect.takers or effect.answered or asks)
            case PublishEvent():  # by the run, when the call that returned it is over
                calls[effect.envelope.sender or ""].streamed -= 1
                self._run.streamed += 1
            case EndWait():
                wait = effect.wait
                outcome = "resolved" if wait.answer else "timed_out" if wait.timed_out else "cancelled"
                seconds = (at_ns - wait.started_at_ns) / 1e9
                self._add_wait(wait.wait_id, wait.call.exec_id, outcome, wait.answer, seconds)
            case EndRunWait():
                wait, seconds = effect.wait, (at_ns - effect.wait.started_at_ns) / 1e9
                self._add_wait(wait.wait_id, None, "resolved" if wait.answer else "cancelled", wait.answer, seconds)
            case EndRun():
                self._end(effect)
            case _:
                pass

    def _add_wait(self, wait_id: str, exec_id: str | None, outcome: str, answer: Envelope | None, sec: float) -> None:
        told = WaitTruth(exec_id, outcome, answer.event_id if answer else None, sec)
        self._run.waits.setdefault(wait_id, []).append(told)

    def _end(self, end: EndRun) -> None:
        """What ran when the run ended was stopped; what was to be tried again is not."""
        self._run.outcome = end.outcome
        stopped = WHEN_RUN_ENDED.get(end.outcome, "abandoned")
        for exec_id, call in self._run.calls.items():
            if exec_id in self._running:
                call.attempts[-1] = call.outcome = stopped
            elif call.outcome == "retrying":
                call.outcome = stopped


def streams_of(truth: dict[str, RunTruth], streamed: dict[str, Counter[str]]) -> None:
    """Add what readers saw of the runs' streams, most of which is no tick."""
    for run_id, by_call in streamed.items():
        for exec_id, count in by_call.items():
            truth[run_id].calls[exec_id].streamed += count


def as_data(runs: dict[str, RunTruth]) -> dict[str, Any]:
    """Runs as plain data, as JSON has it."""
    return json.loads(json.dumps({run_id: asdict(run) for run_id, run in runs.items()}, default=sorted))


def _ref(envelope: Envelope) -> str:
    return f"{type(envelope.event).__name__}:{envelope.event_id}"
