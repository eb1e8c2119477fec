"""Waits that were open at the snapshot a run goes on from: its calls begin again, and come to them later or never.

Until then an event ends them all the same (`AsleepWaits`). What answers one that its call does not come to is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workflows._engine.calls import Awaited, Call, Wait
from workflows._engine.effects import Effect, TellSent
from workflows._engine.state import RunState
from workflows._engine.wait_names import place_of
from workflows.events import Event
from workflows.instrumentation.records import Envelope

__all__ = [
    "called",
    "ended_by",
    "give_up",
    "is_spent",
    "may_soon_be_taken",
    "take_place",
    "tell_unawaited",
    "unreached",
    "without",
]


def ended_by(state: RunState, event: Event) -> list[Wait]:
    """The open waits that an event ends, and those that it ends of calls which have not come to them again."""
    waits = state.waits.matching(event) if state.waits.by_id else []
    if state.asleep is None:
        return waits
    ended = {wait.call.exec_id: wait for wait in waits}
    for wait in state.asleep.matching(event, state.calls, state.waits):
        other = ended.get(wait.call.exec_id)
        before = wait.call.waiting_for.get(other.wait_id) if other is not None else None
        if before is None or wait.number < before.number:
            ended[wait.call.exec_id] = wait
    return list(ended.values())


def called(state: RunState, name: str, event: Event) -> str:
    """The id of the wait that this names: its id, or the `waiter_id` that its step, or several calls, have used again.

    Of another call, which has an id of its own for a wait of that name, only if that requires something of the event.
    """
    wait = state.waits.get(name)
    call = state.asleep.owner(name, state.calls) if state.asleep is not None else None
    if wait is not None:
        is_for_it = wait.answer is None and wait.fits(event)
    else:
        known = call.waiting_for.get(name) if call is not None else None
        is_for_it = call is not None and name not in call.answers and (known is None or known.takes(event))
    if is_for_it:
        return name
    for other in ended_by(state, event):
        if other.requirements and place_of(other.wait_id.removesuffix(f"/{other.call.exec_id}"))[0] == name:
            return other.wait_id
    if wait is not None or call is not None:
        return name
    begun = (wait_id for wait_id, wait in state.waits.by_id.items() if wait.answer is None)
    due = (w for call in state.calls.values() for w in call.waiting_since if w not in call.answers)
    numbered = (wait_id for each in (begun, due) for wait_id in each if wait_id.startswith(f"{name}."))
    return next((wait_id for wait_id in numbered if place_of(wait_id)[0] == name), name)


def is_spent(state: RunState, wait: Wait) -> bool:
    """Whether a step will give a wait up as it did before: what comes now is for what it asks after that.

    It did so for another reason than that another one was over, and went on: in the attempt before it began other waits
    after that; before a snapshot it got an answer to a later one of that name, or to another to which it has yet to
    come, or none of that name was open.
    """
    call, (name, number) = wait.call, wait.place
    if call.was_overtaken(name, number) or not call.was_let_go(name, number):
        return False
    if not call.replay:
        return True
    if call.latest is None:
        places = [place_of(w) for w, got in call.answers.items() if got is not None and w not in call.waiting_since]
        call.latest = dict(sorted(places))
    if number < call.latest.get(name, 0) or call.reached < call.old:
        return True
    return not any(place_of(other)[0] == name for other in unreached(state, call))


def take_place(state: RunState, wait: Wait) -> Awaited | None:
    """A wait with a new id is the oldest of its call that took the same and to which that has not come again, if any.

    That may be wrong, where its call comes to that one later: then they have changed places, and nothing is lost. Where
    its id is not new, since the step let it go before, it can be another one of that name alone.
    """
    call = wait.call
    name = wait.place[0] if wait.place[1] <= call.let_go.get(wait.place[0], -1) else None
    for wait_id in unreached(state, call):
        answer, known = call.answers.get(wait_id), call.waiting_for.get(wait_id)
        is_same = wait.matches(answer.event) if answer is not None else known is not None and wait.takes_as(known)
        its_name = place_of(wait_id)[0]
        if answer is not None and answer.names is not None and its_name != wait.place[0]:
            continue
        if is_same and name in (None, its_name):
            call.waiting_since = without(call.waiting_since, wait_id)
            if answer is not None:
                answer.names = None
                call.give_back(wait_id)
            if name is not None:  # the call is where it was; what it awaits from now on is new
                call.is_back_at(*wait.place)
            return known
    return None


def unreached(state: RunState, call: Call) -> list[str]:
    """Waits of a call that were open at the snapshot, the oldest first, and that it has not come to again."""
    if not call.waiting_since:
        return []
    begun = {w for w in call.waiting_since if (wait := state.waits.get(w)) is not None and wait.call is call}
    left = [w for w in call.waiting_since if w not in begun]
    return sorted(left, key=lambda w: known.number if (known := call.waiting_for.get(w)) is not None else 0)


def give_up(call: Call, wait_ids: Sequence[str]) -> list[Envelope]:
    """A call does not come to these waits any more; what has answered them is for its next ones. Gives what is lost."""
    if not wait_ids:
        return []
    call.waiting_since = {w: since for w, since in call.waiting_since.items() if w not in wait_ids}
    return [lost for wait_id in wait_ids if (lost := call.give_back(wait_id)) is not None]


def waits_are_to_begin(state: RunState) -> bool:
    """Whether a call that is done again had a wait open at an older snapshot, and has not come to it since then.

    What that wait takes is known when it begins: until then, any event may be its answer.
    """
    if state.to_begin is None:
        calls = state.calls.values()
        state.to_begin = [(c, w) for c in calls for w in c.waiting_since if w not in c.waiting_for]
    left = state.to_begin
    while isinstance(left, list) and left:  # one that has begun, or whose call is over, does not come back
        call, wait_id = left[-1]
        is_open = wait_id in call.waiting_since and wait_id not in call.answers and wait_id not in state.waits
        if is_open and state.calls.get(call.exec_id) is call:
            return True
        left.pop()
    state.to_begin = ()
    return False


def may_soon_be_taken(state: RunState, envelope: Envelope) -> bool:
    """Whether a wait that has not begun again, or takes nothing yet, may be for this event."""
    if state.waits.by_id and state.waits.may_take(envelope.event):
        return True
    return envelope.sender is None and waits_are_to_begin(state)


def tell_unawaited(state: RunState, effects: list[Effect]) -> None:
    """The run is idle, or over: what came early is unhandled if no wait may take it any more."""
    if state.ended is None and waits_are_to_begin(state):
        return
    left: list[Envelope] = []
    for envelope in state.early or ():
        if state.ended is None and state.waits.may_take(envelope.event):
            left.append(envelope)
        else:
            state.unhandled += 1
            effects.append(TellSent(envelope, None, (), late=True))
    state.early = left or None


def without(found: Mapping[str, Any], wait_id: str) -> dict[str, Any]:
    """All entries but one."""
    return {key: value for key, value in found.items() if key != wait_id}
