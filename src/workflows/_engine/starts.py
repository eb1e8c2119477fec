"""Of calls that are to begin together in thousands, some begin in each turn of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Protocol

__all__ = ["BeginsCalls", "Starts"]

# What begins in one turn (2 to 3 ms, with the ends of those that began in the turn before; a call that goes on from a
# snapshot comes in the same turn to all waits that were answered before, and to its next one).
BEGUN_AT_ONCE = 100


class StartingCall(Protocol):
    """A call, as far as it matters here."""

    @property
    def begins_with(self) -> int:
        """How much it does at once, in calls that do nothing before their bodies."""
        ...


class BeginsCalls(ABC):
    """A run, as far as its calls that begin are concerned."""

    __slots__ = ()

    loop: asyncio.AbstractEventLoop
    to_begin: int
    """How many of its calls wait for a later turn."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether nothing of it begins any more."""

    @abstractmethod
    def begin_call(self, call: Any) -> None:
        """Begin an attempt of a call now."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """End it because the engine failed."""


class Starts:
    """The calls of all runs on one event loop that begin, in the order in which they were made.

    Most steps end in the turn after the one in which they began, with what follows. Of a thousand runs at once each
    then goes on while it is still in the processor's caches, and few of them have to wait for their turn to end.
    """

    __slots__ = ("_begun", "_context", "_turns", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[BeginsCalls, StartingCall]] = deque()
        self._begun = 0
        self._turns = False
        self._context = contextvars.Context()  # of nobody: one turn leads to the next, and would keep what it has

    def begin(self, run: BeginsCalls, call: StartingCall) -> None:
        """Let a call begin: now, or behind those that wait for a later turn."""
        if self.waiting or self._begun >= BEGUN_AT_ONCE:
            self.waiting.append((run, call))
            run.to_begin += 1
        else:
            self._begun += call.begins_with
            run.begin_call(call)
        if not self._turns:
            self._turns = True
            run.loop.call_soon(self._next_turn, run.loop, context=self._context)

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        try:
            while self.waiting and self._begun < BEGUN_AT_ONCE:
                self._begin_first()
        finally:  # also where somebody presses Ctrl-C: the loop may run on
            self._turns = self._begun > 0 or bool(self.waiting)
            if self._turns:
                loop.call_soon(self._next_turn, loop, context=self._context)

    def _begin_first(self) -> None:
        run, call = self.waiting.popleft()
        if run.has_ended:
            return
        run.to_begin -= 1
        self._begun += call.begins_with
        try:
            run.begin_call(call)
        except Exception as error:  # noqa: BLE001  # as where a tick is taken: the run would hang
            run.fail(error)
