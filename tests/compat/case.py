"""What a case is: a small piece of user code, with the result that it must give here and at the peer.

Runs on the peer's Python too, so it imports nothing but the standard library. A case is a function without parameters,
`async` or not, that imports `workflows` and nothing else of ours, and returns plain values. Tuples count as lists; an
exception that leaves the case counts as `"!ItsClass"`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

TOPICS = tuple(sorted(path.stem for path in (Path(__file__).parent / "cases").glob("*.py")))

SAYS_MORE = {"UnserializableValueError": "ValueError"}  # ours, and the class above it that the peer raises there


@dataclass(frozen=True)
class Case:
    """One piece of user code and what it gives.

    Attributes:
        run: The code.
        gives: Its result here, and at the peer unless they differ.
        peer_gives: Its result at the peer.
        because: Where they differ: the name of the row in `docs/compatibility.md` that says why.
        not_yet: What we still lack to give it; the case fails here, and must be freed of this when it no longer does.
    """

    run: Callable[[], Any]
    gives: object
    peer_gives: object
    because: str | None
    not_yet: str | None


Body = Callable[[], Any]
_SAME: Any = object()


def case(
    gives: object, *, peer_gives: object = _SAME, because: str | None = None, not_yet: str | None = None
) -> Callable[[Body], Body]:
    """Declare the function below a case; see `Case`."""
    assert (peer_gives is _SAME) == (because is None), "a difference needs both what the peer gives and the reason"

    def declare(body: Body) -> Body:
        there = gives if peer_gives is _SAME else peer_gives
        body.case = Case(body, plain(gives), plain(there), because, not_yet)  # type: ignore[attr-defined]
        return body

    return declare


def cases_of(topic: str) -> dict[str, Case]:
    """The cases of `cases/<topic>.py` by name, in the order of the file."""
    module = import_module(f"tests.compat.cases.{topic}")
    found = {name: getattr(value, "case", None) for name, value in vars(module).items()}
    return {name: one for name, one in found.items() if isinstance(one, Case)}


def plain(value: object) -> Any:
    """The value as JSON would give it back."""
    return json.loads(json.dumps(value))


def error_of(call: Callable[[], object]) -> object:
    """What the call gives; the class of what it raises, with a "!" before it."""
    try:
        return call()
    except Exception as error:
        return name_of(error)


async def outcome(awaited: Awaitable[object]) -> object:
    """What awaiting gives; the class of what it raises, with a "!" before it."""
    try:
        return await awaited
    except (Exception, asyncio.CancelledError) as error:
        return name_of(error)


def name_of(error: BaseException) -> str:
    """The class of an error as results show it; the public class above it where an engine's own is private."""
    public = next(cls for cls in type(error).__mro__ if not cls.__module__.startswith("workflows._"))
    return f"!{SAYS_MORE.get(public.__name__, public.__name__)}"


def names(values: Any) -> list[str]:
    """The class names of values, in order."""
    return [type(value).__name__ for value in values]
