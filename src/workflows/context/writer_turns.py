"""Whose turn it is to write: one writer at a time, on whichever event loop and in whichever thread it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from threading import Lock

__all__ = ["WriterTurns"]

_guard = Lock()  # held for a few instructions, never across an await


class WriterTurns:
    """A lock that several event loops share, since a `def` step may write with `asyncio.run`; first come, first served.

    A writer whose event loop was closed before it was done counts as gone.
    """

    __slots__ = ("_loop", "_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] | None = None

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def take(self) -> bool:
        """Take the turn if nobody else has it; whether that was so."""
        loop = asyncio.get_running_loop()
        with _guard:
            if self._taken and not (self._loop is not None and self._loop.is_closed()):
                return False
            self._taken, self._loop = True, loop
            return True

    async def acquire(self) -> None:
        """Wait for the turn, and take it."""
        if self.take():
            return
        loop = asyncio.get_running_loop()
        with _guard:
            if not self._taken:  # it was given back just now
                self._taken, self._loop = True, loop
                return
            if self._waiting is None:
                self._waiting = deque()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # it came just then
            raise

    def release(self) -> None:
        """Give the turn to the next who waits."""
        with _guard:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                if not loop.is_closed():
                    self._loop = loop
                    loop.call_soon_threadsafe(self._give, turn)
                    return
            self._taken = False

    def _give(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # whoever waited was cancelled
            self.release()
        else:
            turn.set_result(None)
