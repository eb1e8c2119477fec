"""Waits inside a run: which event ends which wait, and how a waiting call gets a worker again.

Between calls one event resolves every matching wait; within one call, waits take events first in, first out, one each.
"""

from __future__ import annotations

from collections import deque

from workflows._engine.asking import call_wait_over
from workflows._engine.calls import Call, CallPhase, Wait, in_order
from workflows._engine.effects import DeliverLater, Effect, EndWait, RestartWait, ResumeCall, StartWait, TellSent
from workflows._engine.open_waits import NO_WAITS, OpenWaits
from workflows._engine.resumed_waits import called, give_up, is_spent, take_place, unreached, without
from workflows._engine.routing import give_back_worker, take_worker
from workflows._engine.state import RunState
from workflows._engine.ticks import CallOnlyWaits, CallWorks, WaitAbandoned, WaitBegan, WaitsRemain
from workflows._engine.wait_names import place_of
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
    "leave_waits",
    "reply",
    "time_out",
    "waits_remain",
]

# Waits that one event ends in one piece, with what their steps do first; the event loop gets a turn before the next
# (2 to 3 ms each).
ENDED_AT_ONCE = 40

# In another attempt, a wait that the step gave up before may be open for so much longer than then; and a step that does
# something beside a wait may so long come to others that it had.
SPENT_SECONDS = 1.0


def begin_wait(state: RunState, tick: WaitBegan, effects: list[Effect]) -> None:
    """Open a wait; an event that came before it, and that nobody took, answers it at once."""
    call = state.calls[tick.exec_id]
    call.begun += 1
    if call.begun == 1:
        call.old = sum(wait_id not in call.waiting_since for wait_id in call.answers)
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
    wait.place = tick.place
    if wait.wait_id in call.answers and _is_replayed(state, wait, effects):
        return
    known = call.waiting_for.get(wait.wait_id) if since else None
    if since is None:
        _see_whether_it_is_for_events(state, wait, tick.background)
    if state.waits is NO_WAITS:
        numbers = (awaited.number for each in state.calls.values() for awaited in each.waiting_for.values())
        state.waits = OpenWaits(after=max(numbers, default=0))
    state.waits.add(wait)
    if known is not None:
        wait.number = known.number  # it is as old as it was
    call.open_waits += 1
    if not tick.background:
        _only_waits(state, call, effects)
    left = None if wait.timeout is None else wait.timeout - (tick.at_ns - wait.started_at_ns) / 1e9
    if wait.held:
        left = _longest_held(wait, left)
    effects.append(StartWait(wait, left, ask=not (since or wait.unasked)))
    _take_at_once(state, wait, effects)


def _see_whether_it_is_for_events(state: RunState, wait: Wait, background: bool) -> None:
    """A wait that is not of the snapshot may be one that its step gives up again, or stand for one that is."""
    call = wait.call
    wait.spent = wait.unasked = is_spent(state, wait)
    if background and not wait.spent:
        wait.pending = wait.unasked = call.was_overtaken(*wait.place)
        others = unreached(state, call)
        wait.unplaced = bool(others)
        wait.unasked = wait.unasked or any(place_of(other)[0] == wait.place[0] for other in others)
        call.pending = call.pending or wait.pending or wait.unplaced
    wait.held = wait.spent or wait.unplaced
    call.spent = call.spent or wait.spent


def _longest_held(wait: Wait, left: float | None) -> float:
    """Seconds after which a wait is for events in any case; where it has a timeout itself, it is so before that."""
    as_before = wait.call.open_ns / 1e9 if wait.spent else 0.0
    if left is None:
        return as_before + SPENT_SECONDS
    return min(left, as_before + min(SPENT_SECONDS, max(left - as_before, 0.0) / 2))


def _is_replayed(state: RunState, wait: Wait, effects: list[Effect]) -> bool:
    """Give a wait what it got before; False if that was for what it took at the snapshot, and it takes that no more."""
    call, answer = wait.call, wait.call.answers[wait.wait_id]
    since = wait.wait_id in call.waiting_since and answer is not None  # it was replied to since the snapshot
    if since:
        call.waiting_since = without(call.waiting_since, wait.wait_id)
    if answer is not None and not wait.matches(answer.event) and (since or type(answer.event) is not wait.event_type):
        _tell_lost(state, call.give_back(wait.wait_id), effects)
        return False
    wait.answer = answer
    call.reached += not since
    if since:
        effects.extend([StartWait(wait, None, ask=False), EndWait(wait)])
    effects.append(ResumeCall(wait))
    if state.questions.open:
        call_wait_over(state, wait, effects)
    return True


