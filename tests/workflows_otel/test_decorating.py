"""What `tool`, `llm_call` and `retriever` decorate does what it did, and is drawn to its end."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Annotated, Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation.redaction import Redact
from workflows_otel import TelemetrySetupError, current_call, llm_call, retriever, tool

pytestmark = pytest.mark.payloads


def talk() -> Generator[str, str | None, str]:
    """Says back what it is sent, and survives a `KeyError`."""
    said = yield "a"
    try:
        yield said or "nothing"
    except KeyError:
        yield "caught"
    return "the end"


async def async_talk() -> AsyncGenerator[str, str | None]:
    said = yield "a"
    try:
        yield said or "nothing"
    except KeyError:
        yield "caught"


@llm_call
def drawn_talk() -> Generator[str, str | None, str]:
    return (yield from talk())


@llm_call
async def drawn_async_talk() -> AsyncGenerator[str, str | None]:
    chunks = async_talk()
    said = yield await anext(chunks)
    try:
        yield await chunks.asend(said)
    except KeyError as error:
        yield await chunks.athrow(error)


def shown(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


# --- generators keep what they can do ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("spans")
def test_what_is_sent_and_thrown_into_a_drawn_generator_comes_there() -> None:
    drawn = drawn_talk()
    assert (next(drawn), drawn.send("hello"), drawn.throw(KeyError("x"))) == ("a", "hello", "caught")


@pytest.mark.usefixtures("spans")
def test_a_drawn_generator_gives_back_what_it_gave() -> None:
    given: list[str] = []

    def reading() -> Generator[str, None, None]:
        given.append((yield from drawn_talk()))

    assert list(reading()) == ["a", "nothing"]
    assert given == ["the end"]


@pytest.mark.usefixtures("spans")
async def test_what_is_sent_and_thrown_into_a_drawn_async_generator_comes_there() -> None:
    drawn = drawn_async_talk()
    said = [await anext(drawn), await drawn.asend("hello"), await drawn.athrow(KeyError("x"))]
    assert said == ["a", "hello", "caught"]


async def test_a_span_that_a_generator_holds_open_has_what_follows_below_it(spans: SpanLog) -> None:
    @llm_call
    async def answer() -> AsyncIterator[str]:
        with retriever(name="notes"):
            yield "one"
            with tool(name="lookup"):
                yield "two"

    assert [chunk async for chunk in answer()] == ["one", "two"]
    assert spans.parent(spans.named("execute_tool lookup")) == "retrieval notes"


# --- what is given back to be read or awaited -------------------------------------------------------------------------


@llm_call
def gives_generator() -> Generator[str, str | None, str]:
    return talk()


@llm_call
async def gives_async_generator() -> AsyncGenerator[str, str | None]:
    return async_talk()


@llm_call
def gives_coroutine() -> Any:
    async def late() -> str:
        with tool(name="inside"):
            return "late"

    return late()


def test_a_generator_that_a_function_gives_back_is_a_stream(spans: SpanLog) -> None:
    assert list(gives_generator()) == ["a", "nothing"]
    span = spans.named("chat")
    assert shown(span, "output.value") == "anothing"
    assert shown(span, "gen_ai.response.time_to_first_chunk") > 0


async def test_an_async_generator_that_a_coroutine_gives_back_is_a_stream(spans: SpanLog) -> None:
    chunks = await gives_async_generator()
    assert spans.finished == ()
    assert [chunk async for chunk in chunks] == ["a", "nothing"]
    assert shown(spans.named("chat"), "output.value") == "anothing"


async def test_a_coroutine_that_a_function_gives_back_is_drawn_until_it_ends(spans: SpanLog) -> None:
    assert await gives_coroutine() == "late"
    assert shown(spans.named("chat"), "output.value") == "late"
    assert spans.parent(spans.named("execute_tool inside")) == "chat"


def test_a_stream_that_is_never_begun_ends_when_it_is_thrown_away(spans: SpanLog) -> None:
    gives_generator()
    gc.collect()
    assert [span.name for span in spans.finished] == ["chat"]


# --- one helper for many tasks ----------------------------------------------------------------------------------------


async def test_one_helper_entered_in_several_tasks_ends_each_call_on_its_own(spans: SpanLog) -> None:
    shared = llm_call(model="m")
    turns = {name: asyncio.Event() for name in "abc"}

    async def ask(name: str) -> None:
        with shared as call:
            call.input(name)
            await turns[name].wait()
            call.output(name)
            if name == "b":
                raise ValueError(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(partial(_kept, ask)(name)) for name in "abc"]
        await asyncio.sleep(0)
        for name in "bca":  # not in the order in which they began
            turns[name].set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    assert [task.result() for task in tasks] == [None, "b", None]
    found = [(shown(s, "input.value"), shown(s, "output.value"), s.status.status_code) for s in spans.finished]
    assert found == [("b", "b", StatusCode.ERROR), ("c", "c", StatusCode.OK), ("a", "a", StatusCode.OK)]


async def _kept(ask: Callable[[str], Any], name: str) -> str | None:
    try:
        await ask(name)
    except ValueError as error:
        return str(error)
    return None


# --- arguments --------------------------------------------------------------------------------------------------------


@tool
def varied(a: int, *rest: int, b: int = 0, **more: int) -> int:
    return a


def test_arguments_are_shown_under_their_names(spans: SpanLog) -> None:
    varied(1, 2, 3, b=4, z=5)
    assert json.loads(shown(spans.named("execute_tool varied"), "input.value")) == {
        "a": 1,
        "rest": [2, 3],
        "b": 4,
        "z": 5,
    }


def test_what_has_no_signature_can_be_drawn(spans: SpanLog) -> None:
    assert (tool(min)(2, 1), tool(partial(int, base=2))("101")) == (1, 5)
    assert [span.name for span in spans.finished] == ["execute_tool min", "execute_tool int"]


Pin = Annotated[str, Redact()]


@pytest.mark.parametrize("decorate", [tool, llm_call, retriever])
def test_an_argument_that_is_marked_and_a_result_are_hidden(decorate: Any, spans: SpanLog) -> None:
    @decorate
    def login(pin: Pin | None, user: str) -> list[Pin]:
        return [f"token of {pin}"]

    assert login("LEAK", user="ann") == ["token of LEAK"]
    (span,) = spans.finished
    assert "LEAK" not in str(dict(span.attributes or {}))
    assert about(span)["input.value"] == '{"pin":"**********","user":"ann"}'
    assert about(span)["output.value"] == "**********"


def test_a_stream_whose_items_are_marked_is_hidden(spans: SpanLog) -> None:
    @llm_call
    def tokens() -> Iterator[Pin]:
        yield "LEAK"

    assert list(tokens()) == ["LEAK"]
    assert "LEAK" not in str(about(spans.named("chat")))


def test_a_name_instead_of_a_function_is_refused_with_the_fix() -> None:
    with pytest.raises(TelemetrySetupError, match=r"'gpt-4o' is no function.*@llm_call\(model=\.\.\.\)"):
        llm_call("gpt-4o")  # pyright: ignore[reportArgumentType, reportCallIssue]  # what is refused


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_long_streamed_answer_is_cut_with_a_word_of_it(spans: SpanLog) -> None:
    @llm_call
    def long() -> Iterator[str]:
        yield from ("ab" for _ in range(5_000))

    assert len("".join(long())) == 10_000
    span = spans.named("chat")
    said = shown(span, "output.value")
    assert said.endswith("chars omitted]")
    assert len(said) + int(said.rpartition("[")[2].split()[0]) >= 10_000
    assert shown(span, "workflow.truncated") is True


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀", '"'])
@pytest.mark.parametrize("name", ["chat", "retrieval", "execute_tool"])
def test_no_call_is_larger_than_64_kb(name: str, letter: str, spans: SpanLog) -> None:
    asked = [{"role": "user", "content": letter * 20_000} for _ in range(60)]
    helper, answer = {
        "chat": (llm_call(), {"role": "assistant", "content": letter * 50_000}),
        "retrieval": (retriever(), [{"text": letter * 20_000, "id": "x" * 900} for _ in range(60)]),
        "execute_tool": (tool(), letter * 50_000),
    }[name]

    def fail() -> None:
        with helper as call:
            call.input(asked).output(answer)
            raise ValueError("x" * 5_000)

    with pytest.raises(ValueError, match="x"):
        fail()
    assert encode_spans(spans.finished).ByteSize() < 65_536


def test_a_long_conversation_shows_its_first_message_and_the_latest(spans: SpanLog) -> None:
    with llm_call(model="m") as call:
        call.input([{"role": "user", "content": f"message {number}"} for number in range(60)])
    span = spans.named("chat m")
    shown_ones = [shown(span, f"llm.input_messages.{number}.message.content") for number in (0, 1, 39, 40)]
    assert shown_ones == ["message 0", "message 21", "message 59", None]
    assert shown(span, "workflow.truncated") is True


def test_what_a_call_is_stays_where_the_provider_keeps_few_attributes(spans: SpanLog) -> None:
    with retriever(name="r") as call:
        call.output([{"text": "t", "score": 1.0, "id": str(number)} for number in range(60)])
        call.span.set_attributes({f"mine.{number}": number for number in range(20)})
    assert shown(spans.named("retrieval r"), "openinference.span.kind") == "RETRIEVER"


def test_no_secret_is_in_the_id_of_a_document(spans: SpanLog) -> None:
    with retriever(name="r") as call:
        call.output([{"text": "t", "id": "https://user:hunter2@host/1"}])
    assert "hunter2" not in str(spans.named("retrieval r").attributes)


def test_of_very_many_tool_calls_the_latest_are_shown(spans: SpanLog) -> None:
    def asks(number: int) -> dict[str, Any]:
        calls = [{"id": f"{number}.{place}" * 99, "name": "look", "arguments": {"q": "x" * 300}} for place in range(30)]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    with llm_call(model="m") as call:
        call.input([asks(number) for number in range(40)])
    span = spans.named("chat m")
    found = [key for key in span.attributes or {} if key.endswith("function.name")]
    assert {key.partition(".message.")[0] for key in found} <= {"llm.input_messages.38", "llm.input_messages.39"}
    assert encode_spans([span]).ByteSize() < 65_536


def test_short_messages_are_whole_beside_a_long_one(spans: SpanLog) -> None:
    with llm_call(model="m") as call:
        call.input([{"role": "system", "content": "be brief"}, {"role": "user", "content": "x" * 50_000}])
    span = spans.named("chat m")
    assert shown(span, "llm.input_messages.0.message.content") == "be brief"
    assert len(shown(span, "llm.input_messages.1.message.content")) > 14_000


def test_a_long_answer_to_a_short_question_is_whole(spans: SpanLog) -> None:
    with llm_call(model="m") as call:
        call.input("Tell me all").output("x" * 16_384)
    assert shown(spans.named("chat m"), "llm.output_messages.0.message.content") == "x" * 16_384


@pytest.mark.parametrize("what", ["MESSAGES", "TEXT"])
def test_openinferences_variables_hide_what_a_model_is_told_and_says(
    what: str, spans: SpanLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OPENINFERENCE_HIDE_INPUT_{what}", "true")
    monkeypatch.setenv(f"OPENINFERENCE_HIDE_OUTPUT_{what}", "true")
    with llm_call(model="m") as call:
        call.input("my question").output("my answer")
    assert "my " not in json.dumps(dict(spans.named("chat m").attributes or {}))


def test_openinferences_variable_hides_what_a_retriever_finds(spans: SpanLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENINFERENCE_HIDE_RETRIEVAL_DOCUMENTS", "true")
    with retriever(name="r") as call:
        call.input("my question").output(["my page"])
    assert shown(spans.named("retrieval r"), "input.value") == "my question"
    assert "my page" not in str(spans.named("retrieval r").attributes)


def test_a_status_that_the_application_sets_on_a_call_stays(spans: SpanLog) -> None:
    with llm_call(model="m") as call:
        call.span.set_status(StatusCode.ERROR, "quality too low")
    assert spans.named("chat m").status.description == "quality too low"


# --- from inside ------------------------------------------------------------------------------------------------------


async def test_a_decorated_call_tells_its_tokens_from_inside(spans: SpanLog) -> None:
    @llm_call(model="m")
    async def ask() -> AsyncIterator[str]:
        yield "yes"
        current_call().usage(input=10, output=4)

    assert [chunk async for chunk in ask()] == ["yes"]
    assert shown(spans.named("chat m"), "llm.token_count.total") == 14


def test_what_is_said_of_no_call_is_heard_by_nobody(spans: SpanLog) -> None:
    current_call().usage(input=10).input("a").output("b")
    assert spans.finished == ()


async def test_helpers_are_async_context_managers(spans: SpanLog) -> None:
    async with llm_call(model="m") as call:
        call.output("hi")
    assert shown(spans.named("chat m"), "output.value") == "hi"


async def test_an_exception_of_a_call_is_recorded_there_alone(spans: SpanLog) -> None:
    class Buys(Workflow):
        @step
        @tool
        async def buy(self, ev: StartEvent) -> StopEvent:
            with tool(name="pay"):
                raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await Buys().run()
    assert [span.name for span in spans.finished if span.events] == ["execute_tool pay"]
    assert spans.named("run_step buy").status.description == "ValueError: refused"
