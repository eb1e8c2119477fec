"""Waits inside a run: which event ends which wait, and how a waiting call gets a worker again.

Between calls one event resolves every matching wait; within one call, waits take events first in, first out, one each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from workflows._engine.asking import call_wait_over
from workflows._engine.calls import NO_WAITS, Call, CallPhase, OpenWaits, Wait
from workflows._engine.effects import DeliverLater, Effect, EndWait, ResumeCall, StartWait, TellSent
from workflows._engine.routing import give_back_worker, take_worker
from workflows._engine.state import RunState
from workflows._engine.ticks import CallOnlyWaits, CallWorks, WaitAbandoned, WaitBegan
from workflows.events import Event
from workflows.instrumentation.records import Envelope

__all__ = [
    "abandon_wait",
    "answered_by",
    "begin_wait",
    "call_only_waits",
    "call_works",
    "cancel_waits",
    "end_answered",
    "end_wait",
    "reply",
    "tell_unawaited",
    "waits_are_to_begin",
    "with_asleep",
]

# Waits that one event ends in one piece, with what their steps do first; the event loop gets a turn before the next
# (2 to 3 ms each).
ENDED_AT_ONCE = 40


def begin_wait(state: RunState, tick: WaitBegan, effects: list[Effect]) -> None:
    """Open a wait; an event that came before it, and that nobody took, answers it at once."""
    call = state.calls[tick.exec_id]
    if state.asleep is not None:
        state.asleep.begins(tick.wait_id, tick.event_type, call)
        state.asleep = state.asleep or None
    since = call.waiting_since.get(tick.wait_id)
    wait = Wait(
        tick.wait_id,
        call,
        tick.event_type,
        tick.requirements,
        since or tick.at_ns,
        tick.timeout,
        tick.asked,
        tick.match_subclasses,
    )
    if wait.wait_id in call.answers:  # a replay
        wait.answer = call.answers[wait.wait_id]
        if since is None or wait.answer is None:  # it was over before the snapshot
            effects.append(ResumeCall(wait))
            if state.questions.open:
                call_wait_over(state, wait, effects)
            return
        call.waiting_since = _without(call.waiting_since, wait.wait_id)
        if wait.matches(wait.answer.event):  # it was replied to since then
            effects.extend([StartWait(wait, None, ask=False), EndWait(wait), ResumeCall(wait)])
            if state.questions.open:
                call_wait_over(state, wait, effects)
            return
        call.answers, wait.answer = _without(call.answers, wait.wait_id), None
    if state.waits is NO_WAITS:
        numbers = (awaited.number for each in state.calls.values() for awaited in each.waiting_for.values())
        state.waits = OpenWaits(after=max(numbers, default=0))
    state.waits.add(wait)
    if since is not None and (known := call.waiting_for.get(wait.wait_id)) is not None:
        wait.number = known.number  # it is as old as it was
    call.open_waits += 1
    if not tick.background:
        _only_waits(state, call, effects)
    left = None if wait.timeout is None else wait.timeout - (tick.at_ns - wait.started_at_ns) / 1e9
    effects.append(StartWait(wait, left, ask=since is None))
    _take_kept(state, wait, effects)


def _take_kept(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """End a wait with an event that came before and that nobody took, if there is one."""
    wait.answer = next((envelope for envelope in state.kept if wait.matches(envelope.event)), None)
    if wait.answer is not None:
        state.kept = tuple(e for e in state.kept if e is not wait.answer)
        state.early = [e for e in state.early or () if e is not wait.answer]
        end_wait(state, wait, effects)


def _without(found: Mapping[str, Any], wait_id: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != wait_id}


def call_only_waits(state: RunState, tick: CallOnlyWaits, effects: list[Effect]) -> None:
    """A call that has a wait open does nothing else: it needs no worker."""
    call = state.calls.get(tick.exec_id)
    if call is not None and call.open_waits:
        _only_waits(state, call, effects)
        for wait in [wait for wait in state.waits if wait.call is call] if state.kept else ():
            _take_kept(state, wait, effects)


def _only_waits(state: RunState, call: Call, effects: list[Effect]) -> None:
    """A call rests in its waits. To others that were open at the snapshot it does not come: their ids were new ones.

    What has answered one of those is for the wait that stands in its place.
    """
    begun = {wait.wait_id for w in call.waiting_since if (wait := state.waits.get(w)) is not None and wait.call is call}
    unreached = [wait_id for wait_id in call.waiting_since if wait_id not in begun]
    if unreached:
        call.waiting_since = {w: since for w, since in call.waiting_since.items() if w in begun}
        answers = [answer for w in unreached if (answer := call.answers.get(w)) is not None]
        call.answers = {w: answer for w, answer in call.answers.items() if w not in unreached}
        state.kept = (*state.kept, *answers)
    _pause(state, call, effects)


def call_works(state: RunState, tick: CallWorks, effects: list[Effect]) -> None:
    """A call does something though its waits are open: it runs, with a worker if there is one."""
    call = state.calls.get(tick.exec_id)
    if call is not None:
        _run_on(state, call, effects)


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


def tell_unawaited(state: RunState, effects: list[Effect]) -> None:
    """All waits have begun again, so what came early and none of them took is unhandled."""
    if waits_are_to_begin(state):
        return
    early, state.early = state.early or [], None
    state.unhandled += len(early)
    effects.extend([TellSent(envelope, None, (), late=True) for envelope in early])


def with_asleep(state: RunState, event: Event, waits: list[Wait]) -> list[Wait]:
    """The open waits that an event ends, and those that it ends of calls which have not come to them again."""
    assert state.asleep is not None, "the caller has asked"
    ended = {wait.call.exec_id: wait for wait in waits}
    for wait in state.asleep.matching(event, state.calls, state.waits):
        other = ended.get(wait.call.exec_id)
        before = wait.call.waiting_for.get(other.wait_id) if other is not None else None
        if before is None or wait.number < before.number:
            ended[wait.call.exec_id] = wait
    return list(ended.values())


def _pause(state: RunState, call: Call, effects: list[Effect]) -> None:
    if call.phase is CallPhase.RUNNING:
        call.phase = CallPhase.WAITING
        state.busy -= 1
        give_back_worker(state, call, effects)


def end_wait(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """Close a wait that was answered or timed out; its call goes on as soon as it has a worker."""
    _note_answer(state, wait, effects)
    _close(state, wait, effects)


def _note_answer(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """From now on nothing else ends the wait, and a snapshot has its answer."""
    call = wait.call
    call.answers = {**call.answers, wait.wait_id: wait.answer}
    if wait.wait_id in call.waiting_since:
        call.waiting_since = _without(call.waiting_since, wait.wait_id)
    if state.questions.open:
        call_wait_over(state, wait, effects)


def _close(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    call = wait.call
    state.waits.remove(wait)
    call.open_waits -= 1
    effects.append(EndWait(wait))
    if call.phase is CallPhase.RUNNING:
        effects.append(ResumeCall(wait))
    elif call.to_resume is not None:
        call.to_resume.append(wait)
    else:
        call.to_resume = [wait]
        state.busy += 1
        take_worker(state, call, effects, first=True)


def cancel_waits(state: RunState, effects: list[Effect], call: Call | None = None) -> None:
    """Close the waits of one call, or of the whole run, without an answer."""
    if call is None:
        waits, state.waits = list(state.waits.by_id.values()), NO_WAITS  # all at once: there may be thousands
    else:
        waits = [wait for wait in state.waits.by_id.values() if wait.call is call]
        for wait in waits:
            state.waits.remove(wait)
    for wait in waits:
        wait.call.open_waits -= 1
        effects.append(EndWait(wait))
    if call is not None:
        _run_on(state, call, effects)


def abandon_wait(state: RunState, tick: WaitAbandoned, effects: list[Effect]) -> None:
    """Close a wait that its own step gave up; the step runs on, with a worker if there is one."""
    wait = state.waits.get(tick.wait_id)
    if wait is not None:
        state.waits.remove(wait)
        wait.call.open_waits -= 1
        effects.append(EndWait(wait))
        if state.questions.open and wait.answer is None:  # else that was done when it was answered
            call_wait_over(state, wait, effects)
        _run_on(state, wait.call, effects)
        return
    for call in state.calls.values():  # it was answered, and its call queues for a worker
        if call.to_resume and any(w.wait_id == tick.wait_id for w in call.to_resume):
            _run_on(state, call, effects)
            return


def _run_on(state: RunState, call: Call, effects: list[Effect]) -> None:
    """A call whose body goes on without having been resumed counts as running again."""
    queue = state.queue(call.step)
    if call.phase is CallPhase.WAITING:
        state.busy += 1
    elif call.phase is CallPhase.QUEUED and call.to_resume is not None:
        queue.remove(call)
        effects.extend([ResumeCall(wait) for wait in call.to_resume])  # what else of it was answered meanwhile
        call.to_resume = None
    else:
        return
    call.phase = CallPhase.RUNNING
    if queue.free:
        call.worker = queue.free.pop()


def reply(state: RunState, wait_id: str, envelope: Envelope, effects: list[Effect]) -> Call | None:
    """Answer this wait and no other; gives its call, or None if the wait is over or takes no such event.

    A call that has not come to the wait again since a snapshot finds the answer when it does.
    """
    wait = state.waits.get(wait_id)
    if wait is not None and wait.answer is None and wait.matches(envelope.event):
        answered_by(envelope, [wait], state, effects)
        return wait.call
    calls = [c for c in state.calls.values() if wait_id in c.waiting_since and wait_id not in c.answers]
    if wait is not None or not calls:
        return None
    calls[0].answers = {**calls[0].answers, wait_id: envelope}
    return calls[0]


def answered_by(envelope: Envelope, waits: list[Wait], state: RunState, effects: list[Effect]) -> None:
    """End every one of these waits with one event; thousands of them in pieces."""
    if state.asleep is not None:
        asleep = [wait for wait in waits if state.waits.get(wait.wait_id) is not wait]
        waits = [wait for wait in waits if state.waits.get(wait.wait_id) is wait]
        for wait in asleep:
            state.asleep.answer(wait, envelope)
    for wait in waits:
        wait.answer = envelope
        _note_answer(state, wait, effects)
    if len(waits) <= ENDED_AT_ONCE:
        for wait in waits:
            _close(state, wait, effects)
        return
    state.waits.forget_answered(envelope.event)
    if not (state.answered or state.undelivered):  # else the next piece is under way already
        effects.append(DeliverLater())
    state.answered = (*state.answered, deque(waits))
    state.busy += 1


def end_answered(state: RunState, effects: list[Effect]) -> None:
    """Close a piece of the waits that one event has answered, the oldest event's first."""
    waits = state.answered[0]
    for _ in range(min(ENDED_AT_ONCE, len(waits))):
        wait = waits.popleft()
        if state.waits.get(wait.wait_id) is wait:  # else its call is over, or gave it up
            _close(state, wait, effects)
    if not waits:
        state.answered = state.answered[1:]
        state.busy -= 1
