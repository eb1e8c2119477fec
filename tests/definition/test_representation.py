"""A workflow's graph: what is in it, that nothing collides, and that it travels as JSON."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pytest
from pydantic import BaseModel

from workflows import Context, Workflow, step
from workflows.errors import WorkflowValidationError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent
from workflows.representation import (
    WorkflowEventNode,
    WorkflowGenericNode,
    WorkflowGraph,
    WorkflowGraphEdge,
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
    get_workflow_representation,
)
from workflows.resource import Resource, ResourceConfig

NodeT = TypeVar("NodeT")


class Draft(Event):
    text: str


DraftEvent = Draft


class LongDraft(Draft):
    pages: int


class Question(InputRequiredEvent):
    pass


class Answer(HumanResponseEvent):
    pass


class Writing(Workflow):
    """Writes a text.

    And asks about it.
    """

    @step
    async def write(self, ev: StartEvent) -> LongDraft | Question | None:
        """Write it down."""

    @step(accept_event_subclasses=True)
    async def read(self, ev: Draft | Answer) -> StopEvent:
        return StopEvent()


class Inner(Workflow):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


class Outer(Workflow):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    @step
    async def delegate(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await self.inner.run())


class Recursive(Workflow):
    @step
    async def again(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Recursive().run() if ev.n else None)


def edges(graph: WorkflowGraph) -> set[tuple[str, ...]]:
    return {(e.source, e.target, *([e.label] if e.label else [])) for e in graph.edges}


def one(graph: WorkflowGraph, kind: type[NodeT]) -> NodeT:
    (node,) = [n for n in graph.nodes if isinstance(n, kind)]
    return node


@pytest.mark.parametrize("workflow", [Writing, Writing()], ids=["class", "instance"])
def test_events_lead_from_step_to_step_and_outside(workflow: Any) -> None:
    assert edges(get_workflow_representation(workflow)) == {
        ("StartEvent", "write"),
        ("write", "LongDraft"),
        ("LongDraft", "read"),
        ("Draft", "read"),
        ("write", "Question"),
        ("Question", "external_step"),
        ("external_step", "Answer"),
        ("Answer", "read"),
        ("read", "StopEvent"),
    }


def test_docstrings_describe_the_graph_and_its_steps() -> None:
    graph = get_workflow_representation(Writing)
    assert graph.name == "Writing"
    assert graph.description == "Writes a text.\n\nAnd asks about it."
    assert graph.nodes[0].model_dump() == {
        "id": "write",
        "label": "write",
        "node_type": "step",
        "description": "Write it down.",
    }


def test_an_event_node_knows_its_class() -> None:
    node = next(n for n in get_workflow_representation(Writing).nodes if n.id == "LongDraft")
    assert isinstance(node, WorkflowEventNode)
    assert node.event_types == ["LongDraft", "Draft"]
    assert node.produced_by == ["write"]
    assert node.is_subclass_of("Draft")
    assert not node.is_subclass_of("Event", "StopEvent")
    assert sorted((node.event_schema or {})["properties"]) == ["pages", "text"]


def test_a_graph_survives_json() -> None:
    graph = get_workflow_representation(Outer(), include_child_workflows=True)
    graph.nodes.append(WorkflowGenericNode(id="t", label="tool", node_type="tool", event_types=["Tool"]))
    assert WorkflowGraph.model_validate_json(graph.model_dump_json()) == graph


def test_two_classes_of_one_name_are_two_nodes() -> None:
    def other() -> type[Event]:
        class Draft(Event):
            pass

        return Draft

    other_draft = other()

    class Both(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Draft:
            return Draft(text="")

        @step
        async def turn(self, ev: Draft) -> other_draft:  # type: ignore[valid-type]
            return other_draft()

        @step
        async def end(self, ev: other_draft) -> StopEvent:  # type: ignore[valid-type]
            return StopEvent()

    full = f"{other_draft.__module__}.{other_draft.__qualname__}"
    assert {("start", "Draft"), ("Draft", "turn"), ("turn", full), (full, "end")} <= edges(
        get_workflow_representation(Both)
    )


def test_a_step_and_an_event_of_one_name_are_two_nodes() -> None:
    class Same(Workflow):
        @step
        async def Draft(self, ev: StartEvent) -> DraftEvent:  # noqa: N802
            return DraftEvent(text="")

        @step
        async def read(self, ev: DraftEvent) -> StopEvent:
            return StopEvent()

    ids = [n.id for n in get_workflow_representation(Same).nodes]
    assert len(ids) == len(set(ids)) == 5


def test_filtering_joins_what_led_through_a_node() -> None:
    graph = get_workflow_representation(Writing).filter_by_node_type("event")
    assert {n.node_type for n in graph.nodes} == {"step", "external"}
    assert edges(graph) == {
        ("write", "read", "LongDraft"),
        ("write", "external_step", "Question"),
        ("external_step", "read", "Answer"),
    }


def test_filtering_a_circle_ends() -> None:
    nodes = [WorkflowGenericNode(id=i, label=i, node_type=i[0]) for i in ("a1", "b1", "b2", "c1")]
    pairs = [("a1", "b1"), ("b1", "b2"), ("b2", "b1"), ("b2", "c1")]
    graph = WorkflowGraph(name="x", nodes=list(nodes), edges=[WorkflowGraphEdge(source=s, target=t) for s, t in pairs])
    assert edges(graph.filter_by_node_type("b")) == {("a1", "c1", "b1")}


def test_labels_are_cut_with_a_star() -> None:
    node = get_workflow_representation(Writing).nodes[0]
    assert [node.truncated_label(n) for n in (3, 5, 9)] == ["wr*", "write", "write"]


def test_resources_are_told_apart_by_their_factory(tmp_path: Path) -> None:
    def client() -> int:
        """The client."""
        return 1

    def database(client: Annotated[int, Resource(client)]) -> str:
        return "db"

    class Uses(Workflow):
        @step
        async def use(
            self,
            ev: StartEvent,
            db: Annotated[str, Resource(database)],
            one: Annotated[int, Resource(lambda: 1)],
            two: Annotated[int, Resource(lambda: 2)],
            three: Annotated[int, Resource(partial(int, 3))],
        ) -> StopEvent:
            return StopEvent()

    graph = get_workflow_representation(Uses)
    nodes = {n.id: n for n in graph.nodes if isinstance(n, WorkflowResourceNode)}
    assert [n.getter_name for n in nodes.values()][:2] == ["database", "client"]
    assert len(nodes) == 5
    labels = {(nodes[e.source].getter_name if e.source in nodes else e.source, e.label) for e in graph.edges if e.label}
    assert labels == {("use", "db"), ("database", "client"), ("use", "one"), ("use", "two"), ("use", "three")}
    assert next(n for n in nodes.values() if n.getter_name == "client").description == "The client."


class Settings(BaseModel):
    url: str


def test_a_config_is_shown_with_its_value(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"a": {"url": "x"}}))

    class Configured(Workflow):
        @step
        async def use(
            self, ev: StartEvent, c: Annotated[Settings, ResourceConfig(str(tmp_path / "c.json"), "a")]
        ) -> StopEvent:
            return StopEvent()

    node = one(get_workflow_representation(Configured), WorkflowResourceConfigNode)
    assert (node.label, node.path_selector, node.config_value) == ("Settings", "a", {"url": "x"})


def test_a_config_that_cannot_be_read_is_no_error() -> None:
    class Configured(Workflow):
        @step
        async def use(self, ev: StartEvent, c: Annotated[Settings, ResourceConfig("missing.json")]) -> StopEvent:
            return StopEvent()

    assert one(get_workflow_representation(Configured), WorkflowResourceConfigNode).config_value is None


def test_a_child_workflow_hangs_on_the_step_that_runs_it() -> None:
    assert edges(get_workflow_representation(Outer(), include_child_workflows=True)) == {
        ("StartEvent", "delegate"),
        ("delegate", "StopEvent"),
        ("delegate", "delegate.Inner/StartEvent", "runs"),
        ("delegate.Inner/StartEvent", "delegate.Inner/only"),
        ("delegate.Inner/only", "delegate.Inner/StopEvent"),
        ("delegate.Inner/StopEvent", "delegate", "returns"),
    }


def test_a_workflow_that_runs_itself_has_a_finite_graph() -> None:
    assert len(get_workflow_representation(Recursive(), include_child_workflows=True).nodes) == 3


def test_steps_attached_to_an_instance_are_in_its_graph() -> None:
    workflow = Workflow()

    @step(workflow=workflow)
    async def only(ev: StartEvent) -> StopEvent:
        return StopEvent()

    assert [n.id for n in get_workflow_representation(workflow).nodes] == ["only", "StartEvent", "StopEvent"]


def test_what_is_no_workflow_is_refused() -> None:
    with pytest.raises(WorkflowValidationError, match="no workflow, so it has no graph"):
        get_workflow_representation(Context)  # type: ignore[arg-type]


def test_fields_of_any_type_have_a_schema() -> None:
    class Strange(Event):
        anything: Context[Any]

    class Uses(Workflow):
        @step
        async def start(self, ev: StartEvent) -> Strange | None: ...

        @step
        async def end(self, ev: Strange) -> StopEvent:
            return StopEvent()

    node = next(n for n in get_workflow_representation(Uses).nodes if n.id == "Strange")
    assert isinstance(node, WorkflowEventNode)
    assert "anything" in (node.event_schema or {})["properties"]
