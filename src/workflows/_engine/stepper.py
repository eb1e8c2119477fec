"""Runs a workflow by hand: calls wait for `run_step()`, and what they return goes back to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from workflows._engine.state import Call
from workflows.events import Event

__all__ = ["Stepper"]


class Stepper:
    """Holds the calls that could start, lets all of them go at each step, and keeps what they return."""

    def __init__(self, start: Callable[[Call], None], over: asyncio.Future[None]) -> None:
        self._start = start
        self._over = over
        self._held: list[Call] = []
        self._running: set[str] = set()
        self._produced: list[Event] = []
        self._changed: asyncio.Event = asyncio.Event()
        over.add_done_callback(lambda _: self._changed.set())

    def hold(self, call: Call) -> None:
        """Keep a call for the next step."""
        self._held.append(call)
        self._changed.set()

    def ended(self, exec_id: str, returned: Iterable[Event]) -> None:
        """A call is done; its events are given to the caller instead of to other steps."""
        self._running.discard(exec_id)
        self._produced.extend(returned)
        self._changed.set()

    async def step(self) -> list[Event] | None:
        """Let every held call run to its end; what they returned, or None when the run is over."""
        while not self._held and not self._over.done():
            await self._wait()
        calls, self._held = self._held, []
        self._running.update(call.exec_id for call in calls)
        for call in calls:
            self._start(call)
        while self._running and not self._over.done():
            await self._wait()
        produced, self._produced = self._produced, []
        return None if self._over.done() else produced

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
