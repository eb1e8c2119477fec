"""What an idle run means: it waits for a person, for an event, or for something that can never come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from workflows._engine.asking import begin_run_waits
from workflows._engine.effects import Effect, EndIdle, EndRun, TellIdle
from workflows._engine.state import RunState
from workflows.errors import OpenFanIn, WorkflowDeadlockError
from workflows.events import WorkflowFailedEvent

__all__ = ["deadlock", "explanation", "looks_stuck", "note_idle"]


def note_idle(state: RunState, effects: list[Effect]) -> None:
    """Tell once when the run becomes idle, and open a wait for each question that it asked a person."""
    if state.busy:  # it was idle before this tick
        state.idle = False
        effects.append(EndIdle())
        return
    if state.questions.open:
        begin_run_waits(state, effects)
    if state.idle:
        return
    state.idle = True
    effects.append(TellIdle(check=looks_stuck(state)))


def deadlock(state: RunState) -> EndRun | None:
    """The end of a run that is still idle and that nothing can wake; None for any other."""
    if not state.idle or not looks_stuck(state):
        return None
    fan_ins = _open_fan_ins(state)
    error = WorkflowDeadlockError(explanation(state), fan_ins=fan_ins, run_id=state.run_id)
    stop = WorkflowFailedEvent(step_name="", exception=error)
    return EndRun("failed", stop, error)


def looks_stuck(state: RunState) -> bool:
    """Whether an idle run waits for nothing, and is not known to have a sender outside."""
    outside = state.open_to_outside or state.spec.takes_from_outside
    return not (state.waits or state.questions or outside)


def _open_fan_ins(state: RunState) -> list[OpenFanIn]:
    found: list[OpenFanIn] = []
    for (step, group), gathered in state.collected.items():
        has = Counter({c.__name__: len(kept) for c, kept in gathered.by_class.items() if kept})
        parameters = [c for classes in state.spec.steps[step].event_parameters.values() for c in classes]
        misses = Counter(c.__name__ for c in gathered.expected or parameters)
        misses.subtract(has)
        found.append(OpenFanIn(step, group, dict(has), {name: n for name, n in misses.items() if n > 0}))
    return found


def _times(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n}x {name}" for name, n in counts.items())


def explanation(state: RunState) -> str:
    """Why an idle run does not go on: what its joins miss, and which events nobody took."""
    who = f"Run {state.run_id} of {state.spec.name}"
    lines = [f"{who} can never end by itself: nothing runs, nothing is queued, no wait is open."]
    for join in _open_fan_ins(state):
        has, misses = _times(join.has), _times(join.misses)
        lines.append(f"Step '{join.step}' still needs {misses} (buffer {join.group!r}); it has {has}.")
    for name, count in Counter(type(e.event).__name__ for e in state.kept).items():
        lines.append(f"Nobody took {count}x {name}: no step accepts that class.")
    lines.append(
        "Let the last step return an event that leads to a StopEvent. If an event is to come from outside, make it a "
        "HumanResponseEvent, or wait for it with ctx.wait_for_event."
    )
    return "\n".join(lines)
