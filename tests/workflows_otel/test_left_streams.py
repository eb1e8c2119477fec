"""What a step leaves behind when it fails in the middle of an answer: the model's call is sent, nothing is kept."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import workflows_otel
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.errors import StepTimeoutError
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import VirtualClockLoop
from workflows_otel import llm_call, tool
from workflows_otel.turns import catch_up

pytestmark = pytest.mark.payloads


class Words:
    """A stream, as clients of models give it: read by `for` or `async for`, and entered by `with`."""

    def __init__(self, *words: str) -> None:
        self._words = iter(words)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._words)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self._words)
        except StopIteration:
            raise StopAsyncIteration from None

    def __enter__(self) -> Words:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@llm_call(model="m")
def words() -> Any:
    return Words("one", "two", "three")


@llm_call(model="m")
async def words_of_a_coroutine() -> Any:
    return Words("one", "two", "three")


@llm_call(model="m")
def words_of_a_generator() -> Generator[str]:
    yield from ("one", "two", "three")


class Given(Event):
    words: Any


def end(span: ReadableSpan) -> int:
    assert span.end_time is not None
    return span.end_time  # nanoseconds


def assert_closed_after_one_word(spans: list[ReadableSpan], times: int = 1) -> None:
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * times
    assert [about(span)["workflow.call.outcome"] for span in spans] == ["closed"] * times
    assert [about(span)["output.value"] for span in spans] == ["one"] * times


class Mark:
    """Something that a step has in its frame."""


class FailsWithin(Workflow):
    """Fails in the middle of an answer, that it has got in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.frames: list[weakref.ref[Mark]] = []

    @step
    async def read(self, ev: StartEvent) -> StopEvent:
        mark = Mark()
        self.frames.append(weakref.ref(mark))
        match self.way:
            case "coroutine":
                answer = await words_of_a_coroutine()
                await anext(answer)
            case "with":
                with words() as entered:
                    for _ in entered:
                        raise ValueError("in the middle")
            case "generator":
                chunks = words_of_a_generator()
                next(chunks)
            case _:
                stream = words()
                next(stream)
        raise ValueError("in the middle")


WAYS = ["coroutine", "with", "generator", "variable"]


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_a_failing_step_leaves_is_sent_and_ends_before_the_step(way: str, spans: SpanLog) -> None:
    with pytest.raises(ValueError, match="in the middle") as kept:
        await FailsWithin(way).run()
    assert kept.value.__traceback__ is not None  # whose frames have the stream still
    assert_closed_after_one_word(spans.all_named("chat m"))
    assert end(spans.named("chat m")) <= end(spans.named("run_step read"))


@pytest.mark.parametrize("way", WAYS)
async def test_a_step_that_left_an_answer_is_not_kept_in_memory(way: str) -> None:
    spans = SpanLog()
    workflows_otel.instrument(spans.provider, content="full")
    workflow = FailsWithin(way)
    try:
        with pytest.raises(ValueError, match="in the middle"):
            await workflow.run()
        await asyncio.sleep(0)
        gc.collect()
        assert [frame() for frame in workflow.frames] == [None]
    finally:
        workflows_otel.uninstrument(spans.provider)


class Retries(Workflow):
    """Its first attempt hangs in the middle of an answer, its second fails there, its third reads it."""

    attempts = 0

    @step(timeout=3, retry_policy=retry_policy(stop=stop_after_attempt(3), wait=wait_fixed(1)))
    async def read(self, ev: StartEvent) -> StopEvent:
        self.attempts += 1
        stream = words()
        first = next(stream)
        if self.attempts == 1:
            await asyncio.Event().wait()
        if self.attempts == 2:
            raise ValueError("in the middle")
        return StopEvent(result=[first, *stream])


