"""`make compat`: runs every case here and at the peer and prints how they compare, a line a topic."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.compat import peer
from tests.compat.case import TOPICS, Case, cases_of
from tests.compat.engine import result_of
from workflows.testing import VirtualClockLoop

PEERS_AT_ONCE = 2  # processes; more would make its timers late
COLUMNS = ("cases", "equal", "deliberately different", "not yet", "undeclared")


def main() -> None:
    """Print the table; exit with 1 if a case differs and does not say so."""
    surprises: list[str] = []
    total: Counter[str] = Counter()
    print(_line("topic", COLUMNS))
    peer.python()
    with ThreadPoolExecutor(PEERS_AT_ONCE) as pool:
        for topic, there in zip(TOPICS, pool.map(peer.results_of, TOPICS), strict=True):
            counts = Counter[str]()
            for name, case in cases_of(topic).items():
                surprises += _compare(f"{topic}.{name}", case, there[name], counts)
            print(_line(topic, [counts[column] for column in COLUMNS]), flush=True)
            total += counts
    print(_line("all", [total[column] for column in COLUMNS]))
    for surprise in surprises:
        print(f"\n{surprise}", file=sys.stderr)
    sys.exit(1 if surprises else 0)


def _compare(name: str, case: Case, there: Any, counts: Counter[str]) -> list[str]:
    here = result_of(case, VirtualClockLoop)
    surprises: list[str] = []
    if (here == case.gives) == (case.not_yet is not None):
        surprises.append(f"{name} here\n  gives {here!r}\n  says  {case.gives!r}, not yet: {case.not_yet}")
    if there != case.peer_gives:
        surprises.append(f"{name} at the peer\n  gives {there!r}\n  says  {case.peer_gives!r}")
    counts.update(["cases", "undeclared" if surprises else _kind(case)])
    return surprises


def _kind(case: Case) -> str:
    if case.not_yet:
        return "not yet"
    return "deliberately different" if case.because else "equal"


def _line(topic: str, cells: Any) -> str:
    return f"{topic:16}" + "".join(f"{cell:>{max(len(c), 5) + 2}}" for cell, c in zip(cells, COLUMNS, strict=True))


if __name__ == "__main__":
    main()
