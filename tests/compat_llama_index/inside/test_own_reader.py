"""`instrument(llama_index=True)`: models, embeddings, retrievers and tools below our steps, by our own reader."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import llama_index_instrumentation
import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import ChatMessage, CompletionResponse, CompletionResponseGen, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import workflows_otel
from tests.compat_llama_index.inside.jokes import Jokes
from tests.compat_llama_index.inside.openai_script import Script
from tests.compat_llama_index.inside.tracers import Back, llama_index_otel, openinference
from workflows.instrumentation.llama_index import Bridge

pytestmark = pytest.mark.usefixtures("no_provider")

Work = Callable[[], Awaitable[Any]]


class Does(Workflow):
    """Its step does what it is told."""

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ev.get("what")())


class Breaking(MockLLM):
    """Says two words of its answer, and breaks; where nobody wants a stream it breaks at once."""

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        raise ConnectionError("the model is gone")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        def words() -> CompletionResponseGen:
            yield CompletionResponse(text="two", delta="two")
            yield CompletionResponse(text="two words", delta=" words")
            raise ConnectionError("the line is dead")

        return words()


def asked(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="system", content="be brief"), ChatMessage(role="user", content=text)]


async def read(chunks: AsyncIterator[Any]) -> list[str]:
    return [chunk.delta async for chunk in chunks]


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def handlers() -> list[str]:
    """Who is registered with llama-index's dispatcher, but for those that do nothing."""
    root = llama_index_instrumentation.root_dispatcher
    every: Sequence[Any] = [*root.span_handlers, *root.event_handlers]
    return [type(one).__name__ for one in every if not type(one).__name__.startswith("Null")]


@pytest.fixture
def ours() -> Iterator[Back]:
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False, content="full", llama_index=True)
    yield back
    workflows_otel.uninstrument(back.provider)


async def does(what: Work) -> Any:
    return await Does().run(what=what)


def tree(*lines: str) -> list[str]:
    return ["invoke_workflow Does", "  run_step work", *(f"    {line}" for line in lines)]


# --- models -----------------------------------------------------------------------------------------------------------


async def test_a_chat_is_one_span_below_its_step(ours: Back, openai: Script) -> None:
    openai.lines = ["aye"]
    await does(lambda: OpenAI(model="gpt-4o-mini", max_tokens=5).achat(asked("ready?")))
    assert ours.tree() == tree("chat gpt-4o-mini")


async def test_a_chat_says_what_it_is_in_both_vocabularies(ours: Back, openai: Script) -> None:
    openai.lines = ["aye"]
    await does(lambda: OpenAI(model="gpt-4o-mini", max_tokens=5, temperature=0.5).achat(asked("ready?")))
    span = about(ours.named("chat gpt-4o-mini"))
    assert {key: value for key, value in span.items() if key.startswith(("llm.", "gen_ai.", "openinference."))} == {
        "openinference.span.kind": "LLM",
        "gen_ai.operation.name": "chat",
        "gen_ai.workflow.name": "Does",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.input.messages": '[{"role": "system", "parts": [{"type": "text", "content": "be brief"}]}, '
        '{"role": "user", "parts": [{"type": "text", "content": "ready?"}]}]',
        "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "aye"}]}]',
        "llm.model_name": "gpt-4o-mini",
        "llm.provider": "openai",
        "llm.invocation_parameters": '{"temperature": 0.5, "max_tokens": 5}',
        "llm.token_count.prompt": 1,
        "llm.token_count.completion": 1,
        "llm.token_count.total": 2,
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "be brief",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "ready?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "aye",
    }


async def test_a_chat_has_the_run_and_what_went_in_and_out(ours: Back, openai: Script) -> None:
    openai.lines = ["aye"]
    handler = Does().run(what=lambda: OpenAI(model="gpt-4o-mini").achat(asked("ready?")))
    await handler
    span = about(ours.named("chat gpt-4o-mini"))
    assert span["workflow.run.id"] == handler.run_id
    assert json.loads(span["input.value"])[1] == {"role": "user", "content": "ready?"}
    assert json.loads(span["output.value"]) == {"role": "assistant", "content": "aye"}


async def test_a_stream_ends_with_its_last_chunk(ours: Back, openai: Script) -> None:
    openai.lines = ["aye aye sir"]

    async def talk() -> None:
        chunks = await OpenAI(model="gpt-4o-mini").astream_chat(asked("ready?"))
        await anext(chunks)
        assert "chat gpt-4o-mini" not in [span.name for span in ours.spans]
        await read(chunks)
        assert "chat gpt-4o-mini" in [span.name for span in ours.spans]

    await does(talk)
    assert ours.tree() == tree("chat gpt-4o-mini")


async def test_a_stream_says_its_whole_answer_and_when_the_first_chunk_came(ours: Back, openai: Script) -> None:
    openai.lines = ["aye aye sir"]

    async def talk() -> None:
        await read(await OpenAI(model="gpt-4o-mini").astream_chat(asked("ready?")))

    await does(talk)
    span = about(ours.named("chat gpt-4o-mini"))
    assert span["llm.output_messages.0.message.content"] == "ayeayesir"
    assert 0 < span["gen_ai.response.time_to_first_chunk"] < 60


