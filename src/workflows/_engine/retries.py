"""What follows a failed attempt: another attempt, a `@catch_error` handler, or the end of the run."""

from __future__ import annotations

from collections.abc import Mapping

from workflows._engine.calls import Call, CallPhase
from workflows._engine.effects import Effect, EndRun, ScheduleRetry
from workflows._engine.routing import forget_call, give_back_worker, take_worker
from workflows._engine.state import RunState
from workflows._engine.ticks import AttemptFailed, RetryDue
from workflows.events import WorkflowFailedEvent

__all__ = ["after_failure", "retry_now", "with_recovery"]


def after_failure(state: RunState, call: Call, tick: AttemptFailed, effects: list[Effect]) -> None:
    """Follow the verdict that the attempt brought with it; a failure with a handler is delivered by the caller."""
    call.last_error = tick.error
    call.last_failed_ns = tick.at_ns
    if tick.retry_delay is not None:
        _schedule(state, call, tick.retry_delay, tick, effects)
        return
    if tick.handled_by is not None:
        state.handled_errors += 1
        forget_call(state, call, effects)
        return
    error = tick.error
    stop = WorkflowFailedEvent(
        step_name=call.step.name,
        exception=error if isinstance(error, Exception) else RuntimeError(type(error).__name__),
        attempts=call.attempt,
        elapsed_seconds=call.elapsed_seconds(tick.at_ns),
    )
    effects.append(EndRun("failed", stop, error, failed_step=call.step.name))


def retry_now(state: RunState, tick: RetryDue, effects: list[Effect]) -> None:
    """Start the next attempt, before anything else that queues for the step."""
    call = state.calls[tick.exec_id]
    call.queued_at_ns = tick.at_ns
    take_worker(state, call, effects, first=True)


def with_recovery(recoveries: Mapping[str, int] | None, handler: str) -> dict[str, int]:
    """The recoveries of a lineage after one more run of a handler."""
    counts = dict(recoveries or {})
    counts[handler] = counts.get(handler, 0) + 1
    return counts


def _schedule(state: RunState, call: Call, delay: float, tick: AttemptFailed, effects: list[Effect]) -> None:
    state.retries += 1
    call.attempt += 1
    call.due_ns = tick.at_ns + int(delay * 1e9)
    # What a person answered, or did not in time, is not asked again; a wait is that the attempt failed for.
    answers = call.answers.items()
    call.answers = {wait_id: got for wait_id, got in answers if got is not None or wait_id not in tick.unanswered}
    # What was replied to and not reached has yet to be compared with what its wait requires; what was not reached since
    # the snapshot is still open.
    asleep = state.asleep or ()
    call.waiting_since = {w: ns for w, ns in call.waiting_since.items() if w in call.answers or w in asleep}
    call.missed |= call.let_go.keys() - tick.let_go.keys()
    call.let_go, call.latest = tick.let_go, None
    if call.kept or call.came_after.keys() - call.answers.keys():
        # It may have come to waits by answers that it has not got, or was given and has lost: it waits for those anew.
        call.begun = call.had_begun = 0
        call.came_after = {wait_id: begun for wait_id, begun in call.came_after.items() if wait_id in call.answers}
    call.replay = call.pending = call.spent = False
    call.phase = CallPhase.RETRYING
    give_back_worker(state, call, effects)
    effects.append(ScheduleRetry(call, delay, call.due_ns, tick.error))
