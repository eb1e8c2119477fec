"""One try of a call, and what its step may do meanwhile: send, stream, collect, wait, start child runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

from workflows._engine.calls import Call, CallPhase, Wait
from workflows._engine.live import LiveRun
from workflows._engine.only_waiting import Answer
from workflows._engine.replay_order import ReplayOrder
from workflows._engine.resumed_waits import unreached
from workflows._engine.ticks import (
    EventArrived,
    EventsCollected,
    QuestionStreamed,
    WaitAbandoned,
    WaitBegan,
)
from workflows._engine.together import Together
from workflows._engine.wait_ends import WaitEnds
from workflows._engine.wait_ids import WaitIds
from workflows._engine.watched_attempt import WatchedAttempt
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event
from workflows.instrumentation.history import REFS_KEPT, EventRef
from workflows.instrumentation.records import Carriers, Envelope

__all__ = ["OF_WAIT", "Attempt"]

OF_WAIT = "__wait__"
"""What the timeout of a wait has the id of that wait under."""

logger = logging.getLogger("workflows.run")


class Attempt(WatchedAttempt):
    """A running attempt; the `Context` that a step holds acts through it.

    Attributes:
        emitted: What it sent and returned so far; kept only while somebody listens.
        stopped: The run has stopped it.
        left: The run ended without it, and has told so.
        is_over: Its body has heeded that it was stopped; it may have to wait for its turn to tell.
        started: Its task has begun to run.
        children: Runs that it started and that are not over.
        buffered: It called `collect_events` and got nothing yet.
        started_ns: When it was let go.
        sent: Ids and classes of what it sent so far, up to `REFS_KEPT`.
        answers: Ids and classes of the events that ended its waits.
    """

    __slots__ = (
        "_answers",
        "_carriers",
        "_collects",
        "_context",
        "_ends",
        "_replayed",
        "_together",
        "_unread",
        "_wait_ids",
        "answers",
        "buffered",
        "children",
        "emitted",
        "is_over",
        "left",
        "sent",
        "started",
        "started_ns",
        "stopped",
    )

    def __init__(self, run: LiveRun, call: Call) -> None:
        super().__init__(run, call)
        self.run_id = run.run_id
        self.exec_id = call.exec_id
        self.step = call.step.name
        self.attempt = call.attempt
        self.started_ns = run.state.now_ns
        self.started = self.stopped = self.is_over = self.left = self.buffered = False
        self.children: dict[LiveRun, None] | None = None
        self.sent: list[EventRef] | None = None
        self.answers: Sequence[EventRef] = ()
        self.emitted: list[Envelope] | None = None
        self._carriers: Carriers | None = None
        self._context: Any = None
        self._wait_ids: WaitIds | None = None
        self._collects: dict[str, int] | None = None
        self._ends: WaitEnds | None = None
        self._unread: dict[str, tuple[str, int]] | None = None
        self._together: Together | None = None
        self._replayed: ReplayOrder | None = None
        self._answers: dict[str, Answer] | None = None

    @property
    def context(self) -> Any:
        """The step's `Context`, made when first asked for."""
        if self._context is None:
            self.used = True
            self._context = self.run.plan.make_context(self)
            if self.run.inside is None:
                self.run.inside = WeakSet()
            self.run.inside.add(self._context)
        return self._context

    def failed(self) -> None:
        """Its error's traceback holds its context for as long as the error lives; that is no sign of life."""
        if self._context is not None and self.run.inside is not None:
            self.run.inside.discard(self._context)

    def envelope(self, event: Event, now: int, scope: tuple[str, ...] | None = None) -> Envelope:
        """An event of this attempt on its way; the caller counts it in `call.emitted`, before another one is made."""
        event_id = f"{self.exec_id}.{self.call.emitted}"
        call = self.call
        made = Envelope(event_id, event, self.exec_id, self.step, now, None, call.scope, call.recoveries)
        if scope is not None:
            made.scope = scope
        if self.run.dispatcher.handlers:
            if self._carriers is None:
                self._carriers = self.run.dispatcher.carriers(self.run_id) or {}
            made.carriers = self._carriers
            if self.emitted is None:
                self.emitted = []
            self.emitted.append(made)
        return made

    def send(self, event: Event, target: str | None) -> None:
        """Send an event now; on the run's own thread it has been routed when this returns."""
        if self.call.attempt != self.attempt or self.call.phase is CallPhase.RETRYING:
            self._drop(event)
            return
        now = self.run.clock.now_ns()
        envelope = self.envelope(event, now)
        self.call.emitted += 1  # at once, not with the tick: that may have to wait, or find the call done
        if self.sent is None:
            self.sent = []
        if len(self.sent) < REFS_KEPT:
            self.sent.append((envelope.event_id, type(event)))
        self.run.mailbox.put(EventArrived(now, envelope, target))

    def collect(self, event: Event, expected: Sequence[type[Event]], group: str) -> list[Event] | None:
        """Keep an event of this call for a join; all members, in the order of `expected`, once they are there."""
        if not expected:
            return []
        self._must_be_running("collect_events")
        now = self.run.clock.now_ns()
        envelope = next((e for e in self.call.inputs if e.event is event), None)
        if envelope is None:
            envelope = self.envelope(event, now)
            self.call.emitted += 1
        numbers = self._collects = self._collects or {}
        number = numbers[group] = numbers.get(group, -1) + 1
        released = self.run.collect(EventsCollected(now, self.exec_id, group, number, envelope, expected))
        self.buffered = released is None
        return None if released is None else [member.event for member in released.members]

    def wait_id(self, named: str | None, event_type: type[Event], requirements: Mapping[str, object]) -> str:
        """The id of the next wait, which `wait` is to be called with at once."""
        if self._wait_ids is None:
            self._wait_ids = WaitIds(self.run, self.call)
        return self._wait_ids.next(named, event_type, requirements)

    async def wait(
        self,
        event_type: type[Event],
        *,
        wait_id: str,
        asked: Event | None,
        requirements: dict[str, object],
        timeout: float | None,
    ) -> Event:
        """Pause until a matching event comes; the coroutine really waits, its worker is free meanwhile.

        Raises:
            asyncio.TimeoutError: If none came within `timeout` seconds.
            WorkflowRuntimeError: If a wait with this id is open already.
        """
        self._check_wait(wait_id)
        answer = Answer(loop=self.run.loop)
        answer.call = self.call
        if self._answers is None:
            self._answers = {}
            self._replayed = ReplayOrder.of(self.run, self.call)
        self._answers[wait_id] = answer
        ends = self._ends = self._ends or WaitEnds(self.run.loop, self.call.let_go)
        task, subclasses = asyncio.current_task(), self.call.step.accept_event_subclasses
        was_open = wait_id in self.call.waiting_since  # at the snapshot: it is older than whatever ends now
        is_known = wait_id in self.call.answers and not was_open
        answer.over_before = 0 if was_open else ends.before(task)
        now = self.run.clock.now_ns()
        answer.place = self._wait_ids.place if self._wait_ids is not None else ("", 0)
        background = task is not self.task or self._body_made() is not None or self._may_come_to_others(wait_id)
        self.run.mailbox.put(
            WaitBegan(
                now,
                self.exec_id,
                wait_id,
                event_type,
                requirements,
                timeout,
                asked,
                subclasses,
                background,
                answer.place,
            )
        )
        self._has_begun(ends)
        at_once = answer.done()
        if not background:
            self._let_clock_go(False)
        if background or answer.place[1] <= self.call.let_go.get(answer.place[0], -1):
            self._watched().waits_in(task, answered=at_once)
        try:
            ended = await answer
            self._is_heard(wait_id)
            if self._replayed is not None:
                await self._its_turn(self._replayed, wait_id)
        except asyncio.CancelledError:
            self._answers.pop(wait_id, None)
            self._is_heard(wait_id)
            if not self.stopped and self.run.attempts.get(self.exec_id) is self:
                self._give_up(wait_id, answer.place, now, overtaken=ends.overtook(answer))
            raise
        finally:
            self._let_clock_go(True)
        if self._unread is not None:
            self._unread.pop(wait_id, None)
        if not is_known:
            ends.is_over(task, at_once=at_once, alone=not (background or self._answers))
        if ended.answer is None:
            raise _timeout_of(wait_id, f"Timed out waiting for {event_type.__name__} after {timeout} seconds.")
        self.answers = (*self.answers, (ended.answer.event_id, type(ended.answer.event)))
        return ended.answer.event

    def _is_heard(self, wait_id: str) -> None:
        if self._together is not None:
            self._together.heard(wait_id, alone=not self._answers)

    @property
    def holds_answers(self) -> bool:
        """Answers that it had before are on their way to its body, in the order in which they came."""
        return self._replayed is not None and self._replayed.holds

    def _has_begun(self, ends: WaitEnds) -> None:
        if self._replayed is not None:
            self._replayed.release()
        ends.goes_on()

    async def _its_turn(self, order: ReplayOrder, wait_id: str) -> None:
        await order.turn(wait_id, self._holds)
        if (body := self._body_made()) is not None:
            body.answered()

    def _holds(self) -> None:
        self._watched().waits_in(asyncio.current_task(), answered=False)

    def skip_answers(self) -> None:
        """Hold an answer no longer for what came before it: nothing of the body comes to that."""
        if self._replayed is not None:
            self._replayed.skip()

    def _may_come_to_others(self, wait_id: str) -> bool:
        """Whether other waits of it were open at the snapshot, to which tasks of it may come."""
        call = self.call
        return bool(call.waiting_since) and any(other != wait_id for other in unreached(self.run.state, call))

    def _check_wait(self, wait_id: str) -> None:
        if self.stopped:
            self._stop_again()
        self._must_be_running("wait_for_event")
        if asyncio.get_running_loop() is not self.run.loop:
            raise WorkflowRuntimeError(
                f"Step {self.step} awaits wait_for_event on an event loop of its own, where no answer can reach it. "
                f"Await it in an `async def` step.",
                step=self.step,
                run_id=self.run_id,
            )
        if wait_id in self.run.state.waits and wait_id not in self.call.answers:
            raise WorkflowRuntimeError(
                f"Step {self.step} opened a wait with the id {wait_id!r} while one is open. Give each wait its own "
                f"waiter_id, or leave it out.",
                step=self.step,
                run_id=self.run_id,
            )

    def _give_up(self, wait_id: str, place: tuple[str, int], began_ns: int, *, overtaken: bool) -> None:
        if self._unread is not None:
            self._unread.pop(wait_id, None)
        now = self.run.clock.now_ns()
        self.run.mailbox.put(WaitAbandoned(now, self.exec_id, wait_id, place, overtaken, now - began_ns))
        if not overtaken and self._ends is not None:
            self._ends.gave_up(place)

    def give_up_unread(self) -> None:
        """The body is over, and did not get some answers: tasks that it cancelled, say, hear of that only later.

        Nor did it get those for which it queues for a worker.
        """
        queued = {wait.wait_id: wait.place for wait in self.call.to_resume or ()}
        for wait_id, place in {**queued, **(self._unread or {})}.items():
            self._give_up(wait_id, place, self.run.clock.now_ns(), overtaken=True)

    @property
    def let_go(self) -> Mapping[str, int]:
        """Waits that it, or an attempt before, gave up, and went on: the last of each name."""
        return self.call.let_go if self._ends is None else self._ends.let_go

    @property
    def waited(self) -> bool:
        """Its step has waited for an event."""
        return self._answers is not None

    @property
    def left_waits(self) -> list[str]:
        """Waits of tasks that go on, unless they are cancelled now."""
        return [wait_id for wait_id, answer in (self._answers or {}).items() if not answer.done()]

    def _must_be_running(self, method: str) -> None:
        if self.run.state.ended is not None or self.run.attempts.get(self.exec_id) is not self:
            raise WorkflowRuntimeError(
                f"{method} was called for step {self.step} when that had ended. Call it in the step itself.",
                step=self.step,
                run_id=self.run_id,
            )

    def publish(self, event: Event) -> None:
        """Show an event to the stream's readers; a question among them keeps the run open for an answer."""
        route = self.run.spec.route(type(event))  # which refuses what is no event
        if self.call.attempt != self.attempt or self.call.phase is CallPhase.RETRYING:
            self._drop(event)
            return
        self.run.publish(event, self)
        if route.asks:
            now, told = self.run.clock.now_ns(), self.run.dispatcher.handlers
            carriers = self.run.dispatcher.carriers(self.run_id) if told else None
            # Without an id: nobody takes it, so it is none of the events that the attempt sends.
            question = Envelope("", event, self.exec_id, self.step, now, carriers)
            self.run.mailbox.put(QuestionStreamed(now, question))

    def _drop(self, event: Event) -> None:
        """Say that another attempt is made: a plain function whose time was over cannot be stopped, and goes on."""
        logger.warning(
            "step %s gave %s in attempt %d, which was given up; another one does its work, so the event is dropped",
            self.step,
            type(event).__name__,
            self.attempt,
            extra={"run_id": self.run_id},
        )

    def end(self) -> None:
        """The body is over: nothing of it may wait or be held any more."""
        if self.run.ending_waits:
            self.run.end_waits(self.exec_id)
        if self.body is not None:
            self.body.close()
        if self._replayed is not None:
            self._replayed.end()
        self._context = None
        for wait_id, answer in (self._answers or {}).items():
            if answer.cancelled() and self._ends is not None and self._ends.overtook(answer):
                self._unread = self._unread or {}
                self._unread[wait_id] = answer.place
            answer.cancel()

    def resume(self, wait: Wait) -> None:
        """Wake the coroutine that waits; it has a worker again."""
        answer = self._answers.pop(wait.wait_id, None) if self._answers else None
        if answer is None:
            return
        if wait.answer is not None:
            self._unread = self._unread or {}
            self._unread[wait.wait_id] = wait.place
        if not answer.done():  # else its task is cancelled, and will say so
            answer.set_result(wait)
            if self._replayed is None or self._replayed.is_over:
                self._together = self._together or Together(self.run, self.exec_id)
                self._together.answered(wait)
            if self.body is not None:
                self.body.answered()

    def stop(self) -> None:
        """Cancel the attempt, and the child runs that it started."""
        self.stopped = True
        if self.run.ending_waits:
            self.run.end_waits(self.exec_id)
        if self.children:
            self.run.stop_children(self)
        if self.task is not None:
            self.task.cancel()

    def _stop_again(self) -> None:
        """End a task that the body had just begun, and the body: `asyncio.wait_for` of Python 3.11 swallows a
        cancellation that comes with an answer."""
        if self.task is not None:
            self.task.cancel()
        raise asyncio.CancelledError("its step was stopped")


def _timeout_of(wait_id: str, text: str) -> TimeoutError:
    # Here, since an error and a variable of the frame that raises it hold each other.
    error = TimeoutError(text)
    vars(error)[OF_WAIT] = wait_id
    return error
