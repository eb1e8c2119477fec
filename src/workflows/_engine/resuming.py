"""Lets calls go on whose waits are over: a few at once, since each runs user code in the loop's next turn."""

from __future__ import annotations

from workflows._engine.effects import Effect, ResumeCall
from workflows._engine.live import LiveRun

__all__ = ["RESUMED_AT_ONCE", "resume", "resume_in_pieces"]

# Calls that one event resumes in one turn of the event loop (2 to 3 ms, with what their steps do first).
RESUMED_AT_ONCE = 100


def resume(run: LiveRun, effect: ResumeCall) -> None:
    """Wake the step that waits."""
    attempt = run.attempts.get(effect.wait.call.exec_id)
    if attempt is not None:
        attempt.resume(effect.wait)


def resume_in_pieces(run: LiveRun, effects: list[Effect]) -> list[Effect]:
    """What is to be done now; what is left out are calls to resume, and is done in later turns of the event loop."""
    resumed = [effect for effect in effects if isinstance(effect, ResumeCall)]
    if len(resumed) <= RESUMED_AT_ONCE:
        return effects
    run.loop.call_soon(_resume_more, run, resumed, RESUMED_AT_ONCE)
    later = {id(effect) for effect in resumed[RESUMED_AT_ONCE:]}
    return [effect for effect in effects if id(effect) not in later]


def _resume_more(run: LiveRun, resumed: list[ResumeCall], done: int) -> None:
    following = done + RESUMED_AT_ONCE
    for effect in resumed[done:following]:
        resume(run, effect)
    if following < len(resumed):
        run.loop.call_soon(_resume_more, run, resumed, following)
