"""Whether the body of a step only waits: for events, or for runs that only wait themselves; all else is work.

What a body does is what its own task awaits, and what those of its tasks do that wait for events: directly, or in other
tasks, with `asyncio.gather`, `asyncio.wait`, `asyncio.wait_for` or a `TaskGroup`. A body that awaits something of which
asyncio does not say what it waits for (a sleep, a socket, a queue, a thread, a shielded wait) is at work.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import AsyncGeneratorType
from typing import Any, cast

from workflows._engine.awaited_runs import AwaitedRun
from workflows._engine.calls import Call, CallPhase, Wait
from workflows._engine.child_waits import heed_waits
from workflows._engine.live import LiveRun
from workflows._engine.ticks import CallOnlyWaits, CallWorks, WaitsRemain

__all__ = ["PATIENCE", "Answer", "Body", "links", "parts_of", "what_wakes"]

AnyFuture = asyncio.Future[Any]

PATIENCE = 10
"""So many turns of the event loop a body may take to give up waits since another one is over, or to come to others."""


_AWAITING = ("cr_await", "gi_yieldfrom", "ag_await")


class Answer(asyncio.Future[Wait]):
    """Done when an event has ended a wait of a call.

    Attributes:
        call: The call.
        place: As that of the wait.
        over_before: How many waits of the attempt were over when this one began.
    """

    call: Call
    place: tuple[str, int]
    over_before: int


class _Part:
    """A task, or another future, that a body awaits.

    Attributes:
        needed: How many other parts await it; a task that waits for events itself counts as one.
        awaits: What wakes it when it is done.
        parts: What it awaits, as far as asyncio says so; nothing else of it needs to be known then.
        group: The task group whose tasks it awaits: they may become more.
        run: The run that it awaits.
        works: It does, or awaits, what is no wait.
    """

    __slots__ = ("awaits", "group", "needed", "parts", "run", "works")

    def __init__(self) -> None:
        self.needed = 0
        self.awaits: AnyFuture | None = None
        self.parts: Collection[AnyFuture] = ()
        self.group: asyncio.TaskGroup | None = None
        self.run: AwaitedRun | None = None
        self.works = False


class Body:
    """What the body of an attempt does, from when it waits in the background, or awaits a run that waits.

    It looks one turn of the event loop after something has changed, and only at what has: a step may await thousands of
    tasks. What it finds decides on the worker of the call, and on the clocks of the step and of the run.
    """

    __slots__ = (
        "_answered",
        "_at_work",
        "_call",
        "_closed",
        "_due",
        "_groups",
        "_has_deadline",
        "_is_lately_answered",
        "_let_clock_go",
        "_parts",
        "_patience",
        "_rests",
        "_roots",
        "_run",
        "_runs",
        "_runs_at_work",
        "_waiting_runs",
        "_woken",
    )

    def __init__(self, run: LiveRun, call: Call, task: asyncio.Task[Any], let_clock_go: Callable[[bool], None]) -> None:
        self._run = run
        self._call = call
        self._let_clock_go = let_clock_go
        self._parts: dict[AnyFuture, _Part] = {}
        self._woken: dict[AnyFuture, None] = {}
        self._groups: dict[AnyFuture, None] = {}
        self._at_work = 0
        self._patience = PATIENCE
        self._runs: set[AwaitedRun] = set()  # which its parts await
        self._runs_at_work: set[AwaitedRun] = set()
        self._waiting_runs: set[AwaitedRun] = set()  # which any task of the attempt awaits, and that only wait
        self._answered = self._is_lately_answered = self._closed = self._due = self._rests = False
        self._has_deadline = False
        self._roots = {task}
        self._need(task)

    def waits_in(self, task: asyncio.Task[Any] | None, *, answered: bool) -> None:
        """A task of the body waits for an event, or has got one at once."""
        if answered:
            self.answered()
        if task is not None and task not in self._roots:
            self._roots.add(task)
            self._need(task)
        self._patience = PATIENCE
        self._look_soon()

    @property
    def is_closed(self) -> bool:
        """It looks no more."""
        return self._closed

    def close(self) -> None:
        """The body is over."""
        self._closed = True
        self._rest(False)

    def heard(self, awaited: AwaitedRun, only_waits: bool) -> None:
        """A run that the attempt awaits only waits from now on, or does something again."""
        (self._waiting_runs.add if only_waits else self._waiting_runs.discard)(awaited)
        if awaited in self._runs:
            (self._runs_at_work.discard if only_waits else self._runs_at_work.add)(awaited)
        self._look_soon()

    def answered(self) -> None:
        """A wait is over, and the task that waited goes on in the next turn; it may give up others then."""
        self._answered = self._is_lately_answered = True
        self._patience = PATIENCE
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._due:
            self._due = True
            self._run.loop.call_soon(self._look)

    def _wake(self, future: AnyFuture, _: object = None) -> None:
        """A part goes on, or is over."""
        self._woken[future] = None
        self._look_soon()

    def _look(self) -> None:
        self._due = False
        if self._closed:
            return
        woken, self._woken = self._woken, {}
        for future in woken:
            if (part := self._parts.get(future)) is not None:
                before = self._forget(part)
                self._enter(future, part)
                self._release(before)
            if future.done() and future in self._roots:
                self._roots.discard(future)
                self._release((future,))
        for future in list(self._groups):
            self._see_new_tasks(future)
        over = self._answered or any(future.done() for future in woken)
        self._answered = False
        if over and not self._at_work:
            self._look_soon()  # whoever awaits what is over goes on before that
        else:
            self._settle()

    def _settle(self) -> None:
        call = self._call
        # Of what a thread does asyncio says nothing; a sync step can only await one run at a time in it.
        in_thread = not call.step.is_async and bool(self._waiting_runs)
        works = self._at_work > 0 and not in_thread
        patient = self._is_patient()
        if works and call.pending and not patient:
            self._run.mailbox.put(WaitsRemain(self._run.clock.now_ns(), call.exec_id))
        if call.spent and not (patient or self._may_end_in_time()):
            self._run.mailbox.put(WaitsRemain(self._run.clock.now_ns(), call.exec_id, spent=True))
        awaits_runs = in_thread or bool(self._runs)
        if works or awaits_runs:
            if call.phase is CallPhase.WAITING or (works and call.phase is CallPhase.QUEUED):
                self._run.mailbox.put(CallWorks(self._run.clock.now_ns(), call.exec_id))
        elif call.open_waits and (call.phase is CallPhase.RUNNING or call.pending) and not patient:
            self._run.mailbox.put(CallOnlyWaits(self._run.clock.now_ns(), call.exec_id))
        only_waits = not (works or self._runs_at_work)
        self._closed = not (call.open_waits or self._waiting_runs or self._awaits_old_answers)
        # When it looks no more, the body has all its answers, or is to get the last ones with a worker.
        self._let_clock_go(not only_waits or (self._closed and call.phase is CallPhase.RUNNING))
        self._rest(only_waits and awaits_runs)

    def _is_patient(self) -> bool:
        """Whether the body may still give up waits that it has begun, or come to others, in this turn or the next."""
        if self._awaits_old_answers:
            self._is_lately_answered = True
            if self._at_work:
                self._patience = PATIENCE
                return True
            if self._patience <= 1:
                self._patience = PATIENCE
                self._run.attempts[self._call.exec_id].skip_answers()
        if not (self._patience and (self._call.pending or self._call.spent or self._is_lately_answered)):
            self._is_lately_answered = False
            return False
        self._patience -= 1
        if self._patience:
            self._look_soon()
        return self._patience > 0

    @property
    def _awaits_old_answers(self) -> bool:
        """Answers that it had before are on their way to it, in the order in which they came."""
        attempt = self._run.attempts.get(self._call.exec_id)
        return attempt is not None and attempt.holds_answers

    def _may_end_in_time(self) -> bool:
        """Whether something that it does ends at a certain time, or has just now; it may give up waits then."""
        attempt = self._run.attempts.get(self._call.exec_id)
        had, self._has_deadline = (
            self._has_deadline,
            attempt is not None
            and self._run.crowd.deadlines.of(
                attempt, self._run.loop, (link for task in self._tasks() for link in links(task))
            ),
        )
        if had and not self._has_deadline:
            self._patience = PATIENCE
            self._look_soon()
        return had or self._has_deadline

    def _tasks(self) -> Iterator[asyncio.Task[Any]]:
        return (future for future in self._parts if isinstance(future, asyncio.Task) and not future.done())

    def _rest(self, rests: bool) -> None:
        if rests is not self._rests:
            self._rests = rests
            self._run.resting += 1 if rests else -1
            heed_waits(self._run)

    def _need(self, future: AnyFuture) -> None:
        todo = [future]
        while todo:
            needed = todo.pop()
            part = self._parts.get(needed)
            if part is None:
                part = self._parts[needed] = _Part()
                todo += self._see(needed, part)
            part.needed += 1

    def _enter(self, future: AnyFuture, part: _Part) -> None:
        for needed in self._see(future, part):
            self._need(needed)

    def _see(self, future: AnyFuture, part: _Part) -> Collection[AnyFuture]:
        """Find out what a part waits for; gives what else is to be looked at for that."""
        if future.done():
            return ()
        awaits = what_wakes(future)
        if awaits is None:
            self._wake(future)
        elif part.awaits is not awaits:
            part.awaits = awaits
            awaits.add_done_callback(partial(self._wake, future))
        if isinstance(awaits, AwaitedRun):
            part.run = awaits
            self._runs.add(awaits)
            if not awaits.only_waits:
                self._runs_at_work.add(awaits)
        elif not (isinstance(awaits, Answer) and awaits.call is self._call):
            part.parts, part.group = parts_of(future, awaits) if awaits is not None else ((), None)
            if part.group is not None:
                self._groups[future] = None
            if not part.parts:
                part.works = True
                self._at_work += 1
        return part.parts

    def _see_new_tasks(self, future: AnyFuture) -> None:
        """Look at tasks that a task group has got since the last look; each costs some 25 ns."""
        part = self._parts.get(future)
        if part is None or part.group is None:
            del self._groups[future]
            return
        if new := _tasks_of(part.group).difference(part.parts):
            part.parts = (*part.parts, *new)
            for task in new:
                self._need(task)

    def _forget(self, part: _Part) -> Collection[AnyFuture]:
        """Forget what a part does; gives what it awaited for that."""
        if part.works:
            part.works = False
            self._at_work -= 1
        if part.run is not None:
            self._runs.discard(part.run)
            self._runs_at_work.discard(part.run)
        parts, part.parts, part.group, part.run = part.parts, (), None, None
        return parts

    def _release(self, futures: Collection[AnyFuture]) -> None:
        todo = list(futures)
        while todo:
            future = todo.pop()
            part = self._parts[future]
            part.needed -= 1
            if part.needed == 0:
                del self._parts[future]
                todo += self._forget(part)


def links(task: asyncio.Task[Any]) -> Iterator[object]:
    """The coroutines of a task, each of which awaits the next; at last what it all waits for."""
    link: Any = task.get_coro()
    while link is not None:
        yield link
        following: Any = next((found for name in _AWAITING if (found := getattr(link, name, None)) is not None), None)
        if following is None:  # what `__await__()` and `__anext__()` give says nothing of what is in it
            following = next((inner for inner in gc.get_referents(link) if _is_link(inner)), None)
        link = following


def _is_link(found: object) -> bool:
    return asyncio.iscoroutine(found) or isinstance(found, AsyncGeneratorType)


def what_wakes(future: AnyFuture) -> AnyFuture | None:
    """What wakes a task; None if it runs in this turn of the event loop or the next, itself if nobody can say."""
    if not isinstance(future, asyncio.Task):
        return future
    awaits: AnyFuture | None = getattr(cast("Any", future), "_fut_waiter", future)
    return None if awaits is None or awaits.done() else awaits


def parts_of(future: AnyFuture, awaits: AnyFuture) -> tuple[Collection[AnyFuture], asyncio.TaskGroup | None]:
    """The tasks and other futures that a part awaits, and the group that they are of; none if it awaits others."""
    if awaits is not future and isinstance(awaits, asyncio.Task):
        return (awaits,), None
    if isinstance(gathered := getattr(awaits, "_children", None), list):  # of asyncio.gather
        return cast("list[AnyFuture]", gathered), None
    if not isinstance(future, asyncio.Task):
        return (), None
    found = _variables_of_asyncio(future)
    if found.get("waiter") is awaits:
        return found.get("fs") or (found["fut"],), None  # asyncio.wait, asyncio.wait_for
    group = found.get("self")
    if isinstance(group, asyncio.TaskGroup) and getattr(group, "_on_completed_fut", None) is awaits:
        return tuple(_tasks_of(group)), group
    return (), None


def _tasks_of(group: asyncio.TaskGroup) -> set[AnyFuture]:
    return getattr(group, "_tasks", None) or set()


def _variables_of_asyncio(task: asyncio.Task[Any]) -> dict[str, Any]:
    """Those of the innermost function that a task is in, if asyncio has written it."""
    frames = [getattr(link, "cr_frame", None) or getattr(link, "gi_frame", None) for link in links(task)]
    frame: Any = next((frame for frame in reversed(frames) if frame is not None), None)
    if frame is None or not str(frame.f_globals.get("__name__")).startswith("asyncio."):
        return {}
    return frame.f_locals
