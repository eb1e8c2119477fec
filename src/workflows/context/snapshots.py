"""A whole context ⇄ a dictionary: the state store, the run's work in flight, its unread stream, its traces."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from workflows._engine.calls import equal
from workflows._engine.live import ResumePoint
from workflows._engine.loop import Run
from workflows._engine.resumed_waits import unreached
from workflows._engine.returned import returned_so_far
from workflows._engine.snapshot import VERSION, dump_returned, dump_run, load_returned, load_run
from workflows._engine.state import RunState, Undelivered
from workflows._engine.telling import awaited_by_run
from workflows._engine.ticks import AttemptCompleted
from workflows._spec import WorkflowSpec
from workflows.context.serializers import BaseSerializer
from workflows.context.state_store import DictState, InMemoryStateStore
from workflows.errors import ContextSerdeError, WorkflowRuntimeError
from workflows.events import Event, InternalDispatchEvent, StopEvent
from workflows.instrumentation.records import Carriers, ContextSaved, Envelope
from workflows.instrumentation.scope import current_attempt

__all__ = ["carriers_of", "dump_context", "load_context", "with_output"]

logger = logging.getLogger("workflows.run")


def dump_context(
    run: Run | None, resume: ResumePoint | None, state: Mapping[str, Any] | None, serializer: BaseSerializer
) -> dict[str, Any]:
    """The snapshot of a context; `state` is the store as it dumps itself, or None to leave it out."""
    data: dict[str, Any] = {"version": VERSION, "state": state, "is_running": False}
    unfinished = run.state.ended in (None, "cancelled", "suspended", "interrupted") if run else resume is not None
    if unfinished:
        data = {**data, **_unfinished(run, resume, serializer)}
    if run and run.dispatcher.handlers:
        run.tell(ContextSaved, workflow=run.spec.name, context=data)
    return data


def _unfinished(run: Run | None, resume: ResumePoint | None, serializer: BaseSerializer) -> dict[str, Any]:
    """What else there is to say of a run that is to go on."""
    live = run.standing() if run else cast("ResumePoint", resume).state
    before = run.plan.resume if run else resume
    segment = before.segment if before else 0
    over = run.end.stop_event if run and run.end else None  # it has not come to its end: it is to go on
    streamed = [e for e in run.stream.unread() if e is not over] if run else before.streamed if before else ()
    returned = returned_so_far(run) if run else before.returned if before else {}
    return {
        "is_running": True,
        "run": dump_run(live, serializer),
        "returned": dump_returned(returned, serializer),
        "checkpoint": _checkpointed(run) if run else before.checkpoint if before else None,
        "stream": [serializer.serialize(e) for e in streamed if not isinstance(e, InternalDispatchEvent)],
        "telemetry": {
            "v": 1,
            "run_id": live.run_id,
            "segment": segment if run else max(0, segment - 1),
            "suspended_at": live.now_ns,
            "waits": _waits_of(live, returned),
            "carriers": carriers_of(run) if run else dict(before.carriers if before else {}),
        },
    }


def _checkpointed(run: Run) -> str | None:
    """The call at whose checkpoint this happens, if any."""
    scope = current_attempt.get()
    return scope.exec_id if scope is not None and scope.run_id == run.run_id and scope.exec_id in run.returned else None


def _waits_of(state: RunState, returned: Container[str]) -> list[dict[str, Any]]:
    open_waits = [wait for wait in state.waits_to_resume if wait.call.exec_id not in returned]
    waits = [(wait.wait_id, wait.event_type.__name__, wait.started_at_ns) for wait in open_waits]
    for call in state.calls.values():
        for wait_id in unreached(state, call) if call.exec_id not in returned else ():
            if wait_id not in call.answers:
                known = call.waiting_for.get(wait_id)
                name = known.class_name.rpartition(".")[2] if known is not None else ""
                waits.append((wait_id, name, call.waiting_since[wait_id] or state.now_ns))
    waits += [(wait.wait_id, awaited_by_run(state.spec), wait.started_at_ns) for wait in state.questions if wait.told]
    return [{"id": wait_id, "type": event_type, "started_at": began} for wait_id, event_type, began in waits]


def carriers_of(run: Run) -> Carriers:
    """What each record handler wants the next segment of a run to know."""
    found = run.context.copy().run(run.dispatcher.carriers, run.run_id) if run.dispatcher.handlers else None
    return {name: dict(carrier) for name, carrier in (found or {}).items()}


def load_context(
    data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer
) -> tuple[InMemoryStateStore[Any], ResumePoint | None]:
    """What `dump_context` wrote, or what llama-index-workflows did (its formats 0, 1 and 2).

    Returns:
        The state, and where the run goes on: None where the snapshot was taken between runs.

    Raises:
        ContextSerdeError: If it is something else, or names classes that may not be rebuilt.
    """
    ours = _is_ours(data)
    try:
        store = _load_store(data.get("state"), spec, serializer)
        resume = _load_ours(data, spec, serializer) if ours else _load_older(data, spec, serializer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContextSerdeError(
            f"The snapshot of {spec.name} cannot be read: {type(error).__name__}: {error}. It must be what "
            f"Context.to_dict() of the same workflow gave, unchanged."
        ) from error
    return store, resume


def _is_ours(data: Mapping[str, Any]) -> bool:
    version = data.get("version") if hasattr(data, "get") else None
    if version == VERSION:
        return True
    if hasattr(data, "get") and tells_version_two(data):
        return False
    raise ContextSerdeError(
        f"The snapshot has version {version!r}, this Spanflow reads {VERSION!r}, and 1 and 2 of llama-index-workflows. "
        f"Pass what Context.to_dict() gave; a snapshot of a newer version needs a newer Spanflow."
    )


def tells_version_two(data: Mapping[str, Any]) -> bool:
    """Whether a snapshot is in format 2 or older; one that says nothing at all (`{}`) is in none."""
    version = data.get("version")
    return version in (1, 2) or (version is None and "is_running" in data and "queues" in data)


def _load_ours(data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer) -> ResumePoint | None:
    if not data["is_running"]:
        return None
    state = load_run(data["run"], spec, serializer)
    if gone := {call["step"] for call in data["run"]["calls"]} - spec.steps.keys():
        logger.warning(
            "the snapshot of run %s has work of %s, which %s does not have: it is left out",
            state.run_id,
            ", ".join(sorted(gone)),
            spec.name,
            extra={"run_id": state.run_id},
        )
    told = data["telemetry"]
    streamed = cast("list[Event]", [serializer.deserialize(text) for text in data["stream"]])
    returned = load_returned(data.get("returned", ()), state, serializer)
    return ResumePoint(state, int(told["segment"]) + 1, told["carriers"], streamed, returned, data.get("checkpoint"))


def _load_older(data: Mapping[str, Any], spec: WorkflowSpec, serializer: BaseSerializer) -> ResumePoint | None:
    from workflows.context.version_two import load_version_two, streamed_in  # rarely needed, and takes a while

    state = load_version_two(data, spec, serializer)
    return None if state is None else ResumePoint(state, 1, {}, streamed_in(data, serializer))


def _load_store(
    state: Mapping[str, Any] | None, spec: WorkflowSpec, serializer: BaseSerializer
) -> InMemoryStateStore[Any]:
    state_type = spec.state_type or DictState
    if state is None:
        return InMemoryStateStore(state_type())
    return InMemoryStateStore.from_dict(state, serializer, state_type)


def with_output(resume: ResumePoint, step: str | None, output: Sequence[Event]) -> ResumePoint:
    """A run that goes on with these events as what the step returned at whose end the snapshot was taken.

    A snapshot of an older version has nothing in flight then: they are sent from outside.

    Raises:
        WorkflowRuntimeError: If the step returned another number of events.
    """
    state = resume.state
    stop = next((event for event in output if isinstance(event, StopEvent)), None)
    if not (resume.returned or state.calls or state.undelivered or state.handed):
        if stop is not None:
            return replace(resume, returned={"": AttemptCompleted(state.now_ns, "", (), stop=stop)})
        state.arrived += len(output)
        first = state.arrived - len(output) + 1
        sent = [Envelope(f"x{n}", event, None, None, state.now_ns) for n, event in enumerate(output, first)]
        state.undelivered = (Undelivered("", 1, (), False, deque(sent)),)
        return resume
    made = [one for one in resume.returned.values() if state.calls[one.exec_id].step.name == step]
    if resume.checkpoint in resume.returned:
        made = [resume.returned[resume.checkpoint]]
    if not made or any(_gave(one, output) for one in made):
        return resume
    last = made[-1]
    if len(last.returned) != len(output):
        raise WorkflowRuntimeError(
            f"Step {step} returned {len(last.returned)} events where the checkpoint was made, its output_event has "
            f"{len(output)}. Put another event in the place of each."
        )
    returned = tuple(replace(given, event=event) for given, event in zip(last.returned, output, strict=True))
    return replace(resume, returned={**resume.returned, last.exec_id: replace(last, returned=returned, stop=stop)})


def _gave(completed: AttemptCompleted, output: Sequence[Event]) -> bool:
    given = [envelope.event for envelope in completed.returned]
    return len(given) == len(output) and all(equal(one, other) for one, other in zip(given, output, strict=True))
