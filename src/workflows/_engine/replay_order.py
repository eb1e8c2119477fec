"""Answers that a body had before reach it in the order in which they came, whichever of its tasks they are for.

And not before it has begun as many waits as it had by then: a person takes longer than the other tasks of a body do to
come to theirs, and waits are named in the order in which they begin.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from workflows._engine.calls import Call
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import Answer
from workflows._engine.wait_ends import in_some_turns

__all__ = ["ReplayOrder"]

HELD_AT_MOST = 30.0
"""Seconds for which an attempt holds answers, while its body works and does not come to those that came before."""


class ReplayOrder:
    """The waits of a call that were over before, by their ids, in the order of their ends."""

    __slots__ = (
        "_call",
        "_comes_back",
        "_due",
        "_given",
        "_going",
        "_held",
        "_is_where_it_was",
        "_left",
        "_old",
        "_run",
    )

    def __init__(self, run: LiveRun, call: Call, wait_ids: Iterable[str]) -> None:
        self._run = run
        self._call = call
        self._left = deque(wait_ids)
        self._old = frozenset(self._left)
        self._due = set(self._left)
        self._held: dict[str, list[Answer]] = {}
        self._is_where_it_was = self._comes_back = False
        self._going = set[str]()  # no longer held, and not gone on
        self._given: tuple[str, asyncio.Task[Any] | None] | None = None  # some turns ago at most, and to which task

    @classmethod
    def of(cls, run: LiveRun, call: Call) -> ReplayOrder | None:
        """That of a call whose body begins its first wait; None where none was over before."""
        old = [wait_id for wait_id in call.answers if wait_id not in call.waiting_since]
        return cls(run, call, old) if old else None

    @property
    def holds(self) -> bool:
        """Whether somebody waits for their turn, or goes on in this one."""
        return bool(self._held or self._going)

    @property
    def is_over(self) -> bool:
        """Whether the body is where it was, and has all that it had: what comes now is given at once."""
        return self._is_where_it_was and not (self._due or self._held or self._going or self._given)

    async def turn(self, wait_id: str, held: Callable[[], None]) -> None:
        """Return when it is the turn of this one, or others are skipped; `held` is called if it takes that.

        One that is answered only now comes after all others, and not before the body is where it was.
        """
        task = asyncio.current_task()
        if wait_id not in self._old:
            if not (self._due or self._given) and self._has_begun(wait_id):
                return
            self._add(wait_id)
        try:
            if wait_id in self._due and not self._is_next(wait_id, task):
                before = Answer(loop=self._run.loop)  # so that it is no work to await it
                before.call = self._call
                self._held.setdefault(wait_id, []).append(before)
                if self._timer not in self._run.timers:
                    self._run.timers.set(self._timer, HELD_AT_MOST, self._give_up)
                held()
                try:
                    await before
                finally:
                    self._no_longer(wait_id, before)
        finally:
            self._due.discard(wait_id)
            self._going.discard(wait_id)
            if self._call.came_after and (wait_id in self._old or self._held):  # else one task had them all
                self._given = wait_id, task
                in_some_turns(self._run.loop, partial(self._is_heard, self._given))
            self.release()

    def release(self) -> None:
        """Let the next one go on if it may; it does in the next turn of the event loop."""
        if not self._comes_back and self._call.begun >= self._call.had_begun:
            self._comes_back = True
            in_some_turns(self._run.loop, self._is_back)
        while self._left and self._left[0] not in self._due:
            self._left.popleft()
        if self._left and self._left[0] in self._held and self._is_next(self._left[0], None):
            self._go_on(self._left[0])

    def skip(self) -> None:
        """The body comes to nothing more by itself: code may have changed, or has another way to its waits."""
        if not self._held or self._given is not None or self._left[0] in self._going:
            return
        while self._left[0] not in self._held:
            self._due.discard(self._left.popleft())
        self._is_where_it_was = self._is_where_it_was or self._left[0] not in self._old
        self._go_on(self._left[0])

    def _give_up(self) -> None:
        """Hold nothing any more."""
        self._is_where_it_was = True
        self._due.clear()
        for wait_id in list(self._held):
            self._go_on(wait_id)

    def end(self) -> None:
        """The attempt is over: cancel what waits for its turn."""
        self._run.timers.cancel(self._timer)
        for held in [each for waiting in self._held.values() for each in waiting]:
            held.cancel()

    @property
    def _timer(self) -> str:
        return f"replay {self._call.exec_id}"

    def _is_next(self, wait_id: str, task: asyncio.Task[Any] | None) -> bool:
        if self._left[0] != wait_id or not self._has_begun(wait_id):
            return False
        if self._given is None or self._given[1] is task or wait_id in self._call.at_once:
            return True
        return self._came_with(self._given[0], wait_id)

    def _has_begun(self, wait_id: str) -> bool:
        """Whether the body has begun as many waits as it had when this one was over, or will be."""
        call = self._call
        if wait_id in self._old:
            return call.begun >= call.came_after.get(wait_id, 0)
        return self._is_where_it_was

    def _add(self, wait_id: str) -> None:
        """Put one that is answered only now where it belongs: all others of these that came later are after it."""
        came = self._came(wait_id)
        at = len(self._left)
        while at and self._left[at - 1] not in self._old and self._came(self._left[at - 1]) > came:
            at -= 1
        self._left.insert(at, wait_id)
        self._due.add(wait_id)

    def _came(self, wait_id: str) -> float:
        answer = self._call.answers.get(wait_id)
        return answer.queued_at_ns if answer is not None else math.inf

    def _came_with(self, before: str, wait_id: str) -> bool:
        one, other = self._call.answers.get(before), self._call.answers.get(wait_id)
        return one is not None and other is not None and one.queued_at_ns == other.queued_at_ns

    def _is_back(self) -> None:
        """The body is where it was, and all its tasks have come to what is answered."""
        self._is_where_it_was = True
        self.release()

    def _is_heard(self, given: tuple[str, asyncio.Task[Any] | None]) -> None:
        """Whoever awaits the task that got it has gone on."""
        if self._given is given:
            self._given = None
            self.release()

    def _go_on(self, wait_id: str) -> None:
        for held in self._held.pop(wait_id, ()):
            if not held.done():
                self._going.add(wait_id)
                held.set_result(None)  # type: ignore[arg-type]  # nobody reads it

    def _no_longer(self, wait_id: str, held: Answer) -> None:
        """It goes on, or was cancelled."""
        if held in (left := self._held.get(wait_id, [])):
            left.remove(held)
            if not left:
                del self._held[wait_id]
