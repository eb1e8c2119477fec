"""What the second run did otherwise than the first: part by part, of each run, call and wait that a trace shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mlflow_flavor._comparison import Difference
from mlflow_flavor._likeness import Likeness, Rule, Sign, are_alike, in_all, may_be_alike, partners, sign_of
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
        _Comparing().below(then, now, found)
        found.add_end(then, now, "result", then.name)
        return found

    def add(self, other: RunComparison, where: str) -> None:
        """Take what a comparison of two parts came to that are found here."""
        self.differences.extend(replace(each, where=f"{where}{each.where}") for each in other.differences)
        self.in_part.extend(f"{where}{each}" for each in other.in_part)

    def add_failures(self, then: Part, now: Part) -> bool:
        """Compare what a call's attempts failed with that were made again."""
        theirs = then.failures[: len(now.failures)] if now.is_open else then.failures
        if theirs != now.failures:
            self.differences.append(Difference("output", "", theirs, now.failures))
        return theirs == now.failures

    def add_streamed(self, then: Attempt, now: Attempt, *, is_open: bool) -> Likeness:
        """Compare what two attempts streamed."""
        alike = _are_streamed_alike(then, now, is_open=is_open)
        if alike is False:
            self.differences.append(Difference("output", "", then.listed(), now.cut_as(then).listed()))
        return alike

    def add_end(
        self, then: Part, now: Part, kind: Literal["output", "result"], where: str, before: Likeness = True
    ) -> None:
        """Compare what came of two parts; `before` says whether what they did up to there is alike."""
        alike = _are_ends_alike(then, now)
        if alike is False:
            ends = then.end(), now.end()
            self.differences.append(Difference(kind, where, *(ends if ends[0] != ends[1] else (then.gave, now.gave))))
        elif before is not False and (alike is None or before is None or not now.is_whole):
            self.in_part.append(where)


class _Comparing:
    """Comparisons of parts, each made once: partners are looked for by them, and then they are told."""

    def __init__(self) -> None:
        self._made: dict[tuple[Part, Part], RunComparison] = {}
        self._signs: dict[Part, Sign] = {}

    def below(self, then: Part, now: Part, found: RunComparison, prefix: str = "") -> None:
        """Compare what is below two parts; where the second one waits, the first one may have gone on."""
        theirs, mine = then.by_name(), now.by_name()
        pairs = [
            (f"{prefix}{name}#{number}", pair)
            for name in dict.fromkeys((*theirs, *mine))
            for number, pair in enumerate(self._paired(theirs.get(name, []), mine.get(name, [])), 1)
        ]
        for where, (one, other) in sorted(pairs, key=_start_of_first):
            if one is not None and other is not None:
                found.add(self._of_parts(one, other), where)
            elif other is not None:
                found.differences.append(Difference("path", where, None, other.took))
            elif one is not None and not now.is_open:
                found.differences.append(Difference("path", where, one.took, None))

    def _of_parts(self, then: Part, now: Part) -> RunComparison:
        """Compare two calls, child runs or waits, wherever they are found."""
        made = self._made.get((then, now))
        if made is None:
            made = self._made[then, now] = RunComparison()
            self._compare(then, now, made)
        return made

    def _compare(self, then: Part, now: Part, found: RunComparison) -> None:
        """Compare two parts; what was given something else is not looked into."""
        if are_alike(then.took, now.took) is False:
            found.differences.append(Difference("input", "", then.took, now.took))
            return
        self.below(then, now, found, "/")
        alike = found.add_failures(then, now)
        if alike:
            attempts = zip(then.in_order(), now.in_order(), strict=False)
            alike = in_all([found.add_streamed(*both, is_open=now.is_open) for both in attempts])
        found.add_end(then, now, "output", "", alike)

    # --- partners -----------------------------------------------------------------------------------------------------

    def _paired(self, then: Sequence[Part], now: Sequence[Part]) -> list[Pair]:
        """Partners among parts of one name: those that are the same, else took the same, else as they come.

        Which of several calls starts first may be another one each time. Of the second run, what has no partner comes
        last.
        """
        rules = (Rule(self._sign, self._are_the_same), Rule(_sign_of_taken, _took_the_same), Rule(_no_sign, _any_two))
        found = partners(then, now, rules)
        others = {place: now[other] for place, other in found.items()}
        if any(part.is_buffered for part in (*then, *now)):
            _exchange_ends(then, others)
        left = set(range(len(now))).difference(found.values())
        return [
            *((one, others.get(place)) for place, one in enumerate(then)),
            *((None, now[place]) for place in sorted(left)),
        ]

    def _are_the_same(self, then: Part, now: Part) -> bool:
        return _took_the_same(then, now) and not self._of_parts(then, now).differences

    def _sign(self, part: Part) -> Sign:
        """The sign of all that is shown of a part."""
        return _together([_sign_of_taken(part), self._sign_of_rest(part)])

    def _sign_of_rest(self, part: Part) -> Sign:
        """The sign of what a part did with what it took."""
        sign = self._signs.get(part)
        if sign is None:
            streamed = [sign for attempt in part.in_order() if attempt.streamed for sign in _signs_of_streamed(attempt)]
            below = [self._sign_of_group(name, parts) for name, parts in part.by_name().items()]
            end = Sign(hash((part.outcome, part.error, *part.failures)), is_vague=part.is_open)
            sign = self._signs[part] = _together([end, sign_of(part.gave), *streamed, _in_any_order(below)])
        return sign

    def _sign_of_group(self, name: str, parts: Sequence[Part]) -> Sign:
        """The sign of parts of one name; what comes of a join comes at the call of any of its events."""
        if any(part.is_buffered for part in parts):
            signs = [_in_any_order(map(_sign_of_taken, parts)), _in_any_order(map(self._sign_of_rest, parts))]
        else:
            signs = [_in_any_order(map(self._sign, parts))]
        return _together([Sign(hash(name)), *signs])


