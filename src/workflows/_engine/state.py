"""The state of one run: owned by its loop, changed in place by `reduce` alone, never copied."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workflows._engine.asleep import AsleepWaits
from workflows._engine.calls import Call, Wait
from workflows._engine.open_waits import NO_WAITS, OpenWaits
from workflows._engine.questions import NO_QUESTIONS
from workflows._spec import StepSpec, WorkflowSpec
from workflows.events import Event, StopEvent
from workflows.instrumentation.records import Envelope, RunOutcome

__all__ = ["FanOut", "Gathered", "RunState", "StepQueue", "Undelivered"]

NONE_HANDED: dict[str, Envelope] = {}  # what every run begins with; one by hand gets its own
EVENTS_KEPT = 1000  # events nobody took, kept for waits that begin later; the oldest go first


@dataclass(slots=True, eq=False)
class Gathered:
    """Events that a join keeps until it has all it needs, by the class it takes them for, each in order of arrival.

    Attributes:
        size: How many there are.
        expected: What the last `collect_events` asked for.
    """

    by_class: dict[type[Event], deque[Envelope]] = field(default_factory=dict[type[Event], "deque[Envelope]"])
    size: int = 0
    expected: Sequence[type[Event]] = ()

    def add(self, envelope: Envelope, taken_as: type[Event] | None = None) -> None:
        """Keep an event; `taken_as` where the join takes subclasses, too."""
        self.size += 1
        taken_as = taken_as or type(envelope.event)
        kept = self.by_class.get(taken_as)
        if kept is None:
            kept = self.by_class[taken_as] = deque()
        kept.append(envelope)

    def take(self, expected: Sequence[type[Event]]) -> list[Envelope] | None:
        """One event for each of these classes, the oldest first; None, and nothing is taken, if one is missing."""
        if self.size < len(expected):  # the common case, and what keeps a join of n events at O(n) in all
            return None
        if any(len(self.by_class.get(c, ())) < n for c, n in Counter(expected).items()):
            return None
        self.size -= len(expected)
        return [self.by_class[c].popleft() for c in expected]

    def __iter__(self) -> Iterator[Envelope]:
        return (envelope for kept in self.by_class.values() for envelope in kept)


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
class Undelivered:
    """Returned events that are not routed yet, of a call that is done; `fan_out`: it returned them as a list."""

    exec_id: str
    attempt: int
    scope: tuple[str, ...]
    fan_out: bool
    envelopes: deque[Envelope]


class StepQueue:
    """The calls of one step that wait for a worker, and its free workers.

    Attributes:
        free: How many workers are.
    """

    __slots__ = ("_given_back", "_taken", "calls", "free", "step")

    def __init__(self, step: StepSpec) -> None:
        self.step = step
        self.calls: deque[Call] | tuple[()] = ()  # an empty deque takes 760 bytes, and most queues stay empty
        self.free = step.num_workers
        self._taken = 0  # from this number on, no worker has work; of those below, the ones given back have none
        self._given_back: list[int] | None = None

    def take(self) -> int:
        """The number of a worker that is free: the lowest, or one that was given back."""
        self.free -= 1
        if self._given_back:
            return self._given_back.pop()
        self._taken += 1
        return self._taken - 1

    def give_back(self, worker: int) -> None:
        """A worker has no work any more."""
        self.free += 1
        if worker == self._taken - 1:
            self._taken -= 1
        elif self._given_back is None:
            self._given_back = [worker]
        else:
            self._given_back.append(worker)

    def push(self, call: Call, *, first: bool = False) -> None:
        """Let a call wait for a worker; `first`: before all others."""
        if not isinstance(self.calls, deque):
            self.calls = deque()
        if first:
            self.calls.appendleft(call)
        else:
            self.calls.append(call)

    def pop(self) -> Call | None:
        """The next call, if one waits."""
        return self.calls.popleft() if isinstance(self.calls, deque) and self.calls else None

    def remove(self, call: Call) -> None:
        """A call that waits need not wait any longer."""
        if isinstance(self.calls, deque):
            self.calls.remove(call)


class RunState:
    """Everything that is true of a run now.

    Attributes:
        calls: Calls that are not done, by exec_id.
        queues: By step name, made when a step gets its first call.
        waits: Open waits.
        waits_left: Those that were open when the run ended.
        kept: Events that nobody took yet.
        asleep: Waits that were open at the snapshot that the run goes on from, and have not begun again.
        to_begin: Those of which an older snapshot does not say what they take, and some that are none any more, each
            with its call; None until somebody asks.
        early: Events that a wait may still take which has not begun again, or takes nothing yet; nobody was told yet
            that they are unhandled.
        collected: Events that joins keep, by (step name, group).
        busy: Calls that are queued, running or between attempts. 0 and not ended: the run is idle.
        fan_outs: Open fan-outs, by id.
        now_ns: When the last tick happened.
        questions: Questions to people that are not answered; the idle run itself waits for each of these answers.
        idle: `busy` was 0 after the last tick, and the loop has been told.
        stepwise: What calls return is handed to the caller, who sends it on.
        open_to_outside: Somebody may send events from outside, so an idle run is no deadlock.
        arrived: Events from outside so far; numbers their ids.
        answered: Waits that events have answered in thousands; ended in pieces, so that the loop stays free.
        undelivered: What is left of long lists that calls returned; given out in pieces, as well.
        handed: In a run by hand, returned events that the caller has not sent on yet, by id.
        watched: Somebody listens, so effects that only tell are wanted.
        ended: The outcome, once decided.
    """

    __slots__ = (
        "answered",
        "arrived",
        "asleep",
        "busy",
        "calls",
        "collected",
        "early",
        "ended",
        "events",
        "fan_outs",
        "handed",
        "handled_errors",
        "idle",
        "kept",
        "now_ns",
        "open_to_outside",
        "questions",
        "queues",
        "retries",
        "run_id",
        "spec",
        "steps",
        "stepwise",
        "stop_event",
        "to_begin",
        "undelivered",
        "unhandled",
        "waits",
        "waits_left",
        "watched",
    )

    def __init__(self, spec: WorkflowSpec, run_id: str) -> None:
        self.spec = spec
        self.run_id = run_id
        self.calls: dict[str, Call] = {}
        self.queues: dict[str, StepQueue] = {}
        self.waits = self.waits_left = NO_WAITS
        self.kept: Sequence[Envelope] = ()
        self.early: list[Envelope] | None = None
        self.asleep: AsleepWaits | None = None
        self.to_begin: list[tuple[Call, str]] | tuple[()] | None = ()
        self.collected: dict[tuple[str, str], Gathered] = {}
        self.fan_outs: dict[str, FanOut] = {}
        self.answered: Sequence[deque[Wait]] = ()
        self.undelivered: Sequence[Undelivered] = ()
        self.handed = NONE_HANDED
        self.questions = NO_QUESTIONS
        self.ended: RunOutcome | None = None
        self.stop_event: StopEvent | None = None
        self.idle = self.stepwise = self.open_to_outside = self.watched = False
        self.now_ns = self.busy = self.arrived = 0
        self.steps = self.retries = self.events = self.handled_errors = self.unhandled = 0

    def keep(self, envelope: Envelope, *, early: bool) -> None:
        """Keep an event that nobody took for a wait that may begin later."""
        self.kept = (*self.kept[1 - EVENTS_KEPT :], envelope)
        if early:
            self.early = self.early or []
            self.early.append(envelope)
        else:
            self.unhandled += 1

    @property
    def waits_to_resume(self) -> OpenWaits:
        """Waits that are open again where another run goes on from here."""
        return self.waits_left if self.waits_left.by_id else self.waits

    def open_since(self, wait: Wait) -> int:
        """When a wait that is to be resumed began; 0 after an end that was no suspension: it asks and begins anew."""
        return 0 if self.waits_left.by_id else wait.started_at_ns

    def goes_on(self) -> None:
        """Its calls are those of another run, which go on from where that stood."""
        for call in self.calls.values():
            call.pause(self.now_ns)
        self.to_begin = None
        self.asleep = AsleepWaits(self.calls.values()) or None

    def hand_out(self, returned: Sequence[Envelope]) -> None:
        """In a run by hand: these go to the caller, who sends them on."""
        if self.handed is NONE_HANDED:
            self.handed = {}
        self.handed.update((envelope.event_id, envelope) for envelope in returned)

    def queue(self, step: StepSpec) -> StepQueue:
        """The queue of a step."""
        found = self.queues.get(step.name)
        if found is None:
            found = self.queues[step.name] = StepQueue(step)
        return found
