"""The words of a retry policy say what they mean, combine, and refuse nonsense when they are written."""

from __future__ import annotations

import asyncio
import random
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflows import Context, Workflow, step
from workflows.errors import WorkflowValidationError
from workflows.events import StartEvent, StopEvent
from workflows.plugins.basic import BasicRuntime
from workflows.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    RetryCondition,
    RetryInfo,
    RetryPolicy,
    StopCondition,
    WaitStrategy,
    max_attempts,
    policy_name,
    retry_all,
    retry_always,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_message,
    retry_if_not_exception_type,
    retry_never,
    retry_policy,
    retry_unless_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    stop_never,
    takes_seed,
    wait_chain,
    wait_combine,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_full_jitter,
    wait_incrementing,
    wait_none,
    wait_random,
    wait_random_exponential,
)
from workflows.testing import RecordLog, VirtualClockLoop

FULL = ValueError("disk is full")


class tenacitys:  # noqa: N801  # reads as words
    """Words that are called as tenacity calls its own: with one `retry_state`."""

    class Word:
        def __init__(self, *held: Any) -> None:
            self.held = held

        def __or__(self, other: Any) -> Any:
            return tenacitys.stop_any(self, other)

    class stop_any(Word):  # noqa: N801
        def __call__(self, retry_state: Any) -> bool:
            return any(stop(retry_state) for stop in self.held)

    class stop_after_attempt(Word):  # noqa: N801
        def __init__(self, max_attempt_number: int) -> None:
            self.max_attempt_number = max_attempt_number

        def __call__(self, retry_state: Any) -> bool:
            return retry_state.attempt_number >= self.max_attempt_number

    class retry_if_exception_type(Word):  # noqa: N801
        def __call__(self, retry_state: Any) -> bool:
            return retry_state.outcome.failed and isinstance(retry_state.outcome.exception(), self.held)

    class wait_exponential(Word):  # noqa: N801
        def __call__(self, retry_state: Any) -> float:
            return 2.0 ** (retry_state.attempt_number - 1)


def caused() -> Exception:
    error, middle = RuntimeError("outer"), KeyError("middle")
    error.__cause__, middle.__cause__ = middle, TimeoutError("inner")
    return error


def drawn(low: float, high: float) -> float:
    return random.Random(7).uniform(low, high)


def retrying(**words: Any) -> type[Workflow]:
    """A workflow whose only step fails as often as it is told, and gives the virtual times of its attempts."""

    class Retrying(Workflow):
        @step(retry_policy=retry_policy(**words))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            times = await ctx.store.get("times", [])
            await ctx.store.set("times", [*times, asyncio.get_running_loop().time()])
            if len(times) < ev.failures:
                raise FULL
            return StopEvent(result=await ctx.store.get("times"))

    return Retrying


@pytest.mark.parametrize(
    ("condition", "error", "expected"),
    [
        (retry_always(), FULL, True),
        (retry_never(), FULL, False),
        (retry_if_exception(lambda e: "full" in str(e)), FULL, True),
        (retry_if_exception_type(), FULL, True),
        (retry_if_exception_type((KeyError, ValueError)), FULL, True),
        (retry_if_exception_type(KeyError), FULL, False),
        (retry_if_not_exception_type(KeyError), FULL, True),
        (retry_unless_exception_type(ValueError), FULL, False),
        (retry_if_exception_message("disk is full"), FULL, True),
        (retry_if_exception_message("disk"), FULL, False),
        (retry_if_exception_message(match="is f.ll"), FULL, True),
        (retry_if_not_exception_message(match="is f.ll"), FULL, False),
        (retry_if_not_exception_message("disk"), FULL, True),
        (retry_if_exception_cause_type(TimeoutError), caused(), True),
        (retry_if_exception_cause_type(RuntimeError), caused(), False),
        (retry_any(), FULL, False),
        (retry_all(), FULL, True),
        (retry_any(retry_never(), retry_always()), FULL, True),
        (retry_all(retry_never(), retry_always()), FULL, False),
        (retry_always() & retry_never(), FULL, False),
        (retry_never() | retry_always(), FULL, True),
        ((lambda e: True) & retry_never(), FULL, False),
        (retry_never() | (lambda e: True), FULL, True),
    ],
)
def test_condition(condition: RetryCondition, error: Exception, expected: bool) -> None:
    assert condition(error) is expected


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (wait_fixed(2), [2, 2, 2]),
        (wait_fixed(timedelta(minutes=1)), [60, 60, 60]),
        (wait_none(), [0, 0, 0]),
        (wait_exponential(), [1, 2, 4]),
        (wait_exponential(multiplier=3, exp_base=10, max=timedelta(seconds=40), min=5), [5, 30, 40]),
        (wait_incrementing(), [0, 100, 200]),
        (wait_incrementing(5, -3), [5, 2, 0]),
        (wait_incrementing(1, timedelta(seconds=2), max=4), [1, 3, 4]),
        (wait_random(1, 3), [drawn(1, 3)] * 3),
        (wait_exponential_jitter(), [1 + drawn(0, 1), 2 + drawn(0, 1), 4 + drawn(0, 1)]),
        (wait_exponential_jitter(max=2), [1 + drawn(0, 1), 2, 2]),
        (wait_random_exponential(min=0.5), [drawn(0.5, 1), drawn(0.5, 2), drawn(0.5, 4)]),
        (wait_full_jitter(), [drawn(0, 1), drawn(0, 2), drawn(0, 4)]),
        (wait_chain(wait_fixed(1), wait_fixed(5)), [1, 5, 5]),
        (wait_combine(wait_fixed(1), wait_exponential()), [2, 3, 5]),
        (wait_fixed(1) + wait_random(1, 3), [1 + drawn(1, 3)] * 3),
        (sum([wait_fixed(1), wait_fixed(2), wait_none()]), [3, 3, 3]),
        (wait_fixed(1) + (lambda n: n), [1, 2, 3]),
    ],
)
def test_wait(wait: WaitStrategy, expected: list[float]) -> None:
    assert [wait(n, seed=7) for n in range(3)] == expected


