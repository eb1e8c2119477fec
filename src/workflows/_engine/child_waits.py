"""A run whose steps only await child runs that wait for somebody waits for that somebody, too."""

from __future__ import annotations

from collections.abc import Iterator

from workflows._engine.live import LiveRun

__all__ = ["heed_children", "waits_below"]


def heed_children(run: LiveRun) -> None:
    """Stop the clock of each run from this one upwards that only waits, where such time does not count."""
    above: LiveRun | None = run
    while above is not None:
        if not above.plan.idle_counts and above.state.ended is None and not above.state.idle:
            if _only_children_wait(above):
                above.timers.pause("run")
            else:
                above.timers.resume("run")
        above = above.parent.run if above.parent is not None else None


def waits_below(run: LiveRun) -> Iterator[str]:
    """The open waits of child runs, as a text each."""
    for child in run.children or ():
        yield from (f"{w.call.step.name} of {child.spec.name} for {w.event_type.__name__}" for w in child.state.waits)
        if child.state.run_wait is not None:
            yield f"{child.spec.name} for an answer"
        yield from waits_below(child)


def _only_children_wait(run: LiveRun) -> bool:
    """Whether every call that runs has started runs, all of which only wait."""
    children = run.children or {}
    if len({parent.exec_id for parent in children.values()}) != run.state.busy:
        return False
    return bool(children) and all(child.state.idle or _only_children_wait(child) for child in children)
