"""The timers of one run, by key; each puts a tick when its time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from workflows._engine.ticks import Tick

__all__ = ["Timers"]


class Timers:
    """Every timer is cancelled with its run; one that is set again replaces the earlier one of its key.

    What makes a timer's tick may give None: then nothing is put.
    """

    __slots__ = ("_handles", "_loop", "_paused", "_put", "_ticks")

    def __init__(self, loop: asyncio.AbstractEventLoop, put: Callable[[Tick], None]) -> None:
        self._loop = loop
        self._put = put
        self._handles: dict[str, asyncio.TimerHandle] = {}
        self._ticks: dict[str, Callable[[], Tick | None]] = {}
        self._paused: dict[str, float] = {}

    def set(self, key: str, delay: float, tick: Callable[[], Tick | None]) -> None:
        """Put a tick in `delay` seconds."""
        self.cancel(key)
        self._ticks[key] = tick
        self._handles[key] = self._loop.call_later(delay, self._fire, key)

    def cancel(self, key: str) -> None:
        """Forget a timer, if there is one."""
        if handle := self._handles.pop(key, None):
            handle.cancel()
        self._ticks.pop(key, None)
        self._paused.pop(key, None)

    def clear(self) -> None:
        """Forget all of them."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
        self._ticks.clear()
        self._paused.clear()

    def pause(self, key: str) -> None:
        """Stop a timer where it stands."""
        if handle := self._handles.pop(key, None):
            self._paused[key] = max(0.0, handle.when() - self._loop.time())
            handle.cancel()

    def resume(self, key: str) -> None:
        """Let a paused timer go on with what it had left."""
        left = self._paused.pop(key, None)
        if left is not None:
            self._handles[key] = self._loop.call_later(left, self._fire, key)

    def _fire(self, key: str) -> None:
        del self._handles[key]
        if (tick := self._ticks.pop(key)()) is not None:
            self._put(tick)
