"""An event loop whose time jumps: sleeps, timeouts and retry delays take no real time and are exact."""

from __future__ import annotations

import asyncio
import selectors
from concurrent.futures import Executor
from typing import Any

__all__ = ["VirtualClockLoop"]

STUCK_SECONDS = 5.0
EPOCH_NS = 1_000_000_000 * 10**9


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Where an ordinary loop would wait for its next timer, this one moves its clock there.

    Its time starts at 0 seconds, and its wall clock at 2001-09-09T01:46:40Z, so that every run of a test sees the same
    stamps. While code runs in a thread (`run_in_executor`), the loop waits for real, since no jump may overtake it.

    Raises:
        RuntimeError: From the loop, when for 5 real seconds nothing is scheduled and nothing happens: whatever the
            test awaits can never come.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def wall_ns(self) -> int:
        """Virtual wall-clock nanoseconds since the epoch."""
        return EPOCH_NS + round(self._now * 1e9)

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> Any:
        """As asyncio's; time stands still until the function is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._threads -= 1

    def _wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[Any]:
        ready = selector.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self._threads:
            ready = selector.select(STUCK_SECONDS)
            if not ready and not self._threads:
                raise RuntimeError("nothing is scheduled and nothing happens: what the test awaits can never come")
            return ready
        self._now += timeout
        return []


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop
        self._real = super()

    def select(self, timeout: float | None = None) -> list[Any]:
        return self._loop._wait(self._real, timeout)  # pyright: ignore[reportPrivateUsage]  # one class in two halves
