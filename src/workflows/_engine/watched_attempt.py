"""An attempt whose body is watched where it is not plain to see whether that only waits."""

from __future__ import annotations

import asyncio

from workflows._engine.awaited_runs import AwaitedRun, AwaitingAttempt
from workflows._engine.calls import Call, CallPhase
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import Body

__all__ = ["WatchedAttempt"]


class WatchedAttempt(AwaitingAttempt):
    """An attempt, as far as it matters what its body does.

    Attributes:
        run: The run that it belongs to.
        call: The call that it tries.
        task: The task of its body; None when that is over.
        body: What its body does, where that is not plain to see; see `Body`.
        used: Its step has taken its context, or awaits a run that waits: there is something to let go of at its end.
    """

    __slots__ = ("body", "call", "run", "task", "used")

    def __init__(self, run: LiveRun, call: Call) -> None:
        self.run = run
        self.call = call
        self.task: asyncio.Task[None] | None = None
        self.body: Body | None = None
        self.used = False

    def heard(self, awaited: AwaitedRun, only_waits: bool) -> None:
        """A run that it awaits only waits from now on, or does something again; called in the thread of that run."""
        self.run.mailbox.post(self._heard, awaited, only_waits)

    @property
    def heeds_runs(self) -> bool:
        """Whether a clock stands still while it only awaits runs that wait."""
        return self.run.pausable

    def _heard(self, awaited: AwaitedRun, only_waits: bool) -> None:
        body = self._body_made()
        if body is None and only_waits and self.task is not None:
            body = self._watched()
        if body is not None:
            body.heard(awaited, only_waits)

    def _body_made(self) -> Body | None:
        return self.body if self.body is not None and not self.body.is_closed else None

    def _watched(self) -> Body:
        body = self._body_made()
        if body is None:
            assert self.task is not None, "its body is not over"
            body = self.body = Body(self.run, self.call, self.task, self._let_clock_go)
            self.used = True
        return body

    @property
    def only_waits(self) -> bool:
        """Its step only waits for events."""
        return self.call.phase is CallPhase.WAITING

    @property
    def timer(self) -> str:
        """What the timer of its step's timeout is called."""
        return f"step {self.exec_id}"

    def _let_clock_go(self, goes: bool) -> None:
        """Waiting does not count towards the step's timeout where it does not count towards that of the run."""
        if self.call.step.timeout is None:
            return
        if goes:
            self.run.timers.resume(self.timer)
        elif not self.run.plan.idle_counts:
            self.run.timers.pause(self.timer)
