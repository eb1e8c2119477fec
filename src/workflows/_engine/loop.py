"""The shell of one run: feeds ticks to `reduce`, does the effects, owns every task of the run until it is over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol, assert_never

from workflows._engine.attempt import Attempt
from workflows._engine.calls import Call, CallPhase
from workflows._engine.child_waits import heed_waits, waits_below
from workflows._engine.closing import close, finish, stop_children, stop_some
from workflows._engine.crowd import MANY, Crowd
from workflows._engine.effects import (
    BufferEvent,
    DeliverLater,
    Effect,
    EndIdle,
    EndRun,
    EndRunWait,
    EndWait,
    HandOver,
    PublishEvent,
    ReleaseFanIn,
    RestartWait,
    ResumeCall,
    ScheduleRetry,
    StartCall,
    StartRunWait,
    StartWait,
    TellIdle,
    TellSent,
)
from workflows._engine.gate import PlaceAtGate
from workflows._engine.going_on import apart
from workflows._engine.held_workers import heed_workers
from workflows._engine.idle_watch import check_idle, warn_if_it_lasts
from workflows._engine.internal_events import show_queued, show_unhandled
from workflows._engine.live import NONE_RETURNED, LiveRun, ParentAttempt, RunPlan
from workflows._engine.pieces import DONE_AT_ONCE, in_pieces, resume, tell_wait
from workflows._engine.reduce import reduce
from workflows._engine.state import RunState
from workflows._engine.step_attempt import run_attempt
from workflows._engine.stepper import Stepper
from workflows._engine.telling import (
    tell_buffered,
    tell_released,
    tell_retry,
    tell_run_started,
    tell_sent,
    tell_wait_ended,
    tell_wait_started,
)
from workflows._engine.ticks import (
    CancelRequested,
    DeliveryDue,
    EngineFailed,
    EventArrived,
    EventsCollected,
    RetryDue,
    RunInterrupted,
    RunTakenUp,
    RunTimedOut,
    SuspendRequested,
    Tick,
    WaitTimeoutDue,
)
from workflows.errors import WorkflowDeadlockError
from workflows.events import Event, InputRequiredEvent, WorkflowFailedEvent, WorkflowIdleEvent
from workflows.instrumentation.records import Envelope
from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["Run", "Spawn"]

TOO_LATE = "%s comes too late for run %s, which is suspended: send it to the run that goes on from the snapshot"
NOT_ACCEPTED = "no step of %s accepts %s, sent by %s; the event is kept for a later wait_for_event"
OF_NO_LIST = (
    "no step of %s accepts %s, sent by %s, but of a list that a step returned (%s); the event is kept for a later "
    "wait_for_event"
)
NOT_AWAITED = "no wait of %s that is open takes %s, sent by %s as its answer; the event is lost"

logger = logging.getLogger("workflows.run")


class Spawn(Protocol):
    """Makes a task; the run keeps it in `attempts` until it is over, and waits for those that are left at its end."""

    def __call__(
        self,
        coroutine: Coroutine[Any, Any, None],
        /,
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        context: contextvars.Context,
    ) -> asyncio.Task[None]: ...


class Run(LiveRun):
    """One execution of a workflow in this process.

    Attributes:
        context: The caller's context at `run()`; every attempt runs in a copy of it.
        stepper: Holds the calls of a run by hand.
    """

    __slots__ = (
        "_began",
        "_closing",
        "_place",
        "_spawn",
        "context",
        "stepper",
    )

    def __init__(
        self,
        plan: RunPlan,
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
        executor: Callable[[], Executor],
        crowd: Crowd,
    ) -> None:
        super().__init__(plan, loop, executor, crowd)
        self._spawn = spawn
        self.context = contextvars.copy_context()
        self._place = PlaceAtGate(plan.gate, loop.time()) if plan.gate is not None else None
        self._began = False
        self._closing: asyncio.Task[None] | None = None
        self.stepper = Stepper(self.begin_call, self) if plan.stepwise else None
        if isinstance(parent := current_attempt.get(), Attempt):
            self.parent = parent
            self.root_run_id = parent.run.root_run_id
            self.pausable = self.pausable or parent.run.pausable
            siblings, of_step = parent.run.children or {}, parent.children or {}
            siblings[self], of_step[self] = parent, None
            parent.run.children, parent.children = siblings, of_step
            above = parent.run.stream
            self.stream.internal = above.internal and above.children

    def begin(self) -> None:
        """Take the start event, or go on from the snapshot. To be called in the run's own context."""
        try:
            self.tell_started()
            if self.plan.timeout is not None:
                self.timers.set("run", self.plan.timeout, self._timed_out)
            self.has_begun = True
            first, self.plan.start_event = self._first_tick(), None  # the run may be long, and the event large
            self.mailbox.open(first)
        except Exception as error:  # noqa: BLE001  # as in `take`
            self.fail(error)

    def begin_at_gate(self) -> None:
        """Begin as soon as the gate lets the run pass."""
        assert self._place is not None, "only a run with a gate waits there"
        name = f"{self.run_id} at the gate"
        self._place.task = self._spawn(self._pass_gate(self._place), loop=self.loop, name=name, context=self.context)
        self._place.task.add_done_callback(self._left_gate)

    async def _pass_gate(self, place: PlaceAtGate) -> None:
        await place.wait()
        self.begin()

    def _left_gate(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.interrupt()
        elif isinstance(error := task.exception(), Exception):
            self.fail(error)

    def interrupt(self) -> None:
        """End the run because its event loop ends, or somebody cancelled a task of it; does nothing once decided."""
        if self.state.ended is None:
            self.take(RunInterrupted(self.clock.now_ns()))

    def standing(self) -> RunState:
        """The state to take a snapshot of; that of a run which still queues at its gate has its start event."""
        if self.has_begun:
            return self.state
        queued = apart(self.plan.resume.state) if self.plan.resume else RunState(self.spec, self.run_id)
        if self.plan.resume is None:
            reduce(queued, self._first_tick())
        for tick in self.mailbox.waiting():
            reduce(queued, tick)
        return queued

    def cancel(self, reason: str | None = None) -> None:
        """End the run as cancelled; does nothing once it is decided."""
        tick = CancelRequested(self.clock.now_ns(), reason)
        (self.mailbox.put if self._began else self.take)(tick)

    def suspend(self) -> None:
        """Let go of the run where it stands; does nothing once it is decided."""
        tick = SuspendRequested(self.clock.now_ns())
        (self.mailbox.put if self._began else self.take)(tick)

    def take(self, tick: Tick) -> None:
        """Reduce one tick and do what follows."""
        state = self.state
        try:
            if self.journal is not None:
                self.journal(tick)
            state.watched = self.stream.internal or bool(self.dispatcher.handlers)
            effects = reduce(state, tick)
            for effect in effects if len(effects) <= DONE_AT_ONCE else in_pieces(self, effects):
                if not isinstance(effect, StartCall) or self.stepper is not None:
                    self._do(effect)
                else:
                    self.start(effect.call)
            if self.resting:
                heed_waits(self)
        except Exception as error:  # noqa: BLE001  # an error of the engine must end the run, or it would hang
            self.fail(error)

    def send_from_outside(self, event: Event, target: str | None, wait_id: str | None = None) -> None:
        """Take an event that no step sent; in a run by hand also one that a step returned and the caller sends on."""
        if self.stepper is not None and (handed := self.stepper.taken_back(event)) is not None:
            self.stepper.send_on(handed, target)
        else:
            if self.state.ended == "suspended":
                logger.warning(TOO_LATE, type(event).__name__, self.run_id, extra={"run_id": self.run_id})
            super().send_from_outside(event, target, wait_id)

    def later(self, function: Callable[[], None]) -> None:
        """Call a function soon, on the run's loop; at once where that is closed."""
        if self.loop.is_closed():
            function()
        else:
            self.loop.call_soon_threadsafe(function)

    def crash(self, error: BaseException | None) -> None:
        """End the run because a step raised what is no `Exception`; it leaves `await handler` as itself."""
        self.mailbox.put(RunInterrupted(self.clock.now_ns(), error))

    def fail(self, error: Exception) -> None:
        """End the run because the engine failed, or somebody who listens and is to be heard."""
        logger.error("run %s of %s ends: the engine failed", self.run_id, self.spec.name, exc_info=error)
        if self.state.ended is None:
            self.take(EngineFailed(self.clock.now_ns(), error))
        elif self.end is None:  # it failed while it ended
            self._end(EndRun("failed", WorkflowFailedEvent(step_name="", exception=error), error))

    def collect(self, tick: EventsCollected) -> ReleaseFanIn | None:
        """Reduce a collect at once, since the step waits for its answer."""
        if self.journal is not None:
            self.journal(tick)
        effects = reduce(self.state, tick)
        for effect in effects:
            self._do(effect)
        released = effects[-1] if effects else None
        return released if isinstance(released, ReleaseFanIn) else None

    def _first_tick(self) -> Tick:
        now = self.clock.now_ns()
        if self.plan.resume is not None:
            returned, self.returned = self.returned, NONE_RETURNED
            return RunTakenUp(now, tuple(returned.values()))
        assert self.plan.start_event is not None, "a run that does not resume has a start event"
        return EventArrived(now, Envelope("x0", self.plan.start_event, None, None, now))

    def _close_soon(self) -> None:
        if self.loop.is_closed():  # where nothing can be waited for
            finish(self)
            return
        self._closing = self._spawn(close(self), loop=self.loop, name=f"{self.run_id} closing", context=self.context)
        self._closing.add_done_callback(self._closed)

    def _closed(self, _: asyncio.Task[None]) -> None:
        if not self.is_over:  # somebody cancelled it before its first turn
            self._close_soon()

    def stop_children(self, attempt: ParentAttempt | None = None) -> None:
        """Cancel the child runs, those of one attempt or all; `close` waits for them."""
        stop_children(self, attempt)

    def tell_started(self) -> None:
        """Tell that it has begun, unless that was told; one that ends at its gate begins with its end."""
        if not self._began:
            self._began = True
            if self.dispatcher.handlers:
                tell_run_started(self, self._place.waited(self.loop.time()) if self._place is not None else 0.0)

    def _do(self, effect: Effect) -> None:  # noqa: C901  # one flat table
        match effect:
            case StartCall():
                if self.stepper is not None:
                    self.stepper.hold(effect.call)
                else:
                    self.start(effect.call)
            case TellSent():
                if self.dispatcher.handlers or self.stream.internal or not effect.takers:
                    self._sent(effect)
            case PublishEvent():
                sent = effect.envelope
                sender = AttemptScope(self.run_id, sent.sender or "", sent.sender_step or "", effect.attempt)
                self.publish(sent.event, sender)
            case HandOver():
                assert self.stepper is not None, "only a run by hand hands events over"
                self.stepper.ended(effect.call.exec_id, effect.returned)
            case ScheduleRetry():
                self._retry(effect)
            case BufferEvent():
                if self.dispatcher.handlers:
                    tell_buffered(self, effect)
            case ReleaseFanIn():
                if self.dispatcher.handlers and not effect.again:
                    tell_released(self, effect)
            case StartWait():
                self._start_wait(effect)
            case RestartWait():
                self._ask_and_time(effect)
            case EndWait():
                self._end_wait(effect)
            case ResumeCall():
                resume(self, effect)
            case DeliverLater():
                self.loop.call_soon(lambda: self.mailbox.put(DeliveryDue(self.clock.now_ns())))
            case TellIdle():
                self._idle(effect)
            case EndIdle():
                self.timers.cancel("idle")
                heed_waits(self)
            case StartRunWait() | EndRunWait():
                tell_wait(self, effect)
            case EndRun():
                self._end(effect)
            case _:
                assert_never(effect)

    @property
    def has_ended(self) -> bool:
        """Whether it is decided how it ends."""
        return self.state.ended is not None

    def start(self, call: Call) -> None:
        """Begin an attempt of a call, behind those that are to begin before it."""
        if self.crowd.attempts < MANY and not self.crowd.starts.waiting:
            self.begin_call(call)
        else:
            self.crowd.starts.begin(self, call)

    def begin_call(self, call: Call) -> None:
        """Begin an attempt of a call now."""
        attempt = Attempt(self, call)
        self.attempts[call.exec_id] = attempt
        self.crowd.attempts += 1
        attempt.task = self._spawn(
            run_attempt(attempt), loop=self.loop, name=call.step.name, context=self.context.copy()
        )

    def _sent(self, sent: TellSent) -> None:
        if self.dispatcher.handlers:
            tell_sent(self, sent)
        if self.stream.internal:
            show_queued(self, sent)
        if not sent.takers and not sent.answered and not isinstance(sent.envelope.event, InputRequiredEvent):
            self._nobody_took(sent)

    def _nobody_took(self, sent: TellSent) -> None:
        event_class = type(sent.envelope.event)
        joins = ", ".join(step.name for step in self.spec.route(event_class).takers)
        if self.state.idle:
            heed_waits(self)  # whoever sent it may send another one
        if self.stream.internal:
            show_unhandled(self, sent)
        if event_class not in self.warned:
            self.warned |= {event_class}
            text = NOT_AWAITED if not sent.kept else OF_NO_LIST if joins else NOT_ACCEPTED
            names = (self.spec.name, event_class.__name__, sent.envelope.sender_step or "the outside")
            logger.warning(text, *names, *([joins] if text is OF_NO_LIST else []), extra={"run_id": self.run_id})

    def _retry(self, retry: ScheduleRetry) -> None:
        exec_id = retry.call.exec_id
        if self.dispatcher.handlers:
            tell_retry(self, retry)
        if retry.delay <= 0:
            self.mailbox.put(RetryDue(self.clock.now_ns(), exec_id))
        else:
            self.timers.set(f"retry {exec_id}", retry.delay, lambda: RetryDue(self.clock.now_ns(), exec_id))

    def _start_wait(self, effect: StartWait) -> None:
        if self.dispatcher.handlers:
            tell_wait_started(self, effect)
        self._ask_and_time(effect)

    def _ask_and_time(self, effect: StartWait | RestartWait) -> None:
        wait = effect.wait
        if wait.asked is not None and effect.ask:
            self.publish(wait.asked, self.attempts.get(wait.call.exec_id))
        if effect.due_in is not None:
            due = f"wait {wait.wait_id}"
            self.timers.set(due, effect.due_in, lambda: WaitTimeoutDue(self.clock.now_ns(), wait.wait_id))

    def end_waits(self, exec_id: str) -> None:
        """Tell that waits of a call ended with the run, if that is still to be told."""
        for effect in (self.ending_waits or {}).pop(exec_id, ()):
            self._end_wait(effect)

    def _end_wait(self, effect: EndWait) -> None:
        self.timers.cancel(f"wait {effect.wait.wait_id}")
        if effect.wait.call.phase is CallPhase.QUEUED:
            heed_workers(self, effect.wait.call.step.name)
        if self.dispatcher.handlers:
            tell_wait_ended(self, effect)

    def _timed_out(self) -> Tick:
        plan, below = self.plan, waits_below(self.children or ())
        return RunTimedOut(self.clock.now_ns(), plan.timeout or 0.0, below, plan.idle_counts)

    def _idle(self, idle: TellIdle) -> None:
        if self.stream.internal:
            self.publish(WorkflowIdleEvent(), None)
        heed_waits(self)
        if idle.check:
            check_idle(self)
        else:
            warn_if_it_lasts(self)

    def check_idle(self) -> None:
        """Let the run end as a deadlock if it stays idle and only the one who awaits it is left to wake it."""
        check_idle(self)

    def _end(self, end: EndRun) -> None:
        self.end = end
        self.history.outcome = end.outcome
        if isinstance(end.error, WorkflowDeadlockError) and end.error.run_id == self.run_id:  # else that of a child
            end.error.last_events = self.history.last_events()
        if self.attempts:
            stop_some(self)
        if self.only_waits:
            heed_waits(self)
        if self.children:
            self.stop_children()
        if self._place is not None:
            self._place.leave()
        closing = self.attempts or self.stopped_children or self.to_tell or self.plan.teardown is not None
        if not closing:
            self.leave_loop()  # before anybody hears of the end
        self.stream.close(end.stop_event)
        if closing:
            self._close_soon()
        else:
            finish(self)
