"""How far behind the readers of live streams are, for whoever measures it, from whatever thread.

No record tells it: it falls when a reader reads, and grows with every event that a step streams.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from weakref import WeakKeyDictionary

__all__ = ["backlogs", "watch_stream"]

_watched: WeakKeyDictionary[object, tuple[str, Callable[[], int]]] = WeakKeyDictionary()
_lock = threading.Lock()


def watch_stream(run: object, workflow: str, behind: Callable[[], int]) -> None:
    """Count what `behind()` says for as long as `run` lives; it must not keep the run alive itself."""
    with _lock:
        _watched[run] = (workflow, behind)


def backlogs() -> dict[str, int]:
    """By workflow, how many streamed events the slowest readers of its live runs have not read."""
    with _lock:
        streams = list(_watched.values())
    behind: Counter[str] = Counter()
    for workflow, of_run in streams:
        behind[workflow] += of_run()
    return dict(behind)
