"""The state of one run: owned by its loop, changed in place by `reduce` alone, never copied."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from workflows._spec import StepSpec, WorkflowSpec
from workflows.events import Event, InputRequiredEvent, StopEvent
from workflows.instrumentation.records import Envelope, RunOutcome

__all__ = ["Call", "CallPhase", "FanOut", "RunState", "RunWait", "StepQueue", "Wait"]

EVENTS_KEPT = 1000  # events nobody took, kept for waits that begin later; the oldest go first


class CallPhase(Enum):
    """Where a call stands."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    DONE = "done"


class Call:
    """One delivery of an event (or of several, joined) to a step; has 1..n attempts.

    Attributes:
        exec_id: Causal id, see `routing.exec_id`.
        inputs: The events it runs for.
        attempt: The current or next attempt, from 1.
        worker: Index of the worker it holds; -1 while it holds none.
        queued_at_ns: When the current attempt could first have started.
        first_started_ns: When its first attempt was let go, 0 before that.
        due_ns: When the next attempt is to start, while it waits for that.
        replay: The body begins again from the top, because the run was resumed.
        scope: The fan-outs it lives in, outermost first.
        answers: What waits of the current attempt got (None: they timed out); a replay gets the same again.
        waiting_since: When waits began that were open at the snapshot this call comes from, so that timeouts hold.
        emitted: How many events it has emitted so far, over all attempts.
        open_waits: Waits of it that are not over.
        to_resume: Waits of it that are over while it still queues for a worker.
        recoveries: How often each `@catch_error` handler has run in this lineage.
    """

    # Defaults live in the class: one call is made for every step that runs, and most never leave them.
    attempt: int = 1
    worker: int = -1
    phase: CallPhase = CallPhase.QUEUED
    first_started_ns: int = 0
    due_ns: int = 0
    replay: bool = False
    scope: tuple[str, ...] = ()
    answers: Mapping[str, Envelope | None] = MappingProxyType({})
    waiting_since: Mapping[str, int] = MappingProxyType({})
    emitted: int = 0
    open_waits: int = 0
    last_error: BaseException | None = None
    last_failed_ns: int = 0
    to_resume: list[Wait] | None = None

    def __init__(
        self,
        exec_id: str,
        step: StepSpec,
        inputs: tuple[Envelope, ...],
        queued_at_ns: int,
        recoveries: Mapping[str, int] | None = None,
    ) -> None:
        self.exec_id = exec_id
        self.step = step
        self.inputs = inputs
        self.queued_at_ns = queued_at_ns
        self.recoveries = recoveries


@dataclass(slots=True, eq=False)
class Wait:
    """A call paused until an event of `event_type` comes whose attributes equal `requirements`."""

    wait_id: str
    call: Call
    event_type: type[Event]
    requirements: Mapping[str, object]
    started_at_ns: int
    timeout: float | None
    asked: Event | None
    match_subclasses: bool = False
    answer: Envelope | None = None
    timed_out: bool = False

    def matches(self, event: Event) -> bool:
        """Whether this event ends the wait."""
        right_type = isinstance(event, self.event_type) if self.match_subclasses else type(event) is self.event_type
        return right_type and all(getattr(event, k, None) == v for k, v in self.requirements.items())


@dataclass(slots=True, eq=False)
class FanOut:
    """The branches of one call that returned a list.

    Attributes:
        fan_out_id: The exec_id of that call.
        step: Its step.
        scope: The fan-outs that it lives in itself.
        alive: Events in flight and calls that are not done, in this fan-out but in no inner one.
        members: What arrived for each join so far.
        fired: Joins that had enough before the end (`Take`).
    """

    fan_out_id: str
    step: str
    scope: tuple[str, ...]
    alive: int
    members: dict[str, list[Envelope]] = field(default_factory=dict[str, list[Envelope]])
    fired: set[str] = field(default_factory=set[str])


@dataclass(slots=True, eq=False)
class RunWait:
    """The idle run itself waits, because a step returned an `InputRequiredEvent`."""

    wait_id: str
    asked: InputRequiredEvent
    started_at_ns: int
    answer: Envelope | None = None


class StepQueue:
    """The calls of one step that wait for a worker, and its free workers."""

    __slots__ = ("calls", "free", "step")

    def __init__(self, step: StepSpec) -> None:
        self.step = step
        self.calls: deque[Call] = deque()
        self.free = list(range(step.num_workers - 1, -1, -1))


@dataclass(slots=True, eq=False)
class RunState:
    """Everything that is true of a run now.

    Attributes:
        calls: Calls that are not done, by exec_id.
        queues: By step name, made when a step gets its first call.
        waits: Open waits, by wait_id, in the order in which they began.
        kept: Events that nobody took yet.
        collected: Events that joins keep, by (step name, group), in order of arrival.
        busy: Calls that are queued, running or between attempts. 0 and not ended: the run is idle.
        fan_outs: Open fan-outs, by id.
        now_ns: When the last tick happened.
        asked: The last question to a person that nothing from outside has answered.
        run_wait: The wait of the idle run itself for that answer.
        idle: `busy` was 0 after the last tick, and the loop has been told.
        stepwise: What calls return is handed to the caller, who sends it on.
        open_to_outside: Somebody may send events from outside, so an idle run is no deadlock.
        arrived: Events from outside so far; numbers their ids.
        ended: The outcome, once decided.
    """

    spec: WorkflowSpec
    run_id: str
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    queues: dict[str, StepQueue] = field(default_factory=dict[str, StepQueue])
    waits: dict[str, Wait] = field(default_factory=dict[str, Wait])
    kept: deque[Envelope] = field(default_factory=lambda: deque[Envelope](maxlen=EVENTS_KEPT))
    collected: dict[tuple[str, str], list[Envelope]] = field(default_factory=dict[tuple[str, str], list[Envelope]])
    fan_outs: dict[str, FanOut] = field(default_factory=dict[str, FanOut])
    now_ns: int = 0
    asked: InputRequiredEvent | None = None
    run_wait: RunWait | None = None
    idle: bool = False
    stepwise: bool = False
    open_to_outside: bool = False
    busy: int = 0
    arrived: int = 0
    ended: RunOutcome | None = None
    stop_event: StopEvent | None = None
    steps: int = 0
    retries: int = 0
    events: int = 0
    handled_errors: int = 0
    unhandled: int = 0

    def queue(self, step: StepSpec) -> StepQueue:
        """The queue of a step."""
        found = self.queues.get(step.name)
        if found is None:
            found = self.queues[step.name] = StepQueue(step)
        return found
