"""What code does that comes in the middle of other code: it waits until that is over.

Code runs in the middle of any other without being called by it: the garbage collector ends a generator whose `finally`
is drawn, a signal is handled. It finds the locks taken, and by its own thread, that would never let go of them: our own
locks, those of the SDK whose reader collects metrics just now, or an application's.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from operator import methodcaller
from typing import Any

__all__ = ["catch_up", "in_turn", "put_off", "watch_collections"]

Waiting = deque[Callable[[], object]]

logger = logging.getLogger("workflows.otel")


class _Turn(threading.local):
    """Whether this thread is at something of ours, and what came meanwhile."""

    def __init__(self) -> None:
        self.is_taken = False
        self.waiting: Waiting = deque()


_turn = _Turn()
_left: Waiting = deque()  # by collections: whatever else their threads are at, no other thread is in the middle of that


class _Collection(threading.local):
    """Whether the garbage collector is at work in this thread: to read `start` or `stop` says so.

    No line of Python runs for it. A signal that comes during a collection is handled where Python goes on; were that in
    a callback of the collector's, which may not fail, what the handler raises (`SystemExit`, `KeyboardInterrupt`) would
    be dropped, and the process would go on for ever.
    """

    at_work = False
    start = property(methodcaller("__setattr__", "at_work", True))
    stop = property(methodcaller("__setattr__", "at_work", False))


_collection = _Collection()
_note_collection = partial(getattr, _collection)  # is called with the phase, and facts that are not needed


def watch_collections() -> None:
    """Know of collections from now on; everybody who draws asks for it, once is enough."""
    if _note_collection not in gc.callbacks:
        gc.callbacks.append(_note_collection)


def in_turn(do: Callable[..., object], *given: Any) -> None:
    """Do something that takes locks: at once, or, in the middle of another such thing of this thread, after that.

    It is for what takes locks that a thread may not take twice, such as those of the SDK's metrics and logs.
    """
    turn = _turn
    if _collection.at_work:
        _left.append(partial(copy_context().run, do, *given))
    elif turn.is_taken:
        turn.waiting.append(partial(copy_context().run, do, *given))
    else:
        if _left:
            catch_up()
        turn.is_taken = True
        try:
            do(*given)
        finally:
            turn.is_taken = False
            if turn.waiting or _left:  # asked when the turn is free: nothing can come to wait any more
                catch_up()


def put_off(do: Callable[..., object], *given: Any) -> bool:
    """Whether the garbage collector is at work in this thread, so that what leads to strangers' code is done later.

    That is, by whichever thread asks next, or has something to do in turn, or flushes, or exports.
    """
    if _collection.at_work:
        _left.append(partial(copy_context().run, do, *given))
        return True
    if _left:
        catch_up()
    return False


def catch_up() -> None:
    """Do what waits, unless this thread is in the middle of something itself."""
    turn = _turn
    if turn.is_taken or _collection.at_work:
        return
    while waiting := turn.waiting or _left:
        try:
            do = waiting.popleft()
        except IndexError:  # another thread was faster
            continue
        turn.is_taken = True
        try:
            do()
        except Exception:  # the guard around what is nothing to whoever does it now
            logger.warning("something that waited for its turn failed; telemetry is incomplete", exc_info=True)
        finally:
            turn.is_taken = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_left.clear)  # what waits is its parent's
