"""What waits without an id are called, and which of one name is which: a replay begins them in its own order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import cast
from uuid import UUID

from pydantic import BaseModel

from workflows._engine.calls import Wait

__all__ = ["place_again", "place_of", "wait_name"]


def wait_name(exec_id: str, event_class: str, requirements: Mapping[str, object]) -> str:
    """What a wait without a name of its own is called in its call: waits at once may begin in any order in a replay."""
    if not requirements:
        return f"{exec_id}.{event_class}"
    # A digest, since what a user requires may be secret.
    said = json.dumps(requirements, sort_keys=True, default=_said, skipkeys=True)
    return f"{exec_id}.{event_class}-{hashlib.blake2b(said.encode(), digest_size=4).hexdigest()}"


def _said(value: object) -> object:
    """What JSON has no word for, the same in each process."""
    match value:
        case Enum():
            return value.value
        case UUID() | Decimal() | PurePath() | date() | time() | timedelta():
            return str(value)
        case bytes():
            return value.hex()
        case set() | frozenset():
            return sorted(map(str, cast("set[object]", value)))
        case BaseModel():
            return value.__dict__
        case _:
            return type(value).__name__


def place_of(wait_id: str) -> tuple[str, int]:
    """A wait's name in its call, and how many of that name were before it: the first of a named one does not say so."""
    name, _, number = wait_id.rpartition(".")
    return (name, int(number)) if number.isdecimal() else (wait_id, 0)


def place_again(wait: Wait, name: str, first: int, taken: Container[tuple[str, int]]) -> int:
    """Which of the waits of one name that a call had before this one is: those at once may begin in another order.

    Args:
        wait: The wait that begins, without an id.
        name: The name.
        first: The number that it has if all begin in the order of before.
        taken: Those of later numbers that have begun already.
    """
    if _is_as_before(wait, f"{name}.{first}" if first else name):
        return first
    before = (*wait.call.waiting_since, *wait.call.answers)
    others = [number for wait_id in before for its_name, number in [place_of(wait_id)] if its_name == name]
    fits = (n for n in sorted(others) if n > first and (name, n) not in taken and _is_as_before(wait, f"{name}.{n}"))
    return next(fits, first)


def _is_as_before(wait: Wait, wait_id: str) -> bool:
    answer, known = wait.call.answers.get(wait_id), wait.call.waiting_for.get(wait_id)
    return wait.matches(answer.event) if answer is not None else known is None or wait.takes_as(known)
