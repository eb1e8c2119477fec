"""What may stand in a retry policy: checks it when the policy is made, and gives it our signature.

Three kinds do: words of ours, functions with our signatures, and tenacity's words (or anything like them), which take
one `retry_state`. Nothing of tenacity is imported: a small object with the attributes that its words read stands in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol, cast

from workflows._slotted import FieldsShown, slotted
from workflows.errors import WorkflowValidationError

__all__ = [
    "AnyCondition",
    "AnyStop",
    "AnyWait",
    "Duration",
    "RetryCondition",
    "StopCondition",
    "WaitStrategy",
    "as_written",
    "condition_of",
    "seconds",
    "stop_of",
    "wait_of",
]

Duration = float | int | timedelta
AnyCondition = Callable[..., bool]
AnyWait = Callable[..., float]
AnyStop = Callable[..., bool]


class RetryCondition(Protocol):
    """Whether an error is worth another attempt."""

    def __call__(self, error: BaseException, /) -> bool: ...


class WaitStrategy(Protocol):
    """Seconds before the next attempt; `attempts` is 0 for the first retry."""

    def __call__(self, attempts: int, /, *, seed: int | None = None) -> float: ...


class StopCondition(Protocol):
    """Whether to give up after `attempts` failures, `elapsed_time` seconds after the first attempt began."""

    def __call__(self, attempts: int, elapsed_time: float, /, *, upcoming_sleep: float = 0.0) -> bool: ...


def seconds(duration: Duration, what: str, least: float = 0.0) -> float:
    """A duration in seconds.

    Raises:
        WorkflowValidationError: If it is no number and no timedelta, or is less than `least`.
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if not isinstance(duration, int | float) or isinstance(duration, bool) or not duration >= least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise WorkflowValidationError(f"{what} must be seconds, {least:g} or more, or a timedelta; got {duration!r}.")
    return float(duration)


def condition_of(word: Any) -> RetryCondition:
    """A condition as ours.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if isinstance(word, type) and issubclass(word, BaseException):
        raise WorkflowValidationError(
            f"A retry condition is needed, got the class {word.__name__}: write "
            f"retry_if_exception_type({word.__name__})."
        )
    foreign = "retry_state" in _parameters(word, "condition")
    return _ForeignCondition(_unmixed(cast(Any, word))) if foreign else cast(Any, word)


def wait_of(word: Any) -> WaitStrategy:
    """A wait as ours; one without a `seed` parameter is called without it.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if isinstance(word, int | float | timedelta):
        raise WorkflowValidationError(f"A wait is needed, got {word!r}: write wait_fixed({word!r}).")
    parameters = _parameters(word, "wait")
    if "retry_state" in parameters:
        return _ForeignWait(_unmixed(word))
    return word if "seed" in parameters else _UnseededWait(word)


def stop_of(word: Any) -> StopCondition:
    """A stop as ours.

    Raises:
        WorkflowValidationError: If it is none.
    """
    if isinstance(word, int | float | timedelta):
        raise WorkflowValidationError(
            f"A stop is needed, got {word!r}: write stop_after_attempt(...) or stop_after_delay(...)."
        )
    foreign = "retry_state" in _parameters(word, "stop")
    return _ForeignStop(_unmixed(word)) if foreign else word


def as_written(word: Any) -> Any:
    """A word as the user wrote it, before it was given our signature."""
    return word.word if isinstance(word, _Adapted) else word


@slotted
class _Adapted(FieldsShown):
    word: Callable[..., Any]


class _ForeignCondition(_Adapted):
    __slots__ = ()

    def __call__(self, error: BaseException) -> bool:
        return self.word(_RetryState(outcome=_Outcome(error)))


class _ForeignWait(_Adapted):
    __slots__ = ()

    def __call__(self, attempts: int, *, seed: int | None = None) -> float:
        return self.word(_RetryState(attempt_number=attempts + 1))


class _UnseededWait(_Adapted):
    __slots__ = ()

    def __call__(self, attempts: int, *, seed: int | None = None) -> float:
        return self.word(attempts)


class _ForeignStop(_Adapted):
    __slots__ = ()

    def __call__(self, attempts: int, elapsed_time: float, *, upcoming_sleep: float = 0.0) -> bool:
        return self.word(_RetryState(attempts, elapsed_time, upcoming_sleep))


@slotted
class _Outcome(FieldsShown):
    """What the last attempt came to: always an error."""

    error: BaseException | None
    failed: bool = True

    def exception(self) -> BaseException | None:
        return self.error


@slotted
class _RetryState(FieldsShown):
    """The attributes that tenacity's words read of its `RetryCallState`."""

    attempt_number: int = 1
    seconds_since_start: float = 0.0
    upcoming_sleep: float = 0.0
    outcome: _Outcome = _Outcome(None)
    idle_for: float = 0.0


def _unmixed(word: Callable[..., Any]) -> Callable[..., Any]:
    """A word of tenacity, unless it holds one of ours, which it would call in its own way."""
    held: dict[str, Any] = getattr(word, "__dict__", {})
    for value in held.values():
        for part in value if value.__class__ in (tuple, list) else (value,):
            if type(part).__module__ == "workflows._retry_words":
                raise WorkflowValidationError(
                    f"{type(part).__name__} of workflows.retry_policy was put into {type(word).__name__} of "
                    f"{type(word).__module__}. Write the word of workflows.retry_policy first: ours | theirs."
                )
    return word


def _parameters(word: Any, kind: str) -> Mapping[str, inspect.Parameter]:
    if isinstance(word, type):
        raise WorkflowValidationError(f"A retry {kind} is needed, got the class {word.__name__}: call it first.")
    if not callable(word):
        raise WorkflowValidationError(f"A retry {kind} must be callable, got {word!r}.")
    try:
        return inspect.signature(word).parameters
    except ValueError:  # some builtins have none
        return {}
