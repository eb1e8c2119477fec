"""Where the script of a model waits while it is loaded, so that a test can do something meanwhile."""

from __future__ import annotations

import threading

entered = threading.Event()
leave = threading.Event()


def wait() -> None:
    """Say that the script runs, and wait until it may go on."""
    entered.set()
    assert leave.wait(30), "nobody opened the gate"
