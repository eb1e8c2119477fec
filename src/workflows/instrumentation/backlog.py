"""How far behind the readers of live streams are, for whoever measures it, from whatever thread.

No record tells it: it falls when a reader reads, and grows with every event that a step streams.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["backlogs", "watch_stream"]


class Stream(Protocol):
    """What a run streams."""

    def behind(self) -> int:
        """How many events the slowest reader has not read."""
        ...


_watched: WeakKeyDictionary[Stream, str] = WeakKeyDictionary()


def watch_stream(stream: Stream, workflow: str) -> None:
    """Count what a stream has unread for as long as it lives; that is not kept alive by it."""
    _watched[stream] = workflow


def backlogs() -> dict[str, int]:
    """By workflow, how many streamed events the slowest readers of its live runs have not read."""
    behind: Counter[str] = Counter()
    for ref in _watched.keyrefs():  # a list: more may come, in other threads, and go at any time
        stream = ref()
        if stream is not None:
            behind[_watched[stream]] += stream.behind()
    return dict(behind)
