"""Whether something that an attempt does ends at a certain time: a timeout around what it awaits, or a sleep.

asyncio says of no task whether there is a timeout around what it awaits. Its loop has a list of all timers, and each
knows the context in which it was set, which says the attempt. Another loop may tell nothing of its timers: then the
frames of the attempt's tasks say which timers and timeouts they hold.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from inspect import isgenerator
from types import CellType
from typing import Any

from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["Deadlines"]

SCHEDULED = "_scheduled"
"""Where loops of asyncio have their timers."""


class Deadlines:
    """What the timers of one event loop are about."""

    __slots__ = ("_attempts",)

    def __init__(self) -> None:
        self._attempts: set[int] | None = None

    def of(self, attempt: AttemptScope, loop: asyncio.AbstractEventLoop, links: Iterable[object]) -> bool:
        """Whether an attempt has set one.

        Args:
            attempt: The attempt.
            loop: The event loop.
            links: The coroutines of its tasks, where the loop does not tell its timers.
        """
        timers: list[asyncio.TimerHandle] | None = getattr(loop, SCHEDULED, None)
        if timers is None:
            return any(map(_is_in_time, links))
        if self._attempts is None:  # once in a turn, for all that ask: there may be thousands
            live = (timer for timer in timers if not timer.cancelled())
            self._attempts = {id(_set_by(timer)) for timer in live if _is_for_a_task(timer)}
            loop.call_soon(self._forget)
        return id(attempt) in self._attempts

    def _forget(self) -> None:
        self._attempts = None


def _set_by(timer: Any) -> AttemptScope | None:
    return timer._context.get(current_attempt)


def _is_for_a_task(timer: Any) -> bool:
    """Whether a timer does something with a task, as far as its callback says so: pools of connections have others."""
    callback, given = timer._callback, timer._args or ()
    if isinstance(callback, partial):
        callback, given = callback.func, (*callback.args, *given)
    parts = [getattr(callback, "__self__", None), *given]
    for cell in getattr(callback, "__closure__", None) or ():
        with suppress(ValueError):  # its variable has no value yet
            held = cell.cell_contents
            parts += held if isinstance(held, (set, list, tuple)) else [held]
    return any(isinstance(part, (asyncio.Future, asyncio.Timeout)) or _is_scope(part) for part in parts)


def _is_in_time(link: object) -> bool:
    """Whether a coroutine holds a timer, or is in a timeout: what is on its stack is among what it refers to."""
    parts: list[Any] = gc.get_referents(link)
    for part in parts:
        if isinstance(part, CellType):
            part = next(iter(gc.get_referents(part)), None)
        owner = getattr(part, "__self__", None)
        around: Any = getattr(owner, "gen", None)  # of a context manager that is a generator
        if _is_timer(part) or _is_timer(owner) or (isgenerator(around) and _is_in_time(around)):
            return True
    return False


def _is_timer(part: Any) -> bool:
    if isinstance(part, asyncio.Timeout):
        return part.when() is not None and not part.expired()
    if type(part).__name__ == "TimerHandle":
        return not part.cancelled()
    return _is_scope(part) and part.deadline < math.inf


def _is_scope(part: object) -> bool:
    return type(part).__name__ == "CancelScope"  # AnyIO's
