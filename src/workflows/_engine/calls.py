"""Calls of steps, and their waits for events from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from workflows._spec import StepSpec
from workflows.events import Event
from workflows.instrumentation.records import Envelope

__all__ = ["Awaited", "Call", "CallPhase", "Wait", "class_name", "equal", "in_order"]

_NOTHING: Mapping[Any, Any] = MappingProxyType({})
_NOT_ANY: Set[str] = frozenset()


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
        completed_by: Which of these came last, so that the call was made.
        attempt: The current or next attempt, from 1.
        worker: Index of the worker it holds; -1 while it holds none.
        queued_at_ns: When the current attempt could first have started.
        first_started_ns: When its first attempt was let go, put off by the time in which it only waited; 0 before that.
        paused_ns: Since when it only waits, or lies in a snapshot; 0 while it does not.
        due_ns: When the next attempt is to start, while it waits for that.
        replay: The body begins again from the top, because the run was resumed.
        scope: The fan-outs it lives in, outermost first.
        answers: What waits of the current attempt got (None: they timed out); a replay gets the same again.
        collected: What its collects got, by group and number in the body; a retry or a replay gets the same again.
        waiting_since: When waits began that were open at the snapshot this call comes from, so that timeouts hold; 0:
            it asks and begins anew.
        waiting_for: What they take, as far as the snapshot has it.
        kept: What ended waits that it gave up before it got it, or has not come to: for its next waits.
        apart: Of each name the waits, from one to another, that it let go before it gave a later one up for the other
            reason, or was back where it was.
        begun: How many waits this attempt has begun.
        came_after: How many an attempt had begun when a wait was over, where others were open.
        at_once: Waits that were answered as they began, by what came before, or in the same turn of the event loop as
            others: whoever awaits all of these got both.
        had_begun: How many the attempt before, or before the snapshot, had begun at its end.
        old: How many waits were over when this attempt began its first one.
        overtaken: The last wait of each name that it gave up since another one was over, as it will in another attempt.
        let_go: The last wait of each name that it gave up for another reason, a timeout around it, say.
        open_ns: How long the longest of these was open.
        missed: Names of waits that were open when an attempt failed; the next one asks them again, most likely.
        latest: The number of the last wait of each name that was answered before the snapshot, once that was asked for.
        emitted: How many events it has emitted so far, over all attempts.
        open_waits: Waits of it that are not over.
        pending: Some of these are pending.
        spent: Some of these are spent, or were.
        to_resume: Waits of it that are over while it still queues for a worker.
        reached: To how many of the waits that were over its body has come again.
        recoveries: How often each `@catch_error` handler has run in this lineage.
    """

    __slots__ = (
        "answers",
        "apart",
        "at_once",
        "attempt",
        "begun",
        "came_after",
        "collected",
        "completed_by",
        "due_ns",
        "emitted",
        "exec_id",
        "first_started_ns",
        "had_begun",
        "inputs",
        "kept",
        "last_error",
        "last_failed_ns",
        "latest",
        "let_go",
        "missed",
        "old",
        "open_ns",
        "open_waits",
        "overtaken",
        "paused_ns",
        "pending",
        "phase",
        "queued_at_ns",
        "reached",
        "recoveries",
        "replay",
        "scope",
        "spent",
        "step",
        "to_resume",
        "waiting_for",
        "waiting_since",
        "worker",
    )

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
        self.attempt = 1
        self.worker = self.completed_by = -1
        self.phase = CallPhase.QUEUED
        self.first_started_ns = self.due_ns = self.last_failed_ns = 0
        self.emitted = self.open_waits = self.open_ns = self.paused_ns = self.begun = self.old = self.reached = 0
        self.had_begun = 0
        self.apart: Mapping[str, Sequence[tuple[int, int]]] = _NOTHING
        self.came_after: Mapping[str, int] = _NOTHING
        self.replay = self.pending = self.spent = False
        self.scope: tuple[str, ...] = ()
        self.answers: Mapping[str, Envelope | None] = _NOTHING
        self.waiting_since: Mapping[str, int] = _NOTHING
        self.waiting_for: Mapping[str, Awaited] = _NOTHING
        self.kept: Sequence[Envelope] = ()
        self.overtaken: Mapping[str, int] = _NOTHING
        self.let_go: Mapping[str, int] = _NOTHING
        self.latest: Mapping[str, int] | None = None
        self.missed: Set[str] = _NOT_ANY
        self.at_once: Set[str] = _NOT_ANY
        self.collected: Mapping[tuple[str, int], Sequence[Envelope] | None] = _NOTHING
        self.last_error: BaseException | None = None
        self.to_resume: list[Wait] | None = None

    @property
    def is_tried_again(self) -> bool:
        """An attempt has failed, and the next one has not begun."""
        is_queued = self.phase is CallPhase.QUEUED and self.attempt > 1 and self.to_resume is None
        return self.phase is CallPhase.RETRYING or is_queued

    @property
    def begins_with(self) -> int:
        """What it does as soon as it begins: itself, and all waits that it has begun before."""
        return 1 + max(len(self.answers), self.had_begun)

    def pause(self, now_ns: int) -> None:
        """It only waits from now on, or lies in a snapshot: that is none of the time that its attempts take."""
        if self.first_started_ns and not self.paused_ns:
            self.paused_ns = max(now_ns, self.first_started_ns)  # a snapshot of another format may not say when it was

    def go_on(self, now_ns: int) -> None:
        """It does something again."""
        if self.paused_ns:
            self.first_started_ns += max(0, now_ns - self.paused_ns)
            self.paused_ns = 0

    def begin_waits_anew(self) -> None:
        """The run is over, and it has not come to these waits again: it asks once more where another run goes on."""
        since = self.waiting_since.items()
        self.waiting_since = {wait_id: began if wait_id in self.answers else 0 for wait_id, began in since}

    def elapsed_seconds(self, now_ns: int) -> float:
        """Since its first attempt began, without the time in which it only waited, or lay in a snapshot."""
        return ((self.paused_ns or now_ns) - self.first_started_ns) / 1e9

    def got(self, wait_id: str, answer: Envelope | None) -> None:
        """A wait of it is over, or will be when it comes to it."""
        if not self.answers:
            self.answers = {}
        cast("dict[str, Envelope | None]", self.answers)[wait_id] = answer

    def came(self, wait_id: str) -> None:
        """Note when a wait is over, if its body waits for others meanwhile."""
        if self.begun > len(self.answers):
            self.came_after = {**self.came_after, wait_id: self.begun}

    def is_at_once(self, wait_id: str) -> None:
        """Note that a wait was answered together with others, or as it began."""
        if not self.at_once:
            self.at_once = set()
        cast("set[str]", self.at_once).add(wait_id)

    def give_back(self, wait_id: str) -> Envelope | None:
        """What a wait got is for the next waits; gives it where it was for this one alone, so that it is lost."""
        answer = self.answers.get(wait_id)
        if answer is None:
            return None
        del cast("dict[str, Envelope | None]", self.answers)[wait_id]
        if wait_id in self.at_once:
            cast("set[str]", self.at_once).discard(wait_id)
        if answer.names is not None:
            return answer
        self.kept = in_order(self.kept, answer)
        return None

    def gave_up(self, place: tuple[str, int], overtaken: bool, open_ns: int) -> None:
        """It gave a wait up: since another one was over, or for another reason."""
        name, number = place
        if overtaken:
            self._set_apart(name, min(self.let_go.get(name, -1), number - 1))
            self.overtaken = {**self.overtaken, name: max(number, self.overtaken.get(name, 0))}
        else:
            self.let_go = {**self.let_go, name: max(number, self.let_go.get(name, 0))}
            self.open_ns = max(open_ns, self.open_ns)

    def was_overtaken(self, name: str, number: int) -> bool:
        """Whether it gave this wait up, which has no answer, since another one was over."""
        return number <= self.overtaken.get(name, -1) and not self._is_apart(name, number)

    def was_let_go(self, name: str, number: int) -> bool:
        """Whether it gave this wait up for another reason."""
        return number <= self.let_go.get(name, -1) or self._is_apart(name, number)

    def is_back_at(self, name: str, number: int) -> None:
        """It is where it was: what it lets go of that name from now on is new."""
        if name in self.let_go:
            self._set_apart(name, number - 1)
            self.let_go = {key: value for key, value in self.let_go.items() if key != name}

    def _set_apart(self, name: str, last: int) -> None:
        first = self.overtaken.get(name, -1) + 1
        if first <= last and not self._is_apart(name, last):
            self.apart = {**self.apart, name: (*self.apart.get(name, ()), (first, last))}

    def _is_apart(self, name: str, number: int) -> bool:
        return any(first <= number <= last for first, last in self.apart.get(name, ()))


