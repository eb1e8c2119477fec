"""The time of a run: wall-clock nanoseconds, anchored once and advanced by the event loop's monotonic clock."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Clock"]


class Clock:
    """Reads the loop's time, so that a loop with virtual time makes the whole run virtual.

    A loop may have `wall_ns()` (wall-clock nanoseconds); then it is the anchor instead of the system's clock.
    """

    __slots__ = ("_anchor_ns", "_loop", "_time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._time = loop.time
        wall_ns = getattr(loop, "wall_ns", time.time_ns)
        self._anchor_ns: int = wall_ns() - int(loop.time() * 1e9)

    def now_ns(self) -> int:
        """Wall-clock nanoseconds since the epoch."""
        return self._anchor_ns + int(self._time() * 1e9)