def _together(signs: Sequence[Sign]) -> Sign:
    return Sign(hash(tuple(sign.key for sign in signs)), any(sign.is_vague for sign in signs))


def _in_any_order(signs: Iterable[Sign]) -> Sign:
    return _together(sorted(signs))


def _sign_of_taken(part: Part) -> Sign:
    return sign_of(part.took)


def _signs_of_streamed(attempt: Attempt) -> list[Sign]:
    texts = [Sign(hash((name, "".join(rows)))) for name, rows in attempt.texts().items()]
    return [_in_any_order([*texts, *map(_sign_of_event, attempt.events())]), Sign(0, is_vague=attempt.dropped > 0)]


def _sign_of_event(event: Streamed) -> Sign:
    return _together([Sign(hash(event.name)), sign_of(event.fields)])


def _no_sign(part: Part) -> Sign:
    return Sign(0)


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
    rules = (Rule(_no_sign, _joined_the_same), Rule(_no_sign, _are_both_joins))
    for place, end in partners([then[place] for place in crossed], ends, rules).items():
        here = crossed[place]
        others[here] = replace(ends[end], took=others[here].took)


# --- contents ---------------------------------------------------------------------------------------------------------


def _are_ends_alike(then: Part, now: Part) -> Likeness:
    if now.is_open:
        return True if then.is_open else None  # the first one went on
    return (then.outcome, then.error) == (now.outcome, now.error) and are_alike(then.gave, now.gave)


def _are_streamed_alike(then: Attempt, now: Attempt, *, is_open: bool) -> Likeness:
    """Whether events are alike, in whatever order; those of an attempt that waits, as far as it has come."""
    if is_open and then.dropped:
        return None
    if then.dropped and then.count != now.count and not now.has_deltas:
        return False
    alike = in_all([_are_texts_alike(then, now, is_open=is_open), _are_events_alike(then, now, is_open=is_open)])
    return None if alike and (then.dropped or not now.is_whole) else alike


def _are_events_alike(then: Attempt, now: Attempt, *, is_open: bool) -> Likeness:
    """Whether the events are the same: parallel tasks of a step send them in another order each time."""
    theirs, mine = then.events(), now.events()
    found = partners(theirs, mine, (Rule(_sign_of_event, _are_the_same_event), Rule(_sign_of_event, _may_be_one_event)))
    are_more_now, are_less_now = len(mine) > len(found), len(theirs) > len(found)
    if (are_more_now and not then.dropped) or (are_less_now and not is_open):
        return False
    return in_all(are_alike(theirs[one].fields, mine[other].fields) for one, other in found.items())


def _are_the_same_event(then: Streamed, now: Streamed) -> bool:
    return then.name == now.name and are_alike(then.fields, now.fields) is True


def _may_be_one_event(then: Streamed, now: Streamed) -> bool:
    return then.name == now.name and may_be_alike(then.fields, now.fields)


def _are_texts_alike(then: Attempt, now: Attempt, *, is_open: bool) -> Likeness:
    """Whether texts that were streamed in pieces are the same."""
    theirs, mine = then.texts(), now.texts()
    if then.dropped:  # what came between the first and the last pieces may be in another place each time
        return all(row in "".join(mine.get(name, ())) for name, rows in theirs.items() for row in rows)
    found: Likeness = True
    for name in theirs.keys() | mine.keys():
        rows, others = theirs.get(name, []), mine.get(name, [])
        text, other = "".join(rows), "".join(others)
        if text != other and not (is_open and text.startswith(other)):
            if now.is_whole or len(rows) == len(others):
                return False
            found = None  # each row is cut and masked by itself
    return found
