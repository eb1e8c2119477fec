"""The timers of one run, by key; each puts a tick when its time has come, a few in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from workflows._engine.mailbox import Mailbox
from workflows._engine.ticks import Tick

__all__ = ["Timers"]

# Timers of a run that may go off in one turn of the event loop (1 to 3 ms): thousands may be due at one time.
FIRED_AT_ONCE = 40


@dataclass(slots=True, eq=False)
class _Timer:
    """`left`: seconds that it had left when it was paused; it has no handle then."""

    tick: Callable[[], Tick | None]
    handle: asyncio.TimerHandle | None = None
    left: float = 0.0


class Timers:
    """Every timer is cancelled with its run; one that is set again replaces the earlier one of its key.

    What makes a timer's tick may give None: then nothing is put.
    """

    __slots__ = ("_fired", "_late", "_loop", "_mailbox", "_timers")

    def __init__(self, loop: asyncio.AbstractEventLoop, mailbox: Mailbox) -> None:
        self._loop = loop
        self._mailbox = mailbox
        self._timers: dict[str, _Timer] = {}
        self._fired = 0
        self._late: deque[tuple[str, _Timer]] = deque()

    def set(self, key: str, delay: float, tick: Callable[[], Tick | None]) -> None:
        """Put a tick in `delay` seconds."""
        self.cancel(key)
        timer = self._timers[key] = _Timer(tick)
        timer.handle = self._loop.call_later(delay, self._fire, key, timer)

    def __contains__(self, key: str) -> bool:
        """Whether such a timer is set."""
        return key in self._timers

    def cancel(self, key: str) -> None:
        """Forget a timer, if there is one."""
        timer = self._timers.pop(key, None)
        if timer is not None and timer.handle is not None:
            timer.handle.cancel()

    def clear(self) -> None:
        """Forget all of them."""
        for key in list(self._timers):
            self.cancel(key)

    def pause(self, key: str) -> None:
        """Stop a timer where it stands."""
        timer = self._timers.get(key)
        if timer is not None and timer.handle is not None:
            timer.left = max(0.0, timer.handle.when() - self._loop.time())
            timer.handle.cancel()
            timer.handle = None

    def resume(self, key: str) -> None:
        """Let a paused timer go on with what it had left."""
        timer = self._timers.get(key)
        if timer is not None and timer.handle is None:
            timer.handle = self._loop.call_later(timer.left, self._fire, key, timer)

    def _fire(self, key: str, timer: _Timer) -> None:
        if self._fired == FIRED_AT_ONCE:
            self._late.append((key, timer))
            return
        if self._fired == 0:
            self._loop.call_soon(self._next_turn)
        self._fired += 1
        if self._timers.get(key) is not timer or timer.handle is None:
            return  # a late one was cancelled, set anew or paused
        del self._timers[key]
        if (tick := timer.tick()) is not None:
            self._mailbox.put(tick)

    def _next_turn(self) -> None:
        self._fired = 0
        for _ in range(min(FIRED_AT_ONCE, len(self._late))):
            self._fire(*self._late.popleft())
