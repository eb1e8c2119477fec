"""What every pipeline of this process has lost so far, for the metric that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from workflows_otel.batching import FlushResult

__all__ = ["dropped_spans", "watch"]

_watched: list[tuple[str, Callable[[], FlushResult]]] = []


def watch(back_end: str, counts: Callable[[], FlushResult]) -> None:
    """Count what the pipeline of a back end loses, from now until the process ends."""
    _watched.append((back_end, counts))


def dropped_spans() -> list[tuple[str, str, int]]:
    """Back end, reason (`queue` or `export`) and number of spans that it did not get."""
    lost: Counter[tuple[str, str]] = Counter()
    for back_end, counts in _watched:
        result = counts()
        if result.dropped is not None:  # else nobody knows: the queue is the application's own
            lost[back_end, "queue"] += result.dropped
        lost[back_end, "export"] += result.failed
    return [(back_end, reason, count) for (back_end, reason), count in lost.items()]
