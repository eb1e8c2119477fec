"""Agents of llama-index that ask a person, logged by our flavor: what they had said is there when the answer comes."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

import mlflow_flavor

AGENT = """
import mlflow
from pydantic import BaseModel
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent
from tests.compat_llama_index.inside.scripted import ScriptedLLM

class Removal(BaseModel):
    path: str

class Sure(HumanResponseEvent):
    response: str

async def remove(ctx: Context, path: str) -> str:
    "Remove a file."
    await ctx.store.set("removal", Removal(path=path))
    answer = await ctx.wait_for_event(Sure, waiter_event=InputRequiredEvent(prefix=f"Remove {path}?"))
    llm._lines.append(f"{await ctx.store.get('removal')}: {answer.response}")
    return "removed"

llm = ScriptedLLM([ToolSelection(tool_id="1", tool_name="remove", tool_kwargs={"path": "a.txt"})])
agent = FunctionAgent(name="cleaner", description="removes files", tools=[remove], llm=llm)
"""

MEMORY = """
import mlflow
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Chat(Workflow):
    async def say(self, ctx: Context, text: str) -> list[str]:
        memory = await ctx.store.get("memory", default=None) or ChatMemoryBuffer.from_defaults()
        await memory.aput(ChatMessage(role="user", content=text))
        await ctx.store.set("memory", memory)
        return [message.content for message in await memory.aget_all()]

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await self.say(ctx, ev.input)
        return InputRequiredEvent(prefix="really?")

    @step
    async def end(self, ctx: Context, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=await self.say(ctx, ev.response))

mlflow.models.set_model(Chat())
"""


def answered(script: str, directory: Path, kind: str = "HumanResponseEvent", **inputs: Any) -> Any:
    """What a model answers when its question is answered with "yes"."""
    (directory / "agent.py").write_text(script)
    mlflow_flavor.save_model(directory / "agent.py", directory / "model", pip_requirements=["llama-index-core"])
    model = mlflow.pyfunc.load_model(str(directory / "model"))
    asked = model.predict(inputs)
    (question,) = asked["waiting"]
    answers = {question["id"]: {"type": kind, "data": {"response": "yes"}}}
    params = {"resume": json.dumps({"token": asked["resume"], "answers": answers})}
    return model.predict({}, params=params)


@pytest.mark.parametrize("agent", ["agent", "AgentWorkflow(agents=[agent])"])
def test_an_agent_whose_tool_asks_goes_on_with_what_it_kept(tmp_path: Path, agent: str) -> None:
    result = answered(f"{AGENT}\nmlflow.models.set_model({agent})\n", tmp_path, "Sure", user_msg="Remove a.txt")
    assert result["response"]["blocks"][0]["text"] == "path='a.txt': yes"


def test_a_chat_that_asks_keeps_what_was_said(tmp_path: Path) -> None:
    assert answered(MEMORY, tmp_path, input="delete file 7") == ["delete file 7", "yes"]
