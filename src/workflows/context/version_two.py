"""A snapshot of llama-index-workflows (formats 0, 1 and 2) as the state of a run that goes on here.

Work in progress runs again from the top, as there. What that format does not say: when waits began (their timeouts
count from the snapshot) and who sent an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from json import JSONDecoder
from typing import Any, cast

from workflows._engine.calls import Awaited, Call, CallPhase
from workflows._engine.fan_out import alive
from workflows._engine.going_on import revive
from workflows._engine.reduce import reduce
from workflows._engine.routing import exec_id
from workflows._engine.state import FanOut, Gathered, RunState
from workflows._engine.ticks import EventArrived
from workflows._engine.wait_names import wait_name
from workflows._spec import StepSpec, WorkflowSpec, taken_as, takes
from workflows.context.context_types import (
    SerializedContext,
    SerializedContextV0,
    SerializedDelivery,
    SerializedEventAttempt,
    SerializedStepWorkerState,
    SerializedWaiter,
)
from workflows.context.serializers import BaseSerializer
from workflows.events import Event
from workflows.instrumentation.records import Envelope
from workflows.representation.levels import levels_of

__all__ = ["load_version_two", "streamed_in"]

Scope = tuple[str, ...]  # ids of fan-outs, outermost first


def streamed_in(data: Mapping[str, Any], serializer: BaseSerializer) -> list[Event]:
    """Events of the stream that nobody had read; only format 0 keeps them."""
    texts = SerializedContextV0.model_validate(dict(data)).streamed() if "version" not in data else []
    return [serializer.deserialize(text) for text in texts]


def load_version_two(data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer) -> RunState | None:
    """The state that the run goes on from; None where the run was over. Steps that are gone are left out.

    Raises:
        KeyError, TypeError, ValueError: If the data is in another format, or names classes that may not be rebuilt.
    """
    saved = SerializedContext.from_dict_auto(data)
    if not saved.is_running:
        return None
    return _Translation(spec, serializer, saved).state_of_run()


class _Translation:
    """One snapshot on its way; events get the ids of events from outside, numbered as they are met."""

    def __init__(self, spec: WorkflowSpec, serializer: BaseSerializer, saved: SerializedContext) -> None:
        self._saved = saved
        self._serializer = serializer
        self._state = RunState(spec, "")
        self._state.now_ns = _nanoseconds(saved.last_alive_stamp)

    def state_of_run(self) -> RunState:
        state = self._state
        for name, worker in self._saved.workers.items():
            if name in state.spec.steps:
                self._step(state.spec.steps[name], worker)
        self._fan_outs()
        for name, worker in self._saved.workers.items():
            if worker.static_collect_events and name in state.spec.steps:
                self._join(state.spec.steps[name], worker.static_collect_events)
        self._deliveries()
        found = revive(state)
        found.steps = found.events = found.unhandled = 0
        # Nothing in flight, yet not over: it was waiting for somebody to send something.
        found.open_to_outside = not found.calls
        return found

    def _step(self, step: StepSpec, worker: SerializedStepWorkerState) -> None:
        began = {a.work_item_id: self._call(step, a, CallPhase.RUNNING) for a in worker.in_progress}
        began.pop(None, None)  # format 1 numbers nothing
        for waiter in worker.collected_waiters:
            key = waiter.work_item_id or waiter.event
            if key not in began:
                began[key] = self._call(step, _attempt_of(waiter), CallPhase.WAITING)
            self._wait(began[key], waiter)
        for attempt in worker.queue:
            event = self._event(attempt.event)
            if step.join != "one" or takes(step, type(event)):  # format 0 queues every event for every step
                phase = CallPhase.QUEUED if attempt.not_before is None else CallPhase.RETRYING
                self._call(step, attempt, phase)
        for buffer, texts in worker.collected_events.items():
            gathered = self._state.collected[step.name, buffer] = Gathered()
            for envelope in self._envelopes(texts):
                gathered.add(envelope)

    def _call(self, step: StepSpec, saved: SerializedEventAttempt, phase: CallPhase) -> Call:
        scope = tuple(saved.scope_path)
        inputs = tuple(self._envelopes(_inputs(step, saved), scope, saved.recovery_counts))
        ids = "+".join([e.event_id for e in inputs])
        call = Call(exec_id(step.name, ids), step, inputs, self._state.now_ns, saved.recovery_counts or None)
        call.phase, call.scope, call.attempt = phase, scope, saved.attempts + 1
        call.first_started_ns = _nanoseconds(saved.first_attempt_at)
        if phase in (CallPhase.RUNNING, CallPhase.WAITING):
            call.first_started_ns = call.first_started_ns or self._state.now_ns or 1
        call.due_ns = _nanoseconds(saved.not_before)
        call.last_error, call.last_failed_ns = saved.last_exception, _nanoseconds(saved.last_failed_at)
        self._state.calls[call.exec_id] = call
        return call

    def _wait(self, call: Call, waiter: SerializedWaiter) -> None:
        """The ids are those that the step's calls of `wait_for_event` will have again."""
        given_up = f"waiter_{waiter.waiting_for_event}_"
        named = not waiter.waiter_id.startswith(given_up)
        wait_id = waiter.waiter_id if named else _numbered(call, waiter, _required(waiter.waiter_id, given_up))
        if waiter.resolved_event is not None:
            call.got(wait_id, self._envelopes([waiter.resolved_event])[0])
        else:
            call.waiting_since = {**call.waiting_since, wait_id: self._state.now_ns}
            if not waiter.has_requirements:  # else nobody knows which
                awaited = Awaited(waiter.waiting_for_event, False, {}, False, len(call.waiting_since))
                call.waiting_for = {**call.waiting_for, wait_id: awaited}

    def _fan_outs(self) -> None:
        state = self._state
        for saved in self._saved.streams.values():
            scope = tuple(saved.scope_path)
            state.fan_outs[saved.stream_id] = FanOut(saved.stream_id, saved.source_step, scope, 0)
        for joined in self._saved.collection_release_states.values():
            fan_out = state.fan_outs.get(joined.stream_id)
            if fan_out is not None and joined.released:
                fan_out.fired.add(joined.step)
            elif fan_out is not None:
                fan_out.members[joined.step] = self._envelopes(joined.buffer, (joined.stream_id,))
        for scoped in (*state.calls.values(), *state.fan_outs.values()):
            if scoped.scope and scoped.scope[-1] in state.fan_outs:
                state.fan_outs[scoped.scope[-1]].alive += 1

    def _join(self, step: StepSpec, texts: Iterable[str]) -> None:
        """What a step of several events has got; that format does not say in which fan-out each of them lives."""
        collected = self._state.collected
        homes = self._homes(step)
        for envelope in self._envelopes(texts):
            kind = taken_as(step, type(envelope.event))
            scope = homes.of(type(envelope.event), kind)
            group = collected.setdefault((step.name, "/".join(("each", *scope))), Gathered())
            group.add(replace(envelope, scope=scope), kind)

    def _homes(self, step: StepSpec) -> _Homes:
        state = self._state
        fan_outs = state.fan_outs
        scopes = [(), *((*f.scope, f.fan_out_id) for f in fan_outs.values())]
        levels = {scope: tuple(fan_outs[name].step for name in scope if name in fan_outs) for scope in scopes}
        in_flight = [(call.scope, call.step.return_types) for call in state.calls.values()]
        in_flight += [(tuple(d.scope_path), (type(self._event(d.event)),)) for d in self._saved.deliveries]
        return _Homes(step, list(state.spec.steps.values()), levels, in_flight)

    def _deliveries(self) -> None:
        state = self._state
        before = set(state.calls)
        open_fan_outs = list(state.fan_outs.values())
        for fan_out in open_fan_outs:
            fan_out.alive += 1  # one more until all are delivered, so that none closes too early
        unique = {(d.invocation_id, d.index): d for d in self._saved.deliveries}
        for delivery in unique.values():
            self._deliver(delivery)
        for fan_out in reversed(open_fan_outs):  # inner ones are younger
            alive(state, (fan_out.fan_out_id,), -1, [])
        for name in set(state.calls) - before:  # they have a place in the queue, not a worker
            call = state.calls[name]
            call.phase, call.worker, call.first_started_ns = CallPhase.QUEUED, -1, 0

    def _deliver(self, saved: SerializedDelivery) -> None:
        if saved.step_id is not None and saved.step_id not in self._state.spec.steps:
            return
        (envelope,) = self._envelopes([saved.event], tuple(saved.scope_path), saved.recovery_counts)
        reduce(self._state, EventArrived(self._state.now_ns, envelope, saved.step_id))

    def _envelopes(
        self, texts: Iterable[str], scope: tuple[str, ...] = (), recoveries: Mapping[str, int] | None = None
    ) -> list[Envelope]:
        return [self._envelope(text, scope, recoveries or None) for text in texts]

    def _envelope(self, text: str, scope: tuple[str, ...], recoveries: Mapping[str, int] | None) -> Envelope:
        state = self._state
        envelope = Envelope(f"x{state.arrived}", self._event(text), None, None, state.now_ns, None, scope, recoveries)
        state.arrived += 1
        return envelope

    def _event(self, text: str) -> Event:
        event = self._serializer.deserialize(text)
        if not isinstance(event, Event):
            raise ValueError(f"an event was read as {type(event).__name__}, which is no Event: {text:.80}")
        return event


