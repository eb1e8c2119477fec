"""`wait_for_event`: questions in the middle of a step."""

import asyncio

from tests.compat.case import case, error_of, names, outcome
from tests.compat.flows import A, Answer, Ask, B, conversation, in_a_step
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


async def after(delay, *actions):
    for action in actions:
        await asyncio.sleep(delay)
        action()


def waits_for(kind, **options):
    async def body(ctx):
        found = await ctx.wait_for_event(kind, **options)
        return getattr(found, "n", None) if isinstance(found, A) else found.a

    return in_a_step(body)


@case("name!")
async def a_step_can_ask_and_wait():
    return await conversation(waits_for(Answer, waiter_event=Ask(q="name")).run(), lambda ask: Answer(a=ask.q + "!"))


@case([4, 4])
async def a_step_can_wait_for_any_event():
    one, two = waits_for(A).run(), waits_for(A, timeout=None).run()
    await asyncio.sleep(0.05)
    one.ctx.send_event(A(n=4))
    await two.send_event(A(n=4))
    return await one, await two


@case(["yes", 1])
async def an_answer_must_meet_the_requirements():
    handler = waits_for(Answer, waiter_event=Ask(), waiter_id="w", requirements={"user": "u"}).run()
    asked = 0
    async for ev in handler.stream_events():
        if isinstance(ev, Ask):
            asked += 1
            handler.ctx.send_event(Answer(a="no", user="x"))
            await asyncio.sleep(0.05)
            handler.ctx.send_event(Answer(a="yes", user="u"))
    return await handler, asked


@case("yes")
async def requirements_may_name_dynamic_fields():
    async def body(ctx):
        question = InputRequiredEvent(prefix="?", user_name="Lisa")
        found = await ctx.wait_for_event(HumanResponseEvent, waiter_event=question, requirements={"user_name": "Lisa"})
        return found.response

    reply = lambda ask: HumanResponseEvent(response="yes", user_name=ask.user_name)  # noqa: E731
    return await conversation(in_a_step(body).run(), reply)


@case("timed out")
async def a_wait_can_time_out():
    async def body(ctx):
        try:
            return await ctx.wait_for_event(A, timeout=0.05)
        except TimeoutError:
            return "timed out"

    return await in_a_step(body).run()


@case(["!TimeoutError", True])
async def a_timeout_that_nobody_catches_fails_the_run():
    try:
        await waits_for(A, timeout=0.05).run()
    except TimeoutError as error:
        return f"!{type(error).__name__}", "A" in str(error)


@case(3)
async def another_step_may_send_what_is_awaited():
    class W(Workflow):
        @step
        async def asks(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(A)).n)

        @step
        async def sends(self, ctx: Context, ev: StartEvent) -> A:
            await asyncio.sleep(0.03)
            return A(n=3)

    return await W(disable_validation=True).run()


class AlsoTakes(Workflow):
    @step
    async def asks(self, ctx: Context, ev: StartEvent) -> StopEvent:
        found = await ctx.wait_for_event(A)
        await asyncio.sleep(0.05)
        return StopEvent(result=[found.n, await ctx.store.get("taken", default=None)])

    @step
    async def takes(self, ctx: Context, ev: A) -> None:
        await ctx.store.set("taken", ev.n)


@case([2, 2])
async def other_steps_get_the_awaited_event_too():
    handler = AlsoTakes(disable_validation=True).run()
    await asyncio.sleep(0.05)
    handler.ctx.send_event(A(n=2))
    return await handler


@case([2, []])
async def the_waiting_step_does_not_get_it_twice():
    taken = []

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent | A) -> StopEvent | None:
            if isinstance(ev, A):
                taken.append(ev.n)
                return None
            found = await ctx.wait_for_event(A)
            await asyncio.sleep(0.05)
            return StopEvent(result=[found.n, taken])

    handler = W(disable_validation=True).run()
    await asyncio.sleep(0.05)
    handler.ctx.send_event(A(n=2))
    return await handler


@case([1, 2])
async def a_step_can_wait_for_one_thing_after_another():
    async def body(ctx):
        a = await ctx.wait_for_event(A, waiter_event=Ask(q="a"))
        b = await ctx.wait_for_event(B, waiter_event=Ask(q="b"))
        return [a.n, b.n]

    return await conversation(in_a_step(body).run(), lambda ask: A(n=1) if ask.q == "a" else B(n=2))


