"""`collect_events`: keeps events of one step until all that it expects are there. Drops none, runs no body twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workflows._engine.effects import BufferEvent, Effect, ReleaseFanIn
from workflows._engine.state import RunState
from workflows._engine.ticks import EventsCollected
from workflows.events import Event
from workflows.instrumentation.records import Envelope

__all__ = ["collect", "missing"]


def collect(state: RunState, tick: EventsCollected, effects: list[Effect]) -> None:
    """Keep the event; when the group is complete, release its oldest members in the order of `expected`."""
    call = state.calls[tick.exec_id]
    key = (call.step.name, tick.group)
    members = state.collected.setdefault(key, [])
    members.append(tick.envelope)
    released = _take(members, tick.expected)
    if released is None:
        effects.append(BufferEvent(call.step, call.exec_id, tick.group, members, tick.expected))
        return
    if not members:
        del state.collected[key]
    effects.append(ReleaseFanIn(call, tick.group, released))


def missing(members: Sequence[Envelope], expected: Sequence[type[Event]]) -> list[type[Event]]:
    """What a group still needs, in the order of `expected`."""
    have = Counter(type(m.event) for m in members)
    still: list[type[Event]] = []
    for event_class in expected:
        if have[event_class] > 0:
            have[event_class] -= 1
        else:
            still.append(event_class)
    return still


def _take(members: list[Envelope], expected: Sequence[type[Event]]) -> list[Envelope] | None:
    if len(members) < len(expected):  # the common case, and what keeps a join of n events at O(n) in all
        return None
    by_class: dict[type[Event], list[Envelope]] = {}
    for member in members:
        by_class.setdefault(type(member.event), []).append(member)
    if any(len(by_class.get(c, ())) < n for c, n in Counter(expected).items()):
        return None
    queues = {c: iter(found) for c, found in by_class.items()}
    released = [next(queues[c]) for c in expected]
    gone = {id(m) for m in released}
    members[:] = [m for m in members if id(m) not in gone]
    return released
