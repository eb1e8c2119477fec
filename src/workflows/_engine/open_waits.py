"""The open waits of a run, found by what an event may match."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from workflows._engine.calls import Call, Wait
from workflows.events import Event

__all__ = ["NO_WAITS", "OpenWaits"]

# What equals a value of these classes has its hash, so waits are listed by it; any other value is compared with each.
_LISTED = frozenset({str, int, bool, bytes, type(None)})
_UNLISTED = object()
_NUMBER = attrgetter("number")


class OpenWaits:
    """The open waits of a run, `by_id` in the order in which they began.

    An event finds those that may match by its class and by the value of their first requirement: thousands of calls may
    wait for one class, each for its own id, and looking at all of them would make n answers cost n².

    Args:
        after: The number of the last wait before all of them.
    """

    __slots__ = ("_began", "_by_call", "_by_class", "by_id")

    def __init__(self, after: int = 0) -> None:
        self.by_id: dict[str, Wait] = {}
        self._by_call: dict[str, dict[str, Wait]] = {}
        # by class, name of the first requirement ("": none) and its value
        self._by_class: dict[type[Event], dict[str, dict[object, dict[str, Wait]]]] = {}
        self._began = after

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Wait]:
        """Those that an event may still end."""
        return iter([wait for wait in self.by_id.values() if wait.answer is None and not wait.unasked])

    def __contains__(self, wait_id: object) -> bool:
        return wait_id in self.by_id

    def get(self, wait_id: str) -> Wait | None:
        """The open wait with this id."""
        return self.by_id.get(wait_id)

    def of(self, call: Call) -> list[Wait]:
        """Those of one call."""
        return list(self._by_call.get(call.exec_id, {}).values())

    def add(self, wait: Wait) -> None:
        """A wait began."""
        self._began += 1
        wait.number = self._began
        self.by_id[wait.wait_id] = wait
        self._by_call.setdefault(wait.call.exec_id, {})[wait.wait_id] = wait
        name, value = _first_requirement(wait)
        by_value = self._by_class.setdefault(wait.event_type, {}).setdefault(name, {})
        by_value.setdefault(value, {})[wait.wait_id] = wait

    def remove(self, wait: Wait) -> None:
        """A wait is over."""
        del self.by_id[wait.wait_id]
        of_call = self._by_call[wait.call.exec_id]
        del of_call[wait.wait_id]
        if not of_call:
            del self._by_call[wait.call.exec_id]
        name, value = _first_requirement(wait)
        by_value = self._by_class[wait.event_type][name]
        listed = by_value.get(value, {})
        if listed.pop(wait.wait_id, None) is not None and not listed:
            del by_value[value]

    def matching(self, event: Event) -> list[Wait]:
        """The waits that an event ends: of each call the oldest that matches."""
        oldest: dict[str, Wait] = {}
        candidates = [wait for by_value, value in self._lists(event) for wait in by_value[value].values()]
        for wait in sorted(candidates, key=_NUMBER):
            if wait.call.exec_id not in oldest and wait.matches(event):
                oldest[wait.call.exec_id] = wait
        return list(oldest.values())

    def may_take(self, event: Event) -> bool:
        """Whether a wait is for such an event that takes nothing yet, since its step may give it up again."""
        candidates = (wait for by_value, value in self._lists(event) for wait in by_value[value].values())
        return any((wait.spent or wait.pending) and wait.fits(event) for wait in candidates)

    def forget_answered(self, event: Event) -> None:
        """No further event shall find the waits that this one has answered; they are open until they are removed."""
        for by_value, value in list(self._lists(event)):
            left = {wait_id: wait for wait_id, wait in by_value[value].items() if wait.answer is None}
            if left:
                by_value[value] = left
            else:
                del by_value[value]

    def _lists(self, event: Event) -> Iterator[tuple[dict[object, dict[str, Wait]], object]]:
        """Where the waits are that may match: lists by the value of their first requirement, and such a value."""
        for event_class in type(event).__mro__:
            for name, by_value in self._by_class.get(event_class, {}).items():
                value = getattr(event, name, None) if name else _UNLISTED
                values = {value, _UNLISTED} if type(value) in _LISTED else tuple(by_value)
                yield from ((by_value, each) for each in values if each in by_value)


NO_WAITS = OpenWaits()
"""What every run begins with, and most end with; a run gets its own with its first wait."""


def _first_requirement(wait: Wait) -> tuple[str, object]:
    name, value = next(iter(wait.requirements.items()), ("", _UNLISTED))
    return name, value if type(value) in _LISTED else _UNLISTED
