"""What code does that comes in the middle of ours: it waits until that is over.

Code runs in the middle of any other without being called by it: the garbage collector ends a generator whose `finally`
is drawn, a signal is handled. It finds the locks taken, and by its own thread, that would never let go of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["in_turn"]


class _Turn(threading.local):
    """Whether this thread is at something, and what came meanwhile."""

    def __init__(self) -> None:
        self.is_taken = False
        self.waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()


_turn = _Turn()


def in_turn(do: Callable[..., None], *given: Any) -> None:
    """Do something that takes locks: at once, or, in the middle of another such thing of this thread, after that.

    It is for what takes locks that a thread may not take twice, such as those of the SDK's metrics and logs.
    """
    turn = _turn
    if turn.is_taken:
        turn.waiting.append((do, given))
        return
    while True:
        turn.is_taken = True
        try:
            do(*given)
        finally:
            turn.is_taken = False
        if not turn.waiting:  # asked when the turn is free: nothing can come to wait any more
            return
        do, given = turn.waiting.popleft()