@pytest.mark.usefixtures("clock")
async def test_each_attempt_that_times_out_or_fails_in_an_answer_has_its_call(spans: SpanLog) -> None:
    assert await Retries().run() == ["one", "two", "three"]
    *left, whole = spans.all_named("chat m")
    assert_closed_after_one_word(left, times=2)
    assert about(whole)["output.value"] == "onetwothree"
    assert [spans.parent(span) for span in [*left, whole]] == ["attempt read"] * 3


async def test_the_last_attempt_that_times_out_in_an_answer_has_its_call(
    clock: VirtualClockLoop, spans: SpanLog
) -> None:
    class Hangs(Workflow):
        @step(timeout=3)
        async def read(self, ev: StartEvent) -> StopEvent:
            stream = words()
            next(stream)
            await asyncio.Event().wait()
            return StopEvent()

    with pytest.raises(StepTimeoutError):
        await Hangs().run()
    assert clock.time() == 3
    assert_closed_after_one_word(spans.all_named("chat m"))


async def test_an_answer_that_a_step_hands_on_is_drawn_until_the_next_one_has_read_it(spans: SpanLog) -> None:
    class HandsOn(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> Given:
            return Given(words=words())

        @step
        async def read(self, ev: Given) -> StopEvent:
            return StopEvent(result=list(ev.words))

    assert await HandsOn().run() == ["one", "two", "three"]
    chat = spans.named("chat m")
    assert about(chat)["output.value"] == "onetwothree"
    assert "workflow.call.outcome" not in about(chat)


async def test_a_task_that_is_reading_an_answer_is_drawn_to_its_end_when_the_step_fails(spans: SpanLog) -> None:
    go_on = asyncio.Event()

    @llm_call(model="m")
    async def slowly() -> AsyncIterator[str]:
        yield "one"
        await go_on.wait()
        yield "two"

    async def read() -> list[str]:
        return [word async for word in slowly()]

    tasks: list[asyncio.Task[list[str]]] = []

    class StartsTask(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> StopEvent:
            tasks.append(asyncio.create_task(read()))
            await asyncio.sleep(0)
            raise ValueError("while it reads")

    with pytest.raises(ValueError, match="while it reads"):
        await StartsTask().run()
    go_on.set()
    assert await tasks[0] == ["one", "two"]
    assert about(spans.named("chat m"))["output.value"] == "onetwo"


async def test_a_future_that_goes_on_when_the_step_fails_says_how_it_ended(spans: SpanLog) -> None:
    futures: list[asyncio.Future[str]] = []

    @tool
    def begin() -> asyncio.Future[str]:
        futures.append(asyncio.get_running_loop().create_future())
        return futures[0]

    class Fails(Workflow):
        @step
        async def start(self, ev: StartEvent) -> StopEvent:
            begin()
            raise ValueError("while it works")

    with pytest.raises(ValueError, match="while it works"):
        await Fails().run()
    assert not spans.all_named("execute_tool begin")
    futures[0].set_result("done")
    await asyncio.sleep(0)
    assert about(spans.named("execute_tool begin"))["output.value"] == "done"


class Reader:
    """An application's object that has a stream, and itself."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.itself = self


@llm_call(model="m")
async def words_of_an_async_generator() -> AsyncIterator[str]:
    for word in ("one", "two", "three"):
        yield word


class LeavesToTheCollector(Workflow):
    @step
    async def read(self, ev: StartEvent) -> StopEvent:
        if ev.way == "async":
            reader = Reader(words_of_an_async_generator())
            async for _ in reader.stream:
                break
        else:
            reader = Reader(words_of_a_generator())
            next(reader.stream)
        return StopEvent()


@pytest.mark.parametrize("way", ["async", "plain"])
async def test_an_answer_that_the_collector_ends_has_its_span_and_what_was_read(way: str, spans: SpanLog) -> None:
    await LeavesToTheCollector().run(way=way)
    gc.collect()
    for _ in range(5):  # the event loop closes an async generator in a task of its own
        await asyncio.sleep(0)
    catch_up()
    assert_closed_after_one_word(spans.all_named("chat m"))