@case([["Ada", "36"], ["name", "age"]], peer_gives=[["36", "36"], ["name", "age"]], because="two-waits-of-one-type")
async def two_questions_get_their_own_answers():
    asked = []

    async def body(ctx):
        name = await ctx.wait_for_event(Answer, waiter_event=Ask(q="name"), waiter_id="name")
        age = await ctx.wait_for_event(Answer, waiter_event=Ask(q="age"), waiter_id="age")
        return [name.a, age.a]

    def reply(ask):
        asked.append(ask.q)
        return Answer(a={"name": "Ada", "age": "36"}[ask.q])

    return await conversation(in_a_step(body).run(), reply), asked


@case(["Ada", "36"], peer_gives=["Ada", "Ada"], because="two-waits-of-one-type")
async def two_questions_without_ids_get_their_own_answers():
    async def body(ctx):
        name = await ctx.wait_for_event(Answer, waiter_event=Ask(q="name"))
        age = await ctx.wait_for_event(Answer, waiter_event=Ask(q="age"))
        return [name.a, age.a]

    return await conversation(in_a_step(body).run(), lambda ask: Answer(a="Ada" if ask.q == "name" else "36"))


@case([1, "x"], peer_gives=[2, "x"], because="waits-really-wait")
async def what_stands_before_a_wait_runs_once():
    times = []

    async def body(ctx):
        times.append(1)
        found = await ctx.wait_for_event(Answer, waiter_event=Ask())
        return [len(times), found.a]

    return await conversation(in_a_step(body).run(), lambda _: Answer(a="x"))


@case("x", peer_gives="swallowed", because="waits-and-except")
async def an_except_around_a_wait_does_not_break_it():
    async def body(ctx):
        try:
            return (await ctx.wait_for_event(Answer, waiter_event=Ask())).a
        except Exception:
            return "swallowed"

    return await conversation(in_a_step(body).run(), lambda _: Answer(a="x"))


@case("early", peer_gives="!WorkflowTimeoutError", because="early-answers")
async def an_answer_that_comes_early_is_kept():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(0.05)
            return StopEvent(result=(await ctx.wait_for_event(Answer)).a)

    handler = W(timeout=0.5).run()
    await asyncio.sleep(0.01)
    handler.ctx.send_event(Answer(a="early"))
    return await outcome(handler)


@case([0, 10, 20, 30, 40, 50])
async def many_calls_of_a_step_can_wait_at_once():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(6):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ctx: Context, ev: A) -> B:
            user = str(ev.n)
            question = Ask(q=user)
            found = await ctx.wait_for_event(
                Answer, waiter_event=question, waiter_id=f"w{ev.n}", requirements={"user": user}
            )
            return B(n=int(found.a))

        @step
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * 6)
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    return await conversation(W().run(), lambda ask: Answer(a=ask.q + "0", user=ask.q))


@case(["all", "all", "all"])
async def one_event_answers_every_waiting_call():
    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(3):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ctx: Context, ev: A) -> B:
            found = await ctx.wait_for_event(Answer, waiter_id=f"w{ev.n}")
            return B(text=found.a)

        @step
        async def u(self, ctx: Context, ev: B) -> StopEvent | None:
            found = ctx.collect_events(ev, [B] * 3)
            return StopEvent(result=[e.text for e in found]) if found else None

    handler = W().run()
    await asyncio.sleep(0.1)
    handler.ctx.send_event(Answer(a="all"))
    return await handler


class Answer2(Answer):
    pass


@case(["!TimeoutError", "x"])
async def a_subclass_answers_only_a_step_that_asks_for_subclasses():
    class W(Workflow):
        @step(accept_event_subclasses=True)
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=(await ctx.wait_for_event(Answer, timeout=0.2)).a)

    exact, any_kind = waits_for(Answer, timeout=0.2).run(), W().run()
    await asyncio.sleep(0.05)
    exact.ctx.send_event(Answer2(a="x"))
    any_kind.ctx.send_event(Answer2(a="x"))
    return await outcome(exact), await any_kind


