"""What a run tells the world: one frozen record a fact, past participles, in the order in which it happened.

`at_ns` and every other `*_ns` is wall-clock time in nanoseconds since the epoch, anchored once a run and advanced by
the monotonic clock, so that differences are true durations. Other times are seconds. Records hold references to the
user's events, never rendered text: what may leave the process is decided by the reader (`content`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

from workflows._slotted import FieldsCompared, slotted
from workflows.events import Event, StopEvent
from workflows.instrumentation.scope import Identity

__all__ = [
    "Carriers",
    "ContextSaved",
    "Envelope",
    "EventSent",
    "EventStreamed",
    "EventUnhandled",
    "FanInBuffered",
    "FanInReleased",
    "Record",
    "RetryScheduled",
    "RunCounts",
    "RunEnded",
    "RunOutcome",
    "RunResumed",
    "RunStarted",
    "RunSuspended",
    "StepEnded",
    "StepOutcome",
    "StepStarted",
    "WaitCancelled",
    "WaitResolved",
    "WaitStarted",
    "WaitTimedOut",
]

Carriers = Mapping[str, Mapping[str, str]]
"""What each record handler wants to travel with an event or a snapshot, by handler name (`traceparent`, say)."""

RunOutcome = Literal["completed", "failed", "cancelled", "timed_out", "suspended", "interrupted"]
StepOutcome = Literal[
    "completed", "failed", "retrying", "waiting", "suspended", "cancelled", "timed_out", "abandoned", "interrupted"
]
WaitKind = Literal["call", "run"]


@dataclass(slots=True, eq=False, repr=False)
class Envelope(FieldsCompared):
    """An event in flight: where it came from and when it was queued. Never visible to user code.

    `event_id` is `<sender's exec_id>.<n>` for the n-th event that a call emitted, `x<n>` for one from outside. `scope`
    are the fan-outs it lives in (exec_ids of the calls that returned a list), outermost first; `recoveries` how often
    each `@catch_error` handler has run in its lineage. `names` is the wait that it answers, if its sender named one;
    `shared`: it ended a wait, and something else took it, too. The engine completes it while it sends the event, nobody
    else changes it.
    """

    event_id: str
    event: Event
    sender: str | None
    sender_step: str | None
    queued_at_ns: int
    carriers: Carriers | None = None
    scope: tuple[str, ...] = ()
    recoveries: Mapping[str, int] | None = None
    shared: bool = False
    names: str | None = None


T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """As `slotted`, with fields that are given by name."""
    return dataclass(slots=True, kw_only=True, eq=False, repr=False)(cls)


@record
class Record(FieldsCompared):
    """One fact; `seq` counts the records of a run from 1.

    One that `ends` a run or an attempt is told to handlers in reverse order; one that `ends_run`, to broken ones too.
    """

    ends: ClassVar[bool] = False
    ends_run: ClassVar[bool] = False

    run_id: str
    seq: int
    at_ns: int


@record
class RunStarted(Record):
    """A run began. Emitted in the run's own context: what a handler sets there, every attempt inherits.

    `parent` is `(run_id, exec_id)` of the attempt that started this run as its child; `queue_wait` the seconds spent
    waiting for `num_concurrent_runs`; `carriers` those of the previous segment, empty in the first.
    """

    workflow: str
    version: str | None
    span_kind: str
    graph_hash: str
    parent: tuple[str, str] | None
    root_run_id: str
    segment: int
    carriers: Carriers
    identity: Identity
    start_event: Event | None
    timeout: float | None
    queue_wait: float


@record
class RunResumed(RunStarted):
    """A run went on from a snapshot, maybe in another process; `segment` is 1 or more."""


@slotted
class RunCounts(FieldsCompared):
    """What a run (segment) did: attempts, retries, events sent, events streamed, failures handled, events untaken."""

    steps: int = 0
    retries: int = 0
    events: int = 0
    streamed: int = 0
    handled_errors: int = 0
    unhandled: int = 0


@record
class RunSuspended(Record):
    """A run was released from memory at a snapshot; it goes on with `RunResumed`."""

    ends = ends_run = True

    counts: RunCounts


@record
class ContextSaved(Record):
    """A snapshot of a run was taken: live, suspended, or when it was over; `context` is what `ctx.to_dict()` gives."""

    workflow: str
    context: Mapping[str, Any]


@record
class RunEnded(Record):
    """A run is over, and every attempt of it has been told as ended before.

    `error` is the exception that `await handler` raises; `stop_event` the last event of the stream. `failed_step` names
    the step whose failure ended the run; `reason` says in words why a run was cancelled or interrupted.
    """

    ends = ends_run = True

    outcome: RunOutcome
    error: BaseException | None
    stop_event: StopEvent | None
    counts: RunCounts
    failed_step: str | None = None
    reason: str | None = None


@record
class EventSent(Record):
    """An event entered the run, from a step or from outside; `queued_for` are the steps that got a call for it."""

    envelope: Envelope
    target: str | None
    queued_for: tuple[str, ...]


@record
class EventUnhandled(Record):
    """No step accepted an event and no wait matched it."""

    envelope: Envelope


@record
class EventStreamed(Record):
    """An event was published to the run's stream by a step (`exec_id`), or by the engine itself (None)."""

    event: Event
    exec_id: str | None
    step: str | None
    attempt: int | None


