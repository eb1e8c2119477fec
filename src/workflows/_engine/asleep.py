"""Waits that were open at a snapshot, and whose calls have not come to them again: an event ends them all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workflows._engine.calls import Awaited, Call, Wait, class_name
from workflows._engine.open_waits import OpenWaits
from workflows.events import Event, InputRequiredEvent
from workflows.instrumentation.records import Envelope

__all__ = ["AsleepWaits"]


class AsleepWaits:
    """These waits, of calls that are going to run again.

    A snapshot has the class that a wait takes by its name. Nobody looks for the class: it is there with the first event
    that has this name.
    """

    __slots__ = ("_calls", "_named", "_waits")

    def __init__(self, calls: Iterable[Call]) -> None:
        self._calls: dict[str, Call] = {}
        self._waits = OpenWaits()
        self._named: dict[str, dict[str, tuple[Call, Awaited]]] = {}
        for call in calls:
            self._calls.update(dict.fromkeys(call.waiting_since, call))
            for wait_id, awaited in call.waiting_for.items():
                if wait_id in call.waiting_since:
                    self._named.setdefault(awaited.class_name, {})[wait_id] = call, awaited

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __contains__(self, wait_id: object) -> bool:
        return wait_id in self._waits or any(wait_id in named for named in self._named.values())

    def owner(self, wait_id: str, calls: Mapping[str, Call]) -> Call | None:
        """The call that has yet to come to the wait with this id again, whether that is answered or not."""
        call = self._calls.get(wait_id)
        is_due = call is not None and wait_id in call.waiting_since and calls.get(call.exec_id) is call
        return call if is_due else None

    def begins(self, wait_id: str, event_type: type[Event], call: Call) -> None:
        """A call has come to its wait again, or to another one."""
        if self._calls.get(wait_id) is call:
            del self._calls[wait_id]
        named = self._named.get(class_name(event_type), {})
        if wait_id in named and named[wait_id][0] is call:
            del named[wait_id]
            if not named:
                del self._named[class_name(event_type)]
        if (wait := self._waits.get(wait_id)) is not None and wait.call is call:
            self._waits.remove(wait)

    def matching(self, event: Event, calls: Mapping[str, Call], open_waits: OpenWaits) -> list[Wait]:
        """Those that an event ends: of each call the oldest that matches.

        Args:
            event: The event.
            calls: The calls of the run; one that is over waits no more.
            open_waits: The waits that have begun again, among others.
        """
        for event_class in type(event).__mro__:
            for wait_id, (call, awaited) in self._named.pop(class_name(event_class), {}).items():
                wait = _asleep(wait_id, call, event_class, awaited)
                self._waits.add(wait)
                wait.number = awaited.number
        while True:
            found = self._waits.matching(event)
            over = [wait for wait in found if not _is_expected(wait, calls, open_waits.get(wait.wait_id))]
            if not over:
                return found
            for wait in over:
                self._waits.remove(wait)

    def answer(self, wait: Wait, envelope: Envelope) -> None:
        """An event ends this wait: its call finds the answer when it comes to it, as that to a reply."""
        wait.call.got(wait.wait_id, envelope)
        self._waits.remove(wait)


def _asleep(wait_id: str, call: Call, event_class: type[Event], awaited: Awaited) -> Wait:
    asked = InputRequiredEvent() if awaited.asks else None  # what it was, nobody needs to know
    return Wait(wait_id, call, event_class, awaited.requirements, 0, None, asked, awaited.match_subclasses)


def _is_expected(wait: Wait, calls: Mapping[str, Call], begun: Wait | None) -> bool:
    call = wait.call
    is_asleep = wait.wait_id in call.waiting_since and wait.wait_id not in call.answers
    return is_asleep and calls.get(call.exec_id) is call and (begun is None or begun.call is not call)
