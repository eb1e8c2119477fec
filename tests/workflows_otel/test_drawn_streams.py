"""Streams of decorated functions: they do what they did, and their spans say how they ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from tests.workflows_otel.span_log import SpanLog, about
from workflows_otel import llm_call, retriever, tool

pytestmark = pytest.mark.payloads


def outcome(spans: SpanLog, name: str) -> tuple[StatusCode, Any]:
    span = spans.named(name)
    return span.status.status_code, about(span).get("workflow.call.outcome")


# --- generators -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("spans")
async def test_a_cancellation_that_is_thrown_into_a_drawn_generator_comes_there() -> None:
    seen: list[str] = []

    @asynccontextmanager
    @tool
    async def session() -> AsyncGenerator[str, None]:
        try:
            yield "open"
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def work() -> None:
        async with session():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert seen == ["cancelled"]


async def test_a_stream_closed_early_leaves_its_readers_span_current(spans: SpanLog) -> None:
    @llm_call
    async def answer() -> AsyncGenerator[str, None]:
        with retriever(name="notes"):
            yield "one"
            yield "two"

    with tool(name="reader") as reader:
        chunks = answer()
        await anext(chunks)
        await chunks.aclose()
        assert trace.get_current_span() is reader.span
    assert outcome(spans, "chat") == (StatusCode.UNSET, "closed")


async def test_a_cancelled_call_says_so(spans: SpanLog) -> None:
    @tool
    async def slow() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert outcome(spans, "execute_tool slow") == (StatusCode.UNSET, "cancelled")


def test_a_class_method_can_be_drawn_from_outside(spans: SpanLog) -> None:
    class Shop:
        @tool
        @classmethod
        def price(cls, of: str) -> int:
            return len(of)

        @tool
        @staticmethod
        def stock(of: str) -> int:
            return len(of)

    assert (Shop.price("tea"), Shop().stock("milk")) == (3, 4)
    assert about(spans.named("execute_tool price"))["input.value"] == '{"of":"tea"}'


# --- streams of a model's client --------------------------------------------------------------------------------------


class ClientStream:
    """What clients of models give back for a streamed answer."""

    def __init__(self, *chunks: str) -> None:
        self._chunks = iter(chunks)
        self.response = "HTTP 200"
        self.is_closed = False

    def __iter__(self) -> ClientStream:
        return self

    def __next__(self) -> str:
        return next(self._chunks)

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True


class AsyncClientStream:
    """The same, with an iterator of its own."""

    def __init__(self, *chunks: str, fails: bool = False) -> None:
        self._chunks = chunks
        self._fails = fails

    async def __aiter__(self) -> AsyncIterator[str]:
        for chunk in self._chunks:
            yield chunk
        if self._fails:
            raise ConnectionError("lost")

    async def __anext__(self) -> str:
        raise StopAsyncIteration

    async def close(self) -> None:
        pass


def streamed(*chunks: str) -> Any:
    @llm_call(model="m")
    def ask() -> Any:
        return ClientStream(*chunks)

    return ask()


async def async_streamed(*chunks: str, fails: bool = False) -> Any:
    @llm_call(model="m")
    async def ask() -> Any:
        return AsyncClientStream(*chunks, fails=fails)

    return await ask()


def test_the_stream_of_a_client_is_read_to_its_end_inside_the_span(spans: SpanLog) -> None:
    stream = streamed("yes", "!")
    assert spans.finished == ()
    assert list(stream) == ["yes", "!"]
    chat = about(spans.named("chat m"))
    assert chat["output.value"] == "yes!"
    assert chat["gen_ai.response.time_to_first_chunk"] > 0


@pytest.mark.usefixtures("spans")
def test_the_stream_of_a_client_is_what_it_was() -> None:
    stream = streamed("yes")
    stream.note = "mine"
    response, note = stream.response, stream.note
    assert isinstance(stream, ClientStream)
    assert not hasattr(stream, "__aiter__")
    assert (response, note, repr(stream)[:9]) == ("HTTP 200", "mine", "<tests.wo")


def test_the_stream_of_a_client_in_a_block_ends_with_it(spans: SpanLog) -> None:
    with streamed("yes", "!") as stream:
        assert next(stream) == "yes"
    assert stream.is_closed
    assert outcome(spans, "chat m") == (StatusCode.UNSET, "closed")


def test_the_stream_of_a_client_that_is_thrown_away_ends(spans: SpanLog) -> None:
    next(streamed("yes", "!"))
    gc.collect()
    assert about(spans.named("chat m"))["output.value"] == "yes"


async def test_the_async_stream_of_a_client_is_read_to_its_end_inside_the_span(spans: SpanLog) -> None:
    assert [chunk async for chunk in await async_streamed("yes", "!")] == ["yes", "!"]
    assert outcome(spans, "chat m") == (StatusCode.OK, None)


async def test_a_stream_of_a_client_that_fails_is_an_error(spans: SpanLog) -> None:
    with pytest.raises(ConnectionError):
        _ = [chunk async for chunk in await async_streamed("yes", fails=True)]
    assert outcome(spans, "chat m") == (StatusCode.ERROR, None)


async def test_an_async_stream_of_a_client_may_be_closed(spans: SpanLog) -> None:
    await (await async_streamed("yes")).close()
    assert outcome(spans, "chat m") == (StatusCode.UNSET, "closed")


@dataclass
class Delta:
    content: str | None


@pytest.mark.parametrize(
    "chunks",
    [
        [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}, {"choices": [{"delta": {"content": "yes"}}]}],
        [{"choices": []}, {"choices": [{"text": "yes"}]}],
        [SimpleNamespace(choices=[SimpleNamespace(delta=Delta("yes"))]), SimpleNamespace(choices=[], usage=3)],
        [{"type": "start"}, {"type": "content_block_delta", "delta": {"text": "yes"}}],
        [SimpleNamespace(delta="y"), SimpleNamespace(delta="es")],
        [{"candidates": [{"content": {"parts": [{"text": "yes"}]}}]}],
        [{"message": {"content": "y"}}, {"message": {"content": "es"}}, {"done": True}],
        [Delta("yes"), Delta(None)],
    ],
)
def test_the_answer_is_shown_and_not_the_chunks_that_a_client_makes_of_it(chunks: list[Any], spans: SpanLog) -> None:
    @llm_call
    def ask() -> Iterator[Any]:
        yield from chunks

    assert list(ask()) == chunks
    chat = about(spans.named("chat"))
    assert chat["output.value"] == chat["llm.output_messages.0.message.content"] == "yes"


def test_an_iterator_of_a_tool_is_given_as_it_is(spans: SpanLog) -> None:
    lines = iter(["a", "b"])
    assert tool(lambda: lines)() is lines
    assert len(spans.finished) == 1


def test_a_stream_of_many_parts_says_how_many_are_left_out(spans: SpanLog) -> None:
    @llm_call
    def long() -> Iterator[dict[str, int]]:
        yield from ({"n": n} for n in range(1_500))

    assert len(list(long())) == 1_500
    chat = about(spans.named("chat"))
    assert chat["workflow.truncated"] is True
    assert "items omitted]" in chat["output.value"]
