"""The words of a retry policy: on which errors (`retry_*`), after how long (`wait_*`), until when (`stop_*`).

A word is an object that is called and combined; one may serve any number of steps. Durations are seconds or a
timedelta. Random waits draw from the seed that they are given, so that a replayed run waits as the live one did.
"""

from __future__ import annotations

import math
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable

from workflows._retry_callables import (
    AnyCondition,
    AnyStop,
    AnyWait,
    Duration,
    condition_of,
    seconds,
    stop_of,
    wait_of,
)
from workflows.errors import WorkflowValidationError

__all__ = [
    "retry_all",
    "retry_always",
    "retry_any",
    "retry_if_exception",
    "retry_if_exception_cause_type",
    "retry_if_exception_message",
    "retry_if_exception_type",
    "retry_if_not_exception_message",
    "retry_if_not_exception_type",
    "retry_never",
    "retry_unless_exception_type",
    "stop_after_attempt",
    "stop_after_delay",
    "stop_all",
    "stop_any",
    "stop_before_delay",
    "stop_never",
    "wait_chain",
    "wait_combine",
    "wait_exponential",
    "wait_exponential_jitter",
    "wait_fixed",
    "wait_full_jitter",
    "wait_incrementing",
    "wait_none",
    "wait_random",
    "wait_random_exponential",
]

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]


class _Condition(ABC):
    """Whether an error is worth another attempt; `a & b` and `a | b` combine."""

    @abstractmethod
    def __call__(self, error: BaseException) -> bool:
        """Whether this error is worth it."""

    def __and__(self, other: AnyCondition) -> retry_all:
        return retry_all(self, other)

    def __rand__(self, other: AnyCondition) -> retry_all:
        return retry_all(other, self)

    def __or__(self, other: AnyCondition) -> retry_any:
        return retry_any(self, other)

    def __ror__(self, other: AnyCondition) -> retry_any:
        return retry_any(other, self)


class retry_any(_Condition):
    """Retry when any of these conditions holds."""

    def __init__(self, *retries: AnyCondition) -> None:
        self.retries = tuple(condition_of(r) for r in retries)

    def __call__(self, error: BaseException) -> bool:
        return any(retry(error) for retry in self.retries)


class retry_all(_Condition):
    """Retry when all of these conditions hold."""

    def __init__(self, *retries: AnyCondition) -> None:
        self.retries = tuple(condition_of(r) for r in retries)

    def __call__(self, error: BaseException) -> bool:
        return all(retry(error) for retry in self.retries)


class retry_always(_Condition):
    """Retry whatever the error is."""

    def __call__(self, error: BaseException) -> bool:
        return True


class retry_never(_Condition):
    """Never retry."""

    def __call__(self, error: BaseException) -> bool:
        return False


class retry_if_exception(_Condition):
    """Retry when `predicate(error)` is true."""

    def __init__(self, predicate: Callable[[BaseException], bool]) -> None:
        if not callable(predicate):
            raise WorkflowValidationError(f"retry_if_exception needs a function of the error, got {predicate!r}.")
        self.predicate = predicate

    def __call__(self, error: BaseException) -> bool:
        return self.predicate(error)


class retry_if_exception_type(retry_if_exception):
    """Retry on these exception classes."""

    def __init__(self, exception_types: ErrorTypes = Exception) -> None:
        self.exception_types = _error_types(exception_types)
        super().__init__(lambda error: isinstance(error, exception_types))


class retry_if_not_exception_type(retry_if_exception):
    """Retry on anything but these exception classes."""

    def __init__(self, exception_types: ErrorTypes = Exception) -> None:
        self.exception_types = _error_types(exception_types)
        super().__init__(lambda error: not isinstance(error, exception_types))


class retry_unless_exception_type(retry_if_not_exception_type):
    """Another name of `retry_if_not_exception_type`."""


