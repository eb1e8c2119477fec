"""The gate through which the runs of a workflow pass, where `num_concurrent_runs` limits how many live at once."""

from __future__ import annotations

import asyncio

__all__ = ["PlaceAtGate"]


class PlaceAtGate:
    """A run's place in the queue, and behind the gate until the run ends.

    Attributes:
        task: Waits there for the run; None before it does.
    """

    __slots__ = ("_gate", "_passed", "_since", "task")

    def __init__(self, gate: asyncio.Semaphore, now: float) -> None:
        self._gate = gate
        self._since = now
        self._passed = False
        self.task: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Pass the gate as soon as it is one's turn."""
        await self._gate.acquire()
        self._passed = True

    def waited(self, now: float) -> float:
        """Seconds since the run asked to pass."""
        return now - self._since

    def leave(self) -> None:
        """Let the next run pass, or give up one's place in the queue."""
        if self._passed:
            self._gate.release()
        elif self.task is not None:
            self.task.cancel()
