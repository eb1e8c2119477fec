"""The state of a run ⇄ a dictionary of plain values, with its work in flight. Costs what is alive, not what has been.

A call that was running, queued or waiting is queued again when the run resumes, its body from the top (`replay`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from workflows._engine.calls import Awaited, Call, CallPhase, Wait
from workflows._engine.questions import OpenQuestions, RunWait
from workflows._engine.state import FanOut, Gathered, RunState, Undelivered
from workflows._engine.ticks import AttemptCompleted
from workflows._spec import WorkflowSpec, taken_as
from workflows.context.serializers import BaseSerializer
from workflows.events import Event, StopEvent
from workflows.instrumentation.records import Envelope

__all__ = ["VERSION", "dump_returned", "dump_run", "load_returned", "load_run"]

VERSION = "spanflow-1"


def dump_run(state: RunState, serializer: BaseSerializer) -> dict[str, Any]:
    """What `load_run` needs to go on; `serializer` says the events."""
    # What ran comes first, so that it is the first to run again.
    calls = sorted(state.calls.values(), key=lambda c: c.phase is CallPhase.QUEUED)
    asked = state.questions.left(state.calls)
    waits: dict[int, list[tuple[Wait, int]]] = {}
    for wait in state.waits_to_resume:
        waits.setdefault(id(wait.call), []).append((wait, state.open_since(wait)))
    return {
        "run_id": state.run_id,
        "workflow": state.spec.name,
        "fingerprint": state.spec.fingerprint,
        "now_ns": state.now_ns,
        "arrived": state.arrived,
        "asked": None,
        "run_wait": None,
        **(_dump_question(asked[0], serializer) if asked else {}),
        "more_asked": [_dump_question(question, serializer) for question in asked[1:]],
        "open_to_outside": state.open_to_outside,
        "counts": [state.steps, state.retries, state.events, state.handled_errors, state.unhandled],
        "calls": [_dump_call(call, waits.get(id(call), ()), serializer) for call in calls],
        "kept": _dump_envelopes(state.kept, serializer),
        "early": [e.event_id for e in state.early or ()],
        "collected": [
            {"step": step, "group": group, "events": _dump_envelopes(events, serializer)}
            for (step, group), events in state.collected.items()
        ],
        "undelivered": [_dump_undelivered(u, serializer) for u in state.undelivered],
        "fan_outs": [_dump_fan_out(f, serializer) for f in state.fan_outs.values()],
        "stepwise": state.stepwise,
        "handed": _dump_envelopes(state.handed.values(), serializer),
    }


def load_run(data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer) -> RunState:
    """The state that `dump_run` wrote; calls of steps that the workflow no longer has are left out.

    Raises:
        KeyError, TypeError, ValueError: If the data is not what `dump_run` writes.
    """
    state = RunState(spec, str(data["run_id"]))
    state.now_ns, state.arrived = int(data["now_ns"]), int(data["arrived"])
    state.steps, state.retries, state.events, state.handled_errors, state.unhandled = data["counts"]
    if data["asked"]:
        asked = (data, *data.get("more_asked", ()))
        state.questions = OpenQuestions([_load_question(saved, serializer) for saved in asked])
    state.open_to_outside = bool(data["open_to_outside"])

    for saved in data["calls"]:
        if saved["step"] in spec.steps:
            call = _load_call(saved, spec, serializer)
            state.calls[call.exec_id] = call
    state.kept = _load_envelopes(data["kept"], serializer)
    state.early = [e for e in state.kept if e.event_id in data.get("early", ())] or None
    for saved in data["collected"]:
        if (step := spec.steps.get(saved["step"])) is None:
            continue
        gathered = state.collected[saved["step"], saved["group"]] = Gathered()
        for envelope in _load_envelopes(saved["events"], serializer):
            taken = taken_as(step, type(envelope.event)) if step.join == "each" else None
            gathered.add(envelope, taken)
    state.undelivered = [_load_undelivered(saved, serializer) for saved in data.get("undelivered", ())]
    state.stepwise = bool(data.get("stepwise"))
    state.hand_out(_load_envelopes(data.get("handed", ()), serializer))
    for saved in data["fan_outs"]:
        members = {step: _load_envelopes(events, serializer) for step, events in saved["members"].items()}
        state.fan_outs[saved["id"]] = FanOut(
            saved["id"], saved["step"], tuple(saved["scope"]), int(saved["alive"]), members, set(saved["fired"])
        )
    state.goes_on()
    return state


def dump_returned(returned: Mapping[str, AttemptCompleted], serializer: BaseSerializer) -> list[dict[str, Any]]:
    """What bodies have returned that is not routed yet; beside the run, whose calls they still are."""
    return [
        {
            "exec_id": exec_id,
            "fan_out": tick.fan_out,
            "events": _dump_envelopes(tick.returned, serializer),
        }
        for exec_id, tick in returned.items()
    ]


def load_returned(
    saved: Iterable[Mapping[str, Any]], state: RunState, serializer: BaseSerializer
) -> dict[str, AttemptCompleted]:
    """What `dump_returned` wrote, as far as `state` has the calls.

    Raises:
        KeyError, TypeError, ValueError: If the data is not what `dump_returned` writes.
    """
    return {
        data["exec_id"]: _load_returned(data, state, serializer) for data in saved if data["exec_id"] in state.calls
    }


def _load_returned(data: Mapping[str, Any], state: RunState, serializer: BaseSerializer) -> AttemptCompleted:
    fan_out = bool(data["fan_out"])
    envelopes = tuple(_load_envelopes(data["events"], serializer))
    events = [envelope.event for envelope in envelopes]
    stop = next((e for e in events if isinstance(e, StopEvent) and state.spec.route(type(e)).ends_run), None)
    return AttemptCompleted(state.now_ns, data["exec_id"], envelopes, fan_out, stop)


Dump = Callable[[Any, BaseSerializer], Any]


def _as_it_is(value: Any, _: BaseSerializer) -> Any:
    return value


def _as_dict(value: Mapping[str, Any], _: BaseSerializer) -> dict[str, Any]:
    return dict(value)


class _Rare:
    """Parts that most calls, or events, have nothing of; a snapshot may have thousands of both."""

    def __init__(self, dumps: Mapping[str, Dump]) -> None:
        self._dumps = dumps
        self._values = attrgetter(*dumps)

    def add(self, found: object, data: dict[str, Any], serializer: BaseSerializer) -> None:
        """Add what there is of them."""
        values = self._values(found)
        if any(values):
            dumps = zip(self._dumps.items(), values, strict=True)
            data.update((name, dump(value, serializer)) for (name, dump), value in dumps if value)


_OF_ENVELOPE = _Rare(
    {
        "carriers": lambda carriers, _: {name: dict(carrier) for name, carrier in carriers.items()},
        "recoveries": _as_dict,
        "shared": _as_it_is,
        "names": _as_it_is,
    }
)


def _dump_envelope(envelope: Envelope, serializer: BaseSerializer) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": envelope.event_id,
        "event": serializer.serialize(envelope.event),
        "sender": envelope.sender,
        "sender_step": envelope.sender_step,
        "queued_at_ns": envelope.queued_at_ns,
        "scope": list(envelope.scope),
    }
    _OF_ENVELOPE.add(envelope, data, serializer)
    return data


def _dump_envelopes(envelopes: Iterable[Envelope], serializer: BaseSerializer) -> list[dict[str, Any]]:
    return [_dump_envelope(envelope, serializer) for envelope in envelopes]


def _dump_question(wait: RunWait, serializer: BaseSerializer) -> dict[str, Any]:
    return {
        "asked": _dump_envelope(wait.question, serializer),
        "run_wait": [wait.wait_id, wait.started_at_ns] if wait.told else None,
    }


def _load_question(data: Mapping[str, Any], serializer: BaseSerializer) -> RunWait:
    wait_id, started_at_ns = data.get("run_wait") or ("", 0)
    return RunWait(_load_envelope(data["asked"], serializer), str(wait_id), int(started_at_ns))


def _dump_fan_out(fan_out: FanOut, serializer: BaseSerializer) -> dict[str, Any]:
    return {
        "id": fan_out.fan_out_id,
        "step": fan_out.step,
        "scope": list(fan_out.scope),
        "alive": fan_out.alive,
        "members": {step: _dump_envelopes(kept, serializer) for step, kept in fan_out.members.items()},
        "fired": sorted(fan_out.fired),
    }


def _dump_undelivered(undelivered: Undelivered, serializer: BaseSerializer) -> dict[str, Any]:
    return {
        "exec_id": undelivered.exec_id,
        "attempt": undelivered.attempt,
        "scope": list(undelivered.scope),
        "fan_out": undelivered.fan_out,
        "events": _dump_envelopes(undelivered.envelopes, serializer),
    }


def _load_undelivered(saved: Mapping[str, Any], serializer: BaseSerializer) -> Undelivered:
    events = deque(_load_envelopes(saved["events"], serializer))
    return Undelivered(saved["exec_id"], int(saved["attempt"]), tuple(saved["scope"]), bool(saved["fan_out"]), events)


def _load_envelopes(saved: Iterable[Mapping[str, Any]], serializer: BaseSerializer) -> list[Envelope]:
    return [_load_envelope(data, serializer) for data in saved]


def _load_envelope(data: Mapping[str, Any], serializer: BaseSerializer) -> Envelope:
    event = serializer.deserialize(data["event"])
    if not isinstance(event, Event):
        raise ValueError(f"event {data['id']} was read as {type(event).__name__}, which is no Event")
    return Envelope(
        data["id"],
        event,
        data["sender"],
        data["sender_step"],
        int(data["queued_at_ns"]),
        data.get("carriers") or None,
        tuple(data.get("scope", ())),
        data.get("recoveries") or None,
        bool(data.get("shared")),
        data.get("names"),
    )


def _dump_call(call: Call, waits: Sequence[tuple[Wait, int]], serializer: BaseSerializer) -> dict[str, Any]:
    data: dict[str, Any] = {
        "step": call.step.name,
        "exec_id": call.exec_id,
        "inputs": _dump_envelopes(call.inputs, serializer),
        "completed_by": call.completed_by,
        "retrying": call.phase is CallPhase.RETRYING,
        "began": call.first_started_ns > 0,
        "attempt": call.attempt,
        "queued_at_ns": call.queued_at_ns,
        "first_started_ns": call.first_started_ns,
        "paused_ns": call.paused_ns,
        "scope": list(call.scope),
        "had_begun": max(call.had_begun, call.begun),
    }
    _OF_CALL.add(call, data, serializer)
    if isinstance(call.last_error, Exception):
        data["last_error"] = serializer.serialize(call.last_error)
    if call.waiting_since or waits:
        since = data["waiting_since"] = dict(call.waiting_since)
        taken: dict[str, list[Any]] = {}
        for wait_id, known in call.waiting_for.items():
            if wait_id in since:
                _dump_awaited(wait_id, known, taken, serializer)
        for wait, began in waits:
            since[wait.wait_id] = began
            _dump_awaited(wait.wait_id, wait.taken, taken, serializer)
        data["waiting_for"] = taken
    return data


def _dump_awaited(
    wait_id: str,
    awaited: tuple[str, bool, Mapping[str, object], bool, int],
    taken: dict[str, list[Any]],
    serializer: BaseSerializer,
) -> None:
    """Add what a wait takes; it is left out if something of that cannot be written."""
    name, subclasses, requirements, asks, number = awaited
    required: dict[str, str] = {}
    if requirements:
        try:
            required = {key: serializer.serialize(value) for key, value in requirements.items()}
        except Exception:  # noqa: BLE001  # whatever a serializer, or a value of the user's, may raise
            return
    taken[wait_id] = [name, subclasses, required, asks, number]


def _load_awaited(data: Mapping[str, list[Any]], serializer: BaseSerializer) -> dict[str, Awaited]:
    waits: dict[str, Awaited] = {}
    for wait_id, (name, subclasses, required, asks, number) in data.items():
        with suppress(Exception):  # whatever a serializer, or a value of the user's, may raise
            requirements = {key: serializer.deserialize(value) for key, value in required.items()}
            taken = serializer.class_here(str(name))
            waits[wait_id] = Awaited(taken, bool(subclasses), requirements, bool(asks), int(number))
    return waits


def _load_call(data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer) -> Call:
    call = Call(
        data["exec_id"],
        spec.steps[data["step"]],
        tuple(_load_envelopes(data["inputs"], serializer)),
        int(data["queued_at_ns"]),
        data.get("recoveries") or None,
    )
    call.phase = CallPhase.RETRYING if data["retrying"] else CallPhase.QUEUED
    call.replay = bool(data["began"]) and not data["retrying"]
    call.completed_by = int(data.get("completed_by", -1))
    call.scope = tuple(data.get("scope", ()))
    call.attempt, call.emitted = int(data["attempt"]), int(data.get("emitted", 0))
    call.first_started_ns, call.due_ns = int(data["first_started_ns"]), int(data.get("due_ns", 0))
    call.paused_ns = int(data.get("paused_ns", 0))
    call.last_error = serializer.deserialize(error) if (error := data.get("last_error")) else None
    call.last_failed_ns = int(data.get("last_failed_ns", 0))
    answers = data.get("answers", {})
    call.answers = {w: _load_envelope(answer, serializer) if answer else None for w, answer in answers.items()}
    call.had_begun = int(data.get("had_begun", 0))
    call.came_after = dict(data.get("came_after", {}))
    call.at_once = set(data.get("at_once", ()))
    call.apart = {name: [(int(a), int(b)) for a, b in runs] for name, runs in data.get("apart", {}).items()}
    call.kept = _load_envelopes(data.get("kept", ()), serializer)
    call.overtaken, call.let_go = dict(data.get("overtaken", {})), dict(data.get("let_go", {}))
    call.open_ns = int(data.get("open_ns", 0))
    call.missed = frozenset(data.get("missed", ()))
    call.waiting_since = dict(data.get("waiting_since", {}))
    call.waiting_for = _load_awaited(data.get("waiting_for", {}), serializer)
    call.collected = {
        (group, number): None if members is None else _load_envelopes(members, serializer)
        for group, number, members in data.get("collected", ())
    }
    return call


_OF_CALL = _Rare(
    {
        "due_ns": _as_it_is,
        "emitted": _as_it_is,
        "recoveries": _as_dict,
        "last_failed_ns": _as_it_is,
        "answers": lambda answers, to: {w: _dump_envelope(got, to) if got else None for w, got in answers.items()},
        "kept": _dump_envelopes,
        "came_after": _as_dict,
        "at_once": lambda wait_ids, _: sorted(wait_ids),
        "apart": lambda apart, _: {name: [list(run) for run in runs] for name, runs in apart.items()},
        "overtaken": _as_dict,
        "let_go": _as_dict,
        "open_ns": _as_it_is,
        "missed": lambda names, _: sorted(names),
        "collected": lambda collected, to: [
            [group, number, None if members is None else _dump_envelopes(members, to)]
            for (group, number), members in collected.items()
        ],
    }
)
