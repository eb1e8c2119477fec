"""Who may still send an event to an idle run: asked only before it is called stuck, since the answer takes a while."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextvars import Context
from typing import Any, cast

from workflows._engine.attempt import Attempt
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import links
from workflows.instrumentation.scope import current_attempt

__all__ = ["held_elsewhere", "left_behind"]


def left_behind(run: LiveRun) -> asyncio.Task[Any] | None:
    """A task of this thread that began in a step of the run, child runs included, and is not over; costs O(tasks)."""
    for task in asyncio.all_tasks(run.loop):
        variables = _variables_of(task)
        attempt = variables.get(current_attempt) if variables is not None else None
        if isinstance(attempt, Attempt) and attempt.run is run:
            return task
    return None


def held_elsewhere(run: LiveRun) -> bool:
    """Whether anybody but the coroutines that await the run holds its handler or its context, and so may send."""
    awaiting = [link for task in _awaiting(run) for link in links(task)]
    handler = run.handler() if run.handler is not None else None
    if handler is None:
        return True  # it is awaited in a way that we do not know
    context = handler._ctx
    # Besides those coroutines: the variable here and the argument; of the context also the handler, and a checkpointer.
    known = 3 if run.plan.checkpoint is None else 4
    return (
        sys.getrefcount(handler) - 2 > _references(awaiting, handler)
        or sys.getrefcount(context) - known > _references(awaiting, context)
    )  # fmt: skip


def _references(holders: list[object], held: object) -> int:
    return sum(found is held for found in gc.get_referents(*holders))


def _awaiting(run: LiveRun) -> Iterator[asyncio.Task[Any]]:
    for future in run.waiters:
        for wakeup, _ in _callbacks(future):
            if isinstance(task := getattr(wakeup, "__self__", None), asyncio.Task):
                yield cast("asyncio.Task[Any]", task)


def _variables_of(task: asyncio.Task[Any]) -> Context | None:
    """The context of a task that waits for something; None where Python does not say."""
    if hasattr(task, "get_context"):  # since Python 3.12
        return cast("Any", task).get_context()
    wakeups = _callbacks(getattr(task, "_fut_waiter", None))
    return next((variables for wakeup, variables in wakeups if getattr(wakeup, "__self__", None) is task), None)


def _callbacks(future: Any) -> list[tuple[Any, Context]]:
    return getattr(future, "_callbacks", None) or []
