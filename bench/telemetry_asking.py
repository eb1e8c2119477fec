"""What it costs a step that the engine asks whether anybody listens, where nobody does.

That is less than what two measurements of the same differ by on a shared machine. So the engine and its copy without
the questions (`stripped.py`) take turns of some milliseconds in one process, and the figure is the median of many
ratios of neighbours, with the interval in which it lies in 95 of 100 cases.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import engine
from stripped import Stripped

__all__ = ["Asking", "asking"]

STEPS = 250  # a turn: about six milliseconds
PAIRS = 600

Chain = Callable[[int], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Shares of a step: the median, and its interval."""

    middle: float
    low: float
    high: float


def asking() -> dict[str, float]:
    """Measure."""
    ratios = sorted(_ratios())
    # The ranks between which the median of a distribution lies with a probability of 95 %: binomial, approximated.
    off = math.ceil(1.96 * math.sqrt(len(ratios)) / 2)
    low, high = ratios[len(ratios) // 2 - off], ratios[len(ratios) // 2 + off]
    return asdict(Asking(statistics.median(ratios) - 1, low - 1, high - 1))


def _ratios() -> list[float]:
    usual, stripped = nullcontext(), Stripped("engine")
    turns = {True: (usual, engine.chain), False: (stripped, stripped.module.chain)}
    ratios: list[float] = []
    gc.disable()
    with asyncio.Runner() as runner:
        for pair in range(-PAIRS // 10, PAIRS):
            # Each is first in every other pair: what the first turn leaves behind, the second one meets.
            took = {asks: _turn(runner, *turns[asks]) for asks in ((True, False) if pair % 2 else (False, True))}
            gc.collect(0)
            if pair >= 0:  # before, the interpreter gets to know the code
                ratios.append(took[True] / took[False])
    gc.enable()
    return ratios


def _turn(runner: asyncio.Runner, around: AbstractContextManager[None], chain: Chain) -> float:
    with around:
        start = time.process_time()
        runner.run(chain(STEPS))
        return time.process_time() - start
