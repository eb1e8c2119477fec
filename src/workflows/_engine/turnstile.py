"""Of steps that end together in hundreds, some are let through in each turn of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from time import perf_counter, thread_time

__all__ = ["Turnstile"]

SHORT, LONG = 0.002, 0.010  # seconds that those who end may take in one turn; the latter where it takes long anyway
AT_LEAST = 5  # may pass in one turn, however long that takes


class Turnstile:
    """Lets some pass in each turn of the event loop, in the order in which they came.

    Whoever wakes thousands of steps at once (a server that answers, or dies) wakes them in one turn, be they of one
    run or of hundreds. What the engine does at the end of each would hold the loop for tens of milliseconds. Only the
    time of those who pass counts: what else keeps the loop busy must not make them wait, but lets more of them pass.

    Attributes:
        entered: When the one went on who passes at this moment without having waited; 0 at all other times.
    """

    __slots__ = (
        "_at_most",
        "_at_once",
        "_began",
        "_context",
        "_let_in",
        "_limit",
        "_passed",
        "_spent",
        "_turned",
        "_waiting",
        "entered",
    )

    def __init__(self, at_most: int) -> None:
        self.entered = 0.0
        self._at_most = at_most
        self._limit = SHORT
        self._turned = self._spent = 0.0
        self._passed = 0
        self._at_once = AT_LEAST
        self._began = 0.0
        self._let_in = 0
        self._context = contextvars.Context()  # of nobody: one turn leads to the next, and would keep what it has
        self._waiting: deque[asyncio.Future[None]] = deque()

    def passes(self) -> bool:
        """Whether the caller may go on in this turn, up to `leave()` without a pause; else it has to `wait()`."""
        if self._waiting or self._let_in or self._passed == self._at_most or self._spent > self._limit:
            return False
        self.entered = perf_counter()
        if not self._passed:
            self._turned = self.entered
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next_turn, loop, context=self._context)
        self._passed += 1
        return True

    def leave(self) -> None:
        """Say that the one is through who was allowed to pass."""
        self._spent += perf_counter() - self.entered
        self.entered = 0.0

    def wait(self) -> asyncio.Future[None]:
        """What to await, as soon as one may not pass: done when it is one's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return turn

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._let_in:  # they went on since `_begin`, and nobody else did; other threads do not count
            self._passed, self._spent = self._let_in, thread_time() - self._began
        now = perf_counter()
        self._limit = min(max((now - self._turned - self._spent) / 2, SHORT), LONG)
        self._at_once = min(max(int(self._passed * self._limit / max(self._spent, 1e-6)), AT_LEAST), self._at_most)
        self._turned, self._spent = now, 0.0
        self._passed = self._let_in = 0
        if not self._waiting:
            return
        loop.call_soon(self._begin, context=self._context)
        while self._waiting and self._let_in < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():  # its step was cancelled
                turn.set_result(None)
                self._let_in += 1
        loop.call_soon(self._next_turn, loop, context=self._context)

    def _begin(self) -> None:
        self._began = thread_time()
