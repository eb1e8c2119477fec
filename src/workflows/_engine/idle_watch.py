"""Watches over an idle run: how long it lasts, whether anybody can end it, and what to say if nobody can."""

from __future__ import annotations

import logging
from functools import partial

from workflows._engine.idle import explanation, looks_stuck, waits_for_somebody
from workflows._engine.live import LiveRun
from workflows._engine.senders import held_elsewhere, left_behind
from workflows._engine.ticks import IdleLasted, Tick
from workflows.errors import WorkflowDeadlockError

__all__ = ["check_idle", "warn_if_it_lasts"]

# How long a run must have been idle before it is called a deadlock: time for whoever reads its stream to answer.
IDLE_SECONDS = 0.1

logger = logging.getLogger("workflows.run")


def check_idle(run: LiveRun) -> None:
    """Let the run end as a deadlock if it stays idle and only the one who awaits it is left to wake it."""
    if run.state.idle and run.state.ended is None:
        run.timers.set("idle", IDLE_SECONDS, partial(_idle_lasted, run))


def warn_if_it_lasts(run: LiveRun) -> None:
    """Say, after the run's timeout, that it may be stuck: where idle time does not count, nothing else would tell."""
    timeout = run.plan.timeout
    if timeout is not None and not run.plan.idle_counts and (run.state.collected or looks_stuck(run.state)):
        run.timers.set("idle", timeout, partial(_has_lasted, run))


def _idle_lasted(run: LiveRun) -> Tick | None:
    if looks_stuck(run.state) and not _may_be_woken(run):
        return IdleLasted(run.clock.now_ns())
    if waits_for_somebody(run.state):
        warn_if_it_lasts(run)
    else:
        _warn(run, "")
    return None


def _has_lasted(run: LiveRun) -> None:
    if not (run.state.waits or run.state.questions):
        _warn(
            run,
            f"\nIt has been idle for {run.plan.timeout} s, its timeout, which does not count. cancel_run() ends it.",
        )


def _warn(run: LiveRun, more: str) -> None:
    if WorkflowDeadlockError not in run.warned:
        run.warned |= {WorkflowDeadlockError}
        logger.warning("%s%s", explanation(run.state), more, extra={"run_id": run.run_id})


def _may_be_woken(run: LiveRun) -> bool:
    if not run.awaited or run.sender_outside:
        return True
    if run.stream.has_readers:
        run.stream.when_left = partial(_look_again, run)
        return True
    if (task := left_behind(run)) is not None:
        task.add_done_callback(lambda _: check_idle(run))
        return True
    return bool(run.inside) or held_elsewhere(run)


def _look_again(run: LiveRun) -> None:
    """A reader has left, perhaps in the hands of the garbage collector, so in any thread."""
    if not run.loop.is_closed():
        run.loop.call_soon_threadsafe(check_idle, run)
