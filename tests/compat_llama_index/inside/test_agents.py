"""llama-index's own agents run on our engine."""

# Without `from __future__ import annotations`: FunctionTool finds a `Context` parameter by its live annotation.
import asyncio
import json
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentOutput, AgentWorkflow, FunctionAgent, ReActAgent, ToolCall
from llama_index.core.llms import MockFunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context, Event, HumanResponseEvent, InputRequiredEvent

import workflows
from tests.compat_llama_index.inside.scripted import ScriptedLLM
from workflows.errors import WorkflowRuntimeError
from workflows.handler import WorkflowHandler
from workflows.testing import RecordLog

REACT = ('Thought: I need a tool.\nAction: add\nAction Input: {"x": 1, "y": 2}\n', "Thought: I know.\nAnswer: It is 3")


def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


async def note(ctx: Context, text: str) -> str:
    """Write it down."""
    await ctx.store.set("note", text)
    return "noted"


def break_down() -> str:
    """Never works."""
    raise ValueError("the tool broke")


def call(name: str, **arguments: Any) -> ToolSelection:
    return ToolSelection(tool_id=name, tool_name=name, tool_kwargs=arguments)


async def names(handler: WorkflowHandler) -> list[str]:
    return [type(event).__name__ async for event in handler.stream_events()]


def results(output: AgentOutput) -> dict[str, str]:
    return {tool.tool_name: str(tool.tool_output) for tool in output.tool_calls if hasattr(tool, "tool_output")}


def test_the_agents_are_workflows_of_ours() -> None:
    assert issubclass(FunctionAgent, workflows.Workflow)
    assert issubclass(AgentWorkflow, workflows.Workflow)


async def test_react_agent_calls_its_tool_and_answers() -> None:
    agent = ReActAgent(tools=[add], llm=ScriptedLLM(*REACT, calls_tools=False))
    handler = agent.run("What is 1 + 2?")
    streamed = await names(handler)
    output = await handler
    assert str(output) == "It is 3"
    assert results(output) == {"add": "3"}
    turn = ["AgentInput", "AgentStream", "AgentOutput"]
    assert streamed == [*turn, "ToolCall", "ToolCallResult", *turn, "StopEvent"]


async def test_function_agent_calls_several_tools_in_one_turn() -> None:
    agent = FunctionAgent(tools=[add, note], llm=ScriptedLLM([call("add", x=1, y=2), call("note", text="hi")], "Done."))
    handler = agent.run("Go.")
    output = await handler
    assert str(output) == "Done."
    assert results(output) == {"add": "3", "note": "noted"}
    assert await handler.ctx.store.get("note") == "hi"


async def test_an_agent_remembers_what_was_said_in_its_context() -> None:
    llm = ScriptedLLM("Hello Ada.", "You are Ada.")
    agent = FunctionAgent(llm=llm)
    ctx = Context(agent)
    await agent.run("I am Ada.", ctx=ctx)
    assert str(await agent.run("Who am I?", ctx=ctx)) == "You are Ada."
    assert [m.content for m in llm.asked[-1]] == ["I am Ada.", "Hello Ada.", "Who am I?"]


async def test_a_tool_that_asks_a_person_runs_once() -> None:
    bodies: list[str] = []

    async def remove(ctx: Context) -> str:
        """Remove everything."""
        bodies.append("began")
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Sure?"), requirements={"user": "Ada"}
        )
        return f"said {answer.response}"

    agent = FunctionAgent(tools=[remove], llm=ScriptedLLM([call("remove")], "Removed."))
    handler = agent.run("Remove it.")
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="no", user="Bob"))
            handler.ctx.send_event(HumanResponseEvent(response="yes", user="Ada"))
    assert results(await handler) == {"remove": "said yes"}
    assert bodies == ["began"]


