"""What the second run did otherwise than the first: part by part, of each run, call and wait that a trace shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mlflow_flavor._comparison import Difference
from mlflow_flavor._likeness import Likeness, are_alike, in_all, may_be_alike, partners
from mlflow_flavor._run_parts import Attempt, Part, Streamed

__all__ = ["RunComparison"]

Pair = tuple[Part | None, Part | None]
"""A part of the first run and its partner in the second, where they have one."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    """What a comparison of two runs, or of two parts of them, came to.

    Attributes:
        differences: What differs, causes first.
        in_part: Parts that are alike as far as they are shown, which is not all.
    """

    differences: list[Difference] = field(default_factory=list[Difference])
    in_part: list[str] = field(default_factory=list[str])

    @classmethod
    def of(cls, then: Part, now: Part) -> RunComparison:
        """Compare two runs of the same input."""
        found = cls()
        found._below(then, now, "")
        found._end(then, now, "result", then.name)
        return found

    def _below(self, then: Part, now: Part, prefix: str) -> None:
        """Compare what is below two parts; where the second one waits, the first one may have gone on."""
        theirs, mine = then.by_name(), now.by_name()
        pairs = [
            (f"{prefix}{name}#{number}", pair)
            for name in dict.fromkeys((*theirs, *mine))
            for number, pair in enumerate(_paired(theirs.get(name, []), mine.get(name, [])), 1)
        ]
        for where, (one, other) in sorted(pairs, key=_start_of_first):
            if one is not None and other is not None:
                self.compare_parts(one, other, where)
            elif other is not None:
                self.differences.append(Difference("path", where, None, other.took))
            elif one is not None and not now.is_open:
                self.differences.append(Difference("path", where, one.took, None))

    def compare_parts(self, then: Part, now: Part, where: str) -> None:
        """Compare two calls, child runs or waits; what was given something else is not looked into."""
        if are_alike(then.took, now.took) is False:
            self.differences.append(Difference("input", where, then.took, now.took))
            return
        self._below(then, now, f"{where}/")
        alike = self._failures(then, now, where)
        if alike:
            attempts = zip(then.in_order(), now.in_order(), strict=False)
            alike = in_all([self._streamed(*both, where, is_open=now.is_open) for both in attempts])
        self._end(then, now, "output", where, alike)

    def _failures(self, then: Part, now: Part, where: str) -> bool:
        """Compare what a call's attempts failed with that were made again."""
        theirs = then.failures[: len(now.failures)] if now.is_open else then.failures
        if theirs != now.failures:
            self.differences.append(Difference("output", where, theirs, now.failures))
        return theirs == now.failures

    def _streamed(self, then: Attempt, now: Attempt, where: str, *, is_open: bool) -> Likeness:
        """Compare what two attempts streamed."""
        now = now.cut_as(then)
        alike = _are_streamed_alike(then, now, is_open=is_open)
        if alike is False:
            self.differences.append(Difference("output", where, then.listed(), now.listed()))
        return alike

    def _end(
        self, then: Part, now: Part, kind: Literal["output", "result"], where: str, before: Likeness = True
    ) -> None:
        """Compare what came of two parts; `before` says whether what they did up to there is alike."""
        alike = _are_ends_alike(then, now)
        if alike is False:
            ends = then.end(), now.end()
            self.differences.append(Difference(kind, where, *(ends if ends[0] != ends[1] else (then.gave, now.gave))))
        elif before is not False and (alike is None or before is None or not now.is_whole):
            self.in_part.append(where)


def _are_streamed_alike(then: Attempt, now: Attempt, *, is_open: bool) -> Likeness:
    """Whether events are alike; those of an attempt that waits, as far as it has come."""
    if is_open:
        return _are_alike_so_far(then, now)
    if then.dropped and then.count != now.count and not now.has_deltas:
        return False
    alike = _are_rows_alike(then.streamed, now.streamed)
    return None if alike and (then.dropped or not now.is_whole) else alike


def _are_alike_so_far(then: Attempt, now: Attempt) -> Likeness:
    if then.dropped:
        return None
    theirs, mine = then.streamed[: len(now.streamed)], now.streamed
    if now.has_deltas and len(theirs) == len(mine) and _begins_with(theirs[-1], mine[-1]):
        theirs, mine = theirs[:-1], mine[:-1]
    alike = _are_rows_alike(theirs, mine)
    return None if alike and not now.is_whole else alike


def _begins_with(text: Streamed, beginning: Streamed) -> bool:
    return text.name == beginning.name and str(text.text).startswith(str(beginning.text))


def _are_rows_alike(then: Sequence[Streamed], now: Sequence[Streamed]) -> Likeness:
    return len(then) == len(now) and in_all(
        one.name == other.name and are_alike(one.fields, other.fields) for one, other in zip(then, now, strict=True)
    )


def _are_ends_alike(then: Part, now: Part) -> Likeness:
    if now.is_open:
        return True if then.is_open else None  # the first one went on
    return (then.outcome, then.error) == (now.outcome, now.error) and are_alike(then.gave, now.gave)


# --- partners ---------------------------------------------------------------------------------------------------------


def _paired(then: Sequence[Part], now: Sequence[Part]) -> list[Pair]:
    """Partners among parts of one name: those that are the same, else took the same, else as they come.

    Which of several calls starts first may be another one each time. Of the second run, what has no partner comes last.
    """
    found = partners(then, now, (_are_the_same, _took_the_same, _any_two))
    others = {place: now[other] for place, other in found.items()}
    if any(part.is_buffered for part in (*then, *now)):
        _exchange_ends(then, others)
    left = set(range(len(now))).difference(found.values())
    return [
        *((one, others.get(place)) for place, one in enumerate(then)),
        *((None, now[place]) for place in sorted(left)),
    ]


def _are_the_same(then: Part, now: Part) -> bool:
    if not _took_the_same(then, now):
        return False
    found = RunComparison()
    found.compare_parts(then, now, "")
    return not found.differences


def _took_the_same(then: Part, now: Part) -> bool:
    return may_be_alike(then.took, now.took)


def _any_two(then: Part, now: Part) -> bool:
    return True


def _joined_the_same(then: Part, now: Part) -> bool:
    return _are_both_joins(then, now) and _are_ends_alike(then, now) is not False


def _are_both_joins(then: Part, now: Part) -> bool:
    return then.is_buffered == now.is_buffered


def _start_of_first(pair: tuple[str, Pair]) -> float:
    first = pair[1][0]
    return first.started_ns if first is not None else math.inf


def _exchange_ends(then: Sequence[Part], others: dict[int, Part]) -> None:
    """Let what came of a join be compared, though another of its events was the last, at whose call it comes."""
    crossed = [place for place, other in others.items() if then[place].is_buffered != other.is_buffered]
    ends = [others[place] for place in crossed]
    for place, end in partners([then[place] for place in crossed], ends, (_joined_the_same, _are_both_joins)).items():
        here = crossed[place]
        others[here] = replace(ends[end], took=others[here].took)