def test_a_wait_stays_finite_however_often_it_is_asked() -> None:
    assert wait_exponential()(100_000) == 60


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (stop_after_attempt(2), [False, True, True]),
        (stop_after_delay(20), [False, True, True]),
        (stop_before_delay(timedelta(seconds=25)), [False, True, True]),
        (stop_before_delay(26), [False, False, True]),
        (stop_never(), [False, False, False]),
        (stop_any(), [False, False, False]),
        (stop_all(), [True, True, True]),
        (stop_after_attempt(3) | stop_after_delay(20), [False, True, True]),
        (stop_after_attempt(3) & stop_after_delay(20), [False, False, True]),
        (stop_never() | (lambda n, elapsed, upcoming_sleep: n == 1), [True, False, False]),
    ],
)
def test_stop(stop: StopCondition, expected: list[bool]) -> None:
    assert [stop(n, 10.0 * n, upcoming_sleep=5) for n in (1, 2, 3)] == expected


@pytest.mark.parametrize(
    ("write", "error", "text"),
    [
        (lambda: wait_fixed(-1), WorkflowValidationError, "wait must be seconds, 0 or more"),
        (lambda: wait_fixed("2"), WorkflowValidationError, "or a timedelta; got '2'"),  # type: ignore[arg-type]
        (lambda: wait_random(0, float("nan")), WorkflowValidationError, "max must be seconds"),
        (lambda: stop_after_attempt(2.5), WorkflowValidationError, "a whole number of attempts, got 2.5"),  # type: ignore[arg-type]
        (lambda: retry_if_exception_type("ValueError"), WorkflowValidationError, "An exception class"),  # type: ignore[arg-type]
        (lambda: retry_if_exception_message(), TypeError, "exactly one of 'message' and 'match'"),
        (lambda: retry_if_exception_message("a", "b"), TypeError, "exactly one of 'message' and 'match'"),
        (lambda: wait_chain(), ValueError, "needs at least one wait"),
        (lambda: retry_policy(retry=ValueError), WorkflowValidationError, r"retry_if_exception_type\(ValueError\)"),  # type: ignore[arg-type]
        (lambda: retry_policy(wait=5), WorkflowValidationError, r"write wait_fixed\(5\)"),  # type: ignore[arg-type]
        (lambda: retry_policy(wait=wait_none), WorkflowValidationError, "the class wait_none: call it first"),  # type: ignore[arg-type]
        (lambda: retry_policy(stop=3), WorkflowValidationError, r"write stop_after_attempt\(\.\.\.\)"),  # type: ignore[arg-type]
        (
            lambda: retry_policy(stop=tenacitys.stop_after_attempt(3) | stop_never()),
            WorkflowValidationError,
            "stop_never of workflows.retry_policy was put into stop_any of ",
        ),
        (lambda: stop_never() | "x", WorkflowValidationError, "A retry stop must be callable, got 'x'"),  # type: ignore[operator]
    ],
)
def test_nonsense_is_refused_when_it_is_written(write: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        write()


def test_a_policy_asks_condition_wait_and_stop_in_this_order() -> None:
    policy = retry_policy(retry_if_exception_type(ValueError), wait_exponential(), stop_before_delay(10))
    asked = [(0, 1, KeyError()), (0, 1, FULL), (5, 3, FULL), (6, 3, FULL)]
    assert [policy.next(elapsed, n, error) for elapsed, n, error in asked] == [None, 1, 4, None]


def test_a_policy_left_to_itself_makes_three_attempts_five_seconds_apart() -> None:
    assert [retry_policy().next(0, n, FULL) for n in (1, 2, 3)] == [5, 5, None]


def test_anything_with_next_is_a_policy() -> None:
    class OnFridays:
        def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
            return None

    assert [isinstance(p, RetryPolicy) for p in (OnFridays(), retry_policy(), object())] == [True, True, False]
    assert (takes_seed(OnFridays()), takes_seed(retry_policy())) == (False, True)


@pytest.mark.parametrize(
    ("stop", "attempts"),
    [
        (stop_after_attempt(4), 4),
        (stop_after_attempt(4) | stop_after_delay(60), 4),
        (stop_after_attempt(4) | stop_after_attempt(2), 2),
        (stop_after_attempt(4) & stop_after_attempt(2), 4),
        (stop_after_attempt(4) & stop_after_delay(60), None),
        (tenacitys.stop_after_attempt(4), 4),
        (stop_never(), None),
    ],
)
def test_telemetry_knows_how_many_attempts_there_are(stop: Any, attempts: int | None) -> None:
    assert max_attempts(retry_policy(stop=stop)) == attempts


def test_telemetry_names_a_policy_by_its_words() -> None:
    assert (
        policy_name(retry_policy(wait=tenacitys.wait_exponential(), stop=stop_never()))
        == "wait_exponential, stop_never"
    )


def test_words_of_tenacity_are_taken_as_they_are() -> None:
    policy = retry_policy(
        retry_if_exception_message("again") | tenacitys.retry_if_exception_type(ValueError),
        wait_fixed(1) + tenacitys.wait_exponential(),
        stop_after_delay(100) | tenacitys.stop_after_attempt(3),
    )
    errors = (FULL, Exception("again"), Exception("no"))
    assert [policy.next(0, n, error) for n, error in enumerate(errors, start=1)] == [2, 3, None]


async def test_an_attempt_waits_as_the_words_say(clock: VirtualClockLoop) -> None:
    workflow = retrying(wait=wait_chain(wait_fixed(1), wait_fixed(10)), stop=stop_after_attempt(5))
    assert await workflow().run(failures=3) == [0, 1, 11, 21]


async def test_jitter_is_the_same_when_a_run_is_repeated(clock: VirtualClockLoop) -> None:
    workflow = retrying(wait=wait_random(0, 10), stop=stop_after_attempt(5))
    first = await workflow(runtime=BasicRuntime()).run(failures=3, run_id="same")
    start = clock.time()
    second = await workflow(runtime=BasicRuntime()).run(failures=3, run_id="same")
    assert [t - start for t in second] == pytest.approx(first)
    assert len(set(first)) == 4


async def test_a_step_knows_where_it_stands_among_its_attempts(clock: VirtualClockLoop) -> None:
    class Told(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(30)))
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number == 0:
                raise FULL
            return StopEvent(result=ctx.retry_info())

    failed_at = datetime.fromtimestamp(1_000_000_000, UTC)
    assert await Told().run() == RetryInfo(1, 30.0, FULL, failed_at)


