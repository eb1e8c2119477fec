"""Streams: what is written, who reads it, when it ends."""

import asyncio
import inspect

from tests.compat.case import case, error_of, names, outcome
from tests.compat.flows import A, Answer, Ask, Progress, Streaming
from workflows import Context, Workflow, step
from workflows.events import InputRequiredEvent, StartEvent, StepStateChanged, StopEvent

ALL = ["0", "1", "2", "last", "done"]


async def texts(events):
    return [
        ev.msg if isinstance(ev, Progress) else str(ev) async for ev in events if not isinstance(ev, StepStateChanged)
    ]


@case([ALL, "done"])
async def a_stream_has_what_steps_write_and_the_stop_event():
    handler = Streaming().run()
    return await texts(handler.stream_events()), await handler


@case(ALL)
async def a_stream_can_be_read_after_the_run():
    handler = Streaming().run()
    await handler
    return await texts(handler.stream_events())


@case([["0", "1"], ["2", "last", "done"]])
async def reading_goes_on_after_a_break():
    handler = Streaming().run()
    first: list[str] = []
    async for ev in handler.stream_events():
        first.append(ev.msg)
        if len(first) == 2:
            break
    return first, await texts(handler.stream_events())


@case([ALL, ALL], peer_gives=[ALL, "!WorkflowRuntimeError"], because="many-readers")
async def a_stream_can_be_read_again():
    handler = Streaming().run()
    return await texts(handler.stream_events()), await outcome(texts(handler.stream_events()))


@case([ALL, ALL], peer_gives=[ALL, "!WorkflowRuntimeError"], because="many-readers")
async def two_readers_each_get_the_stream():
    handler = Streaming().run()
    return await asyncio.gather(texts(handler.stream_events()), outcome(texts(handler.stream_events())))


@case(ALL)
async def a_slow_reader_misses_nothing():
    found = []
    async for ev in Streaming().run().stream_events():
        found.append(getattr(ev, "msg", None) or str(ev))
        await asyncio.sleep(0.01)
    return found


@case([ALL, "done"])
async def a_task_can_read_the_stream():
    handler = Streaming().run()
    reader = asyncio.create_task(texts(handler.stream_events()))
    result = await handler
    return await reader, result


@case(["0", "done"])
async def a_reader_can_be_closed():
    handler = Streaming().run()
    reader = handler.stream_events()
    first = await anext(reader)
    await reader.aclose()
    return first.msg, await handler


@case([[False, False], "0"], peer_gives=[[True, True], "0"], because="readers-are-no-generators")
async def a_reader_is_an_async_iterator():
    handler = Streaming().run()
    reader = handler.stream_events()
    kind = [inspect.isasyncgen(reader), hasattr(reader, "asend")]
    await handler
    return kind, (await anext(reader)).msg


