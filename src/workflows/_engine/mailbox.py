"""Where the ticks of a run queue: taken at once on the run's own loop, handed over from every other thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from threading import get_ident
from typing import Any, ParamSpec, Protocol, TypeVar

from workflows._engine.ticks import Tick

__all__ = ["Mailbox"]

P = ParamSpec("P")
T = TypeVar("T")

_NONE: list[Tick] = []  # nothing is ever put into it: most runs never have a tick that waits


class TakesTicks(Protocol):
    """The run."""

    def take(self, tick: Tick) -> None:
        """Do what a tick asks for."""


class _Closed:
    """What takes the ticks of a run that is over."""

    __slots__ = ()

    def take(self, tick: Tick) -> None:
        """Nothing follows."""


_CLOSED = _Closed()


class Mailbox:
    """One consumer takes the ticks in the order in which they came, one at a time, without a task of its own.

    It is closed at first: ticks queue until `open()` gives the first one.
    """

    __slots__ = ("_consumer", "_consuming", "_loop", "_thread", "_ticks")

    def __init__(self, consumer: TakesTicks, loop: asyncio.AbstractEventLoop) -> None:
        self._consumer: TakesTicks = consumer
        self._consuming = True
        self._loop = loop
        self._thread = get_ident()
        self._ticks: list[Tick] = _NONE

    def open(self, first: Tick) -> None:
        """Let the run take its first tick, then those that came before it was ready."""
        waiting, self._ticks = self._ticks, _NONE
        self._consuming = False
        self.put(first)
        for tick in waiting:
            self.put(tick)

    def waiting(self) -> list[Tick]:
        """Ticks that came before the first one was taken."""
        return list(self._ticks)

    def put(self, tick: Tick) -> None:
        """Let the run take a tick; one that comes while another is being taken waits for its turn."""
        if self._consuming:
            if self._consumer is not _CLOSED:
                if self._ticks is _NONE:
                    self._ticks = [tick]
                else:
                    self._ticks.append(tick)
            return
        self._consuming = True
        try:
            self._consumer.take(tick)
            while self._ticks:
                ticks, self._ticks = self._ticks, _NONE
                for following in ticks:
                    self._consumer.take(following)
        finally:
            self._consuming = False

    def close(self) -> None:
        """Take nothing any more, and let go of the run; what came to one that never began is kept, to go on with."""
        self._consumer = _CLOSED

    def is_here(self) -> bool:
        """Whether this is the thread of the run's loop, which may be run by another one than that of its start."""
        return get_ident() == self._thread or asyncio._get_running_loop() is self._loop

    def post(self, function: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function on the run's loop, at once if this is its thread. After the loop is closed: does nothing."""
        if self.is_here():
            function(*args, **kwargs)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: function(*args, **kwargs))

    def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the run's loop and wait for what it returns; blocks the calling thread, never the loop."""
        if self.is_here():
            return function(*args, **kwargs)
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            try:
                answer.set_result(function(*args, **kwargs))
            except Exception as error:  # noqa: BLE001  # it is raised in the thread that asks
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return answer.result()
