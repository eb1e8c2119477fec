"""Workers that do nothing: whoever holds them waits for a lock that a call may hold which waits for a worker itself.

A call that waits for an event gives its worker back, and needs one to go on. Where it holds a lock meanwhile (one
question at a time, a connection of a pool, the gate of a workflow whose runs it starts), calls that have taken all the
workers may wait for just that: then it goes on without a worker, one at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from workflows._engine.attempt import Attempt
from workflows._engine.calls import Call, CallPhase
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import Answer, links, parts_of, what_wakes
from workflows._engine.ticks import CallWorks

__all__ = ["heed_workers"]

AnyFuture = asyncio.Future[Any]

LOOK_AFTER = 0.2
"""Seconds between two looks at first; who waits for the same lock in both has waited for it all that time."""
LOOK_AT_LEAST_AFTER = 2.0
MAY_BE_WORK_FOR = 30.0
"""Seconds for which they wait so where another step of the run works, which may have the lock and let go of it, or
where it may be no lock."""

# Functions that wait until another coroutine lets go of something.
_LOCKS = {
    "asyncio.locks": ("Lock.acquire", "Semaphore.acquire"),
    "workflows.context.writer_turns": ("WriterTurns.acquire",),
    "anyio._backends._asyncio": ("Lock.acquire", "Semaphore.acquire", "CapacityLimiter.acquire_on_behalf_of"),
}
# Functions that wait for another coroutine, or for a socket or a thread through one: a pool is a queue, and so is what
# a model streams. Of anyio's, which reads sockets by events of asyncio, only those above.
_SIGNALS = {"asyncio.locks": ("Condition.wait", "Event.wait"), "asyncio.queues": ("Queue.get", "Queue.put")}
_SOCKETS = "anyio._backends._asyncio"
# A lock that processes share is tried, and tried again after a while, by a method with one of these names.
_POLLS = ("acquire", "__aenter__")
_SLEEP = ("asyncio.tasks", "sleep")

GOES_ON = (
    "step %s: a call has its answer and no worker, since all who have one wait for locks, and it may hold these: it "
    "goes on without. Let go of a lock before wait_for_event, or raise num_workers"
)

logger = logging.getLogger("workflows.run")


def heed_workers(run: LiveRun, step: str) -> None:
    """A call of a step has its answer and no worker: see to it that it goes on."""
    if _timer(step) not in run.timers:
        _look_later(run, step, LOOK_AFTER, Looked({}, None))


class Awaited(NamedTuple):
    """What a body waits for.

    Attributes:
        places: What wakes it, or the method that tries again and again.
        maybe_work: Some of that may come from a socket or a thread, or be no lock.
    """

    places: tuple[object, ...]
    maybe_work: bool


class Looked(NamedTuple):
    """What was seen.

    Attributes:
        locks: What each running call of the step waits for, but for those that did something.
        since: When that was seen first, by the clock of the event loop; None where some did something.
    """

    locks: Mapping[str, Awaited]
    since: float | None


def _timer(step: str) -> str:
    return f"workers {step}"


def _look_later(run: LiveRun, step: str, delay: float, before: Looked) -> None:
    run.timers.set(_timer(step), delay, lambda: _look(run, step, delay, before))


def _look(run: LiveRun, step: str, delay: float, before: Looked) -> CallWorks | None:
    queue = run.state.queues.get(step)
    answered: Call | None = next((call for call in queue.calls if call.to_resume), None) if queue is not None else None
    if answered is None:
        return None
    running: list[Attempt] = [each for each in run.attempts.values() if each.call.phase is CallPhase.RUNNING]
    own = [each for each in running if each.step == step]  # also those without a worker
    mine = {each.exec_id: _awaited_by(each) or _still_tries(before.locks.get(each.exec_id)) for each in own}
    locks = {exec_id: found for exec_id, found in mine.items() if found is not None}
    if len(locks) < len(mine):
        _look_later(run, step, min(2 * delay, LOOK_AT_LEAST_AFTER), Looked(locks, None))
        return None
    now = run.loop.time()
    since = before.since if before.since is not None and locks == before.locks else now
    maybe_work = any(found.maybe_work for found in locks.values())
    maybe_work = maybe_work or any(each.step != step and _awaited_by(each) is None for each in running)
    _look_later(run, step, LOOK_AT_LEAST_AFTER if maybe_work else LOOK_AFTER, Looked(locks, since))
    if now - since < (MAY_BE_WORK_FOR if maybe_work else LOOK_AFTER / 2):
        return None
    if (told := f"workers {step}") not in run.warned:
        run.warned |= {told}
        logger.warning(GOES_ON, step, extra={"run_id": run.run_id})
    return CallWorks(run.clock.now_ns(), answered.exec_id)


def _awaited_by(attempt: Attempt) -> Awaited | None:
    """The locks, and the like, that a body waits for, beside events; None if it does something."""
    if attempt.task is None or attempt.task.done():
        return None
    at_gate = bool(attempt.children) and not any(child.has_begun for child in attempt.children or ())
    if at_gate and (awaits := what_wakes(attempt.task)) is not None:
        return Awaited((awaits,), maybe_work=False)
    found: list[object] = []
    maybe_work = False
    todo: list[AnyFuture] = [attempt.task]
    while todo:
        needed = todo.pop()
        awaits = None if needed.done() else what_wakes(needed)
        if needed.done() or isinstance(awaits, Answer):
            continue
        if awaits is None:
            return None
        lock = _lock_of(needed, awaits) if isinstance(needed, asyncio.Task) else None
        if lock is not None:
            found += lock.places
            maybe_work = maybe_work or lock.maybe_work
            continue
        parts, _ = parts_of(needed, awaits)
        if not parts:
            return None
        todo.extend(parts)
    return Awaited(tuple(found), maybe_work)


def _still_tries(before: Awaited | None) -> Awaited | None:
    """What a body waited for, if that is only methods that try again and again: it may be seen where one tries."""
    frames = [getattr(place, "cr_frame", None) for place in before.places] if before is not None else []
    return before if frames and None not in frames else None


def _lock_of(task: asyncio.Task[Any], awaits: AnyFuture) -> Awaited | None:
    """The lock, or what may be one, that a task waits for; None if for neither."""
    frames = [(link, frame) for link in links(task) if (frame := getattr(link, "cr_frame", None)) is not None]
    called = [(str(frame.f_globals.get("__name__")), frame.f_code.co_qualname) for _, frame in frames]
    if called[-1:] == [_SLEEP]:
        polls = next((link for link, frame in frames if frame.f_code.co_name in _POLLS), None)
        return Awaited((polls,), maybe_work=True) if polls is not None else None
    if len(called) > 1 and called[-2][0] == _SOCKETS:  # then that says what it is
        called.pop()
    kinds = (kind for kind in (_LOCKS, _SIGNALS) if called and called[-1][1] in kind.get(called[-1][0], ()))
    kind = next(kinds, None)
    return Awaited((awaits,), kind is _SIGNALS) if kind is not None else None
