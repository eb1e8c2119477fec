"""Of steps that end together in hundreds, some are let through in each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["PASS_AT_ONCE", "Turnstile"]

PASS_AT_ONCE = 100  # steps that end in one turn of the event loop: about 2 ms, if nobody listens

# Fewer may where those who listen (tracing, for one) take their time: what fits into a turn of so many seconds.
LONGEST_TURN = 0.005
PASS_AT_LEAST = 10


class Turnstile:
    """Lets some pass in each turn of the event loop, in the order in which they came.

    Whoever wakes thousands of steps at once (a server that answers, or dies) wakes them in one turn, be they of one
    run or of hundreds. What the engine does at the end of each would hold the loop for tens of milliseconds.

    Attributes:
        attempts: How many attempts live on the loop: as long as these are few, nobody needs to ask.
    """

    __slots__ = ("_at_once", "_began", "_passed", "_waiting", "attempts")  # not the loop, by which this is weakly kept

    def __init__(self) -> None:
        self.attempts = 0
        self._at_once = PASS_AT_ONCE
        self._passed = 0
        self._began = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def passes(self) -> bool:
        """Whether the caller may go on in this turn; else it has to `wait()`."""
        if self._waiting or self._passed >= self._at_once:
            return False
        loop = asyncio.get_running_loop()
        if not self._passed:
            self._began = loop.time()
            loop.call_soon(self._next_turn, loop)
        elif self._passed >= PASS_AT_LEAST and loop.time() - self._began > LONGEST_TURN:
            return False
        self._passed += 1
        return True

    def wait(self) -> asyncio.Future[None]:
        """What to await, as soon as one may not pass: done when it is one's turn."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        took = max(now - self._began, 1e-9)
        self._at_once = min(max(int(self._passed * LONGEST_TURN / took), PASS_AT_LEAST), PASS_AT_ONCE)
        self._began, self._passed = now, 0
        while self._waiting and self._passed < self._at_once:
            future = self._waiting.popleft()
            if not future.done():  # its step was cancelled
                future.set_result(None)
                self._passed += 1
        if self._passed:
            loop.call_soon(self._next_turn, loop)
