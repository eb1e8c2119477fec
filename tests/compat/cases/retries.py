"""Retries: policies, their parts, and what a step knows of its attempts."""

import asyncio
import dataclasses
import math
import warnings
from datetime import timedelta

from tests.compat.case import case, error_of, outcome
from tests.compat.flows import A, Answer, Ask, B
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    RetryInfo,
    RetryPolicy,
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

SOON = wait_fixed(0.01)


async def attempts(policy, failures, error=ValueError):
    """How a step ends that fails so many times, and how often it was tried."""
    calls = []

    class W(Workflow):
        @step(retry_policy=policy)
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            calls.append(1)
            if len(calls) <= failures:
                raise error(f"failure {len(calls)}")
            info = ctx.retry_info()
            return StopEvent(result=[info.retry_number, repr(info.last_exception)])

    return await outcome(W(timeout=2).run()), len(calls)


@case([[[2, "ValueError('failure 2')"], 3], ["!ValueError", 3]])
async def a_step_is_tried_again():
    policy = retry_policy(wait=SOON, stop=stop_after_attempt(3))
    return await attempts(policy, 2), await attempts(policy, 9)


@case([["!ValueError", 1], [[0, "None"], 1]])
async def without_a_policy_a_step_is_tried_once():
    return await attempts(None, 9), await attempts(None, 0)


@case([[0, None, None], True])
async def the_first_attempt_knows_of_no_failure():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            info = ctx.retry_info()
            shown = [info.retry_number, info.last_exception, info.last_failed_at]
            return StopEvent(result=[shown, 0 <= info.elapsed_seconds < 1])

    return await W().run()


@case([["!ValueError", 1], ["!KeyError", 3]])
async def a_policy_may_look_at_the_error():
    policy = retry_policy(retry=retry_if_exception_type(KeyError), wait=SOON, stop=stop_after_attempt(3))
    return await attempts(policy, 9), await attempts(policy, 9, KeyError)


@case([[1, 2, 3], 4])
async def a_policy_of_ones_own_counts_failures_from_one():
    class Mine:
        seen: list[int] = []

        def next(self, elapsed_time, attempts, error):
            self.seen.append(attempts)
            return 0.01

    policy = Mine()
    _, calls = await attempts(policy, 3)
    return policy.seen, calls


@case([True, True])
async def a_policy_of_ones_own_may_take_a_seed():
    seeds = []

    class Mine:
        def next(self, elapsed_time, attempts, error, *, seed=None):
            seeds.append(seed)
            return 0.01

    await attempts(Mine(), 2)
    return all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds), len(set(seeds)) == 2


@case("!RuntimeError")
async def a_policy_that_fails_fails_the_run():
    class Mine:
        def next(self, elapsed_time, attempts, error):
            raise RuntimeError("in the policy")

    return (await attempts(Mine(), 3))[0]


@case(True, peer_gives=False, because="waits-take-no-time")
async def what_a_step_did_before_it_waited_counts():
    seen = []

    class Mine:
        def next(self, elapsed_time, attempts, error):
            seen.append(elapsed_time)

    class W(Workflow):
        @step(retry_policy=Mine())
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if not self.worked:
                self.worked = True
                await asyncio.sleep(0.2)
            await ctx.wait_for_event(HumanResponseEvent)
            raise ValueError

    workflow = W()
    workflow.worked = False
    handler = workflow.run()
    await asyncio.sleep(0.3)
    handler.ctx.send_event(HumanResponseEvent())
    await outcome(handler)
    return seen[0] > 0.15