async def test_what_a_step_does_after_it_began_a_stream_is_not_below_the_model(ours: Back) -> None:
    async def talk() -> None:
        chunks = await MockLLM().astream_chat(asked("ready?"))
        with workflows_otel.tool(name="search"):
            pass
        await read(chunks)

    await does(talk)
    assert ours.tree() == tree("chat", "execute_tool search")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("text_completion", lambda: MockLLM().acomplete("hi")),
        ("chat", lambda: MockLLM().achat(asked("hi"))),
    ],
)
async def test_a_call_that_goes_through_several_methods_is_one_span(name: str, what: Work, ours: Back) -> None:
    await does(what)
    assert ours.tree() == tree(name)


@pytest.mark.parametrize("method", ["astream_complete", "astream_chat"])
async def test_a_stream_that_goes_through_several_methods_is_one_span(method: str, ours: Back) -> None:
    async def talk() -> None:
        given = "hi" if method == "astream_complete" else asked("hi")
        await read(await getattr(MockLLM(), method)(given))

    await does(talk)
    assert len(ours.tree()) == len(tree("one"))


async def test_two_calls_at_once_are_two_spans(ours: Back) -> None:
    model = MockLLM()

    async def talk() -> None:
        first, second = await model.astream_complete("hi"), await model.astream_complete("hi")
        await read(second)
        await read(first)

    await does(talk)
    assert ours.tree() == tree("text_completion", "text_completion")


async def test_tools_that_a_model_asks_for_are_shown(ours: Back) -> None:
    said = ChatMessage(
        role="assistant",
        content="",
        additional_kwargs={"tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}]},
    )
    answer = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1"})
    await does(lambda: MockLLM().achat([said, answer]))
    span = about(ours.named("chat"))
    assert span["llm.input_messages.0.message.tool_calls.0.tool_call.function.name"] == "add"
    assert span["llm.input_messages.0.message.tool_calls.0.tool_call.function.arguments"] == '{"a": 1}'
    assert json.loads(span["gen_ai.input.messages"]) == [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": '{"a": 1}'}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "3"}]},
    ]


async def test_secrets_in_what_a_model_is_asked_are_masked(ours: Back) -> None:
    await does(lambda: MockLLM().achat(asked("my key is sk-aaaaaaaaaaaaaaaaaaaaaaaa")))
    assert "sk-aaaa" not in json.dumps(about(ours.named("chat")))


async def test_no_text_is_shown_where_content_is_off() -> None:
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False, content="off", llama_index=True)
    await does(lambda: MockLLM().achat(asked("pirates")))
    assert "pirates" not in json.dumps(about(back.named("chat")))


# --- errors and streams that are left ---------------------------------------------------------------------------------


async def test_a_call_that_fails_is_an_error_with_its_exception(ours: Back) -> None:
    with pytest.raises(ConnectionError):
        await does(lambda: Breaking().achat(asked("hi")))
    span = ours.named("chat")
    assert (span.status.status_code, about(span)["error.type"]) == (StatusCode.ERROR, "ConnectionError")
    assert [event.name for event in span.events] == ["exception"]


async def test_a_stream_that_breaks_is_an_error_and_shows_what_came(ours: Back) -> None:
    async def talk() -> None:
        await read(await Breaking().astream_complete("hi"))

    with pytest.raises(ConnectionError):
        await does(talk)
    span = ours.named("text_completion")
    assert (span.status.status_code, about(span)["output.value"]) == (StatusCode.ERROR, "two words")


async def test_a_stream_that_is_left_in_the_middle_ends_there_and_is_no_error(ours: Back) -> None:
    async def talk() -> None:
        chunks = await MockLLM().astream_complete("hello")
        await anext(chunks)
        await chunks.aclose()

    await does(talk)
    span = ours.named("text_completion")
    assert (span.status.status_code, about(span)["output.value"]) == (StatusCode.UNSET, "h")


async def test_a_stream_that_is_thrown_away_in_the_middle_says_so(ours: Back) -> None:
    async def talk() -> None:
        chunks = await MockLLM().astream_complete("hello")
        await anext(chunks)

    await does(talk)
    gc.collect()
    span = ours.named("text_completion")
    assert (span.status.status_code, about(span)["workflow.call.outcome"]) == (StatusCode.UNSET, "closed")


async def test_a_stream_that_nobody_reads_ends_when_it_is_thrown_away(ours: Back) -> None:
    async def talk() -> None:
        await MockLLM().astream_complete("hello")

    await does(talk)
    assert ours.tree() == tree("text_completion")


# --- embeddings, retrievers, tools ------------------------------------------------------------------------------------


