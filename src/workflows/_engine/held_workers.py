"""Workers that do nothing: whoever holds them waits for a lock that a call may hold which waits for a worker itself.

A call that waits for an event gives its worker back, and needs one to go on. Where it holds a lock meanwhile (one
question at a time, a connection of a pool, the gate of a workflow whose runs it starts), calls that have taken all the
workers may wait for just that: then it goes on without a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from workflows._engine.attempt import Attempt
from workflows._engine.calls import Call
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import links, what_wakes
from workflows._engine.ticks import CallWorks

__all__ = ["heed_workers"]

AnyFuture = asyncio.Future[Any]

LOOK_AFTER = 0.2
"""Seconds between two looks at first; who waits for the same lock in both has waited for it all that time."""
LOOK_AT_LEAST_AFTER = 2.0

# Functions that wait for others of this process, and for no socket or thread. Of anyio's, which read sockets by events
# of asyncio as well, only those that are locks.
_LOCKS = {
    "asyncio.locks": ("Lock.acquire", "Semaphore.acquire", "Condition.wait", "Event.wait"),
    "asyncio.queues": ("Queue.get", "Queue.put"),
    "workflows.context.writer_turns": ("WriterTurns.acquire",),
    "anyio._backends._asyncio": ("Lock.acquire", "Semaphore.acquire", "CapacityLimiter.acquire_on_behalf_of"),
}
_SOCKETS = "anyio._backends._asyncio"


def heed_workers(run: LiveRun, step: str) -> None:
    """A call of a step has its answer and no worker: see to it that it goes on."""
    if _timer(step) not in run.timers:
        _look_later(run, step, LOOK_AFTER, {})


def _timer(step: str) -> str:
    return f"workers {step}"


def _look_later(run: LiveRun, step: str, delay: float, before: Mapping[str, AnyFuture]) -> None:
    run.timers.set(_timer(step), delay, lambda: _look(run, step, delay, before))


def _look(run: LiveRun, step: str, delay: float, before: Mapping[str, AnyFuture]) -> CallWorks | None:
    queue = run.state.queues.get(step)
    answered: Call | None = next((call for call in queue.calls if call.to_resume), None) if queue is not None else None
    if answered is None:
        return None
    holders = [each for each in run.attempts.values() if each.step == step and each.call.worker >= 0]
    locks = {each.exec_id: lock for each in holders if (lock := _lock_of(each)) is not None}
    all_wait = len(locks) == len(holders)
    if not (all_wait and locks == before):
        _look_later(run, step, LOOK_AFTER if all_wait else min(2 * delay, LOOK_AT_LEAST_AFTER), locks)
        return None
    _look_later(run, step, LOOK_AFTER, locks)
    return CallWorks(run.clock.now_ns(), answered.exec_id)


def _lock_of(attempt: Attempt) -> AnyFuture | None:
    """What a body awaits, if that is a lock, or the like."""
    task = attempt.task
    if task is None or task.done():
        return None
    at_gate = bool(attempt.children) and not any(child.has_begun for child in attempt.children or ())
    return what_wakes(task) if at_gate or _is_lock(task) else None


def _is_lock(task: asyncio.Task[Any]) -> bool:
    frames = [frame for link in links(task) if (frame := getattr(link, "cr_frame", None)) is not None]
    called = [(str(frame.f_globals.get("__name__")), frame.f_code.co_qualname) for frame in frames[-2:]]
    if len(called) == 2 and called[0][0] == _SOCKETS:  # then that says what it is
        called.pop()
    return bool(called) and called[-1][1] in _LOCKS.get(called[-1][0], ())
