"""What bodies of a run have returned that wait for their checkpoint or their turn: a snapshot has it in their place."""

from __future__ import annotations

from contextlib import suppress

from workflows._engine.attempt import Attempt
from workflows._engine.attempt_ticks import completed
from workflows._engine.live import NONE_RETURNED, LiveRun
from workflows._engine.ticks import AttemptCompleted
from workflows.errors import WorkflowRuntimeError

__all__ = ["keep", "keep_result", "returned_so_far"]


def returned_so_far(run: LiveRun) -> dict[str, AttemptCompleted]:
    """All of them, by exec_id."""
    if run.crowd.results:
        for attempt in list(run.attempts.values()):
            keep_result(attempt)
    return run.returned


def keep(run: LiveRun, returned: AttemptCompleted) -> None:
    """A body has returned this, and its run has not taken it yet."""
    if run.returned is NONE_RETURNED:
        run.returned = {}
    run.returned[returned.exec_id] = returned


def keep_result(attempt: Attempt) -> None:
    """Keep what the body returned, if its attempt waits for its turn to make something of it."""
    results = attempt.run.crowd.results
    if id(attempt) in results:
        with suppress(WorkflowRuntimeError):  # if it is no event, the attempt says so in its turn
            keep(attempt.run, completed(attempt, results.pop(id(attempt))))
