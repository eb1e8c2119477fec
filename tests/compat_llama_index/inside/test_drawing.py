"""The real `llama-index-utils-workflow` draws our workflows and runs."""

from pathlib import Path

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    step,
)
from llama_index.utils.workflow import (
    draw_agent_with_tools_mermaid,
    draw_all_possible_flows,
    draw_all_possible_flows_mermaid,
    draw_most_recent_execution,
    draw_most_recent_execution_mermaid,
)

from tests.compat_llama_index.inside.scripted import ScriptedLLM
from workflows import Workflow


class Half(Event):
    n: int


class Approve(InputRequiredEvent):
    pass


class Halves(Workflow):
    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Half | None:
        ctx.send_event(Half(n=1))
        ctx.send_event(Half(n=2))
        return None

    @step(num_workers=1)
    async def join(self, ctx: Context, ev: Half) -> Approve | None:
        return Approve() if ctx.collect_events(ev, [Half, Half]) else None

    @step
    async def finish(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="done")


def edges(mermaid: str) -> set[str]:
    return {line.strip() for line in mermaid.splitlines() if "-->" in line}


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_draws_every_flow(in_tmp: Path) -> None:
    draw_all_possible_flows(Halves, filename="flows.html")
    assert "split" in (in_tmp / "flows.html").read_text()
    assert edges(draw_all_possible_flows_mermaid(Halves, filename="flows.mermaid")) == {
        "event_StartEvent --> step_split",
        "step_split --> event_Half",
        "event_Half --> step_join",
        "step_join --> event_Approve",
        "event_Approve --> external_external_step",
        "external_external_step --> event_HumanResponseEvent",
        "event_HumanResponseEvent --> step_finish",
        "step_finish --> event_StopEvent",
    }


def test_it_draws_an_agent(in_tmp: Path) -> None:
    def add(x: int, y: int) -> int:
        """Add."""
        return x + y

    agent = FunctionAgent(tools=[add], llm=ScriptedLLM("hi"))
    assert "add" in draw_agent_with_tools_mermaid(agent, filename="agent.mermaid")


async def test_it_draws_a_run(in_tmp: Path) -> None:
    handler = Halves().run()
    async for event in handler.stream_events():
        if isinstance(event, Approve):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    await handler
    draw_most_recent_execution(handler, filename="run.html")
    assert edges(draw_most_recent_execution_mermaid(handler, filename="run.mermaid")) == {
        "external_step --> event_StartEvent_0",
        "event_StartEvent_0 --> step_split_1",
        "step_split_1 --> event_Half_1",
        "step_split_1 --> event_Half_2",
        "event_Half_1 --> step_join_1",
        "event_Half_2 --> step_join_2",
        "step_join_2 --> event_Approve_3",
        "external_step --> event_HumanResponseEvent_4",
        "event_HumanResponseEvent_4 --> step_finish_1",
        "step_finish_1 --> event_StopEvent_5",
    }
