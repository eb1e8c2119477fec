"""When a failed step is tried again: `retry_policy(retry=..., wait=..., stop=...)` or any object with `next()`.

The vocabulary (conditions, waits, stops and their `&`, `|`, `+`) has the names that tenacity made common; tenacity's
own objects are taken as well.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from workflows import _retry_words
from workflows._retry_callables import (
    AnyCondition,
    AnyStop,
    AnyWait,
    RetryCondition,
    StopCondition,
    WaitStrategy,
    as_written,
    condition_of,
    stop_of,
    wait_of,
)
from workflows._retry_words import *  # noqa: F403  # its `__all__` is the list of words, and a part of ours
from workflows._retry_words import (
    retry_always,
    stop_after_attempt,
    stop_all,
    stop_any,
    wait_exponential,
    wait_fixed,
    wait_random_exponential,
)

__all__ = [
    "ComposedRetryPolicy",
    "ConstantDelayRetryPolicy",
    "ExponentialBackoffRetryPolicy",
    "RetryCondition",
    "RetryInfo",
    "RetryPolicy",
    "StopCondition",
    "WaitStrategy",
    "max_attempts",
    "policy_name",
    "retry_policy",
    "takes_seed",
]
__all__ += _retry_words.__all__


@runtime_checkable
class RetryPolicy(Protocol):
    """Decides after a failed attempt whether and when to try again."""

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Seconds until the next attempt; 0 is at once, None is never.

        Args:
            elapsed_time: Seconds since the first attempt began, without those in which the step only waited for events,
                or its run was suspended.
            attempts: Failed attempts so far, from 1.
            error: What the last attempt raised.

        A policy may also take `seed: int | None = None`: the same failure always gets the same seed, so that a
        random delay is the same when a run is replayed.
        """
        ...


@dataclass(frozen=True, slots=True)
class RetryInfo:
    """Where the current attempt stands: `retry_number` is 0 in the first one, `last_failed_at` is in UTC."""

    retry_number: int
    elapsed_seconds: float
    last_exception: Exception | None
    last_failed_at: datetime | None


class ComposedRetryPolicy:
    """A policy made of a condition, a wait and a stop, asked in that order; `retry_policy(...)` makes it."""

    def __init__(self, retry: RetryCondition, wait: WaitStrategy, stop: StopCondition) -> None:
        self.retry, self.wait, self.stop = retry, wait, stop

    def next(self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None) -> float | None:
        """Seconds until the next attempt, or None."""
        if not self.retry(error):
            return None
        delay = self.wait(attempts - 1, seed=seed)
        return None if self.stop(attempts, elapsed_time, upcoming_sleep=delay) else delay


def retry_policy(
    retry: AnyCondition | None = None, wait: AnyWait | None = None, stop: AnyStop | None = None
) -> ComposedRetryPolicy:
    """A policy from the vocabulary; by default every error, every 5 seconds, 3 attempts in all.

    Args:
        retry: On which errors; a word, or a function of the error.
        wait: How long before the next attempt; a word, or a function of the retry's number, from 0.
        stop: When to give up; a word, or a function as `StopCondition` has it.

    Raises:
        WorkflowValidationError: If one of them cannot be called.
    """
    return ComposedRetryPolicy(
        retry_always() if retry is None else condition_of(retry),
        wait_fixed(5) if wait is None else wait_of(wait),
        stop_after_attempt(3) if stop is None else stop_of(stop),
    )


@dataclass
class ConstantDelayRetryPolicy:
    """`maximum_attempts` attempts in all, `delay` seconds apart.

    Deprecated since 0.1: use `retry_policy(wait=wait_fixed(delay), stop=stop_after_attempt(maximum_attempts))`.
    """

    maximum_attempts: int = 3
    delay: float = 5

    def __post_init__(self) -> None:
        _deprecated("ConstantDelayRetryPolicy", "wait_fixed(...)")

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Seconds until the next attempt, or None."""
        return None if attempts >= self.maximum_attempts else self.delay


@dataclass
class ExponentialBackoffRetryPolicy:
    """`maximum_attempts` attempts in all, with delays that grow by `multiplier` up to `max_delay` seconds.

    With `jitter` a delay is drawn evenly from 0 up to there.

    Deprecated since 0.1: use `retry_policy(wait=wait_exponential(...), stop=stop_after_attempt(maximum_attempts))`,
    with `wait_random_exponential` for jitter.
    """

    maximum_attempts: int = 5
    initial_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _deprecated("ExponentialBackoffRetryPolicy", "wait_random_exponential(...)")

    def next(self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None) -> float | None:
        """Seconds until the next attempt, or None."""
        if attempts >= self.maximum_attempts:
            return None
        kind: Callable[..., wait_exponential] = wait_random_exponential if self.jitter else wait_exponential
        return kind(self.initial_delay, self.multiplier, self.max_delay)(attempts - 1, seed)


def max_attempts(policy: RetryPolicy | None) -> int | None:
    """How many attempts a policy allows in all, where it says so."""
    number = getattr(policy, "maximum_attempts", None)
    return number if isinstance(number, int) else _limit(getattr(policy, "stop", None))


def takes_seed(policy: RetryPolicy | None) -> bool:
    """Whether a policy's `next()` has a `seed` parameter."""
    return policy is not None and "seed" in inspect.signature(policy.next).parameters


def policy_name(policy: RetryPolicy) -> str:
    """A short name of a policy for traces: its class, or the words that it is composed of."""
    if isinstance(policy, ComposedRetryPolicy):
        return f"{_word_name(policy.wait)}, {_word_name(policy.stop)}"
    return type(policy).__name__


def _limit(stop: Any) -> int | None:
    stop = as_written(stop)
    if isinstance(stop, stop_any):
        return min((n for s in stop.stops if (n := _limit(s)) is not None), default=None)
    if isinstance(stop, stop_all):
        limits = [n for s in stop.stops if (n := _limit(s)) is not None]
        return max(limits) if limits and len(limits) == len(stop.stops) else None
    number = getattr(stop, "max_attempt_number", None)
    return number if isinstance(number, int) else None


def _word_name(word: Any) -> str:
    word = as_written(word)
    return getattr(word, "__name__", type(word).__name__)


def _deprecated(old: str, wait: str) -> None:
    warnings.warn(
        f"{old} is deprecated since 0.1 and goes with 0.3: use retry_policy(wait={wait}, "
        f"stop=stop_after_attempt(...)).",
        DeprecationWarning,
        stacklevel=4,
    )
