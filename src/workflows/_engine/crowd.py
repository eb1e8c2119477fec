"""What the runs of one event loop share."""

from __future__ import annotations

import asyncio
from typing import Any

from workflows._engine.clock import Clock
from workflows._engine.deadlines import Deadlines
from workflows._engine.starts import Starts
from workflows._engine.turnstile import Turnstile

__all__ = ["MANY", "Crowd"]

MANY = 25  # attempts that live on a loop: fewer may begin or end in one turn of it, also where tracing listens


class Crowd:
    """The attempts of all runs on one event loop, which may begin and come to their ends together.

    Attributes:
        attempts: How many there are: as long as these are not `MANY`, nobody needs to ask.
        starts: What those pass that begin.
        deadlines: What the timers of the loop are about.
        completing: What those pass that end well, are stopped, or fail where nobody listens.
        failing: What those pass that fail where somebody does: to show their errors may take ten times as long.
        results: What the bodies of those returned who wait to complete, by the attempt's `id`.
        watch: The task that is cancelled with all others when the loop closes.
    """

    __slots__ = ("_clock", "attempts", "completing", "deadlines", "failing", "results", "starts", "watch")

    def __init__(self) -> None:
        self.attempts = 0
        self.deadlines = Deadlines()
        self.starts = Starts()
        self.completing = Turnstile(at_most=200)  # about 4 ms, if nobody listens
        self.failing = Turnstile(at_most=25)  # with tracing, that may be 10 ms
        self.results: dict[int, Any] = {}
        self.watch: asyncio.Task[None] | None = None
        self._clock: Clock | None = None

    def clock(self, loop: asyncio.AbstractEventLoop) -> Clock:
        """That of a run which starts now on the loop."""
        if self._clock is None or not self._clock.is_fresh():
            self._clock = Clock(loop)
        return self._clock

    @property
    def loop_closes(self) -> bool:
        """Whether all tasks of the loop are cancelled, as far as anybody knows."""
        return self.watch is None or self.watch.done() or self.watch.cancelling() > 0
