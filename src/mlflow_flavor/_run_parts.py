"""What a trace shows of a run, as a tree: the run, the calls of its steps, and their waits and child runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from mlflow_flavor._likeness import without_addresses
from mlflow_flavor._model_imports import MODULE_PREFIX

__all__ = ["Attempt", "Part", "Streamed", "error_text", "without_times"]

_MODEL_MODULE = re.compile(rf"\b{MODULE_PREFIX}[0-9a-f]+(?:_\d+)?\.")

# What the engine writes into its own events about the clock: it differs each time.
OF_THE_CLOCK = {"StepFailedEvent": frozenset({"elapsed_seconds", "failed_at"})}


@dataclass(frozen=True, slots=True)
class Streamed:
    """One streamed event, or a row of text deltas.

    Attributes:
        name: Its class.
        text: What is shown of it; None if nothing is.
        fields: The same as plain data.
        first: Its number among the events of its attempt, from 1.
        merged: How many events it is.
    """

    name: str
    text: object
    fields: object
    first: int
    merged: int

    @property
    def is_text(self) -> bool:
        """Whether it is a row of text deltas; of other events, JSON is shown."""
        return isinstance(self.text, str) and (self.merged > 1 or not isinstance(self.fields, dict))


@dataclass(slots=True)
class Attempt:
    """One attempt of a call.

    Attributes:
        error: What it failed with, if another attempt was to come.
        streamed: What it streamed; of many events, the first and last ones.
        count: How many events it streamed; 0 if it does not say.
        dropped: How many of them are not shown.
        has_deltas: Some are pieces of a text, of which nobody knows beforehand how many there are.
        is_whole: What is shown of the error and of the events is all there is to them.
    """

    error: str | None = None
    streamed: Sequence[Streamed] = ()
    count: int = 0
    dropped: int = 0
    has_deltas: bool = False
    is_whole: bool = True

    def cut_as(self, other: Attempt) -> Attempt:
        """This attempt with as many first and last events as are shown of another one, if that has more."""
        shown = len(other.streamed)
        if not other.dropped or len(self.streamed) <= shown:
            return self
        last = len(self.streamed) - shown // 2
        return replace(
            self,
            streamed=[*self.streamed[: shown - shown // 2], *self.streamed[last:]],
            dropped=len(self.streamed) - shown,
        )

    def events(self) -> list[Streamed]:
        """The events that are no text deltas."""
        return [each for each in self.streamed if not each.is_text]

    def texts(self) -> dict[str, list[str]]:
        """The rows of text deltas by their class; where other events come between them says nothing."""
        found: dict[str, list[str]] = {}
        for each in self.streamed:
            if each.is_text:
                found.setdefault(each.name, []).append(str(each.text))
        return found

    def listed(self) -> list[object]:
        """What it streamed, as it is shown."""
        more = [f"…[{self.count} events]"] if self.dropped else []
        return [*({each.name: each.text} for each in self.streamed), *more]


@dataclass(slots=True, eq=False)
class Part:
    """A run, a call of a step, or a wait.

    Attributes:
        name: That of its span.
        started_ns: When it started.
        took: What it was given; of a wait, what is asked.
        outcome: How it ended; "suspended" or nothing: it did not.
        gave: What came of it: a result, what a step sent, an answer.
        error: What it failed with.
        attempts: Those of a call, by number.
        below: Calls of a run; child runs and waits of a call; a run's own waits.
        is_buffered: A call that only put its event aside, until the others of a join have come.
        is_whole: What is shown of it is all there is; of the first run nobody can tell.
    """

    name: str
    started_ns: int
    took: object
    outcome: str = ""
    gave: object = None
    error: str | None = None
    attempts: dict[int, Attempt] = field(default_factory=dict[int, Attempt])
    below: list[Part] = field(default_factory=list["Part"])
    is_buffered: bool = False
    is_whole: bool = True

    @property
    def is_open(self) -> bool:
        """Whether it has not ended: it waits for a person, or something in it does."""
        return self.outcome in ("", "suspended")

    @property
    def failures(self) -> list[str]:
        """What its attempts failed with that were made again."""
        return [attempt.error for attempt in self.in_order() if attempt.error is not None]

    def in_order(self) -> list[Attempt]:
        """Its attempts, first to last."""
        return [attempt for _, attempt in sorted(self.attempts.items())]

    def by_name(self) -> dict[str, list[Part]]:
        """The parts below it by their names, each in the order in which they started."""
        found: dict[str, list[Part]] = {}
        for part in sorted(self.below, key=lambda part: part.started_ns):
            found.setdefault(part.name, []).append(part)
        return found

    def end(self) -> object:
        """What came of it, or why nothing did."""
        if self.error is not None:
            return self.error
        return self.gave if self.outcome in ("completed", "resolved") else f"({self.outcome or 'suspended'})"


def error_text(described: str) -> str:
    """An error's class and message; a loaded model's module has another name in each load, an object another place."""
    return without_addresses(_MODEL_MODULE.sub("", described))


def without_times(shown: object) -> object:
    """What is shown of events without what the engine notes in its own about the clock."""
    match shown:
        case dict():
            fields = cast("dict[str, object]", shown)
            return {name: _without(item, OF_THE_CLOCK.get(name)) for name, item in fields.items()}
        case list():
            return [without_times(item) for item in cast("list[object]", shown)]
        case _:
            return shown


def _without(item: object, names: frozenset[str] | None) -> object:
    if names is None or not isinstance(item, dict):
        return item
    return {name: value for name, value in cast("dict[str, object]", item).items() if name not in names}
