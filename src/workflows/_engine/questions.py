"""What a run has asked people and nobody has answered yet; each question is a wait of the run once that is idle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from workflows.instrumentation.records import Envelope

__all__ = ["NO_QUESTIONS", "OpenQuestions", "RunWait"]


@dataclass(slots=True, eq=False)
class RunWait:
    """The idle run itself waits, because a step gave an `InputRequiredEvent`: the `question`.

    `wait_id` is "" until the run is idle for the first time since it was asked; the wait begins then. `unheard`: the
    run that showed it has ended, so the one that goes on with it has to show it again.
    """

    question: Envelope
    wait_id: str = ""
    started_at_ns: int = 0
    answer: Envelope | None = None
    unheard: bool = False

    @property
    def told(self) -> bool:
        """Whether the wait has begun."""
        return self.wait_id != ""


class OpenQuestions:
    """The open questions of a run, the oldest first. There may be thousands, so none of them is searched for.

    Attributes:
        open: All of them.
        stale: Those of calls that run again from the top, or that have waited since they streamed them: what such a
            call streams next takes their place, and what is left goes with it.
    """

    __slots__ = ("_by_id", "_streamed", "_untold", "open", "stale")

    def __init__(self, waits: Iterable[RunWait] = ()) -> None:
        self.open: OrderedDict[RunWait, None] = OrderedDict()
        self._by_id: dict[str, RunWait] = {}
        self._streamed: dict[str, list[RunWait]] = {}
        self._untold: list[RunWait] = []
        self.stale: dict[RunWait, None] = {}
        for wait in waits:
            self.add(wait)

    def __len__(self) -> int:
        return len(self.open)

    def __iter__(self) -> Iterator[RunWait]:
        return iter(self.open)

    def get(self, wait_id: str | None) -> RunWait | None:
        """The wait with this id, if it has begun and is open."""
        return self._by_id.get(wait_id) if wait_id else None

    def streamed_by(self, exec_id: str | None) -> Sequence[RunWait]:
        """The questions that a call streamed, not returned."""
        return self._streamed.get(exec_id or "", ())

    def add(self, wait: RunWait) -> None:
        """A step asked."""
        self.open[wait] = None
        if wait.told:
            self._by_id[wait.wait_id] = wait
        else:
            self._untold.append(wait)
        if is_streamed(wait.question):
            self._streamed.setdefault(wait.question.sender or "", []).append(wait)

    def remove(self, wait: RunWait) -> None:
        """A question was answered, or another one takes its place."""
        del self.open[wait]
        self._by_id.pop(wait.wait_id, None)
        self.stale.pop(wait, None)
        if is_streamed(wait.question):
            left = self._streamed[wait.question.sender or ""]
            left.remove(wait)
            if not left:
                del self._streamed[wait.question.sender or ""]

    def begin(self, now_ns: int) -> list[RunWait]:
        """Let the waits begin for what was asked since the run was last idle; gives these."""
        if not self._untold:
            return []
        asked, self._untold = [wait for wait in self._untold if wait in self.open], []
        number = 0
        for wait in asked:
            while (wait_id := f"run.{now_ns}.{number}" if number else f"run.{now_ns}") in self._by_id:
                number += 1
            wait.wait_id, wait.started_at_ns = wait_id, now_ns
            self._by_id[wait_id] = wait
        return asked

    def left(self, calls: Container[str | None]) -> list[RunWait]:
        """What is open but for stale ones whose calls are over; `calls` are those that are not."""
        return [wait for wait in self.open if wait not in self.stale or wait.question.sender in calls]


NO_QUESTIONS = OpenQuestions()
"""What every run begins with; a run that asks gets its own."""


def is_streamed(question: Envelope) -> bool:
    """Whether a step streamed it: then it is none of the events that the attempt sends, and has no id."""
    return not question.event_id