class _Homes:
    """In which open fan-outs the events live that a step of several events has got.

    Where there are several that they could live in, the peer joins across them; here an event goes where most of what
    it is to be joined with is still to come.
    """

    def __init__(
        self,
        step: StepSpec,
        steps: list[StepSpec],
        levels: Mapping[Scope, tuple[str, ...]],
        in_flight: list[tuple[Scope, tuple[type[Event], ...]]],
    ) -> None:
        self._step = step
        self._steps = steps
        self._levels = levels
        self._levels_of = levels_of(steps)
        self._in_flight = in_flight
        self._placed = Counter[tuple[Scope, type[Event]]]()

    def of(self, event_class: type[Event], kind: type[Event]) -> Scope:
        """The scope of one event, of a class that the step takes as `kind`."""
        known = self._levels_of.get(event_class, set())
        possible = [scope for scope, level in self._levels.items() if level in known] or [()]
        if len(possible) > 1:
            missing = Counter(self._to_come(possible, kind))
            missing.subtract({scope: self._placed[scope, kind] for scope in possible})
            possible.sort(key=lambda scope: missing[scope], reverse=True)
        self._placed[possible[0], kind] += 1
        return possible[0]

    def _to_come(self, possible: list[Scope], kind: type[Event]) -> Iterator[Scope]:
        """Where something is in flight that will be an event of another kind, and none of this."""
        for scope, classes in self._in_flight:
            kinds = {taken_as(self._step, c) for c in self._become(classes) if takes(self._step, c)}
            around = [s for s in possible if scope[: len(s)] == s]
            if kinds and kind not in kinds and around:
                yield max(around, key=len)

    def _become(self, classes: Iterable[type[Event]]) -> set[type[Event]]:
        """The classes of events that these may lead to, themselves included."""
        found: set[type[Event]] = set()
        todo = list(classes)
        while todo:
            event_class = todo.pop()
            if event_class not in found:
                found.add(event_class)
                others = (s for s in self._steps if s is not self._step and takes(s, event_class))
                todo += [c for s in others for c in s.return_types]
        return found