@case("second", peer_gives="first", because="given-up-waits-stay-so")
async def an_attempt_gives_up_what_the_one_before_gave_up():
    class W(Workflow):
        failed = False

        @step(retry_policy=retry_policy(wait=SOON, stop=stop_after_attempt(2)))
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            try:
                async with asyncio.timeout(0.2):
                    await ctx.wait_for_event(HumanResponseEvent, waiter_id="first")
                return StopEvent(result="first")
            except TimeoutError:
                pass
            await ctx.wait_for_event(B)
            if not W.failed:
                W.failed = True
                raise ValueError
            await ctx.wait_for_event(HumanResponseEvent, waiter_id="second")
            return StopEvent(result="second")

    handler = W(timeout=5).run()
    await asyncio.sleep(0.3)
    handler.ctx.send_event(B())
    await asyncio.sleep(0.1)
    handler.ctx.send_event(HumanResponseEvent())
    return await handler


@case([[[0, 0.01], 3], True])
async def a_delay_of_zero_tries_again_at_once():
    class Mine:
        def next(self, elapsed_time, attempts, error):
            return [0, 0.01][attempts - 1]

    result, calls = await attempts(Mine(), 2)
    return [[0, 0.01], calls], result[0] == 2


@case([1, 2])
async def a_delayed_retry_holds_no_worker():
    class W(Workflow):
        failed = False

        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            ctx.send_event(A(n=1))
            ctx.send_event(A(n=2))

        @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(0.1), stop=stop_after_attempt(2)))
        async def t(self, ctx: Context, ev: A) -> StopEvent | None:
            if ev.n == 1 and not self.failed:
                self.failed = True
                raise ValueError
            first = await ctx.store.get("first", default=ev.n)
            await ctx.store.set("first", first)
            return StopEvent(result=[1, first]) if ev.n == 1 else None

    return await W().run()


@case([[5.0, 5.0, None], 2, True])
async def the_default_policy_waits_five_seconds_twice():
    policy = retry_policy()
    given = [policy.next(1.0, n, ValueError()) for n in (1, 2, 3)]
    return given, sum(delay is not None for delay in given), isinstance(policy, RetryPolicy)


@case([[5, 5, None], [1.0, 2.0, 4.0, 8.0, None], [2, 2, 2, None]])
def the_older_policies_give_the_same_delays():
    constant, steep = ConstantDelayRetryPolicy(), ExponentialBackoffRetryPolicy(jitter=False)
    mine = ConstantDelayRetryPolicy(maximum_attempts=4, delay=2)
    return (
        [constant.next(0, n, ValueError()) for n in range(1, 4)],
        [steep.next(0, n, ValueError()) for n in range(1, 6)],
        [mine.next(0, n, ValueError()) for n in range(1, 5)],
    )


@case([["!ValueError", 3], ["!ValueError", 3]])
async def the_older_policies_count_executions():
    constant = ConstantDelayRetryPolicy(delay=0.01, maximum_attempts=3)
    steep = ExponentialBackoffRetryPolicy(initial_delay=0.01, maximum_attempts=3, jitter=False)
    return await attempts(constant, 9), await attempts(steep, 9)


@case([7, 3, [7, None]], peer_gives="!TypeError", because="older-policies-are-classes")
def an_older_policy_can_be_subclassed():
    class Patient(ConstantDelayRetryPolicy):
        pass

    policy = Patient(delay=7, maximum_attempts=3)
    given = [policy.next(0, 1, ValueError()), policy.next(0, 3, ValueError())]
    return policy.delay, policy.maximum_attempts, given


@case([[1, 2, 4, 8, 10], [2, 6, 18], [3, 3]])
def exponential_waits():
    capped, steep, floored = wait_exponential(max=10), wait_exponential(2, 3), wait_exponential(min=3)
    return [capped(n) for n in range(5)], [steep(n) for n in range(3)], [floored(n) for n in range(2)]


@case([[1, 3, 5], [0, 100], [1, 3, 3]])
def growing_waits():
    one, default, capped = wait_incrementing(1, 2), wait_incrementing(), wait_incrementing(1, 2, max=3)
    return [one(n) for n in range(3)], [default(n) for n in range(2)], [capped(n) for n in range(3)]