class retry_if_exception_cause_type(_Condition):
    """Retry when an error in the chain of `__cause__`s is of these classes; the error itself does not count."""

    def __init__(self, exception_types: ErrorTypes = Exception) -> None:
        self.exception_types = _error_types(exception_types)

    def __call__(self, error: BaseException) -> bool:
        cause = error.__cause__
        while cause is not None:
            if isinstance(cause, self.exception_types):
                return True
            cause = cause.__cause__
        return False


class retry_if_exception_message(_Condition):
    """Retry when the error's text equals `message`, or when the pattern `match` is found in it.

    Raises:
        TypeError: If not exactly one of the two is given.
    """

    def __init__(self, message: str | None = None, match: str | re.Pattern[str] | None = None) -> None:
        if (message is None) == (match is None):
            raise TypeError(f"{type(self).__name__} takes exactly one of 'message' and 'match'.")
        self.message = message
        self.match = re.compile(match) if match is not None else None

    def __call__(self, error: BaseException) -> bool:
        return str(error) == self.message if self.match is None else self.match.search(str(error)) is not None


class retry_if_not_exception_message(retry_if_exception_message):
    """Retry when the error's text does not equal `message`, or when the pattern `match` is not found in it."""

    def __call__(self, error: BaseException) -> bool:
        return not super().__call__(error)


class _Wait(ABC):
    """Seconds before the next attempt; `attempts` is 0 for the first retry. `a + b` and `sum([a, b])` add up."""

    @abstractmethod
    def __call__(self, attempts: int, seed: int | None = None) -> float:
        """The delay in seconds."""

    def __add__(self, other: AnyWait) -> wait_combine:
        return wait_combine(self, other)

    def __radd__(self, other: AnyWait | int) -> _Wait:
        return self if isinstance(other, int) and other == 0 else wait_combine(wait_of(other), self)  # sum() gives 0


class wait_combine(_Wait):
    """The sum of several waits."""

    def __init__(self, *strategies: AnyWait) -> None:
        self.strategies = tuple(wait_of(s) for s in strategies)

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return sum(wait(attempts, seed=seed) for wait in self.strategies)


