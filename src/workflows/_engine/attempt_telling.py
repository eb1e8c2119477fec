"""What is told and remembered of an attempt: that it began, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from workflows._engine.attempt import Attempt
from workflows._engine.internal_events import show_ended, show_started
from workflows._engine.ticks import AttemptCompleted, AttemptFailed
from workflows.instrumentation.history import REFS_KEPT, ChainedFacts, EventRef, HistoryEntry
from workflows.instrumentation.records import Envelope, StepEnded, StepOutcome, StepStarted
from workflows.retry_policy import policy_name

__all__ = ["tell_crash", "tell_ended", "tell_started", "tell_stopped", "warn_of_left"]

NAMED = 3  # of its waits, in the log
LEFT = (
    "step %s has ended while tasks that it began wait for events (%s): their waits are cancelled. Await these tasks in "
    "the step, or let another step take the events"
)

logger = logging.getLogger("workflows.run")


def tell_started(attempt: Attempt) -> None:
    """Tell whoever listens, in the step's own task, so that a handler can make its span current around the body."""
    call, step, run = attempt.call, attempt.call.step, attempt.run
    if run.stream.internal:
        show_started(attempt)
    if not run.dispatcher.handlers:
        return
    queue = run.state.queues.get(step.name)
    run.tell(
        StepStarted,
        exec_id=call.exec_id,
        step=step.name,
        attempt=attempt.attempt,
        worker=call.worker,
        num_workers=step.num_workers,
        queued_at_ns=call.queued_at_ns,
        queue_depth=len(queue.calls) if queue else 0,
        causes=call.inputs,
        function=step.function.__qualname__,
        retry_policy=policy_name(step.retry_policy) if step.retry_policy is not None else None,
        max_attempts=step.max_attempts,
        previous_error=call.last_error,
        replay=call.replay,
    )


def tell_ended(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    """Remember how it ended, and tell whoever listens."""
    outcome: StepOutcome = "completed" if tick.__class__ is AttemptCompleted else _outcome(tick)
    _remember(attempt, outcome, tick.at_ns, tick.returned)
    run = attempt.run
    if not (run.dispatcher.handlers or run.stream.internal):
        return
    if run.stream.internal:
        show_ended(attempt, tick)
    error: BaseException | None = None
    facts: dict[str, Any] = {}
    if isinstance(tick, AttemptFailed):
        error = tick.error
        facts["retry_delay"] = tick.retry_delay
        facts["handled_by"] = tick.handled_by
        facts["retry_elapsed"] = attempt.call.elapsed_seconds(tick.at_ns)
    _tell_end(attempt, outcome, error, facts)


def _outcome(tick: AttemptCompleted | AttemptFailed) -> StepOutcome:
    if isinstance(tick, AttemptCompleted):
        return "completed"
    return "retrying" if tick.retry_delay is not None else "timed_out" if tick.timed_out else "failed"


def _remember(attempt: Attempt, outcome: StepOutcome, ended_ns: int, returned: Sequence[Envelope] = ()) -> None:
    call = attempt.call
    causes = call.inputs
    if len(causes) == 1 and len(returned) == 1 and attempt.sent is None and not attempt.answers:
        cause, gave = causes[0], returned[0]
        facts: HistoryEntry | ChainedFacts = (
            attempt.exec_id,
            attempt.step,
            attempt.attempt,
            cause.event_id,
            type(cause.event),
            gave.event_id,
            type(gave.event),
            attempt.started_ns,
            ended_ns,
            outcome,
        )
    else:
        facts = HistoryEntry(
            attempt.exec_id,
            attempt.step,
            attempt.attempt,
            _refs(causes),
            [*(attempt.sent or ()), *_refs(returned)],
            attempt.started_ns,
            ended_ns,
            outcome,
            attempt.answers,
        )
    attempt.run.history.note(facts)


def _refs(envelopes: Sequence[Envelope]) -> Sequence[EventRef]:
    return [(e.event_id, type(e.event)) for e in envelopes[:REFS_KEPT]]


def warn_of_left(attempt: Attempt) -> None:
    """Say that the body is over, and that tasks which it has begun wait for events: nobody will answer them."""
    run, left = attempt.run, attempt.left_waits
    if left and (told := f"left {attempt.step}") not in run.warned:
        run.warned |= {told}
        logger.warning(LEFT, attempt.step, ", ".join(left[:NAMED]), extra={"run_id": run.run_id})


def tell_crash(attempt: Attempt, error: BaseException | None) -> None:
    """Its body raised what is no `Exception`: tell, and let that end the run."""
    if (task := asyncio.current_task()) is not None:  # `await handler` raises it; asyncio need not tell it as well
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    _remember(attempt, "interrupted", attempt.run.clock.now_ns())
    _tell_end(attempt, "interrupted", error, {})
    attempt.run.crash(error)


def tell_stopped(attempt: Attempt, error: BaseException | None = None) -> None:
    """Tell that it ended since its run did."""
    if attempt.left:
        return
    run, ended = attempt.run, attempt.run.state.ended
    outcome: StepOutcome = "abandoned"
    returned: Sequence[Envelope] = ()
    if (kept := run.returned.get(attempt.exec_id)) is not None and ended == "suspended":
        outcome, returned = "completed", kept.returned  # the run goes on with that, and does not start it again
    elif ended in ("cancelled", "timed_out", "interrupted", "suspended"):
        outcome = ended
    if kept is not None and not returned and attempt.emitted is not None:
        unsent = {id(envelope) for envelope in kept.returned}
        attempt.emitted = [envelope for envelope in attempt.emitted if id(envelope) not in unsent]
    _remember(attempt, outcome, run.clock.now_ns(), returned)
    _tell_end(attempt, outcome, error, {})


def _tell_end(attempt: Attempt, outcome: StepOutcome, error: BaseException | None, facts: dict[str, Any]) -> None:
    if not attempt.run.dispatcher.handlers:
        return
    try:
        attempt.run.tell(
            StepEnded,
            exec_id=attempt.exec_id,
            step=attempt.step,
            attempt=attempt.attempt,
            outcome=outcome,
            error=error,
            emitted=tuple(attempt.emitted or ()),
            buffered=attempt.buffered,
            **facts,
        )
    except Exception as failure:  # noqa: BLE001  # only a strict dispatcher raises: the test must see it, the run must end
        attempt.run.crash(failure)
