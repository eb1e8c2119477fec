"""What one tick asks for in thousands is done in pieces: the event loop is never held by a long list of effects."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from workflows._engine.effects import Effect, EndRun, EndWait, ResumeCall
from workflows._engine.live import LiveRun

__all__ = ["DONE_AT_ONCE", "in_pieces", "resume"]

# Waits that one event ends, and calls that go on then, in one turn of the event loop (2 to 3 ms, with what their steps
# do first).
DONE_AT_ONCE = 40


def in_pieces(run: LiveRun, effects: list[Effect]) -> Sequence[Effect]:
    """What is to be done now.

    Left out are waits that end, and calls that go on since theirs did: that is done in later turns. Where the run ends,
    each attempt that is stopped ends the waits of its own.
    """
    later = [effect for effect in effects if isinstance(effect, EndWait | ResumeCall)]
    if len(later) <= DONE_AT_ONCE:
        return effects
    ending = run.ending_waits = run.ending_waits or {}
    for effect in later:
        if isinstance(effect, EndWait):
            ending.setdefault(effect.wait.call.exec_id, []).append(effect)
    if not isinstance(effects[-1], EndRun):
        run.loop.call_soon(_go_on, run, deque(later))
    return [effect for effect in effects if not isinstance(effect, EndWait | ResumeCall)]


def resume(run: LiveRun, effect: ResumeCall) -> None:
    """Wake the step that waits."""
    attempt = run.attempts.get(effect.wait.call.exec_id)
    if attempt is not None:
        attempt.resume(effect.wait)


def _go_on(run: LiveRun, later: deque[EndWait | ResumeCall]) -> None:
    ended = 0
    while later and ended < DONE_AT_ONCE and run.end is None:
        effect = later.popleft()
        if isinstance(effect, ResumeCall):
            resume(run, effect)
        else:
            run.end_waits(effect.wait.call.exec_id)
            ended += 1
    if later and run.end is None:
        run.loop.call_soon(_go_on, run, later)