@record
class StepStarted(Record):
    """An attempt began, told in the step's own task and context.

    `queued_at_ns` is when this attempt could first have started (a retry: when its delay was over); `queue_depth` how
    many calls of the step were still queued behind it; `causes` the events it runs for; `replay` that the body runs
    again after a resume. `max_attempts` is None where the policy does not say; `retry_policy` is None without one.
    """

    exec_id: str
    step: str
    attempt: int
    worker: int
    num_workers: int
    queued_at_ns: int
    queue_depth: int
    causes: tuple[Envelope, ...]
    function: str
    retry_policy: str | None = None
    max_attempts: int | None = None
    previous_error: BaseException | None = None
    replay: bool = False


@record
class StepEnded(Record):
    """An attempt ended, told in the step's own task (by the loop where it was cancelled before it began: `started`).

    `retry_delay` is the seconds until the next attempt where `outcome` is "retrying"; `handled_by` the `@catch_error`
    step that takes the failure; `emitted` what the attempt sent and returned, in order. `causes` are told here only of
    an attempt that never started, since no `StepStarted` told them.
    """

    ends = True

    exec_id: str
    step: str
    attempt: int
    outcome: StepOutcome
    error: BaseException | None = None
    emitted: tuple[Envelope, ...] = ()
    retry_delay: float | None = None
    retry_elapsed: float | None = None
    handled_by: str | None = None
    started: bool = True
    buffered: bool = False
    causes: tuple[Envelope, ...] = ()


@record
class RetryScheduled(Record):
    """Another attempt (`attempt`) of a call will start at `due_ns`."""

    exec_id: str
    step: str
    attempt: int
    delay: float
    due_ns: int
    error: BaseException | None


@record
class WaitRecord(Record):
    """Base of what is told about one wait.

    A wait of kind "run" has no `exec_id`, the idle run itself waits, once for each open question; its `question` says
    which step asked, and what (an event that was only streamed has no id).
    """

    wait_id: str
    kind: WaitKind
    event_type: str
    exec_id: str | None
    step: str | None
    started_at_ns: int
    question: Envelope | None = None


@record
class WaitStarted(WaitRecord):
    """A call, or an idle run, began to wait for an outside event; `asked` is the event that asks for it.

    `takes` are the classes that end it, with `subclasses` those below them as well; the event's attributes have to
    equal `requirements`. A call's wait is over after `timeout` seconds, that of a run never.
    """

    asked: Event | None = None
    takes: tuple[type[Event], ...] = ()
    subclasses: bool = False
    requirements: Mapping[str, object] = field(default_factory=dict[str, object])
    timeout: float | None = None


@record
class WaitResolved(WaitRecord):
    """The awaited event came."""

    answer: Envelope


@record
class WaitTimedOut(WaitRecord):
    """The wait's timeout (seconds) passed."""

    timeout: float


@record
class WaitCancelled(WaitRecord):
    """The run ended while the wait was open, or the step that asked gave it up or asked something else instead."""


@record
class FanInBuffered(Record):
    """An event was kept for a later join, as its `size`-th; `missing` are the class names still needed, up to 20.

    `exec_id` is the call that collects; None where the step's signature does, since there is no call before all is in.
    The members are not all named each time: a join of n events would tell n² names.
    """

    exec_id: str | None
    step: str
    group: str
    event_id: str
    size: int
    missing: tuple[str, ...] = field(default=())


@record
class FanInReleased(Record):
    """A join got its last member; `members` are all its envelopes, in the order the step receives them."""

    exec_id: str
    step: str
    group: str
    members: tuple[Envelope, ...]
