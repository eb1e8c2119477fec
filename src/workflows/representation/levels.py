"""On which streams the events of a workflow travel: at the top, or within lists that steps return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workflows._spec import StepSpec, takes
from workflows.events import Event, HumanResponseEvent, StartEvent

__all__ = ["joins_that_never_meet", "levels_of", "never_in_a_list"]

Level = tuple[str, ...]  # the steps whose lists an event is within, outermost first
DEEPEST = 5  # lists within lists that are followed; a workflow may nest them without end

Levels = dict[type[Event], set[Level]]


def joins_that_never_meet(steps: Iterable[StepSpec]) -> list[str]:
    """What is wrong with the steps that wait for several events which never come on one level; a line each."""
    steps = list(steps)
    joins = [step for step in steps if step.join == "each"]
    if not joins:
        return []
    levels = levels_of(steps)
    return [problem for step in joins if (problem := _never_meet(step, levels))]


def never_in_a_list(join: StepSpec, steps: Iterable[StepSpec]) -> list[type[Event]]:
    """The classes that a step gathers a list of though their events travel at the top only, where no list is."""
    levels = levels_of(list(steps))
    found: list[type[Event]] = []
    for gathered in join.accepted_events:
        counted = (c for c in levels if c is gathered or (join.accept_event_subclasses and issubclass(c, gathered)))
        if set[Level]().union(*(levels[c] for c in counted)) == {()}:
            found.append(gathered)
    return found


def levels_of(steps: list[StepSpec]) -> Levels:
    """On which levels events of each class travel."""
    levels: Levels = {}
    outside = (StartEvent, HumanResponseEvent)
    _spread(steps, [(c, ()) for s in steps for c in s.accepted_events if issubclass(c, outside)], levels)
    # A handler answers on the level of what failed, which may be any.
    everywhere = set[Level]().union(*levels.values())
    handlers = [s for s in steps if s.role == "catch_error"]
    _spread(steps, [answer for s in handlers for level in everywhere for answer in _given(s, level)], levels)
    return levels


def _never_meet(step: StepSpec, levels: Mapping[type[Event], set[Level]]) -> str | None:
    found = {
        name: {
            level
            for event in levels
            if event in classes or (step.accept_event_subclasses and issubclass(event, classes))
            for level in levels[event]
        }
        for name, classes in step.event_parameters.items()
    }
    if not all(found.values()) or set[Level].intersection(*found.values()):
        return None
    where = "; ".join(f"'{name}' comes {_said(levels)}" for name, levels in found.items())
    return (
        f"step '{step.name}' waits for events that never meet: {where}. A step with several events runs when all of "
        f"them come from one list, or from none. Use ctx.wait_for_event for the one that comes from elsewhere."
    )


def _said(levels: set[Level]) -> str:
    return " or ".join(f"from the list of step '{level[-1]}'" if level else "from no list" for level in sorted(levels))


def _spread(steps: list[StepSpec], todo: list[tuple[type[Event], Level]], levels: Levels) -> None:
    while todo:
        event, level = todo.pop()
        known = levels.setdefault(event, set())
        if level in known or len(level) > DEEPEST:
            continue
        known.add(level)
        for step in steps:
            if takes(step, event) and (level or step.join != "list"):
                todo += _given(step, level[:-1] if step.join == "list" else level)


def _given(step: StepSpec, level: Level) -> list[tuple[type[Event], Level]]:
    bare = [(c, level) for c in step.bare_returns]
    return bare + [(c, (*level, step.name)) for c in step.list_returns]
