"""What a payload shows of numpy's own values: the plain value of a scalar, the size of an array."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.events import StopEvent
from workflows.instrumentation.content import ContentPolicy, capture_event, to_jsonable

np = pytest.importorskip("numpy", reason="runs with numpy, which MLflow brings: `pip install 'spanflow[mlflow]'`")

FULL = ContentPolicy(mode="full")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(-6), -6),
        (np.uint8(200), 200),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.bool_(False), False),
        (np.str_("text"), "text"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
        (np.array(7), 7),
    ],
    ids=repr,
)
def test_a_scalar_of_numpys_is_shown_as_its_plain_value(value: Any, expected: object) -> None:
    captured = to_jsonable({"it": value}, FULL)
    assert (captured.value, type(captured.value["it"]), captured.complete) == ({"it": expected}, type(expected), True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.arange(3), "<vector 3>"),
        (np.ones((2, 3)), "<ndarray 2x3>"),
        (np.complex64(1), "<complex64>"),
        (np.float32("nan"), "nan"),
    ],
    ids=repr,
)
def test_what_json_cannot_say_of_numpys_stays_a_placeholder(value: Any, expected: str) -> None:
    captured = to_jsonable(value, FULL)
    assert (captured.value, captured.complete) == (expected, False)


def test_a_scalar_of_numpys_counts_as_one_of_the_values_that_are_shown() -> None:
    captured = to_jsonable([np.int64(number) for number in range(511)], ContentPolicy(mode="full", max_chars=100_000))
    assert (captured.value, captured.complete) == (list(range(511)), True)


def test_types_mode_tells_no_value_of_numpys() -> None:
    captured = capture_event(StopEvent(result=np.int64(4321)), ContentPolicy(mode="types"))
    assert captured is not None
    assert captured.value == {"type": "StopEvent", "fields": {"result": "<int64>"}}
