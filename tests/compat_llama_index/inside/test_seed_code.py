"""The code of the older tutorials, with the imports they use, against a server that speaks the OpenAI protocol."""

import asyncio
from pathlib import Path

import pytest
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCheckpointer,
    step,
)
from llama_index.core.workflow.checkpointer import Checkpoint
from llama_index.core.workflow.retry_policy import ConstantDelayRetryPolicy
from llama_index.llms.openai import OpenAI

from tests.compat_llama_index.inside.openai_script import Script
from workflows.drawing import draw_all_possible_flows
from workflows.testing import VirtualClockLoop


class JokeEvent(Event):
    joke: str


class JokeFlow(Workflow):
    @property
    def llm(self) -> OpenAI:  # the tutorial makes it in the class body, where no test server runs yet
        return OpenAI()

    @step
    async def generate_joke(self, ev: StartEvent) -> JokeEvent:
        topic = ev.topic

        prompt = f"Write your best joke about {topic}."
        response = await self.llm.acomplete(prompt)
        return JokeEvent(joke=str(response))

    @step
    async def critique_joke(self, ev: JokeEvent) -> StopEvent:
        joke = ev.joke

        prompt = f"Give a thorough analysis and critique of the following joke: {joke}"
        response = await self.llm.acomplete(prompt)
        return StopEvent(result=str(response))


class FirstEvent(Event):
    first_output: str


class SecondEvent(Event):
    second_output: str
    response: str


class ProgressEvent(Event):
    msg: str


class MyWorkflow(Workflow):
    @step
    async def step_one(self, ctx: Context, ev: StartEvent) -> FirstEvent:
        ctx.write_event_to_stream(ProgressEvent(msg="Step one is happening"))
        return FirstEvent(first_output="First step complete.")

    @step
    async def step_two(self, ctx: Context, ev: FirstEvent) -> SecondEvent:
        llm = OpenAI(model="gpt-4o-mini")
        generator = await llm.astream_complete(
            "Please give me the first 3 paragraphs of Moby Dick, a book in the public domain."
        )
        async for response in generator:
            # Allow the workflow to stream this piece of response
            ctx.write_event_to_stream(ProgressEvent(msg=response.delta))
        return SecondEvent(
            second_output="Second step complete, full response attached",
            response=str(response),
        )

    @step
    async def step_three(self, ctx: Context, ev: SecondEvent) -> StopEvent:
        ctx.write_event_to_stream(ProgressEvent(msg="Step three is happening"))
        return StopEvent(result="Workflow complete.")


