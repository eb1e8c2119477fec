"""What an idle run means: it waits for a person, for an event, or for something that can never come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from workflows._engine.asking import begin_run_waits
from workflows._engine.effects import Effect, EndIdle, EndRun, TellIdle
from workflows._engine.state import Gathered, RunState
from workflows._spec import StepSpec
from workflows.errors import OpenFanIn, WorkflowDeadlockError
from workflows.events import Event, WorkflowFailedEvent

__all__ = ["deadlock", "explanation", "looks_stuck", "note_idle", "waits_for_somebody"]


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
    outside = state.open_to_outside or state.spec.from_outside
    return not (state.waits or state.questions or outside)


def waits_for_somebody(state: RunState) -> bool:
    """Whether an idle run is taken to wait for somebody: so is each but one that looks stuck, and misses something.

    What an event from outside leads to, or whether one will come, nobody can tell: a second answer to one question may
    be what a join of inner events misses, and whoever holds the handler may send any event that a step takes. To end a
    run that waits would be worse than to wait for nobody. So this is false only where no event has come from outside
    and no class is known to, and a join misses events or nobody took one that was sent.
    """
    return not (looks_stuck(state) and (state.collected or state.kept))


def _open_fan_ins(state: RunState) -> list[OpenFanIn]:
    found: list[OpenFanIn] = []
    for (step, group), gathered in state.collected.items():
        has = {c.__name__: len(kept) for c, kept in gathered.by_class.items() if kept}
        misses = {c.__name__: n for c, n in _missed(state.spec.steps[step], gathered).items()}
        found.append(OpenFanIn(step, group, has, misses))
    return found


def _missed(step: StepSpec, gathered: Gathered) -> Mapping[type[Event], int]:
    misses = Counter(gathered.expected or [c for classes in step.event_parameters.values() for c in classes])
    misses.subtract({c: len(kept) for c, kept in gathered.by_class.items()})
    return +misses


def _open_lists(state: RunState) -> Iterator[str]:
    """Joins whose list is not over: work of it may be lost, since a resumed workflow lacks the step that did it."""
    for fan_out in state.fan_outs.values():
        for join in state.spec.joins_of.get(fan_out.step, ()):
            if join.name not in fan_out.fired:
                has = Counter(type(e.event).__name__ for e in fan_out.members.get(join.name, ()))
                yield (
                    f"Step '{join.name}' waits for the end of the list that '{fan_out.step}' returned (branches left: "
                    f"{fan_out.alive}); it has {_times(has) or 'nothing'}."
                )


def _times(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n}x {name}" for name, n in counts.items())


def explanation(state: RunState) -> str:
    """Why an idle run does not go on: what its joins miss, and which events nobody took."""
    stuck = looks_stuck(state)
    fate = "can never end by itself" if stuck else "is idle until somebody sends an event"
    lines = [f"Run {state.run_id} of {state.spec.name} {fate}: nothing runs, nothing is queued, no wait is open."]
    for join in _open_fan_ins(state):
        has, misses = _times(join.has), _times(join.misses)
        lines.append(f"Step '{join.step}' still needs {misses} (buffer {join.group!r}); it has {has}.")
    lines += _open_lists(state)
    for event_class, count in Counter(type(e.event) for e in state.kept).items():
        joins = ", ".join(f"'{step.name}'" for step in state.spec.route(event_class).takers)
        why = f"step {joins} takes it only of a list that a step returned" if joins else "no step accepts that class"
        lines.append(f"Nobody took {count}x {event_class.__name__}: {why}.")
    if stuck:
        lines.append(
            "Let the last step return an event that leads to a StopEvent. If an event is to come from outside, make it "
            "a HumanResponseEvent, or wait for it with ctx.wait_for_event."
        )
    return "\n".join(lines)
