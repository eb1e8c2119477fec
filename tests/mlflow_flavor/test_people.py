"""A model says what it asks people and what it takes from them, wherever its code does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import mlflow_flavor

SCRIPT = """
import mlflow_flavor
from workflows import Context, Workflow, step
from workflows import events
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Ask(InputRequiredEvent):
    text: str

class Told(Event):
    words: list[str]

class Never(InputRequiredEvent):
    pass

class Agent(Workflow):
    @step
    async def ask(self, ev: StartEvent, ctx: Context) -> StopEvent:
        told = await ctx.wait_for_event(Told, waiter_event=Ask(text="what?"))
        more = await ctx.wait_for_event(events.HumanResponseEvent)
        return StopEvent(result=told.words)

mlflow_flavor.set_model(Agent())
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(SCRIPT)
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    return tmp_path / "model"


def test_the_events_of_people_are_named(model: Path):
    facts = yaml.safe_load((model / "MLmodel").read_text())["flavors"]["workflows"]
    assert facts["human_events"] == ["Ask", "HumanResponseEvent", "Never", "Told"]


def test_the_fields_of_questions_and_answers_are_kept(model: Path):
    schemas = json.loads((model / "workflows" / "events.schema.json").read_text())
    assert schemas.keys() == {"Ask", "HumanResponseEvent", "Never", "StartEvent", "StopEvent", "Told"}
    assert schemas["Told"]["properties"]["words"]["type"] == "array"


def test_the_graph_shows_what_a_step_waits_for(model: Path):
    graph = json.loads((model / "workflows" / "graph.json").read_text())
    edges = [(edge["source"], edge["target"]) for edge in graph["edges"]]
    assert edges[2:] == [
        ("ask", "Ask"),
        ("Ask", "external_step"),
        ("external_step", "Told"),
        ("Told", "ask"),
        ("external_step", "HumanResponseEvent"),
        ("HumanResponseEvent", "ask"),
    ]
    assert "Told" in (model / "workflows" / "graph.mmd").read_text()


def test_the_graph_shows_what_a_private_step_waits_for(tmp_path: Path):
    (tmp_path / "agent.py").write_text(SCRIPT.replace("def ask(", "def __ask("))
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    graph = json.loads((tmp_path / "model" / "workflows" / "graph.json").read_text())
    edges = [(edge["source"], edge["target"]) for edge in graph["edges"]]
    assert edges[2:4] == [("_Agent__ask", "Ask"), ("Ask", "external_step")]
