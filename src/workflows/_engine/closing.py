"""What is left of a run when it has ended: attempts and child runs that were stopped, and take their time."""

from __future__ import annotations

import asyncio
import logging

from workflows._engine.attempt import Attempt
from workflows._engine.clock import a_turn
from workflows._engine.live import LiveRun
from workflows._engine.telling import tell_left

__all__ = ["STOPPED_AT_ONCE", "end_children", "leave", "stop_all"]

# How often steps that do not end are cancelled, `grace` seconds apart, before their run ends without them.
STOP_ROUNDS = 10

# Attempts that are cancelled in one turn of the event loop when a run ends (about 4 ms, with their own last turns).
STOPPED_AT_ONCE = 200

STUBBORN = "steps %s did not end within %s s after their run was over; cancelling them again"
LEFT_BEHIND = "steps %s go on although they were cancelled again and again; run %s ends without them"

logger = logging.getLogger("workflows.run")


async def stop_all(run: LiveRun) -> None:
    """Wait for the attempts and the children that the end has stopped, in bounded time if they do not stop."""
    await _stop_in_pieces(run)
    for rounds in range(STOP_ROUNDS):
        if not (left := _still_there(run)):
            break
        await asyncio.wait([a.task for a in left if a.task is not None], timeout=run.plan.grace)
        if left := _still_there(run):
            names = ", ".join(sorted({a.step for a in left}))
            if rounds == 0:
                logger.warning(STUBBORN, names, run.plan.grace, extra={"run_id": run.run_id})
            if rounds == STOP_ROUNDS - 1:
                logger.error(LEFT_BEHIND, names, run.run_id, extra={"run_id": run.run_id})
        for attempt in left:
            attempt.stop()
    for child in [c for c in run.stopped_children if c.loop is run.loop]:
        await child.until_over()  # it gives up on its own steps in bounded time


async def end_children(attempt: Attempt) -> None:
    """Cancel the runs that a failed attempt started, and wait until they are over: the next attempt starts its own."""
    run = attempt.run
    mine = [child for child, parent in (run.children or {}).items() if parent is attempt and child.loop is run.loop]
    run.stop_children(attempt)
    for child in mine:
        await child.until_over()  # as in `stop_all`
    run.stopped_children = tuple(child for child in run.stopped_children if not child.is_over)


def leave(run: LiveRun, attempt: Attempt) -> None:
    """The run ends without an attempt: it was cancelled before its first turn, or will not stop."""
    run.attempts.pop(attempt.exec_id, None)
    attempt.left = True
    if run.dispatcher.handlers:
        tell_left(run, attempt)


async def _stop_in_pieces(run: LiveRun) -> None:
    """Stop attempts that are too many for one turn: each that is cancelled runs in the next one."""
    for number, attempt in enumerate(list(run.attempts.values())):
        if not attempt.stopped:
            attempt.stop()
        if number % STOPPED_AT_ONCE == STOPPED_AT_ONCE - 1:
            await a_turn()


def _still_there(run: LiveRun) -> list[Attempt]:
    for attempt in list(run.attempts.values()):
        if not attempt.started and attempt.task is not None and attempt.task.done():
            leave(run, attempt)
    return list(run.attempts.values())
