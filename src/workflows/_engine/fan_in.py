"""`collect_events`: keeps events of one step until all that it expects are there. Drops none, runs no body twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workflows._engine.effects import BufferEvent, Effect, ReleaseFanIn
from workflows._engine.state import Gathered, RunState
from workflows._engine.ticks import EventsCollected
from workflows.events import Event

__all__ = ["MISSING_TOLD", "collect", "missing"]

MISSING_TOLD = 20  # names of what is missing, in one record


def collect(state: RunState, tick: EventsCollected, effects: list[Effect]) -> None:
    """Keep the event; when the group is complete, release its oldest members in the order of `expected`."""
    call = state.calls[tick.exec_id]
    if (tick.group, tick.number) in call.collected:  # an earlier attempt did the same, and no event counts twice
        if (before := call.collected[tick.group, tick.number]) is not None:
            effects.append(ReleaseFanIn(call, tick.group, before, again=True))
        return
    key = (call.step.name, tick.group)
    gathered = state.collected.get(key)
    if gathered is None:
        gathered = state.collected[key] = Gathered()
    gathered.add(tick.envelope)
    gathered.expected = tick.expected
    released = gathered.take(tick.expected)
    call.collected = {**call.collected, (tick.group, tick.number): released}
    if released is None:
        still = missing(gathered, tick.expected) if state.watched else ()
        effects.append(BufferEvent(call.step, call.exec_id, tick.group, tick.envelope, gathered.size, still))
        return
    if not gathered.size:
        del state.collected[key]
    effects.append(ReleaseFanIn(call, tick.group, released))


def missing(gathered: Gathered, expected: Sequence[type[Event]]) -> list[type[Event]]:
    """What a join still needs, each class as often as it needs it; the first `MISSING_TOLD` of that."""
    needed = Counter(expected)
    needed.subtract({event_class: len(kept) for event_class, kept in gathered.by_class.items()})
    return [c for c, n in needed.items() for _ in range(min(n, MISSING_TOLD))][:MISSING_TOLD]
