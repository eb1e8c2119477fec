"""Answers that a body had before reach it in the order in which they came, whichever of its tasks they are for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from workflows._engine.wait_ends import in_some_turns

__all__ = ["ReplayOrder"]


class ReplayOrder:
    """The waits of a call that were over before, by their ids, in the order of their ends.

    One that nobody comes to for some turns of the event loop holds up nobody: code may have changed.
    """

    __slots__ = ("_due", "_held", "_left", "_loop", "_number", "_watches")

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_ids: Iterable[str]) -> None:
        self._loop = loop
        self._left = deque(wait_ids)
        self._due = set(self._left)
        self._held: dict[str, list[asyncio.Future[None]]] = {}
        self._number = 0
        self._watches = False

    @property
    def holds(self) -> bool:
        """Whether somebody waits for their turn."""
        return bool(self._held)

    async def turn(self, wait_id: str) -> None:
        """Return when those before this one are over, or nobody comes to them."""
        if wait_id in self._due and self._left[0] != wait_id:
            held = self._loop.create_future()
            self._held.setdefault(wait_id, []).append(held)
            self._watch()
            try:
                await held
            finally:
                self._over(wait_id)
        else:
            self._over(wait_id)

    def _over(self, wait_id: str) -> None:
        self._number += 1
        self._due.discard(wait_id)
        self._release()

    def _release(self) -> None:
        """Let those go on whose turn it is; they go on in the next turn of the event loop."""
        while self._left and self._left[0] not in self._due:
            self._left.popleft()
        if self._left:
            for held in self._held.pop(self._left[0], ()):
                if not held.done():
                    held.set_result(None)

    def _watch(self) -> None:
        if not self._watches:
            self._watches = True
            number = self._number
            in_some_turns(self._loop, lambda: self._look(number))

    def _look(self, number: int) -> None:
        self._watches = False
        if not self._held:
            return
        if number == self._number:  # nobody comes to what is before them
            while self._left[0] not in self._held:
                self._due.discard(self._left.popleft())
            self._release()
        if self._held:
            self._watch()
