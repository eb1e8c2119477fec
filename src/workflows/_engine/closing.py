"""What is left of a run when it has ended: attempts and child runs that were stopped, and take their time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from workflows._engine.attempt import Attempt
from workflows._engine.clock import a_turn
from workflows._engine.live import LiveRun, ParentAttempt
from workflows._engine.only_waiting import what_wakes
from workflows._engine.pieces import tell_all, until_told
from workflows._engine.telling import tell_left, tell_run_ended

__all__ = ["close", "end_children", "finish", "stop_children", "stop_some"]

# How often steps that do not end are cancelled, `grace` seconds apart, before their run ends without them.
STOP_ROUNDS = 10

# Attempts that are cancelled in one turn of the event loop when a run ends (2 to 4 ms, with their own last turns); of
# thousands a fortieth, since each turn has to look at all that are left.
STOPPED_AT_ONCE = 80

# Child runs that are cancelled in one turn (about 3 ms, with the last turns of those before them).
CANCELLED_AT_ONCE = 25

UNAWAITED = (
    "run %s of %s is cancelled: the run whose step %s started it has ended, and nobody awaited it there. Await it in a "
    "step; what is to outlive the run must be started elsewhere, or with contextvars.Context().run(workflow.run, ...)"
)
STUBBORN = "steps %s did not end within %s s after their run was over; cancelling them again"
LEFT_BEHIND = "steps %s go on although they were cancelled again and again; run %s ends without them"

logger = logging.getLogger("workflows.run")


async def close(run: LiveRun) -> None:
    """Wait for the attempts that the end has stopped, let go of the resources, and tell."""
    try:
        await _stop_all(run)
        await until_told(run)
    finally:
        try:
            if run.plan.teardown is not None:
                await run.plan.teardown()
        finally:
            finish(run)


def finish(run: LiveRun) -> None:
    """Nothing of the run is left: say so to whoever listens, then to whoever waits."""
    if run.is_over:
        return
    for exec_id in list(run.ending_waits or ()):  # where the loop is closed
        run.end_waits(exec_id)
    if run.timers_made is not None:
        run.timers_made.clear()
    for attempt in list(run.attempts.values()):
        _leave(run, attempt)
    try:
        tell_all(run)
        if run.dispatcher.handlers and run.end is not None:
            run.tell_started()
            tell_run_ended(run, run.end)
    except Exception as error:  # noqa: BLE001  # only a strict dispatcher raises: the test must see it
        if run.end is not None and run.end.error is None:
            run.end.error = error
    if run.parent is not None:
        for siblings in (run.parent.children, run.parent.run.children):
            (siblings or {}).pop(run, None)
    run.is_over_now()


async def _stop_all(run: LiveRun) -> None:
    """Wait for the attempts and the children that the end has stopped, in bounded time if they do not stop."""
    while not stop_some(run):
        await a_turn()
    rounds = 0
    while rounds < STOP_ROUNDS and (left := _still_there(run)):
        await asyncio.wait([a.task for a in left if a.task is not None], timeout=run.plan.grace)
        stubborn = [attempt for attempt in _still_there(run) if not attempt.is_over]
        if not stubborn:
            continue
        rounds += 1
        names = ", ".join(sorted({a.step for a in stubborn}))
        if rounds == 1:
            logger.warning(STUBBORN, names, run.plan.grace, extra={"run_id": run.run_id})
        if rounds == STOP_ROUNDS:
            logger.error(LEFT_BEHIND, names, run.run_id, extra={"run_id": run.run_id})
        for attempt in stubborn:
            attempt.stop()
    for child in [c for c in run.stopped_children or () if c.loop is run.loop]:
        await child.until_over()  # it gives up on its own steps in bounded time


async def end_children(attempt: Attempt) -> None:
    """Cancel the runs that a failed attempt started, and wait until they are over: the next attempt starts its own."""
    mine = [child for child in attempt.children or () if child.loop is attempt.run.loop]
    stop_children(attempt.run, attempt)
    for child in mine:
        await child.until_over()  # as in `_stop_all`
        (attempt.run.stopped_children or {}).pop(child, None)


def stop_children(run: LiveRun, attempt: ParentAttempt | None = None) -> None:
    """Cancel child runs, those of one attempt or all, a few in each turn; whoever closes waits until they are over."""
    stopped = run.stopped_children = run.stopped_children or {}
    found = [child for child in (attempt or run).children or () if child not in stopped]
    stopped.update(dict.fromkeys(found))
    if not run.to_cancel:
        run.to_cancel = deque()
        run.loop.call_soon(_cancel_some, run)  # not at once: they may be nested hundreds deep
    running = [child.parent is not None and child.parent.exec_id in run.attempts for child in found]
    run.to_cancel.extend(zip(found, running, strict=True))


def _cancel_some(run: LiveRun) -> None:
    left = run.to_cancel or deque[tuple[LiveRun, bool]]()
    for _ in range(min(CANCELLED_AT_ONCE, len(left))):
        child, of_running = left.popleft()
        # By `post`: those of a sync step live in its thread.
        child.mailbox.post(child.cancel, _why_stopped(run, child, of_running))
    if left:
        run.loop.call_soon(_cancel_some, run)


def _why_stopped(run: LiveRun, child: LiveRun, of_running: bool) -> str:
    step = child.parent.step if child.parent is not None else ""
    if of_running:
        return f"step {step}, which started it, was stopped or failed"
    if run.end is not None and run.end.outcome == "completed":
        logger.warning(UNAWAITED, child.run_id, child.spec.name, step, extra={"run_id": run.run_id})
    return f"run {run.run_id}, whose step {step} started it, is over"


def _leave(run: LiveRun, attempt: Attempt) -> None:
    """The run ends without an attempt: it was cancelled before its first turn, or will not stop."""
    run.attempts.pop(attempt.exec_id, None)
    if not attempt.started:  # else it does so itself, as late as that may be
        run.crowd.attempts -= 1
    attempt.left = True
    if run.dispatcher.handlers:
        tell_left(run, attempt)


def stop_some(run: LiveRun) -> bool:
    """Stop some attempts, and all whose bodies would go on now; whether that was all there were.

    Each that is cancelled runs in the next turn, so there may be too many for one; but no body may go on behind the
    end of its run, which would do the same once more when it goes on.
    """
    left = [attempt for attempt in run.attempts.values() if not attempt.stopped]
    more = max(STOPPED_AT_ONCE, len(left) // 40)
    for attempt in left:
        if attempt.task is not None and what_wakes(attempt.task) is None:
            attempt.stop()
        elif more > 0:
            attempt.stop()
            more -= 1
    return all(attempt.stopped for attempt in left)


def _still_there(run: LiveRun) -> list[Attempt]:
    for attempt in list(run.attempts.values()):
        if not attempt.started and attempt.task is not None and attempt.task.done():
            _leave(run, attempt)
    return list(run.attempts.values())
