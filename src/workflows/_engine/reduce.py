"""One tick and the state of a run give the effects: the only place where a run decides anything.

Pure: no I/O, no clock, no random number. The state has one owner and is changed in place.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import assert_never

from workflows._engine.asking import (
    asked,
    asks_itself,
    came_from_outside,
    end_run_waits,
    take_up_questions,
    will_ask_again,
)
from workflows._engine.calls import Call, CallPhase, in_order
from workflows._engine.effects import (
    DeliverLater,
    Effect,
    EndRun,
    HandOver,
    PublishEvent,
    ScheduleRetry,
    TellSent,
)
from workflows._engine.fan_in import collect
from workflows._engine.fan_out import alive, joined, may_join, open_fan_out
from workflows._engine.idle import deadlock, explanation, looks_stuck, note_idle
from workflows._engine.resumed_waits import ended_by, may_soon_be_taken, tell_unawaited
from workflows._engine.retries import after_failure, retry_now, with_recovery
from workflows._engine.routing import forget_call, new_call, queue_call, take_worker
from workflows._engine.state import RunState, Undelivered
from workflows._engine.ticks import (
    AnsweredTogether,
    AttemptCompleted,
    AttemptFailed,
    CallOnlyWaits,
    CallWorks,
    CancelRequested,
    DeliveryDue,
    EngineFailed,
    EventArrived,
    EventsCollected,
    IdleLasted,
    QuestionStreamed,
    RetryDue,
    RunInterrupted,
    RunTakenUp,
    RunTimedOut,
    SuspendRequested,
    Tick,
    WaitAbandoned,
    WaitBegan,
    WaitsRemain,
    WaitTimeoutDue,
)
from workflows._engine.waits import (
    abandon_wait,
    answered_by,
    begin_wait,
    call_only_waits,
    call_works,
    cancel_waits,
    end_answered,
    leave_waits,
    reply,
    time_out,
    waits_remain,
)
from workflows._spec import Route
from workflows.errors import RunInterruptedError, WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import (
    IdleReleasedEvent,
    StepFailedEvent,
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from workflows.instrumentation.records import Envelope

__all__ = ["reduce"]

# Events of a returned list that are routed in one piece; the event loop gets a turn before the next (about 1 ms each).
DELIVERED_AT_ONCE = 40


def reduce(state: RunState, tick: Tick) -> list[Effect]:  # noqa: C901  # one flat table
    """Change `state` by one tick and return what is to be done about it, in order.

    A tick that comes after the end is ignored: a run has exactly one outcome.
    """
    effects: list[Effect] = []
    if state.ended is not None:
        return effects
    state.now_ns = tick.at_ns
    match tick:
        case AttemptCompleted():
            _completed(state, tick, effects)
        case EventArrived():
            _arrived(state, tick, effects)
        case EventsCollected():
            collect(state, tick, effects)
        case AttemptFailed():
            _failed(state, tick, effects)
        case RetryDue():
            retry_now(state, tick, effects)
        case WaitBegan():
            begin_wait(state, tick, effects)
        case WaitAbandoned():
            abandon_wait(state, tick, effects)
        case CallOnlyWaits():
            call_only_waits(state, tick, effects)
        case WaitsRemain():
            waits_remain(state, tick, effects)
        case AnsweredTogether():
            if (call := state.calls.get(tick.exec_id)) is not None:
                call.is_at_once(tick.wait_id)
        case CallWorks():
            call_works(state, tick, effects)
        case QuestionStreamed():
            asked(state, tick.question, effects)
        case WaitTimeoutDue():
            _wait_timed_out(state, tick, effects)
        case RunTimedOut():
            _end(state, _timed_out(state, tick), effects)
        case CancelRequested():
            _end(state, _cancelled(state, tick), effects)
        case IdleLasted():
            if (end := deadlock(state)) is not None:
                _end(state, end, effects)
        case SuspendRequested():
            _suspend(state, effects)
        case RunTakenUp():
            _take_up(state, tick, effects)
        case RunInterrupted():
            _end(state, _interrupted(state, tick), effects)
        case DeliveryDue():
            _deliver_more(state, effects)
        case EngineFailed():
            stop = WorkflowFailedEvent(step_name="", exception=tick.error)
            _end(state, EndRun("failed", stop, tick.error), effects)
        case _:
            assert_never(tick)
    if (state.busy == 0 or state.idle) and state.ended is None:
        if state.early and state.busy == 0:
            tell_unawaited(state, effects)
        note_idle(state, effects)
    return effects


def _completed(state: RunState, tick: AttemptCompleted, effects: list[Effect]) -> None:
    call = state.calls[tick.exec_id]
    if call.open_waits or call.waiting_since or call.kept:
        _leave_waits(state, call, effects, hand_over=tick.stop is None)
    if tick.stop is not None:  # before its worker goes to the next call, which must not begin any more
        _end(state, EndRun("completed", tick.stop), effects)
        return
    forget_call(state, call, effects)
    returned = tick.returned
    if tick.fan_out:
        open_fan_out(state, call, len(returned) + 1)  # one more until all are delivered, so that it cannot close
    elif call.scope:
        alive(state, call.scope, len(returned), effects)
    if state.stepwise:
        state.hand_out(returned)
        effects.append(HandOver(call, returned))
    elif len(returned) > DELIVERED_AT_ONCE:
        _deliver_in_pieces(state, call, tick, effects)
        return
    else:
        for envelope in returned:
            route = state.spec.routes.get(type(envelope.event))
            # What `_give` does, for an event that simply makes a call: nearly all of them, so this is the fast way.
            if (
                route is not None
                and route.one is not None
                and not (state.watched or state.waits.by_id or state.asleep or call.scope)
            ):
                state.events += 1
                queue_call(state, new_call(state, route.one, envelope), effects)
            else:
                _give(state, envelope, call.attempt, effects)
    if call.scope or tick.fan_out:
        alive(state, (call.exec_id,) if tick.fan_out else call.scope, -1, effects)


def _leave_waits(state: RunState, call: Call, effects: list[Effect], *, hand_over: bool) -> None:
    """A call has ended; with `hand_over`, what answered waits that it has not come to again is for others now."""
    if call.open_waits:
        call.missed = frozenset(wait.place[0] for wait in state.waits.of(call))
        cancel_waits(state, effects, call)
    if not hand_over:
        return
    for envelope in leave_waits(state, call, effects):
        if waits := state.waits.matching(envelope.event):
            answered_by(envelope, waits, state, effects)
        elif call.step.join == "one" and call.step in state.spec.route(type(envelope.event)).takers:
            alive(state, envelope.scope, 1, effects)
            queue_call(state, new_call(state, call.step, envelope), effects)
        else:
            state.kept = in_order(state.kept, envelope)


def _give(state: RunState, envelope: Envelope, attempt: int, effects: list[Effect]) -> None:
    route = state.spec.route(type(envelope.event))
    if route.asks:
        asked(state, envelope, effects)
        effects.append(PublishEvent(envelope, attempt))
    _deliver(state, envelope, route, effects)


def _deliver_in_pieces(state: RunState, call: Call, tick: AttemptCompleted, effects: list[Effect]) -> None:
    state.busy += 1
    rest = Undelivered(call.exec_id, call.attempt, call.scope, tick.fan_out, deque(tick.returned))
    state.undelivered = (*state.undelivered, rest)
    if len(state.undelivered) == 1 and not state.answered:  # else the next piece is under way already
        _deliver_more(state, effects)


def _deliver_more(state: RunState, effects: list[Effect]) -> None:
    """End a piece of the waits that were answered; if there are none, route one of what is undelivered."""
    if state.answered:
        end_answered(state, effects)
    elif state.undelivered:
        _route_more(state, effects)
    if state.answered or state.undelivered:
        effects.append(DeliverLater())


def _route_more(state: RunState, effects: list[Effect]) -> None:
    rest = state.undelivered[0]
    for _ in range(min(DELIVERED_AT_ONCE, len(rest.envelopes))):
        _give(state, rest.envelopes.popleft(), rest.attempt, effects)
    if not rest.envelopes:
        state.undelivered = state.undelivered[1:]
        state.busy -= 1
        alive(state, (rest.exec_id,) if rest.fan_out else rest.scope, -1, effects)


def _arrived(state: RunState, tick: EventArrived, effects: list[Effect]) -> None:
    envelope = tick.envelope
    if envelope.sender is None:
        state.arrived = max(state.arrived, int(envelope.event_id[1:]) + 1)
        if tick.wait_id is not None and state.questions.get(tick.wait_id) is None:
            _reply(state, envelope, tick.wait_id, effects)
            return
        came_from_outside(state, envelope, tick.target, tick.wait_id, effects)
    elif (sender := state.calls.get(envelope.sender)) is not None:
        sender.emitted = max(sender.emitted, int(envelope.event_id[len(envelope.sender) + 1 :]) + 1)
    if envelope.event_id in state.handed:
        del state.handed[envelope.event_id]  # it has been alive in its fan-out since it was returned
    elif envelope.scope:
        alive(state, envelope.scope, 1, effects)
    for_run = tick.wait_id is not None
    _deliver(state, envelope, state.spec.route(type(envelope.event)), effects, target=tick.target, for_run=for_run)


def _reply(state: RunState, envelope: Envelope, wait_id: str, effects: list[Effect]) -> None:
    """Give an event from outside to the one wait that it answers; what else is asked stays open."""
    state.events += 1
    call = reply(state, wait_id, envelope, effects)
    if call is None:
        state.unhandled += 1
    if state.watched or call is None:
        effects.append(TellSent(envelope, None, (), answered=call is not None, kept=False))


def _deliver(
    state: RunState,
    envelope: Envelope,
    route: Route,
    effects: list[Effect],
    *,
    target: str | None = None,
    for_run: bool = False,
) -> None:
    """Give an event to all that take it; a step whose wait took it gets no call for it, other steps still do.

    `for_run`: it answers what the run asked, so it ends no wait that asked something of its own.
    """
    state.events += 1
    takers = route.takers if target is None else (state.spec.steps[target],)
    if route.joined:
        takers = tuple(step for step in takers if may_join(state, step, envelope))
    waits = ended_by(state, envelope.event) if state.waits.by_id or state.asleep is not None else []
    if waits and for_run:
        waits = [wait for wait in waits if not asks_itself(state, wait)]
    if waits:
        taken_by = {wait.call.step.name for wait in waits}
        takers = tuple(step for step in takers if step.name not in taken_by)
        envelope.shared = len(waits) + len(takers) > 1
    if route.joined:
        made = (
            joined(state, s, envelope, effects) if s.join != "one" else new_call(state, s, envelope) for s in takers
        )
        calls = [call for call in made if call is not None]
    else:
        calls = [new_call(state, step, envelope) for step in takers]
    early = not takers and not waits and may_soon_be_taken(state, envelope)
    if state.watched or not takers:
        effects.append(TellSent(envelope, target, takers, bool(waits) or early))
    for call in calls:
        queue_call(state, call, effects)
    if envelope.scope:
        _count_in_scope(state, envelope, calls, effects)
    if waits:
        answered_by(envelope, waits, state, effects)
    elif not takers and not route.asks:
        state.keep(envelope, early=early)


def _count_in_scope(state: RunState, envelope: Envelope, calls: list[Call], effects: list[Effect]) -> None:
    inside = [call for call in calls if call.scope == envelope.scope]
    for call in calls:
        if call.scope != envelope.scope:  # a join that had enough goes on outside its fan-out
            alive(state, call.scope, 1, effects)
    alive(state, envelope.scope, len(inside) - 1, effects)


def _failed(state: RunState, tick: AttemptFailed, effects: list[Effect]) -> None:
    call = state.calls[tick.exec_id]
    if call.open_waits or call.waiting_since or call.kept:
        _leave_waits(state, call, effects, hand_over=tick.handled_by is not None and tick.retry_delay is None)
    if state.questions.open:
        will_ask_again(state, call)
    decided: list[Effect] = []
    after_failure(state, call, tick, decided)
    if decided and isinstance(decided[-1], EndRun):
        del state.calls[call.exec_id]
        _end(state, decided[-1], effects)
        return
    effects.extend(decided)
    if tick.failure is not None and tick.handled_by is not None and tick.retry_delay is None:
        tick.failure.recoveries = with_recovery(call.recoveries, tick.handled_by)
        alive(state, call.scope, 1, effects)
        _deliver(state, tick.failure, state.spec.route(StepFailedEvent), effects, target=tick.handled_by)
        alive(state, call.scope, -1, effects)
        if state.stepwise:
            effects.append(HandOver(call, ()))


def _wait_timed_out(state: RunState, tick: WaitTimeoutDue, effects: list[Effect]) -> None:
    wait = state.waits.get(tick.wait_id)
    if wait is not None and wait.answer is None:
        time_out(state, wait, effects)


def _suspend(state: RunState, effects: list[Effect]) -> None:
    """Let go of the run; its calls and waits stay in the state, from which it can go on."""
    while state.answered:
        end_answered(state, effects)
    state.ended = "suspended"
    state.stop_event = IdleReleasedEvent()
    effects.append(EndRun("suspended", state.stop_event))


def _take_up(state: RunState, tick: RunTakenUp, effects: list[Effect]) -> None:
    stop = next((done.stop for done in tick.returned if done.stop is not None), None)
    if stop is not None:
        _end(state, EndRun("completed", stop), effects)
        return
    done = {completed.exec_id for completed in tick.returned}
    if state.questions.open:
        take_up_questions(state, done, effects)
    state.busy += len(state.undelivered)
    if state.undelivered:
        effects.append(DeliverLater())
    for call in list(state.calls.values()):
        call.go_on(state.now_ns)
        state.busy += 1
        if call.exec_id in done:
            continue
        if call.phase is CallPhase.RETRYING:
            left = max(0.0, (call.due_ns - state.now_ns) / 1e9)
            effects.append(ScheduleRetry(call, left, call.due_ns, call.last_error))
        else:
            take_worker(state, call, effects)
    if state.handed and not state.stepwise:  # it was by hand before; now nobody sends them on
        handed, state.handed = state.handed, {}
        for envelope in handed.values():
            _give(state, envelope, 1, effects)
    for completed in tick.returned:
        _completed(state, completed, effects)


def _end(state: RunState, end: EndRun, effects: list[Effect]) -> None:
    state.ended = end.outcome
    state.stop_event = end.stop_event
    if state.waits.by_id:
        state.waits_left = state.waits
        cancel_waits(state, effects)
    if state.early:
        tell_unawaited(state, effects)
    if state.questions.open:
        end_run_waits(state, effects)
    if end.outcome == "completed":
        state.calls.clear()
        state.collected.clear()
        state.undelivered = ()
    elif state.asleep is not None:
        for call in state.calls.values():
            call.begin_waits_anew()
    state.answered = ()
    state.queues.clear()
    effects.append(end)


def _active_steps(state: RunState) -> list[str]:
    active = {c.step.name for c in state.calls.values() if c.phase in (CallPhase.RUNNING, CallPhase.WAITING)}
    return [name for name in state.spec.steps if name in active]


def _timed_out(state: RunState, tick: RunTimedOut) -> EndRun:
    active = _active_steps(state)
    doing = f"Currently active steps: {', '.join(active)}" if active else "No steps active"
    open_waits = Counter(f"{w.call.step.name} for {w.event_type.__name__}" for w in state.waits)
    open_waits.update(f"the run for an answer to {type(w.question.event).__name__}" for w in state.questions if w.told)
    waits = [f"{text} ({n} times)" if n > 1 else text for text, n in open_waits.items()]
    waits += tick.below
    option = "With Workflow(idle_counts=False) time in which a run only waits does not count; or give it more"
    fix = f"{option if tick.idle_counts else 'Give it more'} with Workflow(timeout=...)"
    hint = f". Open waits: {', '.join(waits)}. {fix}" if waits else ""
    if state.idle and not waits:
        hint = f". {explanation(state)}" if looks_stuck(state) else f". {explanation(state)}\n{fix}"
    error = WorkflowTimeoutError(
        f"Operation timed out after {tick.timeout} seconds. {doing}{hint}", run_id=state.run_id
    )
    return EndRun("timed_out", WorkflowTimedOutEvent(timeout=tick.timeout, active_steps=active), error)


def _cancelled(state: RunState, tick: CancelRequested) -> EndRun:
    why = f": {tick.reason}" if tick.reason else ""
    error = WorkflowCancelledByUser(f"Run {state.run_id} of {state.spec.name} was cancelled{why}.", run_id=state.run_id)
    return EndRun("cancelled", WorkflowCancelledEvent(), error, reason=tick.reason or "workflow cancelled by user")


def _interrupted(state: RunState, tick: RunInterrupted) -> EndRun:
    error = tick.error or RunInterruptedError(
        f"Run {state.run_id} of {state.spec.name} was interrupted: its event loop was closed, or its task cancelled, "
        f"before it ended. Await the handler before the loop ends.",
        run_id=state.run_id,
    )
    stop: StopEvent = WorkflowCancelledEvent()
    return EndRun("interrupted", stop, error, reason="interrupted")
