"""Runs one attempt of a step in its own task: binds, calls, asks the retry policy, tells, and puts the tick."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from workflows._engine.attempt import Attempt
from workflows._engine.calls import Call
from workflows._engine.child_waits import waits_below
from workflows._engine.clock import a_turn
from workflows._engine.closing import end_children
from workflows._engine.internal_events import show_ended, show_started
from workflows._engine.live import NONE_RETURNED, LiveRun
from workflows._engine.ticks import AttemptCompleted, AttemptFailed
from workflows._engine.turnstile import ASK_FROM
from workflows.errors import StepCancelledError, StepTimeoutError, WorkflowRuntimeError
from workflows.events import CollectionReleaseEvent, Event, StepFailedEvent, StopEvent
from workflows.instrumentation.history import REFS_KEPT, ChainedFacts, EventRef, HistoryEntry
from workflows.instrumentation.records import Envelope, StepEnded, StepOutcome, StepStarted
from workflows.instrumentation.scope import current_attempt
from workflows.retry_policy import policy_name

__all__ = ["run_attempt"]

ENVELOPED_AT_ONCE = 1000  # elements of a returned list that are taken in one turn of the event loop: about 1 ms


async def run_attempt(attempt: Attempt) -> None:
    """Run the body once, and tell the run how it ended. Raises only a cancellation by the run.

    The records are told here, in the step's own task, so that a handler can make its span current around the body.
    """
    attempt.started = True
    run = attempt.run
    current_attempt.set(attempt)  # for good: the task's context is its own
    tick: AttemptCompleted | AttemptFailed | None = None
    try:
        if run.dispatcher.handlers or run.stream.internal:
            _tell_started(attempt)
        step = attempt.call.step
        if step.plain:
            arguments = {step.event_name: attempt.call.inputs[0].event}
            if step.context_parameter is not None:
                arguments[step.context_parameter] = attempt.context
            result = await (run.functions.get(step.name) or run.function(step))(**arguments)
        else:
            result = await _call(attempt)
        many = isinstance(result, list)
        returned = await _fanned_out(attempt, cast("list[Event]", result)) if many else _completed(attempt, result)
        if run.plan.checkpoint is not None or (run.turnstile.attempts > ASK_FROM and not run.turnstile.passes()):
            await _before_routing(attempt, returned, result)
        tick = returned
    except asyncio.CancelledError as error:
        if _was_stopped(attempt):
            await _tell_stopped_in_turn(attempt)
            raise
        leaked = _leaked(attempt, error)
        await _before_failing(attempt, leaked)
        tick = _failed(attempt, leaked)
    except Exception as error:  # noqa: BLE001  # this is where a step's errors are owned
        await _before_failing(attempt, error)
        tick = _failed(attempt, error)
    finally:
        run.attempts.pop(attempt.exec_id, None)
        run.turnstile.attempts -= 1
        attempt.task = None  # its context holds the attempt: they would have to wait for the garbage collector
        if attempt.used:
            attempt.end()
        if tick is None and not attempt.stopped:
            _tell_crash(attempt, sys.exception())
    assert tick is not None, "what is no Exception has left this function already"
    _hand_in(attempt, tick)


async def _before_routing(attempt: Attempt, returned: AttemptCompleted, result: Event | list[Event] | None) -> None:
    run = attempt.run
    if run.plan.checkpoint is not None:
        await _keep_while(attempt, returned, run.plan.checkpoint(attempt, _input_event(attempt.call), result))
        if not _is_crowded(run):
            return
    await _keep_while(attempt, returned, run.turnstile.wait())


def _is_crowded(run: LiveRun) -> bool:
    """Whether as many attempts have ended in this turn of the event loop as may."""
    return run.turnstile.attempts > ASK_FROM and not run.turnstile.passes()


async def _keep_while(attempt: Attempt, returned: AttemptCompleted, doing: Awaitable[None]) -> None:
    """Await something; snapshots taken meanwhile have what the body returned, and not the body again."""
    run = attempt.run
    _keep(run, returned)
    try:
        await doing
    except asyncio.CancelledError:
        _was_stopped(attempt)  # where nobody of the run did it, this ends the run
        raise
    finally:
        if run.state.ended is None:  # else the run may go on from here
            del run.returned[attempt.exec_id]
    returned.at_ns = run.clock.now_ns()


def _keep(run: LiveRun, returned: AttemptCompleted) -> None:
    if run.returned is NONE_RETURNED:
        run.returned = {}
    run.returned[returned.exec_id] = returned


def _hand_in(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    run = attempt.run
    if not attempt.stopped:
        _route(attempt, tick)
    elif isinstance(tick, AttemptFailed):
        _tell_stopped(attempt, tick.error)  # it failed while it was being stopped: no retry, no handler
    elif not attempt.left:  # it did not heed that it was being stopped (`asyncio.wait_for` may swallow that)
        _keep(run, tick)
        _route(attempt, tick)
    if run.turnstile.entered:
        run.turnstile.leave()


def _route(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    run = attempt.run
    _remember(attempt, "completed" if tick.__class__ is AttemptCompleted else _outcome(tick), tick.at_ns, tick.returned)
    if run.dispatcher.handlers or run.stream.internal:
        _tell_ended(attempt, tick)
    run.mailbox.put(tick)


def _was_stopped(attempt: Attempt) -> bool:
    """Whether the run stopped it, or somebody cancelled its task (that interrupts the run); else its body leaked it."""
    task = asyncio.current_task()
    if not attempt.stopped and task is not None and task.cancelling():
        attempt.run.crash(None)
    return attempt.stopped


async def _before_failing(attempt: Attempt, error: Exception) -> None:
    if attempt.stopped:
        return  # and so were its child runs, for which its run waits
    try:
        if attempt.children:
            await end_children(attempt)
        if _is_crowded(attempt.run):
            await attempt.run.turnstile.wait()
    except asyncio.CancelledError:
        if _was_stopped(attempt):
            _tell_stopped(attempt, error)
        raise


def _events(call: Call) -> dict[str, Any]:
    events = [envelope.event for envelope in call.inputs]
    if call.step.join != "each":
        return {call.step.event_name: events if call.step.join == "list" else events[0]}
    return dict(zip(call.step.event_parameters, events, strict=True))


async def _call(attempt: Attempt) -> Any:
    step, run = attempt.call.step, attempt.run
    arguments = _events(attempt.call)
    if step.context_parameter is not None:
        arguments[step.context_parameter] = attempt.context
    if step.resources and run.plan.resolve is not None:
        arguments.update(await run.plan.resolve(step))
    function = run.function(step)
    if step.timeout is not None:
        return await _within(attempt, step.timeout, function, arguments)
    return await (function(**arguments) if step.is_async else _in_thread(attempt, function, arguments))


async def _within(attempt: Attempt, timeout: float, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    run, is_async = attempt.run, attempt.call.step.is_async
    limit = asyncio.timeout(None)  # the run's timer ends it: thousands may be over at one time
    run.timers.set(attempt.timer, timeout, lambda: limit.reschedule(run.loop.time()))
    try:
        async with limit:
            return await (function(**arguments) if is_async else _in_thread(attempt, function, arguments))
    except TimeoutError as error:
        if not limit.expired():
            raise
        below = waits_below(attempt.children or ())
        waits = f" Open waits of runs that it started: {', '.join(below)}." if below else ""
        if (attempt.waited or below) and run.plan.idle_counts:
            waits += " With Workflow(idle_counts=False) time in which it only waits does not count."
        raise StepTimeoutError(
            f"Step {attempt.step} took longer than {timeout} seconds (attempt {attempt.attempt}). Raise "
            f"@step(timeout=...), or give the step a retry_policy.{waits}",
            step=attempt.step,
            run_id=attempt.run_id,
        ) from error
    finally:
        run.timers.cancel(attempt.timer)


async def _in_thread(attempt: Attempt, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    context = contextvars.copy_context()

    def call() -> Any:
        try:
            return context.run(partial(function, **arguments))
        except StopIteration as error:  # which no future can carry: the step would hang
            raise RuntimeError("a step raised StopIteration") from error

    return await asyncio.get_running_loop().run_in_executor(attempt.run.executor(), call)


def _completed(attempt: Attempt, result: Any) -> AttemptCompleted:
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


async def _fanned_out(attempt: Attempt, result: list[Event]) -> AttemptCompleted:
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


def _leaked(attempt: Attempt, error: asyncio.CancelledError) -> StepCancelledError:
    leaked = StepCancelledError(
        f"Step {attempt.step} raised CancelledError though nobody cancelled it: something that it awaits was "
        f"cancelled. Catch it in the step, or let the awaited task end in another way.",
        step=attempt.step,
        run_id=attempt.run_id,
    )
    leaked.__cause__ = error
    return leaked


def _failed(attempt: Attempt, error: Exception) -> AttemptFailed:
    call, run = attempt.call, attempt.run
    attempt.failed()
    now = run.clock.now_ns()
    tick = AttemptFailed(now, call.exec_id, error, timed_out=isinstance(error, StepTimeoutError))
    if attempt.stopped:
        return tick
    elapsed = (now - call.first_started_ns) / 1e9
    try:
        tick.retry_delay = _checked_delay(attempt, _verdict(attempt, elapsed, error))
    except Exception as policy_error:  # noqa: BLE001  # a policy is the user's code as well
        policy_error.__cause__ = error
        tick.error = policy_error
        return tick
    handler = run.spec.error_handlers.get(attempt.step) if tick.retry_delay is None else None
    if handler is not None and (call.recoveries or {}).get(handler.name, 0) < handler.max_recoveries:
        tick.handled_by = handler.name
        tick.failure = attempt.envelope(
            StepFailedEvent(
                step_name=attempt.step,
                input_event=_input_event(call),
                exception=error,
                attempts=attempt.attempt,
                elapsed_seconds=elapsed,
                failed_at=datetime.fromtimestamp(now / 1e9, UTC),
            ),
            now,
        )
    return tick


def _input_event(call: Call) -> Event:
    if call.step.join == "one":
        return call.inputs[0].event
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


def _tell_started(attempt: Attempt) -> None:
    call, step, run = attempt.call, attempt.call.step, attempt.run
    if run.stream.internal:
        show_started(attempt)
    if not run.dispatcher.handlers:
        return
    queue = run.state.queues.get(step.name)
    run.tell(
        StepStarted,
        exec_id=call.exec_id,
        step=step.name,
        attempt=attempt.attempt,
        worker=call.worker,
        num_workers=step.num_workers,
        queued_at_ns=call.queued_at_ns,
        queue_depth=len(queue.calls) if queue else 0,
        causes=call.inputs,
        function=step.function.__qualname__,
        retry_policy=policy_name(step.retry_policy) if step.retry_policy is not None else None,
        max_attempts=step.max_attempts,
        previous_error=call.last_error,
        replay=call.replay,
    )


def _tell_ended(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    if attempt.run.stream.internal:
        show_ended(attempt, tick)
    error: BaseException | None = None
    facts: dict[str, Any] = {}
    if isinstance(tick, AttemptFailed):
        error = tick.error
        facts["retry_delay"] = tick.retry_delay
        facts["handled_by"] = tick.handled_by
        facts["retry_elapsed"] = (tick.at_ns - attempt.call.first_started_ns) / 1e9
    _tell_end(attempt, _outcome(tick), error, facts)


def _outcome(tick: AttemptCompleted | AttemptFailed) -> StepOutcome:
    if isinstance(tick, AttemptCompleted):
        return "completed"
    return "retrying" if tick.retry_delay is not None else "timed_out" if tick.timed_out else "failed"


def _remember(attempt: Attempt, outcome: StepOutcome, ended_ns: int, returned: Sequence[Envelope] = ()) -> None:
    call = attempt.call
    causes = call.inputs
    if len(causes) == 1 and len(returned) == 1 and attempt.sent is None and not attempt.answers:
        cause, gave = causes[0], returned[0]
        facts: HistoryEntry | ChainedFacts = (
            attempt.exec_id,
            attempt.step,
            attempt.attempt,
            cause.event_id,
            type(cause.event),
            gave.event_id,
            type(gave.event),
            attempt.started_ns,
            ended_ns,
            outcome,
        )
    else:
        facts = HistoryEntry(
            attempt.exec_id,
            attempt.step,
            attempt.attempt,
            _refs(causes),
            [*(attempt.sent or ()), *_refs(returned)],
            attempt.started_ns,
            ended_ns,
            outcome,
            attempt.answers,
        )
    attempt.run.history.note(facts)


def _refs(envelopes: Sequence[Envelope]) -> Sequence[EventRef]:
    return [(e.event_id, type(e.event)) for e in envelopes[:REFS_KEPT]]


def _tell_crash(attempt: Attempt, error: BaseException | None) -> None:
    if (task := asyncio.current_task()) is not None:  # `await handler` raises it; asyncio need not tell it as well
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    _remember(attempt, "interrupted", attempt.run.clock.now_ns())
    _tell_end(attempt, "interrupted", error, {})
    attempt.run.crash(error)


async def _tell_stopped_in_turn(attempt: Attempt) -> None:
    try:
        if _is_crowded(attempt.run):
            await attempt.run.turnstile.wait()
    finally:  # its run may stop it once more meanwhile
        _tell_stopped(attempt)
        if attempt.run.turnstile.entered:
            attempt.run.turnstile.leave()


def _tell_stopped(attempt: Attempt, error: BaseException | None = None) -> None:
    if attempt.left:
        return
    ended = attempt.run.state.ended
    returned = attempt.run.returned.get(attempt.exec_id) if ended == "suspended" else None
    outcome: StepOutcome = "abandoned"
    if returned is not None:
        outcome = "completed"  # the run goes on with what it returned, and does not start it again
    elif ended in ("cancelled", "timed_out", "interrupted", "suspended"):
        outcome = ended
    _remember(attempt, outcome, attempt.run.clock.now_ns(), returned.returned if returned is not None else ())
    _tell_end(attempt, outcome, error, {})


def _tell_end(attempt: Attempt, outcome: StepOutcome, error: BaseException | None, facts: dict[str, Any]) -> None:
    if not attempt.run.dispatcher.handlers:
        return
    try:
        attempt.run.tell(
            StepEnded,
            exec_id=attempt.exec_id,
            step=attempt.step,
            attempt=attempt.attempt,
            outcome=outcome,
            error=error,
            emitted=tuple(attempt.emitted or ()),
            buffered=attempt.buffered,
            **facts,
        )
    except Exception as failure:  # noqa: BLE001  # only a strict dispatcher raises: the test must see it, the run must end
        attempt.run.crash(failure)
