"""What a run wants done: the only output of `reduce`. The loop does it; it decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from workflows._engine.calls import Call, Wait
from workflows._engine.questions import RunWait
from workflows._spec import StepSpec
from workflows.events import Event, StopEvent
from workflows.instrumentation.records import Envelope, RunOutcome

__all__ = [
    "BufferEvent",
    "DeliverLater",
    "Effect",
    "EndIdle",
    "EndRun",
    "EndRunWait",
    "EndWait",
    "HandOver",
    "PublishEvent",
    "ReleaseFanIn",
    "RestartWait",
    "ResumeCall",
    "ScheduleRetry",
    "StartCall",
    "StartRunWait",
    "StartWait",
    "TellIdle",
    "TellSent",
]


@dataclass(slots=True)
class StartCall:
    """Run the call's next attempt; it holds a worker of its step already."""

    call: Call


@dataclass(slots=True)
class TellSent:
    """An event entered the run; `takers` got it, and it `answered` waits, or soon may. Neither: nobody took it.

    Made where somebody listens, or where nobody took the event; then it is `kept`, unless it was meant for one wait.
    `late`: it entered before, and was thought to answer a wait that would begin.
    """

    envelope: Envelope
    target: str | None
    takers: Sequence[StepSpec]
    answered: bool = False
    kept: bool = True
    late: bool = False


@dataclass(slots=True)
class PublishEvent:
    """Show an event that an attempt returned to the stream's readers."""

    envelope: Envelope
    attempt: int


@dataclass(slots=True)
class HandOver:
    """In a run by hand: a call is done, and its events go to the caller instead of to other steps."""

    call: Call
    returned: Sequence[Envelope]


@dataclass(slots=True)
class ScheduleRetry:
    """Come back with `RetryDue` after `delay` seconds."""

    call: Call
    delay: float
    due_ns: int
    error: BaseException | None


@dataclass(slots=True)
class BufferEvent:
    """A join keeps an event, its `size`-th; `missing` are classes it still needs (the first of them, if they are many).

    `exec_id` is the call that collects, if one does.
    """

    step: StepSpec
    exec_id: str | None
    group: str
    newest: Envelope
    size: int
    missing: Sequence[type[Event]]


@dataclass(slots=True)
class ReleaseFanIn:
    """A join is complete: its members, in the order that the step receives them.

    `again`: an earlier attempt of the call got them already.
    """

    call: Call
    group: str
    members: Sequence[Envelope]
    again: bool = False


@dataclass(slots=True)
class StartWait:
    """A call waits: come back with `WaitTimeoutDue` after `due_in` seconds, and show what it asks (`ask`).

    A wait that a snapshot says was open before has asked already, and has less time left.
    """

    wait: Wait
    due_in: float | None
    ask: bool


@dataclass(slots=True)
class RestartWait:
    """A wait was thought to be given up and is not: come back after `due_in` seconds, and show what it asks (`ask`)."""

    wait: Wait
    due_in: float | None
    ask: bool


@dataclass(slots=True)
class ResumeCall:
    """Wake a waiting call, which holds a worker again: give it its answer, or its timeout."""

    wait: Wait


@dataclass(slots=True)
class EndWait:
    """A wait is over: answered, timed out, or cancelled with its run; its call may still queue for a worker."""

    wait: Wait


@dataclass(slots=True)
class DeliverLater:
    """Give the event loop a turn, then come back with `DeliveryDue`."""


@dataclass(slots=True)
class EndIdle:
    """The run is idle no longer."""


@dataclass(slots=True)
class TellIdle:
    """Nothing runs and nothing is queued. `check`: come back with `IdleLasted`, since nothing seems able to wake it."""

    check: bool


@dataclass(slots=True)
class StartRunWait:
    """The idle run waits for an answer to one of the questions it asked."""

    wait: RunWait


@dataclass(slots=True)
class EndRunWait:
    """The answer came (`wait.answer`), or the run ended without it, or its step asked something else instead."""

    wait: RunWait


@dataclass(slots=True)
class EndRun:
    """The run is decided: stop what runs, publish `stop_event`, and let `error` (or the result) out.

    `traceback` is that of the error before anybody who awaits the run raised it; known once `raise_error` was called.
    """

    outcome: RunOutcome
    stop_event: StopEvent
    error: BaseException | None = None
    failed_step: str | None = None
    reason: str | None = None
    raised: bool = False
    traceback: TracebackType | None = None

    def raise_error(self) -> None:
        """Raise the error, if there is one, with the same traceback for everybody: raising it adds to what it has."""
        if self.error is None:
            return
        if not self.raised:
            self.raised, self.traceback = True, self.error.__traceback__
        raise self.error.with_traceback(self.traceback)


Effect = (
    StartCall
    | TellSent
    | PublishEvent
    | HandOver
    | ScheduleRetry
    | BufferEvent
    | ReleaseFanIn
    | StartWait
    | RestartWait
    | ResumeCall
    | EndWait
    | DeliverLater
    | TellIdle
    | EndIdle
    | StartRunWait
    | EndRunWait
    | EndRun
)
