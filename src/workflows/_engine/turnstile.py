"""Of steps that end together in hundreds, some are let through in each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["PASS_AT_ONCE", "Turnstile"]

PASS_AT_ONCE = 100  # steps that end in one turn of the event loop: about 2 ms


class Turnstile:
    """Lets `PASS_AT_ONCE` pass in each turn of the event loop, in the order in which they came.

    Whoever wakes thousands of steps at once (a server that answers, or dies) wakes them in one turn. What the engine
    does at the end of each would hold the loop for tens of milliseconds.
    """

    __slots__ = ("_loop", "_passed", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def passes(self) -> bool:
        """Whether the caller may go on in this turn; else it has to `wait()`."""
        if self._waiting or self._passed == PASS_AT_ONCE:
            return False
        if not self._passed:
            self._loop.call_soon(self._next_turn)
        self._passed += 1
        return True

    async def wait(self) -> None:
        """Wait for one's turn, as soon as one may not pass."""
        future = self._loop.create_future()
        self._waiting.append(future)
        await future

    def _next_turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < PASS_AT_ONCE:
            future = self._waiting.popleft()
            if not future.done():  # its step was cancelled
                future.set_result(None)
                self._passed += 1
        if self._passed:
            self._loop.call_soon(self._next_turn)
