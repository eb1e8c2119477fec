"""Ids of the waits of an attempt: the same in every attempt and replay."""

from __future__ import annotations

from collections.abc import Mapping

from workflows._engine.calls import Call, Wait
from workflows._engine.live import LiveRun
from workflows._engine.ticks import WaitBegan
from workflows._engine.wait_names import place_again, wait_name
from workflows.events import Event

__all__ = ["WaitIds"]


class WaitIds:
    """Gives the waits of an attempt their ids; a name that is used again gets a number.

    Attributes:
        place: The name of the last one, and how many of that name were before it.
    """

    __slots__ = ("_call", "_out_of_order", "_run", "_used", "place")

    def __init__(self, run: LiveRun, call: Call) -> None:
        self._run = run
        self._call = call
        self._used: dict[str, int] = {}
        self._out_of_order: set[tuple[str, int]] | None = None
        self.place = "", 0

    def next(self, named: str | None, event_type: type[Event], requirements: Mapping[str, object]) -> str:
        """The id of the next wait."""
        name = named or wait_name(self._call.exec_id, event_type.__name__, requirements)
        used = self._used
        number = used.get(name, 0)
        if not named:
            used[name] = number + 1
            self.place = name, number
            return f"{name}.{number}"
        taken = self._out_of_order = self._out_of_order or set()
        while (name, number) in taken:
            taken.remove((name, number))
            number += 1
        used[name] = number
        wait = Wait("", self._call, event_type, requirements, 0, None, None, self._call.step.accept_event_subclasses)
        place = place_again(wait, name, number, taken)
        if place == number:
            used[name] = number + 1
        else:
            taken.add((name, place))
        self.place = name, place
        return self._apart(f"{name}.{place}" if place else name)

    def _apart(self, wait_id: str) -> str:
        """Another id where another call waits under this one; the one that it had before, if it waited before."""
        call, state, other = self._call, self._run.state, f"{wait_id}/{self._call.exec_id}"
        for before in (other, wait_id):
            if before in call.waiting_since or before in call.answers:
                return before
        open_wait = state.waits.get(wait_id)
        taken = open_wait is not None and open_wait.call is not call
        if state.asleep is not None:
            taken = taken or state.asleep.owner(wait_id, state.calls) is not None  # it is not this call
        beginning = (tick for tick in self._run.mailbox.waiting() if isinstance(tick, WaitBegan))
        taken = taken or any(tick.wait_id == wait_id and tick.exec_id != call.exec_id for tick in beginning)
        return other if taken else wait_id
