"""Recorded answers are given in the order in which they came: what is done first with them now was done first then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

__all__ = ["AnswerOrder"]

TURNS = 20
"""Turns of the event loop in which the one who got an answer goes on before the next one gets theirs."""


class AnswerOrder:
    """Lets each answer through when those before it have been given; safe to use from several threads and event loops.

    Nobody waits longer than the call took when it was recorded, however much else the code asks for by now.

    Args:
        number: How many answers there are; their places are 0 to `number - 1`.
    """

    def __init__(self, number: int) -> None:
        self._given = bytearray(number)
        self._first = 0  # of those that were not given
        self._waiting: dict[int, Future[None]] = {}
        self._lock = threading.Lock()

    async def come(self, place: int, seconds: float) -> None:
        """Wait for the turn of the answer at this place, at most so long."""
        loop = asyncio.get_running_loop()
        try:
            if (turn := self._turn(place)) is not None:
                await asyncio.wait([asyncio.wrap_future(turn)], timeout=seconds)
        finally:
            _in_some_turns(loop, partial(self.is_given, place))

    def come_in_thread(self, place: int, seconds: float) -> None:
        """The same, where no event loop runs."""
        if (turn := self._turn(place)) is not None:
            with suppress(TimeoutError):
                turn.result(seconds)
        self.is_given(place)

    def is_given(self, place: int) -> None:
        """An answer was given, or will not be."""
        with self._lock:
            self._given[place] = True
            found = self._given.find(False, self._first)
            self._first = found if found >= 0 else len(self._given)
            self._waiting.pop(place, None)
            turn = self._waiting.pop(self._first, None)
        if turn is not None:
            turn.set_result(None)

    def _turn(self, place: int) -> Future[None] | None:
        with self._lock:
            return self._waiting.setdefault(place, Future()) if place > self._first else None


def _in_some_turns(loop: asyncio.AbstractEventLoop, then: Callable[[], None], turns: int = TURNS) -> None:
    if turns:
        loop.call_soon(_in_some_turns, loop, then, turns - 1)
    else:
        then()
