"""Whether the event loop has a timer that will end what tasks wait for: of a timeout around it, or of a sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

__all__ = ["have_deadline"]

# With more timers than these nobody looks: each takes some 200 ns, and a call may look often.
MANY = 1000
# What asyncio's timeouts, those of `async_timeout` and the cancel scopes of AnyIO have the task under that they cancel.
TASK_OF = ("_task", "_host_task")


def have_deadline(loop: asyncio.AbstractEventLoop, futures: Iterable[object]) -> bool:
    """Whether a timer is about one of these tasks, or of the futures that they await; so it may be, if none can know.

    asyncio says of no task whether there is a timeout around what it awaits, but its loop has a list of all timers.
    """
    timers: list[asyncio.TimerHandle] | None = getattr(loop, "_scheduled", None)
    if timers is None or len(timers) > MANY:
        return True
    known = {id(future) for future in futures if future is not None}
    return any(not known.isdisjoint(_about(timer)) for timer in timers if not timer.cancelled())


def _about(timer: Any) -> Iterable[int]:
    owner = getattr(timer._callback, "__self__", None)
    yield id(owner)
    yield from (id(getattr(owner, name, None)) for name in TASK_OF)
    yield from map(id, timer._args or ())
