"""What records are as values: compared, shown and copied by their fields."""

from __future__ import annotations

import copy
import pickle

import pytest

from workflows.errors import OpenFanIn
from workflows.events import StartEvent
from workflows.instrumentation import Identity
from workflows.instrumentation.records import Envelope, EventUnhandled, RunCounts, WaitCancelled, WaitRecord


def _wait(kind: type[WaitRecord], wait_id: str = "w") -> WaitRecord:
    return kind(
        run_id="r",
        seq=1,
        at_ns=2,
        wait_id=wait_id,
        kind="run",
        event_type="E",
        exec_id=None,
        step=None,
        started_at_ns=0,
    )


def test_records_with_equal_fields_are_equal() -> None:
    assert _wait(WaitCancelled) == _wait(WaitCancelled)


def test_records_that_differ_in_a_field_are_not_equal() -> None:
    assert _wait(WaitCancelled) != _wait(WaitCancelled, "other")


def test_records_of_two_classes_are_not_equal() -> None:
    assert _wait(WaitCancelled) != _wait(WaitRecord)


def test_a_record_shows_its_fields_by_name() -> None:
    unhandled = EventUnhandled(run_id="r", seq=1, at_ns=2, envelope=Envelope("x1", StartEvent(), None, None, 3))
    assert repr(unhandled) == (
        "EventUnhandled(run_id='r', seq=1, at_ns=2, envelope=Envelope(event_id='x1', event=StartEvent(), sender=None, "
        "sender_step=None, queued_at_ns=3, carriers=None, scope=(), recoveries=None, shared=False, names=None))"
    )


values = pytest.mark.parametrize(
    "value",
    [RunCounts(steps=2), OpenFanIn("join", "g", {"A": 1}, {"B": 2}), Identity(user_id="u"), _wait(WaitCancelled)],
    ids=lambda value: type(value).__name__,
)


@values
def test_a_pickled_fact_is_equal(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@values
def test_a_deep_copy_of_a_fact_is_equal(value: object) -> None:
    assert copy.deepcopy(value) == value
