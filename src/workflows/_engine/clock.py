"""The time of runs: wall-clock nanoseconds, anchored once a run and advanced by the event loop's monotonic clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Clock", "a_turn"]

SHARED_NS = 1_000_000_000  # runs that start within a second of each other have one clock


async def a_turn() -> None:
    """Let everything else that is ready on the event loop go first."""
    await asyncio.sleep(0)


class Clock:
    """Reads the loop's time, so that a loop with virtual time makes the whole run virtual.

    A loop may have `wall_ns()` (wall-clock nanoseconds); then it is the anchor instead of the system's clock.
    """

    __slots__ = ("_anchor_ns", "_made_ns", "_monotonic_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        real = type(loop).time is asyncio.BaseEventLoop.time  # which is time.monotonic(), behind two calls
        self._monotonic_ns: Callable[[], int] = time.monotonic_ns if real else lambda: round(loop.time() * 1e9)
        wall_ns: Callable[[], int] = getattr(loop, "wall_ns", time.time_ns)
        self._made_ns = self._monotonic_ns()
        self._anchor_ns = wall_ns() - self._made_ns

    def now_ns(self) -> int:
        """Wall-clock nanoseconds since the epoch."""
        return self._anchor_ns + self._monotonic_ns()

    def is_fresh(self) -> bool:
        """Whether it was anchored so lately that a run which starts now needs no other."""
        return self._monotonic_ns() - self._made_ns < SHARED_NS
