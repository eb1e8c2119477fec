"""Runs a workflow by hand: calls wait for `run_step()`, and what they return goes back to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from workflows._engine.calls import Call, CallPhase
from workflows._engine.live import LiveRun
from workflows._engine.senders import left_behind
from workflows._engine.ticks import EventArrived
from workflows.events import Event
from workflows.instrumentation.records import Envelope

__all__ = ["Stepper"]

# How long a step that gave nothing waits for what tasks may send that bodies left behind; some never end.
LEFT_SECONDS = 1.0


class Stepper:
    """Holds the calls that could start, lets all of them go at each step, and keeps what they return."""

    def __init__(self, start: Callable[[Call], None], run: LiveRun) -> None:
        self._start = start
        self._run = run
        self._held: list[Call] = []
        self._running: dict[str, Call] = {}
        self._produced: list[Envelope] = []
        self._handed: dict[int, list[Envelope]] = {}  # a step may return one object twice
        self._again = list(run.state.handed.values())  # the run goes on, and they may have been lost since
        for envelope in self._again:
            self._handed.setdefault(id(envelope.event), []).append(envelope)
        self._gave_nothing = False
        self._changed: asyncio.Event = asyncio.Event()
        run.when_over(lambda _: self._changed.set())

    def hold(self, call: Call) -> None:
        """Keep a call for the next step; one that was let go already, and is tried again, starts at once.

        So does one that has got the worker of a call which waits, or is to be tried again: that needs a worker later,
        and this step goes on until it has ended.
        """
        if self._goes_on_alone or call.exec_id in self._running or self._stands_in(call):
            self._running[call.exec_id] = call
            self._start(call)
            return
        self._held.append(call)
        self._changed.set()

    def ended(self, exec_id: str, returned: Iterable[Envelope]) -> None:
        """A call is done; its events are given to the caller instead of to other steps."""
        self._running.pop(exec_id, None)
        if self._goes_on_alone:
            for envelope in returned:
                self.send_on(envelope)
        else:
            self._produced.extend(returned)
        self._changed.set()

    @property
    def _goes_on_alone(self) -> bool:
        """Whether the last step gave nothing, and the end is awaited: the caller takes no more steps.

        A task that a body left behind may send something later than the last step has waited for.
        """
        return self._gave_nothing and self._run.awaited > 0

    def end_awaited(self) -> None:
        """Somebody awaits the end from now on."""
        if self._goes_on_alone:
            held, self._held = self._held, []
            for call in held:
                self.hold(call)

    async def step(self) -> list[Event] | None:
        """Let every held call run to its end; what they returned, or None when the run is over.

        Calls that these have led to meanwhile are let go as well where nothing was returned, and so are those to which
        tasks lead within a second that their bodies left behind: a step that gives nothing is the last one. The first
        step of a run that goes on also gives what was handed over before and has not come back.
        """
        self._gave_nothing = False
        while not (self._held or self._again or self._produced) and not self._run.is_over:
            await self._wait()
        while True:
            calls, self._held = self._held, []
            self._running.update((call.exec_id, call) for call in calls)
            for call in calls:
                self._start(call)
            while self._running and not self._run.is_over:
                await self._wait()
            if self._run.is_over or self._produced or self._again:
                break
            if not self._held:
                task = left_behind(self._run)
                if task is None or not await self._something_comes(task):
                    break
        produced, self._produced = self._produced, []
        for envelope in produced:
            self._handed.setdefault(id(envelope.event), []).append(envelope)
        again, self._again = self._again, []
        self._gave_nothing = not again and not produced
        return None if self._run.is_over else [e.event for e in (*again, *produced)]

    def taken_back(self, event: Event) -> Envelope | None:
        """The envelope in which a step returned this event, once for each time that one returned it."""
        envelopes = self._handed.get(id(event))
        if not envelopes:
            return None
        if len(envelopes) == 1:
            del self._handed[id(event)]
        found = envelopes.pop(0)
        self._again = [envelope for envelope in self._again if envelope is not found]
        return found

    def send_on(self, envelope: Envelope, target: str | None = None) -> None:
        """Let the run take an event that a step of it returned."""
        envelope.queued_at_ns = self._run.clock.now_ns()
        self._run.mailbox.put(EventArrived(envelope.queued_at_ns, envelope, target))

    def _stands_in(self, call: Call) -> bool:
        paused = (CallPhase.WAITING, CallPhase.RETRYING, CallPhase.QUEUED)
        return any(c.step is call.step and c.phase in paused for c in self._running.values())

    async def _something_comes(self, task: asyncio.Task[Any]) -> bool:
        """Whether a call is held soon, or at least the task is over, which may leave others."""

        def over(_: object) -> None:
            self._changed.set()

        task.add_done_callback(over)
        try:
            async with asyncio.timeout(LEFT_SECONDS):
                await self._wait()
        except TimeoutError:
            return False
        finally:
            task.remove_done_callback(over)
        return True

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