@case(["3", ["0", "1", "2", "3"]])
async def a_step_can_wait_in_every_round_of_a_loop():
    asked = []

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> A:
            return A()

        @step
        async def t(self, ctx: Context, ev: A) -> A | StopEvent:
            found = await ctx.wait_for_event(Answer, waiter_event=Ask(q=str(ev.n)))
            return A(n=ev.n + 1) if ev.n < 3 else StopEvent(result=found.a)

    def reply(ask):
        asked.append(ask.q)
        return Answer(a=ask.q)

    return await conversation(W().run(), reply), asked


@case([4, 1])
async def a_retry_after_a_wait_keeps_the_answer():
    class W(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
        async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
            found = await ctx.wait_for_event(A, waiter_id="x")
            if ctx.retry_info().retry_number < 1:
                raise ValueError
            return StopEvent(result=[found.n, ctx.retry_info().retry_number])

    handler = W().run()
    await asyncio.sleep(0.05)
    handler.ctx.send_event(A(n=4))
    return await handler


@case([1, 2])
async def two_people_are_asked_by_two_steps():
    class AskOne(InputRequiredEvent):
        pass

    class AskTwo(InputRequiredEvent):
        pass

    class One(HumanResponseEvent):
        pass

    class Two(HumanResponseEvent):
        pass

    class W(Workflow):
        @step
        async def a(self, ev: StartEvent) -> AskOne:
            return AskOne()

        @step
        async def b(self, ev: StartEvent) -> AskTwo:
            return AskTwo()

        @step
        async def c(self, ev: One) -> A:
            return A(n=1)

        @step
        async def d(self, ev: Two) -> A:
            return A(n=2)

        @step
        async def e(self, ctx: Context, ev: A) -> StopEvent | None:
            found = ctx.collect_events(ev, [A, A])
            return StopEvent(result=sorted(e.n for e in found)) if found else None

    return await conversation(W().run(), lambda ask: One() if isinstance(ask, AskOne) else Two())


@case([1, 2])
async def a_step_may_wait_for_two_things_at_once():
    async def body(ctx):
        a, b = await asyncio.gather(ctx.wait_for_event(A, waiter_id="a"), ctx.wait_for_event(B, waiter_id="b"))
        return [a.n, b.n]

    handler = in_a_step(body).run()
    await asyncio.sleep(0.05)
    handler.ctx.send_event(A(n=1))
    await asyncio.sleep(0.05)
    handler.ctx.send_event(B(n=2))
    return await handler


@case(3)
async def a_step_may_wait_again_after_a_wait_timed_out():
    async def body(ctx):
        try:
            return await ctx.wait_for_event(A, timeout=0.05)
        except TimeoutError:
            return (await ctx.wait_for_event(B, timeout=1)).n

    handler = in_a_step(body).run()
    await asyncio.sleep(0.15)
    handler.ctx.send_event(B(n=3))
    return await handler


class OneWorker(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.send_event(A(n=1))
        ctx.send_event(A(n=2))

    @step(num_workers=1)
    async def t(self, ctx: Context, ev: A) -> B:
        if ev.n == 1:
            await ctx.wait_for_event(Answer, waiter_event=Ask())
        return B(n=ev.n)

    @step
    async def u(self, ctx: Context, ev: B) -> StopEvent | None:
        found = ctx.collect_events(ev, [B, B])
        return StopEvent(result=[e.n for e in found]) if found else None


@case([2, 1])
async def a_waiting_call_gives_its_worker_back():
    handler = OneWorker(timeout=1).run()
    async for ev in handler.stream_events():
        if isinstance(ev, Ask):
            await asyncio.sleep(0.05)
            handler.ctx.send_event(Answer())
    return await handler


@case(["!WorkflowRuntimeError", 5])
async def an_answer_cannot_be_sent_to_a_step_that_does_not_accept_it():
    handler = waits_for(A).run()
    await asyncio.sleep(0.05)
    refused = error_of(lambda: handler.ctx.send_event(A(n=4), step="only"))
    handler.ctx.send_event(A(n=5))
    return refused, await handler


@case(["Ask", "StopEvent"])
async def a_question_is_streamed_once():
    handler = waits_for(Answer, waiter_event=Ask(q="name")).run()
    seen = []
    async for ev in handler.stream_events():
        seen.append(ev)
        if isinstance(ev, Ask):
            await asyncio.sleep(0.02)
            handler.ctx.send_event(Answer(a="x"))
    return names(seen)
