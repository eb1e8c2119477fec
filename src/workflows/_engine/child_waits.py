"""A run whose steps only await runs that wait for somebody waits for that somebody, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from workflows._engine.awaited_runs import AwaitedRun
from workflows._engine.idle import waits_for_somebody
from workflows._engine.live import LiveRun

__all__ = ["heed_waits", "waits_below"]


def heed_waits(run: LiveRun) -> None:
    """Stop the clock of a run while it only waits, where such time does not count, and tell the steps that await it."""
    state = run.state
    idle_waits = state.idle and waits_for_somebody(state)
    only_waits = state.ended is None and (idle_waits or 0 < run.resting == state.busy)
    if only_waits is run.only_waits:
        return
    run.only_waits = run.stream.only_waits = only_waits
    if only_waits and not run.plan.idle_counts:
        run.timers.pause("run")
    elif state.ended is None:
        run.timers.resume("run")
    for future in (*run.waiters, *run.stream.waiters):
        if isinstance(future, AwaitedRun):
            future.tell(only_waits)


def waits_below(children: Iterable[LiveRun]) -> tuple[str, ...]:
    """What these runs, and the runs that their steps started, wait for: a text for each kind of wait."""
    return tuple(f"{text} ({n} times)" if n > 1 else text for text, n in Counter(_waits_below(children)).items())


def _waits_below(children: Iterable[LiveRun]) -> Iterator[str]:
    for child in children:
        yield from (f"{w.call.step.name} of {child.spec.name} for {w.event_type.__name__}" for w in child.state.waits)
        if asked := sum(wait.told for wait in child.state.questions):
            yield f"{child.spec.name} for {'an answer' if asked == 1 else f'{asked} answers'}"
        yield from _waits_below(child.children or ())
