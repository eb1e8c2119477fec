"""Runs one attempt of a step in its own task: binds, calls, waits for its turn to end, and hands in the tick."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from workflows._engine.attempt import Attempt
from workflows._engine.attempt_telling import tell_crash, tell_ended, tell_started, tell_stopped, warn_of_left
from workflows._engine.attempt_ticks import completed, failed, fanned_out, input_event, leaked
from workflows._engine.calls import Call
from workflows._engine.child_waits import waits_below
from workflows._engine.closing import end_children
from workflows._engine.crowd import MANY
from workflows._engine.live import LiveRun
from workflows._engine.returned import keep, keep_result
from workflows._engine.ticks import AttemptCompleted, AttemptFailed
from workflows._engine.turnstile import Turnstile
from workflows.errors import StepTimeoutError
from workflows.events import Event
from workflows.instrumentation.scope import current_attempt

__all__ = ["run_attempt"]


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
            tell_started(attempt)
        step = attempt.call.step
        if step.plain:
            arguments = {step.event_name: attempt.call.inputs[0].event}
            if step.context_parameter is not None:
                arguments[step.context_parameter] = attempt.context
            result = await (run.functions.get(step.name) or run.function(step))(**arguments)
        else:
            result = await _call(attempt)
        crowd, many = run.crowd, isinstance(result, list)
        if many or run.plan.checkpoint is not None or (crowd.attempts > MANY and not crowd.completing.passes()):
            tick = await _completed(attempt, result, many)
        else:
            tick = completed(attempt, result)
    except asyncio.CancelledError as error:
        if _was_stopped(attempt):
            await _tell_stopped_in_turn(attempt)
            raise
        leak = leaked(attempt, error)
        await _before_failing(attempt, leak)
        tick = failed(attempt, leak)
    except Exception as error:  # noqa: BLE001  # this is where a step's errors are owned
        _was_stopped(attempt)  # or its loop closes, and its body has made another error of that
        await _before_failing(attempt, error)
        tick = failed(attempt, error)
    finally:
        run.attempts.pop(attempt.exec_id, None)
        run.crowd.attempts -= 1
        attempt.task = None  # its context holds the attempt: they would have to wait for the garbage collector
        if attempt.used:
            _end(attempt, tick)
        if tick is None and not attempt.stopped:
            tell_crash(attempt, sys.exception())
    assert tick is not None, "what is no Exception has left this function already"
    _hand_in(attempt, tick)


def _end(attempt: Attempt, tick: AttemptCompleted | AttemptFailed | None) -> None:
    if attempt.waited and tick is not None and not attempt.stopped:
        warn_of_left(attempt)
    attempt.end()


async def _completed(attempt: Attempt, result: Any, many: bool) -> AttemptCompleted:
    run = attempt.run
    if not many and run.plan.checkpoint is None:
        return await _completed_in_turn(attempt, result)
    returned = await fanned_out(attempt, cast("list[Event]", result)) if many else completed(attempt, result)
    if run.plan.checkpoint is not None:
        await _keep_while(attempt, returned, run.plan.checkpoint(attempt, input_event(attempt.call), result))
    if _is_crowded(run, run.crowd.completing):
        await _keep_while(attempt, returned, run.crowd.completing.wait())
    return returned


async def _completed_in_turn(attempt: Attempt, result: Any) -> AttemptCompleted:
    # Thousands may come here in one turn, so nothing is made of the result before its own.
    run, results = attempt.run, attempt.run.crowd.results
    results[id(attempt)] = result
    try:
        await run.crowd.completing.wait()
    except asyncio.CancelledError:
        keep_result(attempt)
        if not _was_stopped(attempt):
            run.returned.pop(attempt.exec_id, None)  # another attempt may be made
        raise
    finally:
        results.pop(id(attempt), None)
    returned = run.returned.pop(attempt.exec_id, None) or completed(attempt, result)
    returned.at_ns = run.clock.now_ns()
    return returned


def _is_crowded(run: LiveRun, turnstile: Turnstile) -> bool:
    """Whether as many attempts have ended in this turn of the event loop as may."""
    return run.crowd.attempts > MANY and not turnstile.passes()


async def _keep_while(attempt: Attempt, returned: AttemptCompleted, doing: Awaitable[None]) -> None:
    """Await something; snapshots taken meanwhile have what the body returned, and not the body again."""
    run = attempt.run
    keep(run, returned)
    try:
        await doing
    except asyncio.CancelledError:
        _was_stopped(attempt)  # where nobody of the run did it, this ends the run
        raise
    finally:
        if run.state.ended is None:  # else the run may go on from here
            del run.returned[attempt.exec_id]
    returned.at_ns = run.clock.now_ns()


def _hand_in(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    run = attempt.run
    if not attempt.stopped:
        if attempt.waited:
            attempt.give_up_unread()
        tell_ended(attempt, tick)
        run.mailbox.put(tick)
    elif isinstance(tick, AttemptFailed):
        tell_stopped(attempt, tick.error)  # it failed while it was being stopped: no retry, no handler
    elif not attempt.left:  # it did not heed that it was being stopped (`asyncio.wait_for` may swallow that)
        keep(run, tick)
        tell_ended(attempt, tick)
    passed = run.crowd.completing if tick.__class__ is AttemptCompleted else _of_failures(run)
    if passed.entered:
        passed.leave()


def _was_stopped(attempt: Attempt) -> bool:
    """Whether the run stopped it, or its loop closes (that interrupts the run); else its body leaked it, or made it."""
    task = asyncio.current_task()
    if not attempt.stopped and task is not None and task.cancelling():
        if attempt.run.crowd.loop_closes:
            attempt.run.crash(None)
        else:
            while task.cancelling():
                task.uncancel()
    return attempt.stopped


def _of_failures(run: LiveRun) -> Turnstile:
    return run.crowd.failing if run.dispatcher.handlers else run.crowd.completing


async def _before_failing(attempt: Attempt, error: Exception) -> None:
    run = attempt.run
    if run.crowd.completing.entered:  # what its body returned was no event
        run.crowd.completing.leave()
    if attempt.stopped:
        return  # and so were its child runs, for which its run waits
    try:
        if attempt.children:
            await end_children(attempt)
        turnstile = _of_failures(run)
        if _is_crowded(run, turnstile):
            await turnstile.wait()
    except asyncio.CancelledError:
        if _was_stopped(attempt):
            await _tell_stopped_in_turn(attempt, error)
        raise


async def _tell_stopped_in_turn(attempt: Attempt, error: Exception | None = None) -> None:
    attempt.is_over = True
    run = attempt.run
    turnstile = run.crowd.completing if error is None else _of_failures(run)
    try:
        if _is_crowded(run, turnstile):
            await turnstile.wait()
    finally:  # its run may stop it once more meanwhile
        tell_stopped(attempt, error)
        if turnstile.entered:
            turnstile.leave()


def _events(call: Call) -> dict[str, Any]:
    events = [envelope.event for envelope in call.inputs]
    if call.step.join != "each":
        return {call.step.event_name: events if call.step.join == "list" else events[0]}
    return dict(zip(call.step.event_parameters, events, strict=True))


async def _call(attempt: Attempt) -> Any:
    timeout = attempt.call.step.timeout
    return await (_work(attempt) if timeout is None else _within(attempt, timeout))


async def _work(attempt: Attempt) -> Any:
    step, run = attempt.call.step, attempt.run
    arguments = _events(attempt.call)
    if step.context_parameter is not None:
        arguments[step.context_parameter] = attempt.context
    if step.resources and run.plan.resolve is not None:
        arguments.update(await run.plan.resolve(step))
    function = run.function(step)
    return await (function(**arguments) if step.is_async else _in_thread(attempt, function, arguments))


async def _within(attempt: Attempt, timeout: float) -> Any:
    run = attempt.run
    limit = asyncio.timeout(None)  # the run's timer ends it: thousands may be over at one time
    run.timers.set(attempt.timer, timeout, lambda: limit.reschedule(run.loop.time()))
    try:
        async with limit:
            return await _work(attempt)
    except (TimeoutError, asyncio.CancelledError) as error:
        # With a task group that has failed, Python 3.11 leaves the task cancelled: it says no TimeoutError then.
        if not limit.expired() or attempt.stopped:
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