def _inputs(step: StepSpec, saved: SerializedEventAttempt) -> list[str]:
    if step.join == "each" and saved.bound_events is not None:
        return [saved.bound_events[name] for name in step.event_parameters]
    if step.join == "list" and saved.collection_release_payload is not None:
        return saved.collection_release_payload.events
    return [saved.event]


def _attempt_of(waiter: SerializedWaiter) -> SerializedEventAttempt:
    return SerializedEventAttempt(
        event=waiter.event,
        bound_events=waiter.bound_events,
        scope_path=waiter.scope_path,
        collection_release_payload=waiter.collection_release_payload,
        work_item_id=waiter.work_item_id,
    )


def _required(waiter_id: str, given_up: str) -> dict[str, Any]:
    """The requirements of a wait, which stand in the id that the peer gave it."""
    try:
        required, _ = JSONDecoder().raw_decode(waiter_id, len(given_up))
    except ValueError:
        return {}
    return cast("dict[str, Any]", required) if isinstance(required, dict) else {}


def _numbered(call: Call, waiter: SerializedWaiter, required: dict[str, Any]) -> str:
    name = wait_name(call.exec_id, waiter.waiting_for_event.rpartition(".")[2], required)
    same = sum(known.startswith(f"{name}.") for known in (*call.answers, *call.waiting_since))
    return f"{name}.{same}"


def _nanoseconds(seconds: float | None) -> int:
    return 0 if seconds is None else int(seconds * 1e9)
