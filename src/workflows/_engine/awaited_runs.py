"""Who awaits a run in a step of another one: a step that only awaits runs which wait for somebody waits, too."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["AwaitedRun", "AwaitingAttempt", "future_of_run"]


class AwaitingAttempt(AttemptScope, ABC):
    """An attempt, as far as the runs that it awaits see it."""

    __slots__ = ()

    @property
    @abstractmethod
    def heeds_runs(self) -> bool:
        """Whether it matters to it that a run which it awaits only waits."""

    @abstractmethod
    def heard(self, awaited: AwaitedRun, only_waits: bool) -> None:
        """A run that it awaits only waits from now on, or does something again; called in the thread of that run."""


class AwaitedRun(asyncio.Future[None]):
    """Done when a run is over, or has streamed something more; a step awaits it.

    Attributes:
        attempt: The attempt of that step.
        only_waits: The run only waits now.
    """

    attempt: AwaitingAttempt
    only_waits: bool
    _was_told = False

    def tell(self, only_waits: bool) -> None:
        """The run only waits from now on, or does something again."""
        self.only_waits = only_waits
        self.attempt.heard(self, only_waits)
        if not self._was_told:
            self._was_told = True
            self.add_done_callback(_is_over)


def _is_over(awaited: AwaitedRun) -> None:
    awaited.tell(False)


def future_of_run(loop: asyncio.AbstractEventLoop, only_waits: bool) -> asyncio.Future[None]:
    """What to await until a run is over, or has streamed something more; `only_waits`: it only waits now."""
    attempt = current_attempt.get()
    if attempt is None or not isinstance(attempt, AwaitingAttempt) or not attempt.heeds_runs:
        return loop.create_future()
    future = AwaitedRun(loop=loop)
    future.attempt, future.only_waits = attempt, only_waits
    if only_waits:
        future.tell(True)
    return future