async def test_an_agent_that_asks_keeps_its_memory_while_it_is_suspended() -> None:
    async def remove(ctx: Context) -> str:
        """Remove everything."""
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Sure?"))
        return f"said {answer.response}"

    agent = FunctionAgent(tools=[remove], llm=ScriptedLLM([call("remove")], "Removed."))
    handler = agent.run("Remove it.", memory=ChatMemoryBuffer.from_defaults())
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    snapshot = json.loads(json.dumps(await handler.suspend()))
    again = agent.run(ctx=Context.from_dict(agent, snapshot))
    again.ctx.send_event(HumanResponseEvent(response="yes"))
    assert results(await again) == {"remove": "said yes"}
    memory = await again.ctx.store.get("memory")
    assert [message.role.value for message in await memory.aget_all()] == ["user", "assistant", "tool", "assistant"]


async def test_agents_hand_over_to_each_other() -> None:
    first = FunctionAgent(
        name="first",
        description="Asks.",
        llm=ScriptedLLM([call("handoff", to_agent="second", reason="sums")]),
        can_handoff_to=["second"],
    )
    second = FunctionAgent(
        name="second", description="Adds.", tools=[add], llm=ScriptedLLM([call("add", x=2, y=2)], "Four.")
    )
    workflow = AgentWorkflow(agents=[first, second], root_agent="first", initial_state={"n": 1})
    handler = workflow.run(user_msg="2 + 2?")
    output = await handler
    assert (str(output), output.current_agent_name) == ("Four.", "second")
    assert await handler.ctx.store.get("state") == {"n": 1}


async def test_a_conversation_goes_on_from_a_snapshot() -> None:
    llm = ScriptedLLM([call("note", text="hi")], "Yes.", "Again.")
    workflow = AgentWorkflow.from_tools_or_functions([note], llm=llm)
    handler = workflow.run(user_msg="Note it.")
    await handler
    ctx = Context.from_dict(workflow, json.loads(json.dumps(handler.ctx.to_dict())))
    assert str(await workflow.run(user_msg="And?", ctx=ctx)) == "Again."
    assert await ctx.store.get("note") == "hi"
    assert [m.content for m in llm.asked[-1] if m.role.value == "user"] == ["Note it.", "And?"]


async def test_a_tool_that_raises_is_told_to_the_model() -> None:
    llm = ScriptedLLM([call("break_down")], "Sorry.")
    assert str(await FunctionAgent(tools=[break_down], llm=llm).run("Go.")) == "Sorry."
    assert "the tool broke" in str(llm.asked[-1][-1].content)


async def test_an_agent_that_never_answers_fails_its_run() -> None:
    agent = FunctionAgent(tools=[add], llm=ScriptedLLM([call("add", x=1, y=1)]))
    handler = agent.run("Go.", max_iterations=2)
    assert (await names(handler))[-1] == "WorkflowFailedEvent"
    with pytest.raises(WorkflowRuntimeError, match="Max iterations of 2"):
        await handler


async def test_mock_llm_is_enough_for_an_agent() -> None:
    assert str(await FunctionAgent(llm=MockFunctionCallingLLM()).run("Hello")) == "Hello"


async def test_mock_llm_is_enough_for_several_agents() -> None:
    workflow = AgentWorkflow.from_tools_or_functions([], llm=MockFunctionCallingLLM())
    assert str(await workflow.run(user_msg="Hello")) == "Hello"


async def test_cancelling_an_agent_ends_its_stream() -> None:
    async def wait() -> str:
        """Wait for ever."""
        await asyncio.Event().wait()
        return "never"

    handler = FunctionAgent(tools=[wait], llm=ScriptedLLM([call("wait")])).run("Go.")
    seen: list[type[Event]] = []
    async for event in handler.stream_events():
        seen.append(type(event))
        if isinstance(event, ToolCall):
            await handler.cancel_run()
    assert seen[-1].__name__ == "WorkflowCancelledEvent"


async def test_records_name_the_steps_of_an_agent(records: RecordLog) -> None:
    await FunctionAgent(tools=[add], llm=ScriptedLLM([call("add", x=1, y=2)], "3")).run("Go.")
    turn = ["init_run", "setup_agent", "run_agent_step", "parse_agent_output", "call_tool", "aggregate_tool_results"]
    steps = [line.split()[2].removesuffix("#1") for line in records.steps() if " StepStarted " in line]
    assert steps == [*turn, *turn[1:4]]