class HumanInTheLoopWorkflow(Workflow):
    @step
    async def step1(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="Enter a number: ")

    @step
    async def step2(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


async def test_the_joke_is_written_and_criticised(openai: Script) -> None:
    openai.lines = ["Why did the pirate learn Python? For the C.", "Too short."]
    w = JokeFlow(timeout=60, verbose=False)
    result = await w.run(topic="pirates")
    assert str(result) == "Too short."
    assert "critique of the following joke: Why did the pirate" in openai.asked[1][-1]["content"]


async def test_words_of_the_model_are_streamed(openai: Script, tmp_path: Path) -> None:
    openai.lines = ["Call me Ishmael."]
    w = MyWorkflow(timeout=30, verbose=True)
    handler = w.run(first_input="Start the workflow.")
    said = [ev.msg async for ev in handler.stream_events() if isinstance(ev, ProgressEvent)]
    final_result = await handler
    assert final_result == "Workflow complete."
    assert said[0] == "Step one is happening"
    assert {"Call", "me", "Ishmael."} <= set(said)
    draw_all_possible_flows(MyWorkflow, filename=str(tmp_path / "streaming_workflow.html"))


async def test_a_person_is_asked_and_the_stream_is_read_on_after_a_break() -> None:
    workflow = HumanInTheLoopWorkflow()
    handler = workflow.run()
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    handler.ctx.send_event(HumanResponseEvent(response="42"))
    async for _event in handler.stream_events():
        continue
    assert await handler == "42"


async def test_a_run_goes_step_by_step(openai: Script) -> None:
    openai.lines = ["A joke.", "A critique."]
    handler = JokeFlow().run(topic="pirates", stepwise=True)
    while produced_events := await handler.run_step():
        for ev in produced_events:
            handler.ctx.send_event(ev)
    assert await handler == "A critique."


async def test_free_functions_make_a_workflow(openai: Script) -> None:
    openai.lines = ["A joke.", "A critique."]
    joke_flow = Workflow(timeout=60, verbose=True)
    llm = OpenAI()

    @step(workflow=joke_flow)
    async def generate_joke(ev: StartEvent) -> JokeEvent:
        return JokeEvent(joke=str(await llm.acomplete(f"Write your best joke about {ev.topic}.")))

    @step(workflow=joke_flow)
    async def critique_joke(ev: JokeEvent) -> StopEvent:
        return StopEvent(result=str(await llm.acomplete(f"Criticise: {ev.joke}")))

    assert await joke_flow.run(topic="pirates") == "A critique."


async def test_a_run_is_checkpointed_and_run_from_there(openai: Script) -> None:
    openai.lines = ["A joke.", "A critique.", "Another critique."]
    w_cptr = WorkflowCheckpointer(workflow=JokeFlow())
    handler = w_cptr.run(topic="Pirates")
    await handler
    ckpt = w_cptr.checkpoints[handler.run_id][0]
    assert isinstance(ckpt, Checkpoint)
    handler = w_cptr.run_from(topic="Ships", checkpoint=ckpt)
    assert await handler == "Another critique."


async def test_the_retry_policy_of_the_tutorial_retries(clock: VirtualClockLoop) -> None:
    class Flaky(Workflow):
        @step(retry_policy=ConstantDelayRetryPolicy(delay=5, maximum_attempts=10))
        async def flaky_step(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.retry_info().retry_number < 2:
                raise ConnectionError("no route")
            return StopEvent(result=clock.time())

    assert await Flaky(timeout=None).run() == 10


async def test_manual_events_are_gathered() -> None:
    class MyEvent(Event):
        pass

    class MyEventResult(Event):
        result: str

    class GatherEvent(Event):
        pass

    class Gathering(Workflow):
        @step
        async def dispatch_step(self, ctx: Context, ev: StartEvent) -> MyEvent | GatherEvent:
            ctx.send_event(MyEvent())
            ctx.send_event(MyEvent())
            return GatherEvent()

        @step
        async def handle_my_event(self, ev: MyEvent) -> MyEventResult:
            return MyEventResult(result="result")

        @step
        async def gather(self, ctx: Context, ev: GatherEvent | MyEventResult) -> StopEvent | None:
            # wait for events to finish
            events = ctx.collect_events(ev, [MyEventResult, MyEventResult])
            if not events:
                return None
            return StopEvent(result=events)

    assert [e.result for e in await Gathering().run()] == ["result", "result"]


async def test_the_context_is_kept_over_runs() -> None:
    class Counting(Workflow):
        @step
        async def count(self, ctx: Context, ev: StartEvent) -> StopEvent:
            with pytest.deprecated_call():
                n = await ctx.get("n", default=0) + 1
                await ctx.set("n", n)
            return StopEvent(result=n)

    w = Counting()
    handler = w.run()
    await handler
    handler = w.run(ctx=handler.ctx)
    assert await handler == 2


async def test_a_typed_stop_event_is_the_result() -> None:
    class MyStopEvent(StopEvent):
        critique: str

    class Typed(Workflow):
        @step
        async def critique_joke(self, ev: StartEvent) -> MyStopEvent:
            await asyncio.sleep(0)
            return MyStopEvent("Too short.")

    assert (await Typed().run()).critique == "Too short."
