"""llama-index's agents as today's tracing shows them: one whole tree each, with models and tools below their steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent

import mlflow_flavor
import workflows_otel
from tests.compat_llama_index.inside.scripted import ScriptedLLM
from tests.compat_llama_index.inside.test_agents import REACT, add, call
from tests.compat_llama_index.inside.tracers import Back, mlflow_llama_index, mlflow_tree, openinference
from workflows.handler import WorkflowHandler

TOOL_TURN = [
    "setup_agent",
    "run_agent_step",
    "  {model}",
    "parse_agent_output",
    "call_tool",
    "  FunctionTool.acall",
    "aggregate_tool_results",
]
LAST_TURN = TOOL_TURN[:4]
PREPARED = "  ScriptedLLM._prepare_chat_with_tools"
CHAT = "  ScriptedLLM.astream_chat"
PARSED = "  ReActOutputParser.parse"


def function_agent() -> WorkflowHandler:
    return FunctionAgent(tools=[add], llm=ScriptedLLM([call("add", x=1, y=2)], "3")).run("Go.")


def react_agent() -> WorkflowHandler:
    return ReActAgent(tools=[add], llm=ScriptedLLM(*REACT, calls_tools=False)).run("What is 1 + 2?")


def two_agents() -> WorkflowHandler:
    hand_over = call("handoff", to_agent="second", reason="sums")
    first = FunctionAgent(name="first", description="Asks.", llm=ScriptedLLM([hand_over]), can_handoff_to=["second"])
    second = FunctionAgent(
        name="second", description="Adds.", tools=[add], llm=ScriptedLLM([call("add", x=2, y=2)], "4")
    )
    return AgentWorkflow(agents=[first, second], root_agent="first").run(user_msg="2 + 2?")


def expected(root: str, step: str, turns: int, *model: str) -> list[str]:
    """The tree of an agent that called tools in all turns but the last."""
    lines = [root]
    for line in ["init_run", *TOOL_TURN * (turns - 1), *LAST_TURN]:
        if line == "  {model}":
            lines += [f"  {below}" for below in model]
        else:
            lines.append(f"  {line}" if line.startswith(" ") else f"  {step}{line}")
    return lines


AGENTS = pytest.mark.parametrize(
    ("run", "name", "turns", "model"),
    [
        (function_agent, "FunctionAgent", 2, (PREPARED, CHAT)),
        (react_agent, "ReActAgent", 2, (CHAT, PARSED)),
        (two_agents, "AgentWorkflow", 3, (PREPARED, CHAT)),
    ],
    ids=["FunctionAgent", "ReActAgent", "AgentWorkflow"],
)


@AGENTS
async def test_openinference_shows_an_agent_as_one_tree(
    run: Callable[[], WorkflowHandler], name: str, turns: int, model: tuple[str, ...]
) -> None:
    back = Back()
    with openinference(back):
        await run()
    assert back.tree() == expected(f"{name}.run", f"{name}.", turns, *model)


@AGENTS
async def test_beside_ours_an_agent_is_one_tree_as_well(
    run: Callable[[], WorkflowHandler], name: str, turns: int, model: tuple[str, ...]
) -> None:
    back = Back()
    workflows_otel.instrument(back.provider, start_marker=False)
    try:
        with openinference(back):
            await run()
    finally:
        workflows_otel.uninstrument()
    assert back.tree() == expected(f"invoke_workflow {name}", "run_step ", turns, *model)


@pytest.mark.usefixtures("mlflow_store")
@AGENTS
async def test_mlflow_shows_an_agent_as_one_tree(
    run: Callable[[], WorkflowHandler], name: str, turns: int, model: tuple[str, ...]
) -> None:
    with mlflow_llama_index():
        await run()
        assert mlflow_tree() == expected(f"{name}.run", f"{name}.", turns, *model)


@pytest.mark.usefixtures("mlflow_store")
@AGENTS
async def test_beside_the_flavor_an_agent_is_one_tree_in_mlflow_as_well(
    run: Callable[[], WorkflowHandler], name: str, turns: int, model: tuple[str, ...]
) -> None:
    mlflow_flavor.autolog()
    try:
        with mlflow_llama_index():
            await run()
            assert mlflow_tree() == expected(f"{name}.run", "", turns, *model)
    finally:
        mlflow_flavor.autolog(disable=True)


async def test_openinference_marks_models_and_tools_of_an_agent() -> None:
    back = Back()
    with openinference(back):
        await function_agent()
    kinds = {span.name: (span.attributes or {})["openinference.span.kind"] for span in back.spans}
    assert (kinds["ScriptedLLM.astream_chat"], kinds["FunctionTool.acall"]) == ("LLM", "TOOL")
