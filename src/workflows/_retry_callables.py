"""What may stand in a retry policy: checks it when the policy is made, and gives it our signature.

Three kinds do: words of ours, functions with our signatures, and tenacity's words (or anything like them), which take
one `retry_state`. Nothing of tenacity is imported: a small object with the attributes that its words read stands in.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from workflows.errors import WorkflowValidationError

__all__ = [
    "Duration",
    "RetryCondition",
    "StopCondition",
    "WaitStrategy",
    "condition_of",
    "seconds",
    "stop_of",
    "wait_of",
    "word_name",
]

Duration = float | int | timedelta


class RetryCondition(Protocol):
    """Whether an error is worth another attempt."""

    def __call__(self, error: BaseException, /) -> bool: ...


class WaitStrategy(Protocol):
    """Seconds before the next attempt; `attempts` is 0 for the first retry."""

    def __call__(self, attempts: int, /, *, seed: int | None = None) -> float: ...


class StopCondition(Protocol):
    """Whether to give up after `attempts` failures, `elapsed_time` seconds after the first attempt began."""

    def __call__(self, attempts: int, elapsed_time: float, /, *, upcoming_sleep: float = 0.0) -> bool: ...


def seconds(duration: Duration, what: str) -> float:
    """A duration in seconds.

    Raises:
        WorkflowValidationError: If it is no number and no timedelta, is negative, or is not a number (nan).
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if not isinstance(duration, int | float) or isinstance(duration, bool) or math.isnan(duration) or duration < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowValidationError(f"{what} must be seconds, 0 or more, or a timedelta; got {duration!r}.")
    return float(duration)


def condition_of(word: Any) -> RetryCondition:
    """A condition as ours.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if _is_error_class(word):
        raise WorkflowValidationError(
            f"A retry condition is needed, got the class {word.__name__}: write "
            f"retry_if_exception_type({word.__name__})."
        )
    return _Foreign(word).condition if _takes_retry_state(word, "condition") else word


def wait_of(word: Any) -> WaitStrategy:
    """A wait as ours; one without a `seed` parameter is called without it.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if isinstance(word, int | float | timedelta):
        raise WorkflowValidationError(f"A wait is needed, got {word!r}: write wait_fixed({word!r}).")
    if _takes_retry_state(word, "wait"):
        return _Foreign(word).wait
    return word if "seed" in _parameters(word) else _Unseeded(word)


def stop_of(word: Any) -> StopCondition:
    """A stop as ours.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if isinstance(word, int | float | timedelta):
        raise WorkflowValidationError(
            f"A stop is needed, got {word!r}: write stop_after_attempt(...) or stop_after_delay(...)."
        )
    return _Foreign(word).stop if _takes_retry_state(word, "stop") else word


def word_name(word: Any) -> str:
    """What a word is called in traces: its class, or the name of a function."""
    word = getattr(word, "__self__", word)
    if isinstance(word, _Foreign | _Unseeded):
        word = word.word
    return getattr(word, "__name__", None) or type(word).__name__


def foreign_word(word: Any) -> Any:
    """What a word was before it was given our signature."""
    inner = getattr(word, "__self__", word)
    return inner.word if isinstance(inner, _Foreign | _Unseeded) else word