async def test_a_policy_that_raises_ends_the_run_with_its_error() -> None:
    class Broken(Workflow):
        @step(retry_policy=retry_policy(retry=lambda e: {}[type(e)]))
        async def work(self, ev: StartEvent) -> StopEvent:
            raise FULL

    with pytest.raises(KeyError) as raised:
        await Broken().run()
    assert raised.value.__cause__ is FULL


async def test_the_older_policies_are_classes_with_fields() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Patient(ConstantDelayRetryPolicy):
            def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
                return super().next(elapsed_time, attempts, error) if isinstance(error, OSError) else None

        patient, growing = Patient(maximum_attempts=2), ExponentialBackoffRetryPolicy(jitter=False, maximum_attempts=3)
        drawing = ExponentialBackoffRetryPolicy()
    assert (patient.delay, patient.maximum_attempts, max_attempts(patient)) == (5, 2, 2)
    assert [patient.next(0, n, OSError()) for n in (1, 2)] == [5, None]
    assert patient.next(0, 1, FULL) is None
    assert [growing.next(0, n, FULL) for n in (1, 2, 3)] == [1, 2, None]
    assert drawing.next(0, 3, FULL, seed=7) == drawn(0, 4)


@pytest.mark.parametrize("policy", [ConstantDelayRetryPolicy, ExponentialBackoffRetryPolicy])
def test_the_older_policies_say_what_to_use_instead(policy: type) -> None:
    with pytest.warns(DeprecationWarning, match=r"since 0\.1 and goes with 0\.3: use retry_policy") as told:
        policy()
    assert told[0].filename == __file__


async def test_records_tell_the_delay(clock: VirtualClockLoop, records: RecordLog) -> None:
    await retrying(wait=wait_fixed(3))().run(failures=1)
    assert records.steps() == [
        "0 StepStarted work#1",
        "0 StepEnded work#1 retrying",
        "0 RetryScheduled work#2 3s",
        "3 StepStarted work#2",
        "3 StepEnded work#2 completed",
    ]
