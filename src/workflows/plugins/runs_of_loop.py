"""The live runs of one event loop: kept from the garbage collector, and interrupted when the loop ends."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, Protocol

from workflows._engine.crowd import Crowd

__all__ = ["RunsOfLoop"]


class LivesHere(Protocol):
    """A run, as far as it matters here; `let_go` is to be called with it when it is over."""

    loop: asyncio.AbstractEventLoop
    let_go: Callable[[Any], None] | None

    def interrupt(self) -> None: ...

    async def until_over(self) -> None: ...


class RunsOfLoop:
    """One task watches over all of them: whoever closes a loop cancels its tasks first, as `asyncio.run` does.

    It is gone before anybody hears that the last run is over.

    Attributes:
        crowd: Their attempts, which may come to their ends together.
    """

    __slots__ = ("_all_over", "_let_go", "_runs", "_task", "crowd")

    def __init__(self) -> None:
        self._runs: set[LivesHere] = set()
        self.crowd = Crowd()
        self._let_go = self._discard  # one object for all of them
        self._all_over: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, run: LivesHere) -> None:
        """Keep a run until it lets go."""
        self._runs.add(run)
        run.let_go = self._let_go
        if self._task is None:
            self._all_over = run.loop.create_future()
            watch = self._watch(self._all_over)
            self._task = run.loop.create_task(watch, name="workflows", context=contextvars.Context())
            self._task.add_done_callback(self._gone)
            self.crowd.watch = self._task

    def _discard(self, run: LivesHere) -> None:
        self._runs.discard(run)
        if not self._runs and self._all_over is not None:
            if not self._all_over.done():  # it is cancelled with the task
                self._all_over.set_result(None)
            self._all_over = self._task = None

    async def _watch(self, all_over: asyncio.Future[None]) -> None:
        try:
            await all_over
        except asyncio.CancelledError:
            left = list(self._runs)
            for run in left:
                run.interrupt()
            for run in left:
                await run.until_over()  # each gives up on its steps in bounded time
            raise

    def _gone(self, task: asyncio.Task[None]) -> None:
        """With runs left, it was cancelled before its first turn, or while it waited for their end."""
        if task is self._task:
            self._all_over = self._task = None
            for run in list(self._runs):
                run.interrupt()
