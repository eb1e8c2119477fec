"""When a failed step is tried again: `retry_policy(retry=..., wait=..., stop=...)` or any object with `next()`.

The vocabulary (conditions, waits, stops and their `&`, `|`, `+`) has the names that tenacity made common.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "ComposedRetryPolicy",
    "ConstantDelayRetryPolicy",
    "ExponentialBackoffRetryPolicy",
    "RetryInfo",
    "RetryPolicy",
    "max_attempts",
    "policy_name",
    "retry_always",
    "retry_if_exception",
    "retry_if_exception_type",
    "retry_if_not_exception_type",
    "retry_never",
    "retry_policy",
    "stop_after_attempt",
    "stop_after_delay",
    "stop_never",
    "takes_seed",
    "wait_exponential",
    "wait_exponential_jitter",
    "wait_fixed",
    "wait_none",
]

Duration = float | int | timedelta


@runtime_checkable
class RetryPolicy(Protocol):
    """Decides after a failed attempt whether and when to try again."""

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Seconds until the next attempt; 0 is at once, None is never.

        Args:
            elapsed_time: Seconds since the first attempt began.
            attempts: Failed attempts so far, from 1.
            error: What the last attempt raised.

        A policy may also take `seed: int | None = None`: the same failure always gets the same seed, so that a
        random delay is the same when a run is replayed.
        """
        ...


@dataclass(frozen=True, slots=True)
class RetryInfo:
    """Where the current attempt stands; `retry_number` is 0 in the first one, `last_failed_at` is epoch seconds."""

    retry_number: int
    elapsed_seconds: float
    last_exception: Exception | None
    last_failed_at: float | None


def _seconds(duration: Duration) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


class _Condition:
    """A predicate on the exception; `a & b` and `a | b` combine."""

    def __call__(self, error: BaseException) -> bool:
        raise NotImplementedError

    def __and__(self, other: Callable[[BaseException], bool]) -> _Condition:
        return retry_if_exception(lambda error: self(error) and other(error))

    def __or__(self, other: Callable[[BaseException], bool]) -> _Condition:
        return retry_if_exception(lambda error: self(error) or other(error))

    __rand__ = __and__
    __ror__ = __or__


class retry_if_exception(_Condition):
    """Retry when `predicate(error)` is true."""

    def __init__(self, predicate: Callable[[BaseException], bool]) -> None:
        self.predicate = predicate

    def __call__(self, error: BaseException) -> bool:
        return self.predicate(error)


class retry_if_exception_type(retry_if_exception):
    """Retry on these exception classes."""

    def __init__(self, exception_types: type[BaseException] | tuple[type[BaseException], ...] = Exception) -> None:
        super().__init__(lambda error: isinstance(error, exception_types))


class retry_if_not_exception_type(retry_if_exception):
    """Retry on anything but these exception classes."""

    def __init__(self, exception_types: type[BaseException] | tuple[type[BaseException], ...] = Exception) -> None:
        super().__init__(lambda error: not isinstance(error, exception_types))


class retry_always(retry_if_exception):
    """Retry on every exception."""

    def __init__(self) -> None:
        super().__init__(lambda error: True)


class retry_never(retry_if_exception):
    """Never retry."""

    def __init__(self) -> None:
        super().__init__(lambda error: False)


class _Wait:
    """Seconds before the n-th retry (n = 0 is the first); `a + b` adds, `sum([...])` works."""

    def __call__(self, n: int, seed: int | None = None) -> float:
        raise NotImplementedError

    def __add__(self, other: _Wait) -> _Wait:
        return _WaitSum(self, other)

    def __radd__(self, other: Any) -> _Wait:
        return self if other == 0 else _WaitSum(other, self)


class _WaitSum(_Wait):
    def __init__(self, *waits: _Wait) -> None:
        self.waits = waits

    def __call__(self, n: int, seed: int | None = None) -> float:
        return sum(wait(n, seed) for wait in self.waits)


class wait_fixed(_Wait):
    """The same delay every time."""

    def __init__(self, wait: Duration) -> None:
        self.wait = _seconds(wait)

    def __call__(self, n: int, seed: int | None = None) -> float:
        return self.wait


class wait_none(wait_fixed):
    """No delay."""

    def __init__(self) -> None:
        super().__init__(0)


class wait_exponential(_Wait):
    """`multiplier * exp_base ** n`, kept within [min, max] seconds."""

    def __init__(self, multiplier: float = 1, exp_base: float = 2, max: Duration = 60, min: Duration = 0) -> None:
        self.multiplier, self.exp_base, self.max, self.min = multiplier, exp_base, _seconds(max), _seconds(min)

    def __call__(self, n: int, seed: int | None = None) -> float:
        return max(self.min, min(self.multiplier * self.exp_base**n, self.max))


class wait_exponential_jitter(_Wait):
    """`min(min(initial * exp_base ** n, max) + U(0, jitter), max)` seconds."""

    def __init__(self, initial: float = 1, exp_base: float = 2, max: Duration = 60, jitter: Duration = 1) -> None:
        self.initial, self.exp_base, self.max, self.jitter = initial, exp_base, _seconds(max), _seconds(jitter)

    def __call__(self, n: int, seed: int | None = None) -> float:
        base = min(self.initial * self.exp_base**n, self.max)
        return min(base + random.Random(seed).uniform(0, self.jitter), self.max)