class WritesOdd(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(None)
        ctx.write_event_to_stream(ev)
        return StopEvent()


@case(["StartEvent", "StopEvent"])
async def any_event_can_be_written_and_none_is_ignored():
    return names([ev async for ev in WritesOdd().run().stream_events()])


class Outer(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> StopEvent:
        inner = Streaming().run()
        async for passed_on in inner.stream_events():
            if ev.all or not isinstance(passed_on, StopEvent):
                ctx.write_event_to_stream(passed_on)
        await asyncio.sleep(0.01)
        ctx.write_event_to_stream(Progress(msg="after"))
        return StopEvent(result="outer")


@case(["0", "1", "2", "last", "after", "outer"])
async def a_step_can_pass_on_the_stream_of_another_run():
    return await texts(Outer().run(all=False).stream_events())


@case(
    ["0", "1", "2", "last", "done", "after", "outer"],
    peer_gives=["0", "1", "2", "last", "done"],
    because="streams-end-with-the-run",
)
async def a_stop_event_that_a_step_writes_does_not_end_the_stream():
    return await texts(Outer().run(all=True).stream_events())


class Question(Workflow):
    @step
    async def s(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="q")

    @step
    async def t(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.a)


@case([["InputRequiredEvent", "StopEvent"], "qa"])
async def a_question_is_streamed_and_answered_from_the_loop():
    handler = Question().run()
    seen = []
    async for ev in handler.stream_events():
        seen.append(ev)
        if isinstance(ev, InputRequiredEvent):
            await asyncio.sleep(0.15)
            handler.ctx.send_event(Answer(a=ev.prefix + "a"))
    return names(seen), await handler


@case([["InputRequiredEvent"], ["StopEvent"], "late"])
async def a_question_is_answered_between_two_readings():
    handler = Question().run()
    before = []
    async for ev in handler.stream_events():
        before.append(ev)
        break
    await handler.send_event(Answer(a="late"))
    return names(before), names([ev async for ev in handler.stream_events()]), await handler


class WritesAndWaits(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A | None:
        ctx.write_event_to_stream(Ask(q="ok?"))

    @step
    async def t(self, ev: A) -> StopEvent:
        return StopEvent(result=ev.n)


@case([["Ask", "StopEvent"], 4])
async def a_question_may_be_written_and_answered_by_any_event():
    handler = WritesAndWaits(timeout=2).run()
    seen = []
    async for ev in handler.stream_events():
        seen.append(ev)
        if isinstance(ev, Ask):
            await asyncio.sleep(0.2)
            await handler.send_event(A(n=4))
    return names(seen), await handler


class LeavesATask(Workflow):
    @step
    async def s(self, ctx: Context, ev: StartEvent) -> A:
        async def later():
            for i in range(3):
                await asyncio.sleep(0.01)
                ctx.write_event_to_stream(Progress(msg=str(i)))

        self._task = asyncio.create_task(later())
        return A()

    @step
    async def t(self, ev: A) -> StopEvent:
        await asyncio.sleep(0.1)
        return StopEvent(result="end")


@case(["0", "1", "2", "end"])
async def a_task_that_a_step_leaves_behind_can_write():
    return await texts(LeavesATask().run().stream_events())


@case([["WorkflowFailedEvent"], "s", "ValueError('x')", "!ValueError"])
async def a_failed_run_ends_its_stream():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError("x")

    handler = W().run()
    events = [ev async for ev in handler.stream_events()]
    return names(events), events[0].step_name, repr(events[0].exception), await outcome(handler)


@case([["WorkflowTimedOutEvent"], 0.05, ["s"]])
async def a_run_that_times_out_ends_its_stream():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1)
            return StopEvent()

    events = [ev async for ev in W(timeout=0.05).run().stream_events()]
    return names(events), events[0].timeout, events[0].active_steps


@case([["WorkflowCancelledEvent"]], peer_gives=[["hang"]], because="one-terminal-event")
async def the_older_cancel_ends_the_stream_too():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1)
            return StopEvent()

    handler = W().run()
    await asyncio.sleep(0.02)
    handler.cancel()

    async def read():
        return names([ev async for ev in handler.stream_events()])

    done, _ = await asyncio.wait([asyncio.ensure_future(read())], timeout=0.3)
    return [task.result() for task in done] or [["hang"]]


@case(ALL)
async def the_context_gives_the_stream_too():
    return await texts(Streaming().run().ctx.stream_events())


@case(ALL)
async def the_older_queue_gives_the_stream():
    queue = Streaming().run().ctx.streaming_queue
    found = []
    while not found or not isinstance(found[-1], StopEvent):
        found.append(await queue.get())
    shown = [ev for ev in found if not isinstance(ev, StepStateChanged)]
    return [ev.msg if isinstance(ev, Progress) else str(ev) for ev in shown]


@case([True, "StopEvent(result='done')"], peer_gives=[False, "None"], because="done-when-the-stream-ends")
async def a_run_is_done_when_its_stream_has_ended():
    handler = Streaming().run()
    async for _ in handler.stream_events():
        pass
    return handler.is_done(), repr(handler.get_stop_event())


@case([["1", "2", "last", "done"], "done"])
async def an_error_in_the_loop_leaves_the_rest_to_be_read():
    handler = Streaming().run()
    try:
        async for _ in handler.stream_events():
            raise KeyError
    except KeyError:
        return await texts(handler.stream_events()), await handler


@case("str")
async def every_event_of_a_stream_can_be_written_as_json():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent:
            raise ValueError("x")

    written = [ev.model_dump_json() async for ev in W().run().stream_events()]
    return error_of(lambda: type(written[0]).__name__)
