"""Examples of the workflow guide that `test_seed_code` does not run; `tests/seeds` has the whole list."""

import asyncio
import builtins
import importlib.util
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Optional

import pytest
from llama_index.core import Document, MockEmbedding, Settings, VectorStoreIndex, get_response_synthesizer
from llama_index.core.llms import CompletionResponse
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index.llms.openai import OpenAI

from tests.compat_llama_index.inside.openai_script import Script
from tests.compat_llama_index.inside.test_seed_code import JokeEvent, JokeFlow
from workflows.testing import VirtualClockLoop

BRIDGE = Path(__file__).parents[3] / "compat/llama-index-utils-workflow/llama_index/utils/workflow/__init__.py"


@pytest.fixture
def default_llm(openai: Script) -> Iterator[Script]:
    """`Settings.llm` as a fresh process has it, once `OpenAI()` can be reached."""
    before = Settings._llm
    Settings.llm = OpenAI()
    yield openai
    Settings._llm = before


@pytest.fixture
def drawing_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our `llama-index-utils-workflow` in the place of the real one, which this venv has."""
    spec = importlib.util.spec_from_file_location("llama_index.utils.workflow", BRIDGE)
    assert spec is not None
    assert spec.loader is not None
    bridge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bridge)
    monkeypatch.setitem(sys.modules, "llama_index.utils.workflow", bridge)


def test_a_script_has_one_async_entry_point(openai: Script, capsys: pytest.CaptureFixture[str]) -> None:
    openai.lines = ["A joke.", "A critique."]

    async def main():
        w = JokeFlow(timeout=60, verbose=False)
        result = await w.run(topic="pirates")
        print(result)

    asyncio.run(main())
    assert capsys.readouterr().out == "A critique.\n"


@pytest.mark.parametrize(("given", "used"), [({"topic": "pirates"}, "pirates"), ({}, None)])
async def test_a_field_that_may_be_missing_is_got(given: dict[str, str], used: str | None) -> None:
    class Gets(Workflow):
        @step
        async def generate_joke(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=ev.get("topic"))

    assert await Gets().run(**given) == used


class MyCustomStartEvent(StartEvent):
    a_string_field: str
    a_path_to_somewhere: Path
    an_index: VectorStoreIndex  # the guide's index lives at a provider; this one in memory
    an_llm: OpenAI


class JokeFromIndex(Workflow):
    @step
    async def generate_joke_from_index(self, ev: MyCustomStartEvent) -> JokeEvent:
        # Build a query engine using the index and the llm from the start event
        query_engine = ev.an_index.as_query_engine(llm=ev.an_llm)
        topic = query_engine.query(f"What is the closest topic to {ev.a_string_field}")
        # Use the llm attached to the start event to instruct the model
        prompt = f"Write your best joke about {topic}."
        response = await ev.an_llm.acomplete(prompt)
        # Dump the response on disk using the Path object from the event
        ev.a_path_to_somewhere.write_text(str(response))
        # Finally, pass the JokeEvent along
        return JokeEvent(joke=str(response))

    @step
    async def critique_joke(self, ev: JokeEvent) -> StopEvent:
        return StopEvent(result=ev.joke)


async def test_a_start_event_of_ones_own_carries_an_index_and_a_model(openai: Script, tmp_path: Path) -> None:
    openai.lines = ["pirates", "A joke about pirates."]
    index = VectorStoreIndex.from_documents([Document(text="Pirates sail.")], embed_model=MockEmbedding(embed_dim=4))
    custom_start_event = MyCustomStartEvent(
        a_string_field="ships", a_path_to_somewhere=tmp_path / "joke.txt", an_index=index, an_llm=OpenAI()
    )
    w = JokeFromIndex(timeout=60, verbose=False)
    result = await w.run(start_event=custom_start_event)
    assert str(result) == (tmp_path / "joke.txt").read_text() == "A joke about pirates."
    assert "Pirates sail." in str(openai.asked[0])
    assert "Write your best joke about pirates." in str(openai.asked[1])


async def test_a_stop_event_of_ones_own_holds_what_the_model_said(openai: Script) -> None:
    class MyStopEvent(StopEvent):
        critique: CompletionResponse

    class Criticised(JokeFlow):
        @step
        async def critique_joke(self, ev: JokeEvent) -> MyStopEvent:
            joke = ev.joke

            prompt = f"Give a thorough analysis and critique of the following joke: {joke}"
            response = await self.llm.acomplete(prompt)
            return MyStopEvent(response)

    openai.lines = ["A joke.", "Too short."]
    w = Criticised(timeout=60, verbose=False)
    # Warning! `result` now contains an instance of MyStopEvent!
    result = await w.run(topic="pirates")
    assert isinstance(result, MyStopEvent)
    assert result.critique.text == "Too short."


async def test_a_workflow_is_drawn_before_and_after_its_run(
    openai: Script, drawing_bridge: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_index.utils.workflow import (
        draw_all_possible_flows,
        draw_most_recent_execution,
    )

    monkeypatch.chdir(tmp_path)
    openai.lines = ["A joke.", "A critique."]
    # Draw all
    draw_all_possible_flows(JokeFlow, filename="joke_flow_all.html")

    # Draw an execution
    w = JokeFlow()
    await w.run(topic="Pirates")
    draw_most_recent_execution(w, filename="joke_flow_recent.html")
    assert all("critique_joke" in page.read_text() for page in tmp_path.glob("joke_flow_*.html"))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.filterwarnings("ignore:ctx:DeprecationWarning")
async def test_steps_share_values_in_the_context() -> None:
    class MyEvent(Event):
        pass

    class Shares(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> MyEvent:
            await ctx.set("query", ev.query)
            return MyEvent()

        @step
        async def query(self, ctx: Context, ev: MyEvent) -> StopEvent:
            # retrieve from context
            query = await ctx.get("query")

            # do something with context and event
            val = len(query)
            result = query.upper()

            # store in context
            await ctx.set("key", val)

            return StopEvent(result=result)

    handler = Shares().run(query="who?")
    assert await handler == "WHO?"
    assert await handler.ctx.get("key") == 4


class QueryEvent(Event):
    query: str


class RetrieveEvent(Event):
    nodes: list[NodeWithScore]


class Synthesizes(Workflow):
    @step
    async def start(self, ctx: Context, ev: StartEvent) -> QueryEvent | RetrieveEvent:
        ctx.send_event(RetrieveEvent(nodes=[NodeWithScore(node=TextNode(text="Pirates sail."), score=1.0)]))
        return QueryEvent(query=ev.query)

    @step
    async def synthesize(self, ctx: Context, ev: QueryEvent | RetrieveEvent) -> StopEvent | None:
        data = ctx.collect_events(ev, [QueryEvent, RetrieveEvent])
        # check if we can run
        if data is None:
            return None

        # unpack -- data is returned in order
        query_event, retrieve_event = data

        # run response synthesis
        synthesizer = get_response_synthesizer()
        response = synthesizer.synthesize(query_event.query, nodes=retrieve_event.nodes)

        return StopEvent(result=response)


async def test_a_query_and_its_nodes_are_awaited_and_answered(default_llm: Script) -> None:
    default_llm.lines = ["They sail."]
    assert str(await Synthesizes().run(query="What do pirates do?")) == "They sail."
    assert "Pirates sail." in str(default_llm.asked)


class ProgressEvent(Event):
    msg: str


async def test_progress_is_read_while_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    class MyWorkflow(Workflow):
        @step
        async def step_one(self, ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.write_event_to_stream(ProgressEvent(msg="Step one is happening"))
            return StopEvent(result="First step complete.")

    w = MyWorkflow()

    handler = w.run(topic="Pirates")

    async for event in handler.stream_events():
        print(event)

    result = await handler
    assert capsys.readouterr().out.splitlines() == ["msg='Step one is happening'", "First step complete."]
    assert result == "First step complete."


class RetryOnFridayPolicy:
    today = datetime(2026, 11, 20)

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> Optional[float]:
        if self.today.strftime("%A") == "Friday":
            # retry in 5 seconds
            return 5
        # tell the workflow we don't want to retry
        return None


async def test_a_policy_of_ones_own_retries_on_fridays(clock: VirtualClockLoop) -> None:
    policy = RetryOnFridayPolicy()

    class MyWorkflow(Workflow):
        @step(retry_policy=policy)
        async def flaky_step(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number < 3:
                raise ConnectionError("no route")
            return StopEvent(result=clock.time())

    assert await MyWorkflow().run() == 15
    policy.today = datetime(2026, 11, 21)
    with pytest.raises(ConnectionError):
        await MyWorkflow().run()


async def test_a_person_is_asked_while_the_stream_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class HumanInTheLoopWorkflow(Workflow):
        @step
        async def step1(self, ev: StartEvent) -> InputRequiredEvent:
            return InputRequiredEvent(prefix="Enter a number: ")

        @step
        async def step2(self, ev: HumanResponseEvent) -> StopEvent:
            return StopEvent(result=ev.response)

    monkeypatch.setattr(builtins, "input", lambda prompt: f"42 for {prompt!r}")
    # workflow should work with streaming
    workflow = HumanInTheLoopWorkflow()

    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            # here, we can handle human input however you want
            # this means using input(), websockets, accessing async state, etc.
            # here, we just use input()
            response = input(event.prefix)
            handler.ctx.send_event(HumanResponseEvent(response=response))

    final_result = await handler
    assert final_result == "42 for 'Enter a number: '"


async def test_free_functions_are_attached_to_a_bare_workflow(openai: Script) -> None:
    openai.lines = ["A joke.", "A critique."]
    joke_flow = Workflow(timeout=60, verbose=True)

    @step(workflow=joke_flow)
    async def generate_joke(ev: StartEvent) -> JokeEvent:
        topic = ev.topic

        prompt = f"Write your best joke about {topic}."

        llm = OpenAI()
        response = await llm.acomplete(prompt)
        return JokeEvent(joke=str(response))

    @step(workflow=joke_flow)
    async def critique_joke(ev: JokeEvent) -> StopEvent:
        joke = ev.joke

        prompt = f"Give a thorough analysis and critique of the following joke: {joke}"
        llm = OpenAI()  # which the guide forgets
        response = await llm.acomplete(prompt)
        return StopEvent(result=str(response))

    assert await joke_flow.run(topic="pirates") == "A critique."
    assert Workflow._get_steps_from_class() == {}
