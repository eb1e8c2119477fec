"""Recorded answers are given in the order in which they came: what is done first with them now was done first then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

__all__ = ["AnswerOrder"]

TURNS = 20
"""Turns of the event loop in which the one who got an answer goes on before the next one gets theirs."""

IN_THREAD = 0.02
"""The same for whoever got one in a thread, in seconds: what comes of it has to be told to the event loop."""

MORE = 0.1
"""Seconds that an answer may come later than it did, before the earlier ones are given up that nobody has asked for."""


class AnswerOrder:
    """Lets each answer through when those before it have been given; safe to use from several threads and event loops.

    Nobody waits for an answer that is not asked for any more, or hardly longer than the call took when it was recorded.

    Args:
        number: How many answers there are; their places are 0 to `number - 1`.
    """

    def __init__(self, number: int) -> None:
        self._given = bytearray(number)
        self._first = 0  # of those that were not given
        self._waiting: dict[int, Future[None]] = {}
        self._last_in: dict[int, int] = {}  # the place of the last answer in each thread
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}  # in which somebody goes on with an answer
        self._lock = threading.Lock()

    async def come(self, place: int, seconds: float) -> None:
        """Wait for the turn of the answer at this place, of a call that took so long."""
        loop = asyncio.get_running_loop()
        try:
            if self._turn(place) is not None:  # the one before may be about to be given
                for _ in range(TURNS + 1):
                    await asyncio.sleep(0)
            while (turn := self._turn(place)) is not None:
                before = self._first
                done, _ = await asyncio.wait([asyncio.wrap_future(turn)], timeout=seconds + MORE)
                if not done and self._first == before:
                    self._give_up_before(place)
        finally:
            self._loops[place] = loop
            _in_some_turns(loop, partial(self.is_given, place))

    def come_in_thread(self, place: int, seconds: float) -> None:
        """The same, where no event loop runs."""
        here = threading.get_ident()
        if (last := self._last_in.pop(here, None)) is not None:  # who asks again has told what came of the last one
            self.is_given(last)
        while (turn := self._turn(place)) is not None:
            before = self._first
            with suppress(TimeoutError):
                turn.result(seconds + MORE)
            if not turn.done() and self._first == before:
                self._give_up_before(place)
        self._last_in[here] = place
        later = threading.Timer(IN_THREAD, self.is_given, [place])
        later.daemon = True
        later.start()

    def is_given(self, place: int) -> None:
        """An answer was given, or will not be."""
        self._are_given([place])

    def _give_up_before(self, place: int) -> None:
        self._are_given([each for each in range(self._first, place) if each not in self._waiting])

    def _are_given(self, places: Iterable[int]) -> None:
        with self._lock:
            for place in places:
                self._loops.pop(place, None)
                self._given[place] = True
                self._waiting.pop(place, None)
            found = self._given.find(False, self._first)
            self._first = found if found >= 0 else len(self._given)
            turn = self._waiting.pop(self._first, None)
        if turn is not None and not turn.done():  # whoever waited may have been cancelled
            turn.set_result(None)

    def _turn(self, place: int) -> Future[None] | None:
        self._are_given([other for other, loop in list(self._loops.items()) if loop.is_closed()])
        with self._lock:
            if place <= self._first:
                return None
            turn = self._waiting.get(place)
            if turn is None or turn.done():
                turn = self._waiting[place] = Future()
            return turn


def _in_some_turns(loop: asyncio.AbstractEventLoop, then: Callable[[], None], turns: int = TURNS) -> None:
    if turns:
        loop.call_soon(_in_some_turns, loop, then, turns - 1)
    else:
        then()
