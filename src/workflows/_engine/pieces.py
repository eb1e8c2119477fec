"""The end of a run may end thousands of waits: that is told in pieces, and never holds the event loop."""

from __future__ import annotations

from collections.abc import Sequence

from workflows._engine.effects import Effect, EndRun, EndWait, ResumeCall
from workflows._engine.live import LiveRun

__all__ = ["DONE_AT_ONCE", "in_pieces", "resume"]

DONE_AT_ONCE = 40  # effects that need no looking at


def in_pieces(run: LiveRun, effects: list[Effect]) -> Sequence[Effect]:
    """What is to be done now: where the run ends, each attempt that is stopped ends the waits of its own."""
    if not isinstance(effects[-1], EndRun):
        return effects
    ending = run.ending_waits = run.ending_waits or {}
    for effect in effects:
        if isinstance(effect, EndWait):
            ending.setdefault(effect.wait.call.exec_id, []).append(effect)
    return [effect for effect in effects if not isinstance(effect, EndWait | ResumeCall)]


def resume(run: LiveRun, effect: ResumeCall) -> None:
    """Wake the step that waits."""
    attempt = run.attempts.get(effect.wait.call.exec_id)
    if attempt is not None:
        attempt.resume(effect.wait)
