"""Tells the records about a run as a whole and about effects; called only when somebody listens."""

from __future__ import annotations

from typing import Any

from workflows._engine.attempt import Attempt
from workflows._engine.calls import Wait
from workflows._engine.effects import BufferEvent, EndRun, EndWait, ReleaseFanIn, ScheduleRetry, StartWait, TellSent
from workflows._engine.live import LiveRun
from workflows._engine.questions import RunWait
from workflows._spec import WorkflowSpec
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent
from workflows.instrumentation.backlog import watch_stream
from workflows.instrumentation.records import (
    EventSent,
    EventUnhandled,
    FanInBuffered,
    FanInReleased,
    RetryScheduled,
    RunCounts,
    RunEnded,
    RunResumed,
    RunStarted,
    RunSuspended,
    StepEnded,
    WaitCancelled,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)

__all__ = [
    "awaited_by_run",
    "tell_buffered",
    "tell_left",
    "tell_released",
    "tell_retry",
    "tell_run_ended",
    "tell_run_started",
    "tell_run_wait",
    "tell_sent",
    "tell_wait_ended",
    "tell_wait_started",
]


def tell_run_started(run: LiveRun, queue_wait: float) -> None:
    """The run passed its gate and begins."""
    plan = run.plan
    resume = plan.resume
    watch_stream(run.stream, plan.spec.name)
    run.tell(
        RunResumed if resume else RunStarted,
        workflow=plan.spec.name,
        version=plan.version,
        span_kind=plan.span_kind,
        graph_hash=plan.spec.fingerprint,
        parent=(run.parent.run_id, run.parent.exec_id) if run.parent else None,
        root_run_id=run.root_run_id,
        segment=resume.segment if resume else 0,
        carriers=resume.carriers if resume else {},
        identity=plan.identity,
        start_event=plan.start_event,
        timeout=plan.timeout,
        queue_wait=queue_wait,
    )


def tell_run_ended(run: LiveRun, end: EndRun) -> None:
    """The run is over and every attempt of it has been told as ended."""
    state = run.state
    begun = state.steps - run.to_begin  # the others have ended with the run before their turn
    counts = RunCounts(begun, state.retries, state.events, run.streamed, state.handled_errors, state.unhandled)
    if end.outcome == "suspended":
        run.tell(RunSuspended, counts=counts)
        return
    run.tell(
        RunEnded,
        outcome=end.outcome,
        error=end.error,
        stop_event=end.stop_event,
        counts=counts,
        failed_step=end.failed_step,
        reason=end.reason,
    )


def tell_sent(run: LiveRun, sent: TellSent) -> None:
    """An event entered the run; and, where that is so, nobody took it."""
    queued_for = tuple([step.name for step in sent.takers])
    if not sent.late:
        run.tell(EventSent, envelope=sent.envelope, target=sent.target, queued_for=queued_for)
    if not queued_for and not sent.answered and not isinstance(sent.envelope.event, InputRequiredEvent):
        run.tell(EventUnhandled, envelope=sent.envelope)


def tell_retry(run: LiveRun, retry: ScheduleRetry) -> None:
    """Another attempt will follow."""
    call = retry.call
    run.tell(
        RetryScheduled,
        exec_id=call.exec_id,
        step=call.step.name,
        attempt=call.attempt,
        delay=retry.delay,
        due_ns=retry.due_ns,
        error=retry.error,
    )


def tell_released(run: LiveRun, effect: ReleaseFanIn) -> None:
    """A join is complete."""
    call, members = effect.call, tuple(effect.members)
    run.tell(FanInReleased, exec_id=call.exec_id, step=call.step.name, group=effect.group, members=members)


def tell_buffered(run: LiveRun, effect: BufferEvent) -> None:
    """A join kept an event."""
    run.tell(
        FanInBuffered,
        exec_id=effect.exec_id,
        step=effect.step.name,
        group=effect.group,
        event_id=effect.newest.event_id,
        size=effect.size,
        missing=tuple([c.__name__ for c in effect.missing]),
    )


def tell_wait_started(run: LiveRun, effect: StartWait) -> None:
    """A call waits."""
    wait = effect.wait
    run.tell(
        WaitStarted,
        asked=wait.asked,
        takes=(wait.event_type,),
        subclasses=wait.match_subclasses,
        requirements=wait.requirements,
        timeout=wait.timeout,
        **_about_wait(wait),
    )


def tell_wait_ended(run: LiveRun, effect: EndWait) -> None:
    """A wait was answered, timed out, or ended with its run."""
    wait = effect.wait
    about = _about_wait(wait)
    if wait.answer is not None:
        run.tell(WaitResolved, answer=wait.answer, **about)
    elif wait.timed_out:
        run.tell(WaitTimedOut, timeout=wait.timeout, **about)
    else:
        run.tell(WaitCancelled, **about)


def tell_run_wait(run: LiveRun, wait: RunWait, *, ended: bool) -> None:
    """The idle run waits for a person, or stopped doing so."""
    about: dict[str, Any] = {
        "wait_id": wait.wait_id,
        "kind": "run",
        "event_type": awaited_by_run(run.spec),
        "exec_id": None,
        "step": None,
        "started_at_ns": wait.started_at_ns,
        "question": wait.question,
    }
    if not ended:
        steps = run.spec.steps.values()
        takes, subclasses = _answers_to_run(run.spec), any(s.accept_event_subclasses for s in steps)
        run.tell(WaitStarted, asked=wait.question.event, takes=takes, subclasses=subclasses, **about)
    elif wait.answer is not None:
        run.tell(WaitResolved, answer=wait.answer, **about)
    else:
        run.tell(WaitCancelled, **about)


def awaited_by_run(spec: WorkflowSpec) -> str:
    """The classes of answers that a run takes which waits for a person."""
    return " | ".join([c.__name__ for c in _answers_to_run(spec)])


def _answers_to_run(spec: WorkflowSpec) -> tuple[type[Event], ...]:
    expected = [c for s in spec.steps.values() for c in s.accepted_events if issubclass(c, HumanResponseEvent)]
    return tuple(dict.fromkeys(expected)) or (HumanResponseEvent,)


def _about_wait(wait: Wait) -> dict[str, Any]:
    return {
        "wait_id": wait.wait_id,
        "kind": "call",
        "event_type": wait.event_type.__name__,
        "exec_id": wait.call.exec_id,
        "step": wait.call.step.name,
        "started_at_ns": wait.started_at_ns,
    }


def tell_left(run: LiveRun, attempt: Attempt) -> None:
    """An attempt was cancelled before its task first ran, or the run ended without waiting for it any longer."""
    run.tell(
        StepEnded,
        exec_id=attempt.exec_id,
        step=attempt.step,
        attempt=attempt.attempt,
        outcome="abandoned" if attempt.started else "cancelled",
        started=attempt.started,
        causes=() if attempt.started else attempt.call.inputs,
    )
