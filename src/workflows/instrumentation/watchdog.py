"""Says which step blocks the event loop, while it does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from types import FrameType

from workflows.instrumentation.scope import AttemptScope

__all__ = ["watch_loop"]

logger = logging.getLogger("workflows.watchdog")


def watch_loop(seconds: float = 1.0) -> Callable[[], None]:
    """Log a warning, with the step and the line, whenever the running event loop is blocked for `seconds`.

    A blocked loop runs nothing else: no other run, no timeout, no request. Costs one thread that looks a few times in
    `seconds`; it ends with the loop.

    Returns:
        What ends the watch.

    Raises:
        ValueError: If `seconds` is not above 0.
        RuntimeError: If no event loop runs.
    """
    if not seconds > 0:
        raise ValueError(f"watch_loop(seconds={seconds!r}): give the seconds after which to warn, above 0.")
    watch = _Watch(asyncio.get_running_loop(), seconds)
    threading.Thread(target=watch.run, name="workflows-watchdog", daemon=True).start()
    return watch.ended.set


class _Watch:
    """Asks the loop for an answer, again and again; one that does not come in time is told once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.ended = threading.Event()
        self._loop = loop
        self._seconds = seconds
        self._thread = threading.get_ident()
        self._answered = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(self._seconds / 4):
            self._answered.clear()
            try:
                self._loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # the loop is closed
                return
            answered = self._answered.wait(self._seconds)
            if not answered and self._loop.is_running():  # one that stands still is not blocked
                self._tell()
                while not (self._answered.wait(self._seconds) or self.ended.is_set() or self._loop.is_closed()):
                    continue  # still the same block

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._thread)  # pyright: ignore[reportPrivateUsage]  # documented, for this
        attempt = _attempt_of(frame)
        logger.warning(
            "the event loop has been blocked for %s s%s%s; let what takes so long be awaited, or make the step a plain "
            "`def`, which runs in a thread",
            self._seconds,
            f" by step {attempt.step} (attempt {attempt.attempt})" if attempt else "",
            f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else "",
            extra={"run_id": attempt.run_id} if attempt else None,
        )


def _attempt_of(frame: FrameType | None) -> AttemptScope | None:
    """The attempt in whose call a thread is: the engine keeps it in a variable of this name."""
    while frame is not None:
        found = frame.f_locals.get("attempt")
        if isinstance(found, AttemptScope):
            return found
        frame = frame.f_back
    return None