async def test_a_search_is_a_retriever_with_its_embedding_below(ours: Back) -> None:
    index = VectorStoreIndex.from_documents([Document(text="a parrot")], embed_model=MockEmbedding(embed_dim=3))
    ours.spans.clear()
    await does(lambda: index.as_retriever().aretrieve("birds?"))
    assert ours.tree() == tree("retrieval VectorIndexRetriever", "  embeddings")
    search, embedding = about(ours.named("retrieval VectorIndexRetriever")), about(ours.named("embeddings"))
    assert search["input.value"] == "birds?"
    assert search["retrieval.documents.0.document.content"] == "a parrot"
    assert search["retrieval.documents.0.document.score"] == pytest.approx(1)
    assert embedding["embedding.embeddings.0.embedding.text"] == "birds?"


def test_a_call_outside_of_any_run_is_a_trace_of_its_own(ours: Back) -> None:
    MockEmbedding(embed_dim=3).get_text_embedding_batch(["a", "b"])
    assert ours.tree() == ["embeddings"]
    assert about(ours.named("embeddings"))["output.value"] == "<2 vectors>"


async def test_a_tool_is_a_span_with_its_arguments_and_its_result(ours: Back) -> None:
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    await does(lambda: FunctionTool.from_defaults(add).acall(a=1, b=2))
    assert ours.tree() == tree("execute_tool add")
    span = about(ours.named("execute_tool add"))
    assert (span["gen_ai.tool.call.arguments"], span["gen_ai.tool.call.result"]) == ('{"a":1,"b":2}', "3")


async def test_a_tool_that_raises_is_an_error(ours: Back) -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await does(lambda: FunctionTool.from_defaults(fail).acall())
    assert ours.named("execute_tool fail").status.status_code is StatusCode.ERROR


async def test_a_tool_that_calls_itself_is_a_span_each_time(ours: Back) -> None:
    def factorial(n: int) -> int:
        """Multiplies."""
        return 1 if n < 2 else n * mine(n - 1).raw_output

    mine = FunctionTool.from_defaults(factorial)
    await does(lambda: asyncio.to_thread(mine.call, 3))
    assert ours.tree() == tree("execute_tool factorial", "  execute_tool factorial", "    execute_tool factorial")


# --- beside others, and going away ------------------------------------------------------------------------------------


async def test_the_bridge_sleeps_on_where_only_ours_reads(ours: Back) -> None:
    workflow = Jokes()
    await workflow.run(topic="pirates")
    assert [type(told.handler) for told in workflow._dispatcher.handlers if isinstance(told.handler, Bridge)] == []
    assert ours.tree() == ["invoke_workflow Jokes", "  run_step write", "    text_completion", "  run_step judge"]


async def test_openinference_that_comes_later_draws_the_models_instead(ours: Back) -> None:
    with openinference(ours):
        await does(lambda: MockLLM().acomplete("hi"))
    assert ours.tree() == tree("MockLLM.acomplete", "  MockLLM.complete")


async def test_openinference_that_was_there_before_draws_the_models(ours: Back) -> None:
    workflows_otel.uninstrument(ours.provider)
    with openinference(ours):
        workflows_otel.instrument(ours.provider, start_marker=False, llama_index=True)
        await does(lambda: MockLLM().acomplete("hi"))
    assert ours.tree() == tree("MockLLM.acomplete", "  MockLLM.complete")


async def test_llama_index_otel_draws_the_models_instead(ours: Back) -> None:
    with llama_index_otel(ours.provider):
        await does(lambda: MockLLM().acomplete("hi"))
    assert ours.tree() == tree("MockLLM.acomplete", "  MockLLM.complete")


async def test_when_openinference_has_gone_ours_draws_again(ours: Back) -> None:
    with openinference(ours):
        pass
    await does(lambda: MockLLM().acomplete("hi"))
    assert ours.tree() == tree("text_completion")


def test_uninstrument_leaves_nothing_behind() -> None:
    before, back = handlers(), Back()
    workflows_otel.instrument(back.provider, llama_index=True)
    assert set(handlers()) - set(before) == {"CallSpans", "CallEvents"}
    workflows_otel.uninstrument(back.provider)
    assert handlers() == before


async def test_a_stream_under_way_at_uninstrument_is_drawn_to_its_end() -> None:
    before, back = handlers(), Back()
    workflows_otel.instrument(back.provider, llama_index=True)
    chunks = await MockLLM().astream_complete("hello")
    workflows_otel.uninstrument(back.provider)
    await read(chunks)
    assert (handlers(), back.tree()) == (before, ["text_completion"])


async def test_nothing_is_drawn_unless_it_is_asked_for() -> None:
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False)
    await does(lambda: MockLLM().acomplete("hi"))
    assert back.tree() == tree()


LATER = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import workflows_otel

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
finders = list(sys.meta_path)
workflows_otel.instrument(provider, llama_index=True)
print(sorted(name for name in sys.modules if name.startswith("llama_index")))
from llama_index.core.llms import MockLLM
MockLLM().complete("hi")
print([span.name for span in exporter.get_finished_spans()], sys.meta_path == finders)
"""


def test_llama_index_is_not_loaded_for_it_and_is_read_when_it_is() -> None:
    ran = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "['text_completion'] True"]
