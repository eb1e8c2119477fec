"""Calls and workers: an event makes a call for every step that takes it; a call needs one of its step's workers."""

from __future__ import annotations

from _blake2 import blake2b  # what hashlib re-exports; hashlib would try OpenSSL first on every look-up

from workflows._engine.calls import Call, CallPhase
from workflows._engine.effects import Effect, ResumeCall, StartCall
from workflows._engine.state import RunState
from workflows._spec import StepSpec
from workflows.instrumentation.records import Envelope

__all__ = ["exec_id", "forget_call", "give_back_worker", "new_call", "queue_call", "take_worker"]


def exec_id(step: str, event_ids: str) -> str:
    """Id of the call that these input events make: causal, so the same in every replay, and unique within its run.

    64 bits: among a million calls of one run the chance of any collision is below 3e-8.
    """
    return blake2b(f"{step}<{event_ids}".encode(), digest_size=8).hexdigest()


def new_call(state: RunState, step: StepSpec, envelope: Envelope) -> Call:
    """A new call of `step` for one event."""
    call = Call(exec_id(step.name, envelope.event_id), step, (envelope,), state.now_ns, envelope.recoveries)
    if envelope.scope:
        call.scope = envelope.scope
    return call


def queue_call(state: RunState, call: Call, effects: list[Effect]) -> None:
    """Take a new call into the run: start it if its step has a free worker, else queue it."""
    state.calls[call.exec_id] = call
    state.busy += 1
    queue = state.queues.get(call.step.name) or state.queue(call.step)
    if not queue.free:
        queue.push(call)
        return
    # As `take_worker` does, without its calls: this is the way of every new call that need not wait.
    call.worker = queue.take()
    call.phase = CallPhase.RUNNING
    call.first_started_ns = state.now_ns
    state.steps += 1
    effects.append(StartCall(call))


def take_worker(state: RunState, call: Call, effects: list[Effect], *, first: bool = False) -> None:
    """Let a call go on (start, or resume from a wait) with a free worker, else queue it; `first`: before all others."""
    queue = state.queues.get(call.step.name) or state.queue(call.step)
    if queue.free:
        call.worker = queue.take()
        _go_on(state, call, effects)
        return
    call.phase = CallPhase.QUEUED
    queue.push(call, first=first)


def give_back_worker(state: RunState, call: Call, effects: list[Effect]) -> None:
    """Free the worker that a call holds, and let the next in the queue go on with it."""
    if call.worker < 0:
        return
    queue = state.queues[call.step.name]
    worker, call.worker = call.worker, -1
    following = queue.pop() if queue.calls else None
    if following is None:
        queue.give_back(worker)
        return
    following.worker = worker
    _go_on(state, following, effects)


def forget_call(state: RunState, call: Call, effects: list[Effect]) -> None:
    """A call is done: its worker goes to the next one."""
    del state.calls[call.exec_id]
    call.phase = CallPhase.DONE
    state.busy -= 1
    give_back_worker(state, call, effects)


def _go_on(state: RunState, call: Call, effects: list[Effect]) -> None:
    call.phase = CallPhase.RUNNING
    if call.to_resume is None:
        call.first_started_ns = call.first_started_ns or state.now_ns
        call.had_begun = max(call.had_begun, call.begun)
        call.begun = call.reached = 0
        state.steps += 1
        effects.append(StartCall(call))
        return
    call.go_on(state.now_ns)
    effects.extend([ResumeCall(wait) for wait in call.to_resume])
    call.to_resume = None
