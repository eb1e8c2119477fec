"""Answers that come in one turn of the event loop: a body that awaits several tasks goes on with all of them."""

from __future__ import annotations

from functools import partial

from workflows._engine.calls import Wait
from workflows._engine.live import LiveRun
from workflows._engine.ticks import AnsweredTogether
from workflows._engine.wait_ends import in_some_turns
from workflows.instrumentation.records import Envelope

__all__ = ["Together"]

GOES_ON_AFTER = 2
"""So many turns of the event loop after a task is done, whoever awaits it with others (`asyncio.wait`) goes on."""


class Together:
    """Notes for an attempt which of its waits were answered before its body went on with the one before."""

    __slots__ = ("_exec_id", "_run", "_unheard")

    def __init__(self, run: LiveRun, exec_id: str) -> None:
        self._run = run
        self._exec_id = exec_id
        self._unheard: dict[str, Envelope | None] = {}

    def answered(self, wait: Wait) -> None:
        """A wait is over; its task goes on in the next turn."""
        unheard = self._unheard
        if unheard and wait.answer is not None and next(reversed(unheard.values())) is not wait.answer:
            self._run.mailbox.put(AnsweredTogether(self._run.clock.now_ns(), self._exec_id, wait.wait_id))
        unheard[wait.wait_id] = wait.answer

    def heard(self, wait_id: str, *, alone: bool) -> None:
        """A task has its answer, or was cancelled; `alone`: the attempt has no other wait open."""
        if alone:
            self._unheard.clear()
        elif wait_id in self._unheard:
            in_some_turns(self._run.loop, partial(self._goes_on, wait_id), GOES_ON_AFTER)

    def _goes_on(self, wait_id: str) -> None:
        self._unheard.pop(wait_id, None)
