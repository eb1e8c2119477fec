"""How late an event loop is while runs live on it: what blocks it delays every step of every run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["LoopLag"]

EVERY = 0.5  # seconds between two looks


class LoopLag:
    """Looks at each event loop as long as a run lives on it, and tells how late the look was, in seconds.

    A loop whose time is virtual is left alone: it is never late, and looking would hold up its jumps.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._runs: dict[asyncio.AbstractEventLoop, int] = {}
        self._timers: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}

    def run_began(self) -> asyncio.AbstractEventLoop | None:
        """One more run lives on the current loop, which is to be given to `run_ended`; None if that need not be."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # records of a run without a loop: it was replayed
            return None
        if hasattr(loop, "wall_ns"):
            return None
        self._runs[loop] = self._runs.get(loop, 0) + 1
        if loop not in self._timers:
            self._look_at(loop, loop.time())
        return loop

    def run_ended(self, loop: asyncio.AbstractEventLoop) -> None:
        """One run less lives on a loop."""
        if loop not in self._runs:
            return
        self._runs[loop] -= 1
        if not self._runs[loop]:
            del self._runs[loop]
            timer = self._timers.pop(loop)
            timer.cancel()
            if (late := loop.time() - timer.when()) > 0:  # a look was due when the run ended
                self._tell(late)

    def close(self) -> None:
        """Look no more: nobody is going to tell how the runs end."""
        for timer in self._timers.values():
            timer.cancel()
        self._runs.clear()
        self._timers.clear()

    def _look_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._timers[loop] = loop.call_at(due, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._tell(max(now - due, 0.0))
        self._look_at(loop, now + EVERY)
