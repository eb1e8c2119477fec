"""What happens to a run: the only input of `reduce`, and what a journal stores.

Ticks say what arrived. Times, retry verdicts and ids of events arrive in them, so that folding the same ticks gives
the same state. Not frozen, because one is built for every event and every attempt and a frozen dataclass costs five
times as much; nobody changes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workflows.events import Event, StopEvent
from workflows.instrumentation.records import Envelope

__all__ = [
    "AnsweredTogether",
    "AttemptCompleted",
    "AttemptFailed",
    "CallOnlyWaits",
    "CallWorks",
    "CancelRequested",
    "DeliveryDue",
    "EngineFailed",
    "EventArrived",
    "EventsCollected",
    "IdleLasted",
    "QuestionStreamed",
    "RetryDue",
    "RunInterrupted",
    "RunTakenUp",
    "RunTimedOut",
    "SuspendRequested",
    "Tick",
    "WaitAbandoned",
    "WaitBegan",
    "WaitTimeoutDue",
    "WaitsRemain",
]


@dataclass(slots=True)
class EventArrived:
    """An event came in: from outside, or sent by a step while it runs; `target` names one step to take it.

    `wait_id`: it answers this wait and nothing else.
    """

    at_ns: int
    envelope: Envelope
    target: str | None = None
    wait_id: str | None = None


@dataclass(slots=True)
class AttemptCompleted:
    """An attempt returned; its events, its end and (with a journal) its state change are one fact.

    `fan_out`: it returned a list, each element of which starts a branch.
    """

    at_ns: int
    exec_id: str
    returned: tuple[Envelope, ...]
    fan_out: bool = False
    stop: StopEvent | None = None


@dataclass(slots=True)
class AttemptFailed:
    """An attempt raised. `retry_delay` is the policy's verdict (seconds, None: no more attempts).

    `handled_by` names the `@catch_error` step that takes the failure and `failure` the event it gets. `unanswered`: the
    waits whose timeout it raised, by their ids; `let_go`: those that it gave up and went on, the last of each name.
    """

    at_ns: int
    exec_id: str
    error: BaseException
    retry_delay: float | None = None
    handled_by: str | None = None
    failure: Envelope | None = None
    timed_out: bool = False
    unanswered: Sequence[str] = ()
    let_go: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def returned(self) -> tuple[Envelope, ...]:
        """What a failed attempt gives: its failure, where a handler takes it."""
        return (self.failure,) if self.failure is not None else ()


@dataclass(slots=True)
class RetryDue:
    """The delay before a call's next attempt has passed."""

    at_ns: int
    exec_id: str


@dataclass(slots=True)
class EventsCollected:
    """A running call asked `collect_events(event, expected)`, the `number`-th time for this group in its body."""

    at_ns: int
    exec_id: str
    group: str
    number: int
    envelope: Envelope
    expected: Sequence[type[Event]]


@dataclass(slots=True)
class WaitBegan:
    """A running call waits for an event that matches; `timeout` is in seconds.

    `background`: in a task of its own, so the call may do something else meanwhile. `place`: as that of the wait.
    """

    at_ns: int
    exec_id: str
    wait_id: str
    event_type: type[Event]
    requirements: dict[str, object]
    timeout: float | None
    asked: Event | None
    match_subclasses: bool = False
    background: bool = False
    place: tuple[str, int] = ("", 0)


@dataclass(slots=True)
class WaitTimeoutDue:
    """A wait's timeout has passed."""

    at_ns: int
    wait_id: str


@dataclass(slots=True)
class RunTimedOut:
    """The run's own timeout (seconds) has passed; `below`: what its child runs were waiting for.

    `idle_counts`: time in which the run only waited was in it.
    """

    at_ns: int
    timeout: float
    below: tuple[str, ...] = ()
    idle_counts: bool = True


@dataclass(slots=True)
class CancelRequested:
    """Somebody called `cancel_run()`."""

    at_ns: int
    reason: str | None = None


@dataclass(slots=True)
class SuspendRequested:
    """Somebody called `suspend()`: let go of the run where it stands."""

    at_ns: int


@dataclass(slots=True)
class RunTakenUp:
    """The run goes on from a snapshot: the first tick in place of a start event.

    `returned`: what bodies had returned by then, to be routed now; their calls are done.
    """

    at_ns: int
    returned: tuple[AttemptCompleted, ...] = ()


@dataclass(slots=True)
class WaitAbandoned:
    """A call gave a wait up: what it awaited it in was cancelled, or timed out.

    `overtaken`: since another wait of the call was over. `open_ns`: how long the attempt has waited for it.
    """

    at_ns: int
    exec_id: str
    wait_id: str
    place: tuple[str, int]
    overtaken: bool
    open_ns: int


@dataclass(slots=True)
class CallOnlyWaits:
    """The body of a call that has waits open does nothing any more but wait."""

    at_ns: int
    exec_id: str


@dataclass(slots=True)
class WaitsRemain:
    """Some turns of the event loop have passed since the body of a call began waits, and it has not given them up.

    `spent`: it did so in another attempt, and will not now, for nothing that it does ends at a certain time; else those
    that it gave up since others were over.
    """

    at_ns: int
    exec_id: str
    spent: bool = False


@dataclass(slots=True)
class AnsweredTogether:
    """A wait was answered in the same turn of the event loop as others of its call, by another event."""

    at_ns: int
    exec_id: str
    wait_id: str


@dataclass(slots=True)
class CallWorks:
    """The body of a call does something else than wait, though none of its waits is over."""

    at_ns: int
    exec_id: str


@dataclass(slots=True)
class QuestionStreamed:
    """A step wrote a question to the stream: somebody outside may answer it."""

    at_ns: int
    question: Envelope


@dataclass(slots=True)
class IdleLasted:
    """The run has been idle for a moment: time enough for whoever reads its stream to send something."""

    at_ns: int


@dataclass(slots=True)
class DeliveryDue:
    """The loop had its turn: go on with the events of a long list."""

    at_ns: int


@dataclass(slots=True)
class EngineFailed:
    """An error of the engine itself, or of a strict record handler under test."""

    at_ns: int
    error: Exception


@dataclass(slots=True)
class RunInterrupted:
    """The run's own task was cancelled from outside: the event loop is going away; or a step raised no `Exception`."""

    at_ns: int
    error: BaseException | None = None


Tick = (
    EventArrived
    | AttemptCompleted
    | AttemptFailed
    | RetryDue
    | EventsCollected
    | WaitBegan
    | WaitTimeoutDue
    | RunTimedOut
    | CancelRequested
    | SuspendRequested
    | RunTakenUp
    | IdleLasted
    | QuestionStreamed
    | WaitAbandoned
    | CallOnlyWaits
    | WaitsRemain
    | AnsweredTogether
    | CallWorks
    | DeliveryDue
    | EngineFailed
    | RunInterrupted
)
