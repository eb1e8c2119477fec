"""The graph of a workflow as data."""

from typing import Annotated

from pydantic import BaseModel

from tests.compat.case import case
from tests.compat.flows import A, Answer, Ask, Echo, Streaming
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.representation import (
    WorkflowEventNode,
    WorkflowGraph,
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
    WorkflowStepNode,
    get_workflow_representation,
)
from workflows.resource import Resource, ResourceConfig


class Settings(BaseModel):
    x: int = 0


class Questions(Workflow):
    """Asks a person."""

    @step
    async def ask(self, ev: StartEvent) -> Ask:
        """Puts the question."""
        return Ask()

    @step
    async def end(self, ev: Answer) -> StopEvent | None:
        return StopEvent()


def ids(nodes):
    return sorted(node.id for node in nodes)


@case(
    [
        ["A", "StartEvent", "StopEvent", "first", "second"],
        [["A", "second"], ["StartEvent", "first"], ["first", "A"], ["second", "StopEvent"]],
    ]
)
def steps_and_events_are_nodes_and_lead_to_each_other():
    graph = get_workflow_representation(Streaming())
    return ids(graph.nodes), sorted([e.source, e.target] for e in graph.edges)


@case(
    [
        ["Answer", "Ask", "StartEvent", "StopEvent", "ask", "end", "external_step"],
        [["Ask", "external_step"], ["external_step", "Answer"]],
    ]
)
def a_person_is_an_external_step():
    graph = get_workflow_representation(Questions())
    return ids(graph.nodes), sorted(
        [e.source, e.target] for e in graph.edges if "external_step" in (e.source, e.target)
    )


@case([["Streaming", True], ["Streaming", True]])
def a_class_has_the_same_graph_as_its_instance():
    graphs = get_workflow_representation(Streaming), get_workflow_representation(Streaming())
    return [[graph.name, ids(graph.nodes) == ids(graphs[0].nodes)] for graph in graphs]


@case(["Asks a person.", "Puts the question."])
def docstrings_describe_the_graph_and_its_steps():
    graph = get_workflow_representation(Questions())
    return graph.description, next(node for node in graph.nodes if node.id == "ask").description


@case([["ask", "end"], ["Answer", "Ask", "StartEvent", "StopEvent"]])
def nodes_have_their_kind():
    nodes = get_workflow_representation(Questions()).nodes
    steps = [node for node in nodes if isinstance(node, WorkflowStepNode)]
    return ids(steps), ids(node for node in nodes if isinstance(node, WorkflowEventNode))


@case([True, False, "Ask"])
def an_event_node_knows_its_class():
    nodes = {node.id: node for node in get_workflow_representation(Questions()).nodes}
    ask = nodes["Ask"]
    return ask.is_subclass_of("InputRequiredEvent"), ask.is_subclass_of("StopEvent"), ask.label


@case(
    [
        {
            "id": "A",
            "label": "A",
            "node_type": "event",
            "event_type": "A",
            "event_types": ["A"],
            "produced_by": ["first"],
        },
        {"id": "first", "label": "first", "node_type": "step", "description": None},
        [["label", None], ["source", "A"], ["target", "second"]],
    ]
)
def nodes_and_edges_are_plain_data():
    graph = get_workflow_representation(Streaming()).model_dump(mode="json")
    event, one = (next(n for n in graph["nodes"] if n["id"] == name) for name in ("A", "first"))
    event.pop("event_schema")
    edge = next(e for e in graph["edges"] if e["source"] == "A")
    return event, one, sorted([key, value] for key, value in edge.items())


@case(["first", "fi*", "first"])
def labels_can_be_cut():
    node = next(node for node in get_workflow_representation(Streaming()).nodes if node.id == "first")
    return node.label, node.truncated_label(3), node.truncated_label(9)


@case(True)
def a_graph_can_be_written_as_json():
    graph = get_workflow_representation(Questions())
    return ids(WorkflowGraph.model_validate_json(graph.model_dump_json()).nodes) == ids(graph.nodes)


@case([["first", "second"], [["first", "second"]]])
def kinds_of_nodes_can_be_left_out():
    graph = get_workflow_representation(Streaming()).filter_by_node_type("event")
    return ids(graph.nodes), sorted([e.source, e.target] for e in graph.edges)


def make_client():
    return "client"


@case([["external_step", "Answer"]], peer_gives=[], because="answers-come-from-outside")
def an_answer_comes_from_outside_even_if_no_step_returns_a_question():
    class Listens(Workflow):
        @step
        async def s(self, ev: StartEvent) -> StopEvent | None:
            return None

        @step
        async def t(self, ev: Answer) -> StopEvent:
            return StopEvent()

    edges = get_workflow_representation(Listens()).edges
    return [[e.source, e.target] for e in edges if "external_step" in (e.source, e.target)]


@case([1, True, 21])
def resources_are_nodes():
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, client: Annotated[str, Resource(make_client)]) -> A:
            return A()

        @step
        async def t(self, ev: A, client: Annotated[str, Resource(make_client)]) -> StopEvent:
            return StopEvent()

    nodes = [node for node in get_workflow_representation(W()).nodes if isinstance(node, WorkflowResourceNode)]
    return len(nodes), nodes[0].id.startswith("resource_"), len(nodes[0].id)


@case([1, True, 28, "settings"])
def configs_are_nodes():
    import json
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp()) / "settings.json"
    path.write_text(json.dumps({"x": 1}))

    class W(Workflow):
        @step
        async def s(
            self, ev: StartEvent, settings: Annotated[Settings, ResourceConfig(str(path), label="settings")]
        ) -> StopEvent:
            return StopEvent()

    nodes = [n for n in get_workflow_representation(W()).nodes if isinstance(n, WorkflowResourceConfigNode)]
    return len(nodes), nodes[0].id.startswith("resource_config_"), len(nodes[0].id), nodes[0].label


@case(["StartEvent", "StopEvent", "echo"])
def one_step_is_a_graph_too():
    return ids(get_workflow_representation(Echo()).nodes)