@case([3, 3, 3, 0, 1.5])
def waits_add_up():
    one, two = wait_fixed(1), wait_fixed(2)
    return (
        (one + two)(0),
        sum([one, two])(0),
        wait_combine(one, two)(0),
        wait_none()(0),
        wait_fixed(timedelta(seconds=1.5))(0),
    )


@case("!WorkflowValidationError", peer_gives=-1, because="negative-waits")
def a_wait_is_not_negative():
    return error_of(lambda: wait_fixed(-1)(0))


@case(["!WorkflowRuntimeError", 2])
async def a_wrong_return_is_tried_again_too():
    calls = []

    class W(Workflow):
        @step(retry_policy=retry_policy(wait=wait_none(), stop=stop_after_attempt(2)))
        async def s(self, ev: StartEvent) -> StopEvent:
            calls.append(1)
            return "text"  # type: ignore[return-value]

    return await outcome(W(timeout=1).run()), len(calls)


@case([[1, 2, 2], "!ValueError"])
def a_chain_repeats_its_last_wait():
    chain = wait_chain(wait_fixed(1), wait_fixed(2))
    return [chain(n) for n in range(3)], error_of(lambda: wait_chain())


@case([True, True, True, True, 4])
def random_waits_stay_within_bounds():
    return (
        all(1 <= wait_random(1, 2)(n) <= 2 for n in range(9)),
        all(2**n <= wait_exponential_jitter()(n) <= 2**n + 1 for n in range(5)),
        all(0 <= wait_random_exponential()(n) <= 2**n for n in range(5)),
        all(0 <= wait_full_jitter()(n) <= 2**n for n in range(5)),
        wait_exponential_jitter(jitter=0)(2),
    )


@case([True, True, True])
def one_seed_gives_one_delay():
    waits = wait_random(0, 1), wait_exponential_jitter(), wait_full_jitter()
    return [wait(2, seed=5) == wait(2, seed=5) != wait(2, seed=6) for wait in waits]


@case([0.956034, 4.237965, 0.944192, 4.622902, 0.323833])
def one_seed_gives_the_delay_that_it_gave_there():
    waits = wait_random(0, 1), wait_exponential(max=4) + wait_random(), wait_full_jitter(1), wait_exponential_jitter()
    policy = retry_policy(wait=wait_random())
    shown = [round(wait(2, seed=seed), 6) for seed, wait in enumerate(waits, start=2)]
    return [*shown, round(policy.next(0, 1, ValueError(), seed=7), 6)]


@case([True, False, True, False, True, True, True])
def stops():
    def stopped(stop):
        return bool(stop(3, 5.0, upcoming_sleep=1.0))

    both = stop_all(stop_after_attempt(1), stop_after_delay(1))
    return [
        stopped(stop_after_attempt(3)),
        stopped(stop_after_delay(6)),
        stopped(stop_before_delay(6)),
        stopped(stop_never()) or stopped(stop_any(stop_after_attempt(9))),
        stopped(both),
        stopped(stop_after_attempt(9) | stop_after_delay(5)),
        stopped(stop_after_attempt(3) & stop_after_delay(timedelta(seconds=5))),
    ]


@case([True, True, False, True, True, False, False, True, False])
def conditions_on_the_class_and_the_message():
    error = ValueError("abc")
    conditions = [
        retry_if_exception(lambda e: isinstance(e, ValueError)),
        retry_if_exception_type((KeyError, ValueError)),
        retry_if_not_exception_type(ValueError),
        retry_unless_exception_type(KeyError),
        retry_if_exception_message("abc"),
        retry_if_exception_message("ab"),
        retry_if_not_exception_message(match="b"),
        retry_always(),
        retry_never(),
    ]
    return [bool(condition(error)) for condition in conditions]


@case([True, True, False, True, False])
def conditions_combine():
    error = ValueError("abc")
    yes, no = retry_always(), retry_never()
    conditions = [yes | no, yes & yes, yes & no, retry_any(no, yes), retry_all(yes, no)]
    return [bool(condition(error)) for condition in conditions]


