"""A step that returns `list[E]` opens a fan-out: a branch an element, gathered again by steps that take `list[...]`.

Every event and every call knows the fan-outs that it lives in (`scope`, outermost first). A fan-out counts what is
alive in it; when nothing is left it closes, and its joins get what arrived, in order of arrival. Fan-outs nest.
"""

from __future__ import annotations

from workflows._engine.calls import Call
from workflows._engine.effects import BufferEvent, Effect, ReleaseFanIn
from workflows._engine.fan_in import missing
from workflows._engine.routing import exec_id, queue_call
from workflows._engine.state import FanOut, Gathered, RunState
from workflows._spec import StepSpec, taken_as
from workflows.instrumentation.records import Envelope

__all__ = ["alive", "joined", "may_join", "open_fan_out"]

OF_CLOSED = "each/closed"  # what joins of several events had got in a list when that closed


def open_fan_out(state: RunState, call: Call, elements: int) -> None:
    """A call returned a list: its place in its own scope passes to the fan-out until that closes."""
    state.fan_outs[call.exec_id] = FanOut(call.exec_id, call.step.name, call.scope, elements)


def alive(state: RunState, scope: tuple[str, ...], change: int, effects: list[Effect]) -> None:
    """Count what lives in the innermost fan-out of a scope; the last one to go closes it."""
    if not scope:
        return
    fan_out = state.fan_outs.get(scope[-1])
    if fan_out is None:
        return
    fan_out.alive += change
    if fan_out.alive == 0:
        _close(state, fan_out, effects)


def may_join(state: RunState, step: StepSpec, envelope: Envelope) -> bool:
    """Whether a step can take an event: one that takes a list takes what comes of a list's elements alone."""
    return step.join in ("one", "each") or (bool(envelope.scope) and envelope.scope[-1] in state.fan_outs)


def joined(state: RunState, step: StepSpec, envelope: Envelope, effects: list[Effect]) -> Call | None:
    """Keep an event for a step that joins several; the call that this completes, if it does."""
    if step.join == "each":
        return _joined_each(state, step, envelope, effects)
    fan_out = state.fan_outs[envelope.scope[-1]]
    if step.name in fan_out.fired:
        return None
    members = fan_out.members.setdefault(step.name, [])
    members.append(envelope)
    if step.take is None or len(members) < step.take:
        effects.append(BufferEvent(step, None, fan_out.fan_out_id, envelope, len(members), ()))
        return None
    return _fire(state, fan_out, step, effects)


def _joined_each(state: RunState, step: StepSpec, envelope: Envelope, effects: list[Effect]) -> Call | None:
    group = "/".join(("each", *envelope.scope))
    kept = state.collected.get((step.name, group))
    if kept is None:
        kept = state.collected[step.name, group] = Gathered()
    kept.add(envelope, taken_as(step, type(envelope.event)))
    expected = [event_class for classes in step.event_parameters.values() for event_class in classes]
    members = kept.take(expected)
    if members is None:
        effects.append(BufferEvent(step, None, group, envelope, kept.size, missing(kept, expected)))
        return None
    if not kept.size:
        del state.collected[step.name, group]
    call = _join_call(state, step, members, envelope.scope, "", effects)
    call.recoveries = next((m.recoveries for m in members if m.recoveries), None)
    call.completed_by = next(n for n, member in enumerate(members) if member is envelope)
    return call


def _fire(state: RunState, fan_out: FanOut, step: StepSpec, effects: list[Effect]) -> Call:
    fan_out.fired.add(step.name)
    members = fan_out.members.pop(step.name, [])
    return _join_call(state, step, members, fan_out.scope, fan_out.fan_out_id, effects)


def _join_call(
    state: RunState,
    step: StepSpec,
    members: list[Envelope],
    scope: tuple[str, ...],
    group: str,
    effects: list[Effect],
) -> Call:
    ids = "+".join([m.event_id for m in members])
    call = Call(exec_id(step.name, f"{group}[{ids}]"), step, tuple(members), state.now_ns)
    call.scope = scope
    effects.append(ReleaseFanIn(call, group, members))
    return call


def _close(state: RunState, fan_out: FanOut, effects: list[Effect]) -> None:
    del state.fan_outs[fan_out.fan_out_id]
    if state.collected:
        _leave_halves(state, fan_out)
    waiting = [s for s in state.spec.joins_of.get(fan_out.step, ()) if s.name not in fan_out.fired]
    calls = [_fire(state, fan_out, step, effects) for step in waiting]
    for call in calls:
        queue_call(state, call, effects)
    alive(state, fan_out.scope, len(calls) - 1, effects)


def _leave_halves(state: RunState, fan_out: FanOut) -> None:
    """What a join of several events lacks in a list that is over will not come: keep the last such list's, to tell."""
    group = "/".join(("each", *fan_out.scope, fan_out.fan_out_id))
    for step in state.spec.steps.values():
        if step.join == "each" and (halves := state.collected.pop((step.name, group), None)) is not None:
            state.collected[step.name, OF_CLOSED] = halves