def _take_kept(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """End a wait with an event that came before: for the same call, or one that nobody took; if there is one."""
    call = wait.call
    wait.answer = _kept_for(state, wait)
    if wait.answer is not None and wait.unplaced:
        _stand_for_another(state, wait)  # what that one got came before
        wait.answer = _kept_for(state, wait)
    if wait.answer is None:
        return
    call.kept = tuple(e for e in call.kept if e is not wait.answer)
    state.kept = tuple(e for e in state.kept if e is not wait.answer)
    state.early = [e for e in state.early or () if e is not wait.answer]
    end_wait(state, wait, effects)


def _take_at_once(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    if wait.unplaced:  # others of its call may be to take what came before that
        return
    _take_kept(state, wait, effects)
    if wait.answer is not None:
        wait.call.is_at_once(wait.wait_id)


def _kept_for(state: RunState, wait: Wait) -> Envelope | None:
    mine = (e for e in wait.call.kept if e.names in (None, wait.wait_id))
    return next((e for kept in (mine, state.kept) for e in kept if wait.matches(e.event)), None)


def call_only_waits(state: RunState, tick: CallOnlyWaits, effects: list[Effect]) -> None:
    """A call that has a wait open does nothing else: it needs no worker."""
    call = state.calls.get(tick.exec_id)
    if call is not None and call.open_waits:
        _only_waits(state, call, effects)
        if call.kept:
            _offer_kept(state, call, effects)


def _offer_kept(state: RunState, call: Call, effects: list[Effect]) -> None:
    for wait in state.waits.of(call):
        if wait.answer is None:
            _take_kept(state, wait, effects)


def _only_waits(state: RunState, call: Call, effects: list[Effect]) -> None:
    """A call rests in its waits. To others of an older snapshot it does not come: their ids were new ones."""
    unknown = [wait_id for wait_id in unreached(state, call) if wait_id not in call.waiting_for]
    for lost in give_up(call, unknown):
        _tell_lost(state, lost, effects)
    _pause(state, call, effects)
    if call.pending or call.waiting_since:
        call.pending = False
        for wait in [wait for wait in state.waits.of(call) if wait.pending or wait.unplaced]:
            _stand_for_another(state, wait)
            _be_for_events(state, wait, effects)


def waits_remain(state: RunState, tick: WaitsRemain, effects: list[Effect]) -> None:
    """A call has begun waits, and has not given them up though it could have."""
    call = state.calls.get(tick.exec_id)
    if call is None:
        return
    if tick.spent:
        call.spent = False
        for wait in [wait for wait in state.waits.of(call) if wait.spent]:
            _stand_for_another(state, wait)
            call.let_go = without(call.let_go, wait.place[0])
            _be_for_events(state, wait, effects)
    elif call.pending:
        call.pending = False
        remain = [wait for wait in state.waits.of(call) if not wait.spent]
        for wait in [wait for wait in remain if wait.pending or wait.unplaced or wait.unasked]:
            _be_for_events(state, wait, effects)


def _be_for_events(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """From now on a wait takes what comes, and what came meanwhile."""
    wait.spent = wait.pending = False
    if wait.unasked:
        wait.unasked = False
        if all(kept.names != wait.wait_id for kept in wait.call.kept):  # else somebody has answered it by its id
            effects.append(RestartWait(wait, None, ask=True))
    _take_kept(state, wait, effects)


def _stand_for_another(state: RunState, wait: Wait) -> None:
    """A call does not come to its waits of the snapshot any more: this one is the oldest of those that is like it."""
    wait.unplaced = False
    known = take_place(state, wait)
    if known is not None:
        wait.number = known.number  # it is as old as it was
        wait.unasked = False  # and so was it asked then


def leave_waits(state: RunState, call: Call, effects: list[Effect]) -> list[Envelope]:
    """A call is over: what it was to get and nothing else has taken is for others now."""
    lost = give_up(call, unreached(state, call))
    kept, call.kept = call.kept, ()
    for envelope in (*lost, *(envelope for envelope in kept if envelope.names is not None)):
        _tell_lost(state, envelope, effects)
    return [envelope for envelope in kept if envelope.names is None and not envelope.shared]


def _tell_lost(state: RunState, envelope: Envelope | None, effects: list[Effect]) -> None:
    """An event named a wait that its call does not come to any more."""
    if envelope is not None:
        state.unhandled += 1
        effects.append(TellSent(envelope, None, (), answered=False, kept=False))


def call_works(state: RunState, tick: CallWorks, effects: list[Effect]) -> None:
    """A call does something though its waits are open: it runs, with a worker if there is one."""
    call = state.calls.get(tick.exec_id)
    if call is not None:
        _run_on(state, call, effects)


def time_out(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """The time of a wait is over; one that its step should have given up by now, as it did before, is another one."""
    left = None if wait.timeout is None else wait.timeout - (state.now_ns - wait.started_at_ns) / 1e9
    if not wait.held or (left is not None and left <= 0):
        wait.timed_out = True
        end_wait(state, wait, effects)
        return
    wait.held = False
    if wait.spent:
        wait.call.let_go = wait.call.overtaken = {}
    _stand_for_another(state, wait)
    _be_for_events(state, wait, effects)
    if left is not None and wait.answer is None:
        effects.append(RestartWait(wait, left, ask=False))


def _pause(state: RunState, call: Call, effects: list[Effect]) -> None:
    if call.phase is CallPhase.RUNNING:
        call.phase = CallPhase.WAITING
        call.pause(state.now_ns)
        state.busy -= 1
        give_back_worker(state, call, effects)


def end_wait(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """Close a wait that was answered or timed out; its call goes on as soon as it has a worker."""
    _note_answer(state, wait, effects)
    _close(state, wait, effects)


def _note_answer(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """From now on nothing else ends the wait, and a snapshot has its answer."""
    call = wait.call
    call.got(wait.wait_id, wait.answer)
    call.came(wait.wait_id)
    if wait.wait_id in call.waiting_since:
        call.waiting_since = without(call.waiting_since, wait.wait_id)
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
        waits = state.waits.of(call)
        for wait in waits:
            state.waits.remove(wait)
    for wait in waits:
        wait.call.open_waits -= 1
        effects.append(EndWait(wait))
    if call is not None:
        _run_on(state, call, effects)


def abandon_wait(state: RunState, tick: WaitAbandoned, effects: list[Effect]) -> None:
    """Close a wait that its own step gave up; the step runs on, with a worker if there is one.

    An answer that the step has not got is for its next waits.
    """
    call = state.calls.get(tick.exec_id)
    if call is None:
        return
    call.gave_up(tick.place, tick.overtaken, tick.open_ns)
    wait = state.waits.get(tick.wait_id)
    if wait is not None and wait.call is call:
        state.waits.remove(wait)
        call.open_waits -= 1
        effects.append(EndWait(wait))
        if wait.spent:
            for envelope in [kept for kept in call.kept if kept.names == wait.wait_id]:
                call.kept = tuple(kept for kept in call.kept if kept is not envelope)
                _tell_lost(state, envelope, effects)
        if wait.answer is None:
            if wait.wait_id in call.waiting_since:
                call.waiting_since = without(call.waiting_since, wait.wait_id)
            if state.questions.open:  # else that was done when it was answered
                call_wait_over(state, wait, effects)
        _run_on(state, call, effects)
    elif call.to_resume and any(w.wait_id == tick.wait_id for w in call.to_resume):  # it queues for a worker
        _run_on(state, call, effects)
    if call.answers.get(tick.wait_id) is not None:
        _tell_lost(state, call.give_back(tick.wait_id), effects)
        _offer_kept(state, call, effects)


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
    call.go_on(state.now_ns)
    if queue.free:
        call.worker = queue.take()


def reply(state: RunState, wait_id: str, envelope: Envelope, effects: list[Effect]) -> Call | None:
    """Answer the wait that this names and no other; gives its call, or None if it is over or takes no such event.

    A call that has not come to the wait again since a snapshot finds the answer when it does.
    """
    wait_id = envelope.names = called(state, wait_id, envelope.event)
    wait = state.waits.get(wait_id)
    if wait is not None and wait.answer is None and wait.fits(envelope.event):
        if not wait.spent:
            answered_by(envelope, [wait], state, effects)
        elif any(kept.names == wait_id for kept in wait.call.kept):
            return None
        else:  # its step may give it up again: then that is for nobody
            wait.call.kept = in_order(wait.call.kept, envelope)
        return wait.call
    call = state.asleep.owner(wait_id, state.calls) if state.asleep is not None else None
    if wait is None and call is None:
        return _keep_for_retry(state, wait_id, envelope)
    if wait is not None or call is None or wait_id in call.answers:
        return None
    if (known := call.waiting_for.get(wait_id)) is not None and not known.takes(envelope.event):
        return None
    call.got(wait_id, envelope)
    return call


def _keep_for_retry(state: RunState, wait_id: str, envelope: Envelope) -> Call | None:
    """Keep an answer to a wait of an attempt that failed for the next one, which asks that again; gives its call."""
    for call in state.calls.values():
        name = place_of(wait_id.removesuffix(f"/{call.exec_id}"))[0]
        if call.is_tried_again and name in call.missed:
            if any(kept.names == wait_id for kept in call.kept):
                return None
            call.kept = in_order(call.kept, envelope)
            return call
    return None


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