@case([True, False, True])
def a_condition_on_the_cause_follows_the_chain():
    def raised(cause):
        try:
            raise ValueError from cause
        except ValueError as error:
            return error

    condition = retry_if_exception_cause_type(KeyError)
    return [bool(condition(raised(cause))) for cause in (KeyError(), TypeError(), raised(KeyError()))]


@case(["!TypeError", "!TypeError"])
def a_condition_on_the_message_needs_exactly_one_text():
    both = error_of(lambda: retry_if_exception_message("a", match="a"))
    return error_of(lambda: retry_if_exception_message()), both


@case([True, True, [0, 1.5]])
async def what_is_known_of_the_retries_cannot_be_changed():
    info = RetryInfo(retry_number=0, elapsed_seconds=1.5, last_exception=None, last_failed_at=None)
    refused = error_of(lambda: setattr(info, "retry_number", 1))
    return dataclasses.is_dataclass(info), refused == "!FrozenInstanceError", [info.retry_number, info.elapsed_seconds]


@case([["DeprecationWarning"], ["DeprecationWarning"]])
def the_older_policies_warn():
    def warned(make):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make()
        return [w.category.__name__ for w in caught]

    return warned(ConstantDelayRetryPolicy), warned(ExponentialBackoffRetryPolicy)


@case([True, False])
def a_policy_is_known_by_its_method():
    class Mine:
        def next(self, elapsed_time, attempts, error):
            return None

    return isinstance(Mine(), RetryPolicy), isinstance(object(), RetryPolicy)


@case([True, True])
async def elapsed_time_counts_from_the_first_attempt():
    class Mine:
        def __init__(self):
            self.elapsed = []

        def next(self, elapsed_time, attempts, error):
            self.elapsed.append(elapsed_time)
            return 0.05

    policy = Mine()
    await attempts(policy, 2)
    return policy.elapsed[0] < 0.05 <= policy.elapsed[1], all(math.isfinite(e) for e in policy.elapsed)


@case([True, "yes"])
async def elapsed_time_counts_no_wait():
    class Mine:
        def next(self, elapsed_time, attempts, error):
            self.elapsed = elapsed_time
            return 0

    policy = Mine()
    failed = []

    class W(Workflow):
        @step(retry_policy=policy)
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            answer = await ctx.wait_for_event(Answer, waiter_event=Ask())
            if not failed:
                failed.append(answer)
                raise ValueError
            return StopEvent(result=answer.a)

    handler = W(timeout=5).run()
    async for ev in handler.stream_events():
        if isinstance(ev, Ask):
            await asyncio.sleep(0.4)
            handler.ctx.send_event(Answer(a="yes"))
    result = await handler
    return policy.elapsed < 0.3, result


class Asks(Workflow):
    """Asks for an answer, for a while, and fails once; `handles`: not for want of an answer."""

    handles = False

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(2)))
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said = "nothing"
        try:
            said = (await ctx.wait_for_event(Answer, waiter_id="first", timeout=0.1)).a
        except TimeoutError:
            if not self.handles:
                raise
        if self.handles and not ctx.retry_info().retry_number:
            raise ValueError
        return StopEvent(result=said)


async def answered_late(workflow):
    handler = workflow.run()
    await asyncio.sleep(0.15)
    if not handler.done():
        handler.ctx.send_event(Answer(a="yes"))
    return await outcome(handler)


@case("yes", peer_gives="!TimeoutError", because="a-retry-asks-again")
async def a_wait_that_a_step_failed_for_is_open_in_its_retry():
    return await answered_late(Asks())


@case("nothing")
async def a_wait_that_timed_out_and_that_a_step_did_not_fail_for_is_over_in_its_retry():
    workflow = Asks()
    workflow.handles = True
    return await answered_late(workflow)
