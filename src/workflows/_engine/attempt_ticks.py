"""What the result or the error of a step's body becomes: the tick that its run takes."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

from workflows._engine.attempt import OF_WAIT, Attempt
from workflows._engine.calls import Call
from workflows._engine.clock import a_turn
from workflows._engine.ticks import AttemptCompleted, AttemptFailed
from workflows.errors import StepCancelledError, StepTimeoutError, WorkflowRuntimeError
from workflows.events import CollectionReleaseEvent, Event, StepFailedEvent, StopEvent
from workflows.instrumentation.records import Envelope

__all__ = ["completed", "failed", "fanned_out", "input_event", "leaked"]

ENVELOPED_AT_ONCE = 1000  # elements of a returned list that are taken in one turn of the event loop: about 1 ms


def completed(attempt: Attempt, result: Any) -> AttemptCompleted:
    """What one event, or None, does."""
    now = attempt.run.clock.now_ns()
    if result is None:
        return AttemptCompleted(now, attempt.exec_id, ())
    event_class = cast("type[Any]", type(result))
    route = attempt.run.spec.routes.get(event_class)
    if route is None and issubclass(event_class, Event):
        route = attempt.run.spec.route(event_class)
    if route is not None:
        if attempt.call.step.list_returns:
            _check_bare(attempt, event_class)
        stop = result if route.ends_run else None
        returned = (attempt.envelope(result, now),)
        attempt.call.emitted += 1
        return AttemptCompleted(now, attempt.exec_id, returned, False, stop)
    raise _no_event(attempt, result)


async def fanned_out(attempt: Attempt, result: list[Event]) -> AttemptCompleted:
    """What a list does: each element starts a branch. A long one is taken in pieces, so that the loop stays free."""
    # By class, not by element: to ask `isinstance` of a pydantic model takes a microsecond.
    if not attempt.call.step.list_returns or not all(issubclass(kind, Event) for kind in set(map(type, result))):
        raise _no_event(attempt, result)
    now = attempt.run.clock.now_ns()
    scope = (*attempt.call.scope, attempt.exec_id)
    events: list[Envelope] = []
    for number, event in enumerate(result):
        events.append(attempt.envelope(event, now, scope))
        attempt.call.emitted += 1  # at once: a task that the body left behind may send something in between
        if number % ENVELOPED_AT_ONCE == ENVELOPED_AT_ONCE - 1:
            await a_turn()
    ends = {kind for kind in set(map(type, result)) if issubclass(kind, StopEvent)}
    stop = next((event for event in result if type(event) in ends), None) if ends else None
    ended_ns = attempt.run.clock.now_ns()
    return AttemptCompleted(ended_ns, attempt.exec_id, tuple(events), True, cast("StopEvent | None", stop))


def _check_bare(attempt: Attempt, event_class: type[Event]) -> None:
    if not issubclass(event_class, attempt.call.step.bare_returns):
        name = event_class.__name__
        raise WorkflowRuntimeError(
            f"Step function {attempt.step} returned a bare {name}, but its annotation has lists of events. Return "
            f"[{name}(...)] to start a branch, or annotate `-> list[...] | {name}`.",
            step=attempt.step,
            run_id=attempt.run_id,
        )


def _no_event(attempt: Attempt, result: object) -> WorkflowRuntimeError:
    wrong = type(result).__name__
    if isinstance(result, list) and attempt.call.step.list_returns:
        strangers = {type(e).__name__ for e in cast("list[object]", result) if not isinstance(e, Event)}
        wrong = f"a list with {', '.join(sorted(strangers))} in it"
    return WorkflowRuntimeError(
        f"Step function {attempt.step} returned {wrong} instead of an Event instance. Return an event "
        f"(StopEvent(result=...) to end the run), None, or a list of events where the annotation says list.",
        step=attempt.step,
        run_id=attempt.run_id,
    )


def leaked(attempt: Attempt, error: asyncio.CancelledError) -> StepCancelledError:
    """The error of a step out of which a cancellation came that nobody asked for."""
    leaked = StepCancelledError(
        f"Step {attempt.step} raised CancelledError though nobody cancelled it: something that it awaits was "
        f"cancelled. Catch it in the step, or let the awaited task end in another way.",
        step=attempt.step,
        run_id=attempt.run_id,
    )
    leaked.__cause__ = error
    return leaked


def failed(attempt: Attempt, error: Exception) -> AttemptFailed:
    """What an error does: another attempt, if the retry policy says so; else a handler gets it, or the run."""
    call, run = attempt.call, attempt.run
    attempt.failed()
    now = run.clock.now_ns()
    tick = AttemptFailed(now, call.exec_id, error, timed_out=isinstance(error, StepTimeoutError))
    if call.answers:
        tick.unanswered = tuple(_waits_behind(error))
    tick.let_go = attempt.let_go
    if attempt.stopped:
        return tick
    elapsed = call.elapsed_seconds(now)
    try:
        tick.retry_delay = _checked_delay(attempt, _verdict(attempt, elapsed, error))
    except Exception as policy_error:  # noqa: BLE001  # a policy is the user's code as well
        policy_error.__cause__ = error
        tick.error = error = policy_error
    handler = run.spec.error_handlers.get(attempt.step) if tick.retry_delay is None else None
    if handler is not None and (call.recoveries or {}).get(handler.name, 0) < handler.max_recoveries:
        tick.handled_by = handler.name
        tick.failure = attempt.envelope(
            StepFailedEvent(
                step_name=attempt.step,
                input_event=input_event(call),
                exception=error,
                attempts=attempt.attempt,
                elapsed_seconds=elapsed,
                failed_at=datetime.fromtimestamp(now / 1e9, UTC),
            ),
            now,
        )
    return tick


def _waits_behind(error: BaseException) -> Iterator[str]:
    """The waits whose timeout an error is, or has behind it."""
    todo: list[BaseException | None] = [error]
    seen = set[int]()
    while todo:
        found = todo.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if (wait_id := vars(found).get(OF_WAIT)) is not None:
            yield wait_id
        todo += [found.__cause__, None if found.__suppress_context__ else found.__context__]
        if isinstance(found, BaseExceptionGroup):
            todo += cast("BaseExceptionGroup[BaseException]", found).exceptions


def input_event(call: Call) -> Event:
    """What a call was made for: of a join of several events the one that came last, of a list all in one."""
    if call.step.join != "list":
        return call.inputs[call.completed_by].event
    scope = call.inputs[0].scope if call.inputs else call.scope
    return CollectionReleaseEvent(
        events=[e.event for e in call.inputs], stream_id=scope[-1] if scope else "", binding_id=call.step.name
    )


def _verdict(attempt: Attempt, elapsed: float, error: Exception) -> float | None:
    step = attempt.call.step
    if step.retry_policy is None:
        return None
    if not step.policy_takes_seed:
        return step.retry_policy.next(elapsed, attempt.attempt, error)
    text = f"{attempt.run_id}:{attempt.step}:{attempt.attempt}"
    seed = int(hashlib.sha256(text.encode()).hexdigest(), 16) & 0xFFFFFFFF
    seeded = cast("Callable[..., float | None]", step.retry_policy.next)  # the spec says that it takes a seed
    return seeded(elapsed, attempt.attempt, error, seed=seed)


def _checked_delay(attempt: Attempt, verdict: object) -> float | None:
    """What a policy said, if a timer can be set by it: policies are user code."""
    if verdict is None:
        return None
    if isinstance(verdict, int | float) and math.isfinite(verdict):
        return max(0.0, float(verdict))
    raise WorkflowRuntimeError(
        f"The retry policy of step {attempt.step} returned {verdict!r} where seconds until the next attempt are "
        f"expected. Return a finite number, or None to give up.",
        step=attempt.step,
        run_id=attempt.run_id,
    )
