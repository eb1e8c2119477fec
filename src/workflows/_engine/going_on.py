"""A state that goes on, in memory, with what another has left: as one that was written and read, without either."""

from __future__ import annotations

from collections import deque
from copy import copy

from workflows._engine.calls import CallPhase
from workflows._engine.questions import OpenQuestions, RunWait
from workflows._engine.state import Gathered, RunState

__all__ = ["apart", "revive"]


def revive(ended: RunState) -> RunState:
    """The state of a run that goes on where another ended."""
    state = RunState(ended.spec, ended.run_id)
    state.now_ns, state.arrived, state.kept, state.collected = ended.now_ns, ended.arrived, ended.kept, ended.collected
    state.fan_outs, state.open_to_outside = ended.fan_outs, ended.open_to_outside
    state.steps, state.retries, state.events = ended.steps, ended.retries, ended.events
    state.handled_errors, state.unhandled = ended.handled_errors, ended.unhandled
    state.undelivered, state.handed = ended.undelivered, ended.handed
    if asked := ended.questions.left(ended.calls):
        state.questions = OpenQuestions(
            [RunWait(w.question, w.wait_id, w.started_at_ns, unheard=w.unheard) for w in asked]
        )
    for wait in ended.waits_to_resume:
        wait.call.waiting_since = {**wait.call.waiting_since, wait.wait_id: ended.open_since(wait)}
        wait.call.waiting_for = {**wait.call.waiting_for, wait.wait_id: wait.awaited}
    for call in sorted(ended.calls.values(), key=lambda c: c.phase is CallPhase.QUEUED):
        retrying = call.phase is CallPhase.RETRYING
        call.replay = call.first_started_ns > 0 and not retrying
        call.phase = CallPhase.RETRYING if retrying else CallPhase.QUEUED
        call.worker, call.open_waits, call.to_resume, call.latest = -1, 0, None, None
        state.calls[call.exec_id] = call
    state.goes_on()
    return state


def apart(loaded: RunState) -> RunState:
    """A state like one that no run has taken up yet, which can take events from outside without changing that one."""
    state = revive(loaded)
    state.calls = {exec_id: copy(call) for exec_id, call in state.calls.items()}
    for call in state.calls.values():
        call.answers, call.at_once = dict(call.answers), set(call.at_once)
    state.goes_on()
    state.collected = {}
    for key, gathered in loaded.collected.items():
        by_class = {event_class: deque(kept) for event_class, kept in gathered.by_class.items()}
        state.collected[key] = Gathered(by_class, gathered.size, gathered.expected)
    return state