class _Stop:
    """Whether to give up after `attempts` failures and `elapsed` seconds; `a & b` and `a | b` combine."""

    def __call__(self, attempts: int, elapsed: float, *, upcoming_sleep: float = 0) -> bool:
        raise NotImplementedError

    def __and__(self, other: _Stop) -> _Stop:
        return _StopWhere(lambda a, e, s: self(a, e, upcoming_sleep=s) and other(a, e, upcoming_sleep=s), self, other)

    def __or__(self, other: _Stop) -> _Stop:
        return _StopWhere(lambda a, e, s: self(a, e, upcoming_sleep=s) or other(a, e, upcoming_sleep=s), self, other)


class _StopWhere(_Stop):
    def __init__(self, decide: Callable[[int, float, float], bool], *parts: _Stop) -> None:
        self.decide, self.parts = decide, parts

    def __call__(self, attempts: int, elapsed: float, *, upcoming_sleep: float = 0) -> bool:
        return self.decide(attempts, elapsed, upcoming_sleep)


class stop_after_attempt(_Stop):
    """Give up after this many attempts."""

    def __init__(self, max_attempt_number: int) -> None:
        self.max_attempt_number = max_attempt_number

    def __call__(self, attempts: int, elapsed: float, *, upcoming_sleep: float = 0) -> bool:
        return attempts >= self.max_attempt_number


class stop_after_delay(_Stop):
    """Give up once this long has passed since the first attempt began."""

    def __init__(self, max_delay: Duration) -> None:
        self.max_delay = _seconds(max_delay)

    def __call__(self, attempts: int, elapsed: float, *, upcoming_sleep: float = 0) -> bool:
        return elapsed >= self.max_delay


class stop_never(_Stop):
    """Never give up."""

    def __call__(self, attempts: int, elapsed: float, *, upcoming_sleep: float = 0) -> bool:
        return False


class ComposedRetryPolicy:
    """A policy made of a condition, a wait and a stop; asked in that order."""

    def __init__(self, retry: Callable[[BaseException], bool], wait: _Wait, stop: _Stop) -> None:
        self.retry, self.wait, self.stop = retry, wait, stop

    def next(self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None) -> float | None:
        """Seconds until the next attempt, or None."""
        if not self.retry(error):
            return None
        delay = self.wait(attempts - 1, seed)
        return None if self.stop(attempts, elapsed_time, upcoming_sleep=delay) else delay


def retry_policy(
    retry: Callable[[BaseException], bool] | None = None, wait: _Wait | None = None, stop: _Stop | None = None
) -> ComposedRetryPolicy:
    """A policy from the vocabulary; by default every error, every 5 seconds, 3 attempts in all."""
    return ComposedRetryPolicy(retry or retry_always(), wait or wait_fixed(5), stop or stop_after_attempt(3))


class ConstantDelayRetryPolicy:
    """`maximum_attempts` attempts in all, `delay` seconds apart."""

    def __init__(self, maximum_attempts: int = 3, delay: float = 5) -> None:
        self.maximum_attempts, self.delay = maximum_attempts, delay

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Seconds until the next attempt, or None."""
        return None if attempts >= self.maximum_attempts else self.delay


class ExponentialBackoffRetryPolicy:
    """`maximum_attempts` attempts in all, with delays that grow by `multiplier` up to `max_delay` seconds.

    With `jitter` a delay is drawn evenly from [0, ceiling] ("full jitter" in the AWS Architecture Blog, Exponential
    Backoff and Jitter, 2015).
    """

    def __init__(
        self,
        maximum_attempts: int = 5,
        initial_delay: float = 1.0,
        multiplier: float = 2.0,
        max_delay: float = 60.0,
        jitter: bool = True,
    ) -> None:
        self.maximum_attempts, self.initial_delay, self.multiplier = maximum_attempts, initial_delay, multiplier
        self.max_delay, self.jitter = max_delay, jitter

    def next(self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None) -> float | None:
        """Seconds until the next attempt, or None."""
        if attempts >= self.maximum_attempts:
            return None
        ceiling = min(self.initial_delay * self.multiplier ** (attempts - 1), self.max_delay)
        return random.Random(seed).uniform(0, ceiling) if self.jitter else ceiling


def max_attempts(policy: RetryPolicy | None) -> int | None:
    """How many attempts a policy allows in all, where it says so."""
    stop = getattr(policy, "stop", None)
    number = getattr(policy, "maximum_attempts", None) or getattr(stop, "max_attempt_number", None)
    return number if isinstance(number, int) else None


def takes_seed(policy: RetryPolicy | None) -> bool:
    """Whether a policy's `next()` has a `seed` parameter."""
    return policy is not None and "seed" in inspect.signature(policy.next).parameters


def policy_name(policy: RetryPolicy) -> str:
    """A short name of a policy for traces: its class, or the classes that it is composed of."""
    if isinstance(policy, ComposedRetryPolicy):
        return f"{type(policy.wait).__name__}, {type(policy.stop).__name__}"
    return type(policy).__name__
