"""Waits inside a run: which event ends which wait, and how a waiting call gets a worker again.

Between calls one event resolves every matching wait; within one call, waits take events first in, first out, one each.
"""

from __future__ import annotations

from workflows._engine.calls import NO_WAITS, Call, CallPhase, OpenWaits, Wait
from workflows._engine.effects import Effect, EndWait, ResumeCall, StartWait
from workflows._engine.routing import give_back_worker, take_worker
from workflows._engine.state import RunState
from workflows._engine.ticks import CallWaitsAgain, WaitAbandoned, WaitBegan
from workflows.instrumentation.records import Envelope

__all__ = ["abandon_wait", "answered_by", "begin_wait", "cancel_waits", "end_wait", "wait_again"]


def begin_wait(state: RunState, tick: WaitBegan, effects: list[Effect]) -> None:
    """Open a wait; an event that came before it, and that nobody took, answers it at once."""
    call = state.calls[tick.exec_id]
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
    if wait.wait_id in call.answers:  # a replay: the wait is over since before the snapshot
        wait.answer = call.answers[wait.wait_id]
        effects.append(ResumeCall(wait))
        return
    if state.waits is NO_WAITS:
        state.waits = OpenWaits()
    state.waits.add(wait)
    call.open_waits += 1
    _pause(state, call, effects)
    left = None if wait.timeout is None else wait.timeout - (tick.at_ns - wait.started_at_ns) / 1e9
    effects.append(StartWait(wait, left, ask=since is None))
    for envelope in state.kept:
        if wait.matches(envelope.event):
            state.kept = tuple(e for e in state.kept if e is not envelope)
            wait.answer = envelope
            end_wait(state, wait, effects)
            return


def wait_again(state: RunState, tick: CallWaitsAgain, effects: list[Effect]) -> None:
    """Nothing of a call runs any more, and a wait of it is open: it needs no worker."""
    call = state.calls.get(tick.exec_id)
    if call is not None and call.open_waits:
        _pause(state, call, effects)


def _pause(state: RunState, call: Call, effects: list[Effect]) -> None:
    if call.phase is CallPhase.RUNNING:
        call.phase = CallPhase.WAITING
        state.busy -= 1
        give_back_worker(state, call, effects)


def end_wait(state: RunState, wait: Wait, effects: list[Effect]) -> None:
    """Close a wait that was answered or timed out; its call goes on as soon as it has a worker."""
    call = wait.call
    state.waits.remove(wait)
    call.open_waits -= 1
    call.answers = {**call.answers, wait.wait_id: wait.answer}
    effects.append(EndWait(wait))
    if call.worker >= 0:
        effects.append(ResumeCall(wait))
    elif call.to_resume is not None:
        call.to_resume.append(wait)
    else:
        call.to_resume = [wait]
        state.busy += 1
        take_worker(state, call, effects, first=True)


def cancel_waits(state: RunState, effects: list[Effect], call: Call | None = None) -> None:
    """Close the waits of one call, or of the whole run, without an answer."""
    for wait in [w for w in state.waits if call is None or w.call is call]:
        state.waits.remove(wait)
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


def answered_by(envelope: Envelope, waits: list[Wait], state: RunState, effects: list[Effect]) -> None:
    """End every one of these waits with one event."""
    for wait in waits:
        wait.answer = envelope
        end_wait(state, wait, effects)
