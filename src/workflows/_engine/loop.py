"""The shell of one run: feeds ticks to `reduce`, does the effects, owns every task of the run until it is over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, assert_never

from workflows._engine.attempt import Attempt
from workflows._engine.effects import (
    BufferEvent,
    Effect,
    EndRun,
    EndRunWait,
    EndWait,
    HandOver,
    PublishEvent,
    ReleaseFanIn,
    ResumeCall,
    ScheduleRetry,
    StartCall,
    StartRunWait,
    StartWait,
    TellIdle,
    TellSent,
)
from workflows._engine.internal_events import show_queued, show_unhandled
from workflows._engine.live import LiveRun, RunPlan
from workflows._engine.reduce import reduce
from workflows._engine.state import Call, RunState
from workflows._engine.step_attempt import run_attempt
from workflows._engine.stepper import Stepper
from workflows._engine.telling import (
    tell_fan_in,
    tell_never_started,
    tell_retry,
    tell_run_ended,
    tell_run_started,
    tell_run_wait,
    tell_sent,
    tell_wait_ended,
    tell_wait_started,
)
from workflows._engine.ticks import (
    CancelRequested,
    EventArrived,
    EventsCollected,
    IdleLasted,
    RetryDue,
    RunInterrupted,
    RunTakenUp,
    RunTimedOut,
    SuspendRequested,
    Tick,
    WaitTimeoutDue,
)
from workflows.events import Event, InputRequiredEvent, StopEvent, WorkflowFailedEvent, WorkflowIdleEvent
from workflows.instrumentation.records import Envelope
from workflows.instrumentation.scope import AttemptScope, current_attempt

__all__ = ["Run"]

# How long a run must have been idle before it is called a deadlock: time for whoever reads its stream to answer.
IDLE_SECONDS = 0.1

logger = logging.getLogger("workflows.run")


class Spawn(Protocol):
    """Makes a task; the run keeps it in `attempts` until it is over, and waits for those that are left at its end."""

    def __call__(
        self, coroutine: Coroutine[Any, Any, None], /, *, context: contextvars.Context
    ) -> asyncio.Task[None]: ...


class Run(LiveRun):
    """One execution of a workflow in this process.

    Attributes:
        context: The caller's context at `run()`; every attempt runs in a copy of it.
        stepper: Holds the calls of a run by hand.
        over: Done when no task of the run is left; `end` then says how it ended.
    """

    def __init__(self, plan: RunPlan, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        super().__init__(plan, loop)
        self._spawn = spawn
        self.context = contextvars.copy_context()
        self.over: asyncio.Future[None] = loop.create_future()
        self.end: EndRun | None = None
        self._loop = loop
        self._decided: asyncio.Future[None] = loop.create_future()
        self._main: asyncio.Task[None] | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._asked_at = loop.time()
        self._began = False
        self._took_first = False
        self.stepper = Stepper(self._start, self.over) if plan.stepwise else None
        self._warned: set[type[Event]] = set()
        parent = current_attempt.get()
        self._parent = parent if isinstance(parent, Attempt) else None
        if self._parent is not None:
            self.root_run_id = self._parent.run.root_run_id
            self._parent.adopt(self)
            self.over.add_done_callback(lambda _: self._parent and self._parent.let_go(self))

    def begin(self) -> None:
        """Take the start event, or go on from the snapshot. To be called in the run's own context."""
        try:
            self._tell_started()
            if self.plan.timeout is not None:
                timeout = self.plan.timeout
                self._after("run", timeout, lambda: RunTimedOut(self.clock.now_ns(), timeout))
            self._took_first = True
            self.mailbox.open(self._first_tick())
            for event in self.plan.resume.pending if self.plan.resume else ():
                self.send_from_outside(event, None)
        except Exception as error:  # noqa: BLE001  # as in `take`
            self._break(error)

    async def main(self) -> None:
        """Live: pass the gate, wait for the end, stop what still runs."""
        self._main = asyncio.current_task()
        gate = self.plan.gate
        try:
            if gate is None:
                await self._live()
            elif self.state.ended is None:
                async with gate:
                    self.begin()
                    await self._live()
        except asyncio.CancelledError:
            if self.state.ended is None:
                self.take(RunInterrupted(self.clock.now_ns()))
            if self.state.ended == "interrupted":
                raise
        except Exception as error:  # noqa: BLE001  # as in `take`
            self._break(error)
        finally:
            try:
                if self.plan.teardown is not None:
                    await self.plan.teardown()
            finally:
                self._finish()

    def standing(self) -> RunState:
        """The state to take a snapshot of; that of a run which still queues at its gate has its start event."""
        if self._took_first:
            return self.state
        queued = self.plan.resume.state if self.plan.resume else RunState(self.spec, self.run_id)
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
        try:
            if self.journal is not None:
                self.journal(tick)
            for effect in reduce(self.state, tick):
                self._do(effect)
        except Exception as error:  # noqa: BLE001  # an error of the engine must end the run, or it would hang
            self._break(error)

    def later(self, function: Callable[[], None]) -> None:
        """Call a function soon, on the run's loop; at once where that is closed."""
        if self._loop.is_closed():
            function()
        else:
            self._loop.call_soon_threadsafe(function)

    def crash(self, error: BaseException | None) -> None:
        """End the run because a step raised what is no `Exception`; it leaves `await handler` as itself."""
        self.mailbox.put(RunInterrupted(self.clock.now_ns()))
        if self.end is not None and error is not None:
            self.end.error = error

    def _break(self, error: Exception) -> None:
        logger.error("run %s of %s ends: the engine failed", self.run_id, self.spec.name, exc_info=error)
        if self.end is None:
            self.state.ended = "failed"
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

    async def _live(self) -> None:
        try:
            await self._decided
        except asyncio.CancelledError:
            self.mailbox.put(RunInterrupted(self.clock.now_ns()))
            raise
        finally:
            await self._stop_attempts()

    def _first_tick(self) -> Tick:
        now = self.clock.now_ns()
        if self.plan.resume is not None:
            stop = next((e for e in self.plan.resume.pending if isinstance(e, StopEvent)), None)
            return RunTakenUp(now, stop)
        assert self.plan.start_event is not None, "a run that does not resume has a start event"
        return EventArrived(now, Envelope("x0", self.plan.start_event, None, None, now))

    async def _stop_attempts(self) -> None:
        left = list(self.attempts.values())
        rounds = 0
        while left:
            await asyncio.wait([a.task for a in left], timeout=self.plan.grace)
            for attempt in left:
                if attempt.task.done() and not attempt.started:
                    self.attempts.pop(attempt.exec_id, None)
                    if self.dispatcher.handlers:
                        tell_never_started(self, attempt)
            left = list(self.attempts.values())
            if left and not rounds:
                names = ", ".join(sorted({a.step for a in left}))
                logger.warning(
                    "steps %s did not end within %s s after their run was over; cancelling them again until they do",
                    names,
                    self.plan.grace,
                    extra={"run_id": self.run_id},
                )
            for attempt in left:
                attempt.stop()
            rounds += 1

    def _finish(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        try:
            if self.dispatcher.handlers and self.end is not None:
                self._tell_started()
                tell_run_ended(self, self.end)
        finally:
            if not self.over.done():
                self.over.set_result(None)

    def _tell_started(self) -> None:
        if not self._began:
            self._began = True
            if self.dispatcher.handlers:
                queue_wait = self._loop.time() - self._asked_at if self.plan.gate is not None else 0.0
                tell_run_started(self, self._parent, queue_wait)

    def _do(self, effect: Effect) -> None:  # noqa: C901  # one flat table
        match effect:
            case StartCall():
                if self.stepper is not None and effect.call.attempt == 1:
                    self.stepper.hold(effect.call)
                else:
                    self._start(effect.call)
            case TellSent():
                if self.dispatcher.handlers or self.stream.internal or not effect.takers:
                    self._sent(effect)
            case PublishEvent():
                call = effect.call
                self.publish(effect.event, AttemptScope(self.run_id, call.exec_id, call.step.name, call.attempt))
            case HandOver():
                assert self.stepper is not None, "only a run by hand hands events over"
                self.stepper.ended(effect.call.exec_id, [e.event for e in effect.returned])
            case ScheduleRetry():
                self._retry(effect)
            case BufferEvent() | ReleaseFanIn():
                if self.dispatcher.handlers:
                    tell_fan_in(self, effect)
            case StartWait():
                self._start_wait(effect)
            case EndWait():
                self._end_wait(effect)
            case ResumeCall():
                attempt = self.attempts.get(effect.wait.call.exec_id)
                if attempt is not None:
                    attempt.resume(effect.wait)
            case TellIdle():
                self._idle(effect)
            case StartRunWait() | EndRunWait():
                if self.dispatcher.handlers:
                    tell_run_wait(self, effect.wait, ended=isinstance(effect, EndRunWait))
            case EndRun():
                self._end(effect)
            case _:
                assert_never(effect)

    def _start(self, call: Call) -> None:
        attempt = Attempt(self, call)
        self.attempts[call.exec_id] = attempt
        attempt.task = self._spawn(run_attempt(attempt), context=self.context.copy())

    def _sent(self, sent: TellSent) -> None:
        if self.dispatcher.handlers:
            tell_sent(self, sent)
        if self.stream.internal:
            show_queued(self, sent)
        if not sent.takers and not sent.answered and not isinstance(sent.envelope.event, InputRequiredEvent):
            self._nobody_took(sent)

    def _nobody_took(self, sent: TellSent) -> None:
        event_class = type(sent.envelope.event)
        if self.stream.internal:
            show_unhandled(self, sent)
        if event_class not in self._warned:
            self._warned.add(event_class)
            logger.warning(
                "no step of %s accepts %s, sent by %s; the event is kept for a later wait_for_event",
                self.spec.name,
                event_class.__name__,
                sent.envelope.sender_step or "the outside",
                extra={"run_id": self.run_id},
            )

    def _retry(self, retry: ScheduleRetry) -> None:
        exec_id = retry.call.exec_id
        if self.dispatcher.handlers:
            tell_retry(self, retry)
        if retry.delay <= 0:
            self.mailbox.put(RetryDue(self.clock.now_ns(), exec_id))
        else:
            self._after(f"retry {exec_id}", retry.delay, lambda: RetryDue(self.clock.now_ns(), exec_id))

    def _start_wait(self, effect: StartWait) -> None:
        wait = effect.wait
        if self.dispatcher.handlers:
            tell_wait_started(self, effect)
        if wait.asked is not None and effect.ask:
            self.publish(wait.asked, self.attempts.get(wait.call.exec_id))
        if effect.due_in is not None:
            self._after(
                f"wait {wait.wait_id}", effect.due_in, lambda: WaitTimeoutDue(self.clock.now_ns(), wait.wait_id)
            )

    def _end_wait(self, effect: EndWait) -> None:
        if timer := self._timers.pop(f"wait {effect.wait.wait_id}", None):
            timer.cancel()
        if self.dispatcher.handlers:
            tell_wait_ended(self, effect)

    def _idle(self, idle: TellIdle) -> None:
        if self.stream.internal:
            self.publish(WorkflowIdleEvent(), None)
        if idle.check:
            self.check_idle()

    def check_idle(self) -> None:
        """Let the run end as a deadlock if it stays idle and only the one who awaits it is left to wake it."""
        if self.state.idle and self.state.ended is None:
            self._timers["idle"] = self._loop.call_later(IDLE_SECONDS, self._idle_lasted)

    def _idle_lasted(self) -> None:
        self._timers.pop("idle", None)
        held = self.sender_outside or self.stream.has_readers or len(self.inside) > 0
        if self.awaited and not held:
            self.mailbox.put(IdleLasted(self.clock.now_ns()))

    def _end(self, end: EndRun) -> None:
        self.end = end
        self.history.outcome = end.outcome
        self.stream.close(end.stop_event)
        for attempt in list(self.attempts.values()):
            attempt.stop()
        if not self._decided.done():  # it is cancelled where the run's own task was
            self._decided.set_result(None)
        if not self._began and self._main is not None:
            self._main.cancel()  # still queued at the gate

    def _after(self, key: str, delay: float, tick: Callable[[], Tick]) -> None:
        def fire() -> None:
            self._timers.pop(key, None)
            self.mailbox.put(tick())

        if earlier := self._timers.pop(key, None):
            earlier.cancel()
        self._timers[key] = self._loop.call_later(delay, fire)
