"""How waits of an attempt ended, and when: what it gave up since another one was over, and what for another reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from workflows._engine.only_waiting import PATIENCE, Answer

__all__ = ["WaitEnds", "in_some_turns"]


class WaitEnds:
    """What an attempt notes of the ends of its waits.

    Attributes:
        let_go: Waits that it gave up, and went on, in this attempt and those before: the last of each name.
    """

    __slots__ = ("_given_up", "_just_over", "_lately", "_leaving", "_loop", "_over", "let_go")

    def __init__(self, loop: asyncio.AbstractEventLoop, let_go: Mapping[str, int]) -> None:
        self.let_go = let_go
        self._loop = loop
        self._over = self._lately = 0
        self._just_over: asyncio.Task[Any] | None = None
        self._leaving: dict[str, int] | None = None  # what it gives up in this turn of the event loop
        self._given_up: dict[str, int] | None = None

    def before(self, task: asyncio.Task[Any] | None) -> int:
        """How many were over before one that this task begins now."""
        return self._over - (self._just_over not in (None, task))

    def goes_on(self) -> None:
        """A wait begins or is over: what was given up some turns ago was no part of a failure."""
        if self._given_up:
            self.let_go = {**self.let_go, **self._given_up}
            self._given_up = None

    def is_over(self, task: asyncio.Task[Any] | None, *, at_once: bool, alone: bool) -> None:
        """A wait of this task got its answer, `at_once` as it began; `alone`: the call can have no other."""
        self.goes_on()
        self._over += 1
        if not alone:
            if not self._lately:
                self._loop.call_soon(self._next_turn)
            self._lately = PATIENCE
        if at_once:  # so what other tasks await from this turn on, they do beside it
            self._just_over = task
            self._loop.call_soon(self._no_longer_just_over)

    def gave_up(self, place: tuple[str, int]) -> None:
        """The attempt gave a wait up, and not since another one was over."""
        if self._leaving is None:
            self._leaving = {}
            in_some_turns(self._loop, partial(self._were_given_up, self._leaving))
            self._loop.call_soon(self._next_are_apart)
        self._leaving.update([place])

    def overtook(self, answer: Answer) -> bool:
        """Whether another wait was over just now: a timeout around this one has nothing to do with that."""
        return self._lately > 0 and self._over > answer.over_before

    def _no_longer_just_over(self) -> None:
        self._just_over = None

    def _next_are_apart(self) -> None:
        self._leaving = None

    def _were_given_up(self, places: Mapping[str, int]) -> None:
        self._given_up = {**(self._given_up or {}), **places}

    def _next_turn(self) -> None:
        self._lately -= 1
        if self._lately:
            self._loop.call_soon(self._next_turn)


def in_some_turns(loop: asyncio.AbstractEventLoop, then: Callable[[], None], turns: int = PATIENCE) -> None:
    """Call a function after some turns of the event loop."""
    if turns:
        loop.call_soon(in_some_turns, loop, then, turns - 1)
    else:
        then()
