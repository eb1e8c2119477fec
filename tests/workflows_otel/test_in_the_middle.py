"""What comes in the middle of telemetry's own code, from the same thread, neither hangs it nor is lost.

The garbage collector may run wherever something is made, and ends what nobody has any more: a stream of tokens, half
read, whose `finally` says how many came.
"""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import weakref
from functools import cache, partial
from operator import methodcaller
from types import FrameType

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.workflows_otel.processes import ROOT, environment
from workflows_otel import OtelHandler

HANGS_AFTER = 120


def _said(what: str, whose: str, *, every: int = 1) -> list[list[str]]:
    """Of runs that are interrupted, each at another line, what is said in them; the last comes to no such line."""
    return _told(what, whose, every)[0]


@cache
def _told(what: str, whose: str, every: int) -> tuple[list[list[str]], dict[str, int]]:
    command = [sys.executable, "-m", "tests.workflows_otel.interrupted_runs", what, whose, str(every)]
    ended = subprocess.run(
        command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, timeout=HANGS_AFTER, check=True
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize("whose", ["ours", "of the SDK"])
def test_a_note_in_the_middle_of_a_note_is_on_the_span_as_well(whose: str) -> None:
    *interrupted, last = _said("note", whose)
    assert [said for said in interrupted if said != ["inner", "outer"]] == []
    assert (len(interrupted) > 30, last) == (True, ["outer"])


@pytest.mark.parametrize("whose", ["ours", "of the SDK"])
def test_an_attribute_in_the_middle_of_an_attribute_is_on_the_span_as_well(whose: str) -> None:
    *interrupted, last = _said("attribute", whose)
    assert [said for said in interrupted if said != ["inner", "outer"]] == []
    assert (len(interrupted) > 10, last) == (True, ["outer"])


def test_a_call_in_the_middle_of_a_call_has_its_span() -> None:
    *interrupted, last = _said("call", "ours", every=7)
    assert [said for said in interrupted if said != ["inner", "outer"]] == []
    assert (len(interrupted) > 100, last) == (True, ["outer"])


def test_a_call_in_the_middle_of_reading_metrics_and_spans_has_its_span() -> None:
    *interrupted, last = _said("call while metrics are read", "ours", every=31)
    assert [said for said in interrupted if said != ["inner", "outer"]] == []
    assert (len(interrupted) > 100, last) == (True, ["outer"])


def test_a_call_in_the_middle_of_reading_metrics_and_spans_is_measured() -> None:
    runs, measured = _told("call while metrics are read", "ours", 31)
    assert measured == {"outer": len(runs), "inner": len(runs) - 1}


def test_notes_of_several_threads_are_all_kept_from_who_is_not_to_see_them() -> None:
    *interrupted, last = _said("note of a thread", "ours")
    assert [said for said in interrupted if said != ["inner", "outer"]] == []
    assert (len(interrupted) > 5, last) == (True, ["outer"])


class Told(Exception):
    """What the handler of a signal raises, as `sys.exit` does."""


class Garbage:
    """It holds itself, so only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


class Alarm:
    """To read `rings` lets a signal come a moment later; no line of Python runs for it."""

    setitimer = staticmethod(signal.setitimer)
    rings = property(methodcaller("setitimer", signal.ITIMER_REAL, 1e-6))


def test_what_a_signal_raises_in_the_middle_of_a_collection_is_raised() -> None:
    def tell(number: int, frame: FrameType | None) -> None:
        raise Told

    others = gc.callbacks.copy()  # a test library's is Python, and drops what is raised
    gc.callbacks.clear()
    OtelHandler(TracerProvider(shutdown_on_exit=False).get_tracer("test"))  # from here on, collections are watched
    before = signal.signal(signal.SIGALRM, tell)
    try:
        garbage = [Garbage() for _ in range(100_000)]  # so that there is time for a signal to come
        freed = weakref.ref(garbage[0], partial(getattr, Alarm(), "rings"))
        del garbage
        with pytest.raises(Told):
            gc.collect()
        assert freed() is None
    finally:
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = others