def in_order(kept: Sequence[Envelope], envelope: Envelope) -> tuple[Envelope, ...]:
    """Kept events and one more, as they came."""
    came = _came(envelope)
    if not kept or _came(kept[-1]) <= came:  # nearly always
        return *kept, envelope
    at = next(n for n, other in enumerate(kept) if _came(other) > came)
    return *kept[:at], envelope, *kept[at:]


def _came(envelope: Envelope) -> tuple[int, int]:
    return envelope.queued_at_ns, int(envelope.event_id[1:]) if envelope.sender is None else 0


class Awaited(NamedTuple):
    """What a wait takes that was open at a snapshot.

    Attributes:
        class_name: Of the events, as `class_name()` says it.
        match_subclasses: Theirs, too.
        requirements: What attributes of the event must equal.
        asks: It has asked something itself.
        number: As that of the wait: they began in this order.
    """

    class_name: str
    match_subclasses: bool
    requirements: Mapping[str, object]
    asks: bool
    number: int

    def takes(self, event: Event) -> bool:
        """Whether this event ends the wait."""
        classes = type(event).__mro__ if self.match_subclasses else (type(event),)
        return any(class_name(each) == self.class_name for each in classes) and _has(event, self.requirements)


def class_name(cls: type) -> str:
    """A class by its name, as a snapshot has it."""
    return f"{cls.__module__}.{cls.__qualname__}"


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
    number: int = 0
    place: tuple[str, int] = ("", 0)  # its name in its call, and how many of that name were before it
    spent: bool = False  # its step gave it up before the snapshot, so that no event is for it
    pending: bool = False  # no event is for it for some turns of the event loop: its step may give it up again
    unplaced: bool = False  # it may stand for one of the snapshot, if its call does not come to that one again
    unasked: bool = False  # its question is asked once an event may be for it
    held: bool = False  # its timer tells when that should have happened

    @property
    def awaited(self) -> Awaited:
        """What it takes, for a snapshot."""
        return Awaited(*self.taken)

    @property
    def taken(self) -> tuple[str, bool, Mapping[str, object], bool, int]:
        """The same as a plain tuple; a snapshot may have thousands."""
        asks = self.asked is not None
        return class_name(self.event_type), self.match_subclasses, self.requirements, asks, self.number

    def matches(self, event: Event) -> bool:
        """Whether this event ends the wait."""
        return not (self.spent or self.pending) and self.fits(event)

    def fits(self, event: Event) -> bool:
        """Whether this event is what the wait is for."""
        if event.__class__ is not self.event_type and not (
            self.match_subclasses and issubclass(event.__class__, self.event_type)
        ):
            return False
        return _has(event, self.requirements)

    def takes_as(self, other: Awaited) -> bool:
        """Whether it takes what another takes."""
        mine = self.awaited
        if (mine.class_name, mine.match_subclasses) != (other.class_name, other.match_subclasses):
            return False
        return equal(dict(mine.requirements), dict(other.requirements))


def _has(event: Event, requirements: Mapping[str, object]) -> bool:
    for name, required in requirements.items():  # noqa: SIM110  # thousands may be looked at for one event
        if not equal(getattr(event, name, None), required):
            return False
    return True


def equal(value: object, required: object) -> bool:
    """Whether both are equal; what cannot be compared is not."""
    try:
        return bool(value == required)
    except Exception:  # noqa: BLE001  # both are the user's; an array, for one, has no truth value: it is no match
        return False
