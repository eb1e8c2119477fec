"""What one tick wants done in hundreds is done in pieces: a long list of effects never holds the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from workflows._engine.clock import a_turn
from workflows._engine.effects import Effect, EndRun, EndRunWait, EndWait, ResumeCall, StartRunWait
from workflows._engine.live import LiveRun
from workflows._engine.telling import tell_run_wait

__all__ = ["DONE_AT_ONCE", "in_pieces", "resume", "tell_all", "tell_wait", "until_told"]

# Effects in one turn of the event loop that need no looking at. Waits of the run itself are the slowest to tell of:
# each has a question, and with tracing a span.
DONE_AT_ONCE = 15


def in_pieces(run: LiveRun, effects: list[Effect]) -> Sequence[Effect]:
    """What is to be done now.

    Of the run's own waits for answers, the rest is told in later turns, and so is each that comes meanwhile. Where the
    run ends, each attempt that is stopped ends the waits of its own.
    """
    left_out: tuple[type[Effect], ...] = ()
    waits = [effect for effect in effects if isinstance(effect, StartRunWait | EndRunWait)]
    if len(waits) > DONE_AT_ONCE and run.dispatcher.handlers:
        left_out = (StartRunWait, EndRunWait)
        if not run.to_tell:
            run.to_tell = deque()
            run.loop.call_soon(_tell_some, run)
        run.to_tell.extend(waits)
    if isinstance(effects[-1], EndRun):
        left_out += (EndWait, ResumeCall)
        ending = run.ending_waits = run.ending_waits or {}
        for effect in effects:
            if isinstance(effect, EndWait):
                ending.setdefault(effect.wait.call.exec_id, []).append(effect)
    return [effect for effect in effects if not isinstance(effect, left_out)] if left_out else effects


def resume(run: LiveRun, effect: ResumeCall) -> None:
    """Wake the step that waits."""
    attempt = run.attempts.get(effect.wait.call.exec_id)
    if attempt is not None:
        attempt.resume(effect.wait)


def tell_wait(run: LiveRun, effect: StartRunWait | EndRunWait) -> None:
    """Tell that a wait of the run itself has begun or ended, behind what is told in later turns."""
    if run.to_tell:
        run.to_tell.append(effect)
    else:
        _tell(run, effect)


async def until_told(run: LiveRun) -> None:
    """Return when all that was left for later turns is told."""
    while run.to_tell:
        await a_turn()


def tell_all(run: LiveRun) -> None:
    """Tell the rest at once: there are no later turns."""
    while run.to_tell:
        _tell(run, run.to_tell.popleft())


def _tell_some(run: LiveRun) -> None:
    try:
        for _ in range(DONE_AT_ONCE):
            if run.to_tell:
                _tell(run, run.to_tell.popleft())
    except Exception as error:  # noqa: BLE001  # only a strict dispatcher raises: the test must see it
        run.fail(error)
    if run.to_tell:
        run.loop.call_soon(_tell_some, run)


def _tell(run: LiveRun, effect: StartRunWait | EndRunWait) -> None:
    if run.dispatcher.handlers:
        tell_run_wait(run, effect.wait, ended=isinstance(effect, EndRunWait))