class wait_chain(_Wait):
    """The first wait before the first retry, the second before the second, ...; the last one from then on.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, *strategies: AnyWait) -> None:
        if not strategies:
            raise ValueError("wait_chain needs at least one wait, for example wait_chain(wait_fixed(1)).")
        self.strategies = tuple(wait_of(s) for s in strategies)

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return self.strategies[min(attempts, len(self.strategies) - 1)](attempts, seed=seed)


class wait_fixed(_Wait):
    """The same delay every time."""

    def __init__(self, wait: Duration) -> None:
        self.wait = seconds(wait, "wait")

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return self.wait


class wait_none(wait_fixed):
    """No delay."""

    def __init__(self) -> None:
        super().__init__(0)


class wait_exponential(_Wait):
    """`multiplier * exp_base ** attempts`, kept within [min, max] seconds."""

    def __init__(self, multiplier: float = 1, exp_base: float = 2, max: Duration = 60, min: Duration = 0) -> None:
        self.multiplier, self.exp_base = multiplier, exp_base
        self.max, self.min = seconds(max, "max"), seconds(min, "min")

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return max(self.min, min(_power(self.multiplier, self.exp_base, attempts), self.max))


class wait_random_exponential(wait_exponential):
    """Drawn evenly from `min` up to what `wait_exponential` gives.

    Source: "full jitter" in the AWS Architecture Blog, Exponential Backoff and Jitter (2015).
    """

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return random.Random(seed).uniform(self.min, super().__call__(attempts))


def wait_full_jitter(
    multiplier: float = 1, exp_base: float = 2, max: Duration = 60, min: Duration = 0
) -> wait_random_exponential:
    """Another name of `wait_random_exponential`."""
    return wait_random_exponential(multiplier, exp_base, max, min)


class wait_exponential_jitter(_Wait):
    """`min(min(initial * exp_base ** attempts, max) + U(0, jitter), max)` seconds."""

    def __init__(self, initial: float = 1, exp_base: float = 2, max: Duration = 60, jitter: Duration = 1) -> None:
        self.initial, self.exp_base = initial, exp_base
        self.max, self.jitter = seconds(max, "max"), seconds(jitter, "jitter")

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        base = min(_power(self.initial, self.exp_base, attempts), self.max)
        return min(base + random.Random(seed).uniform(0, self.jitter), self.max)


class wait_incrementing(_Wait):
    """`start`, then `increment` seconds more every time, up to `max`; `increment` may be negative, a wait is not."""

    def __init__(self, start: Duration = 0, increment: Duration = 100, max: Duration = math.inf) -> None:
        self.start, self.max = seconds(start, "start"), seconds(max, "max")
        self.increment = seconds(increment, "increment", least=-math.inf)

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return max(0.0, min(self.start + self.increment * attempts, self.max))


class wait_random(_Wait):
    """Drawn evenly from `min` up to `max`."""

    def __init__(self, min: Duration = 0, max: Duration = 1) -> None:
        self.min, self.max = seconds(min, "min"), seconds(max, "max")

    def __call__(self, attempts: int, seed: int | None = None) -> float:
        return random.Random(seed).uniform(self.min, self.max)


class _Stop(ABC):
    """Whether to give up after `attempts` failures and `elapsed_time` seconds; `a & b` and `a | b` combine."""

    @abstractmethod
    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        """Whether it is time to give up."""

    def __and__(self, other: AnyStop) -> stop_all:
        return stop_all(self, other)

    def __rand__(self, other: AnyStop) -> stop_all:
        return stop_all(other, self)

    def __or__(self, other: AnyStop) -> stop_any:
        return stop_any(self, other)

    def __ror__(self, other: AnyStop) -> stop_any:
        return stop_any(other, self)


class stop_any(_Stop):
    """Give up when any of these says so."""

    def __init__(self, *stops: AnyStop) -> None:
        self.stops = tuple(stop_of(s) for s in stops)

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return any(stop(attempts, elapsed_time, upcoming_sleep=upcoming_sleep) for stop in self.stops)


class stop_all(_Stop):
    """Give up when all of these say so."""

    def __init__(self, *stops: AnyStop) -> None:
        self.stops = tuple(stop_of(s) for s in stops)

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return all(stop(attempts, elapsed_time, upcoming_sleep=upcoming_sleep) for stop in self.stops)


class stop_after_attempt(_Stop):
    """Give up after this many attempts, the first one included."""

    def __init__(self, max_attempt_number: int) -> None:
        if not isinstance(max_attempt_number, int) or isinstance(max_attempt_number, bool) or max_attempt_number < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WorkflowValidationError(
                f"stop_after_attempt needs a whole number of attempts, got {max_attempt_number!r}."
            )
        self.max_attempt_number = max_attempt_number

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return attempts >= self.max_attempt_number


class stop_after_delay(_Stop):
    """Give up once this long has passed since the first attempt began; waits for events do not count."""

    def __init__(self, max_delay: Duration) -> None:
        self.max_delay = seconds(max_delay, "max_delay")

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return elapsed_time >= self.max_delay


class stop_before_delay(stop_after_delay):
    """Give up if the next attempt would begin this long after the first one, or later."""

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return elapsed_time + upcoming_sleep >= self.max_delay


class stop_never(_Stop):
    """Never give up."""

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return False


def _error_types(types: ErrorTypes) -> ErrorTypes:
    found = types if isinstance(types, tuple) else (types,)
    if wrong := [t for t in found if not (isinstance(t, type) and issubclass(t, BaseException))]:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowValidationError(f"An exception class, or a tuple of them, is needed; got {wrong[0]!r}.")
    return types


def _power(factor: float, base: float, exponent: int) -> float:
    try:
        return factor * base**exponent
    except OverflowError:
        return math.inf
