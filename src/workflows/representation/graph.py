"""What `get_workflow_representation` gives: the nodes and edges of a workflow, as models that go to JSON and back."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "WorkflowEventNode",
    "WorkflowExternalNode",
    "WorkflowGenericNode",
    "WorkflowGraph",
    "WorkflowGraphEdge",
    "WorkflowGraphNode",
    "WorkflowNodeBase",
    "WorkflowResourceConfigNode",
    "WorkflowResourceNode",
    "WorkflowStepNode",
]


class WorkflowNodeBase(BaseModel):
    """Base of all nodes: `id` is unique in its graph, `label` is what people read."""

    model_config = ConfigDict(defer_build=True)  # most programs never draw; building the schemas costs milliseconds

    id: str
    label: str

    def truncated_label(self, max_length: int) -> str:
        """The label in at most `max_length` characters; one that was cut ends in `*`."""
        return self.label if len(self.label) <= max_length else f"{self.label[: max_length - 1]}*"


class WorkflowStepNode(WorkflowNodeBase):
    """A step; `description` is its docstring."""

    node_type: Literal["step"] = "step"
    description: str | None = None


class WorkflowEventNode(WorkflowNodeBase):
    """A class of events.

    Attributes:
        event_type: The class's name.
        event_types: Names of the class and of its parents, down to but without `Event`.
        event_schema: JSON schema of its fields; None where there is none.
        produced_by: Names of the steps whose return annotation names it.
    """

    node_type: Literal["event"] = "event"
    event_type: str
    event_types: list[str]
    event_schema: dict[str, Any] | None = None
    produced_by: list[str] = Field(default_factory=list)

    def is_subclass_of(self, *type_names: str) -> bool:
        """Whether the class, or a parent of it, has one of these names."""
        return not set(type_names).isdisjoint(self.event_types)


class WorkflowExternalNode(WorkflowNodeBase):
    """Whoever stands outside: reads `InputRequiredEvent`s, sends `HumanResponseEvent`s."""

    node_type: Literal["external"] = "external"


class WorkflowResourceNode(WorkflowNodeBase):
    """A resource that steps are given; `type_name` is the annotated type, the rest is about its factory."""

    node_type: Literal["resource"] = "resource"
    type_name: str | None = None
    getter_name: str | None = None
    source_file: str | None = None
    source_line: int | None = None
    description: str | None = None


class WorkflowResourceConfigNode(WorkflowNodeBase):
    """A resource that is read from a JSON file; `config_value` is None where the file cannot be read."""

    node_type: Literal["resource_config"] = "resource_config"
    type_name: str | None = None
    config_file: str | None = None
    path_selector: str | None = None
    config_schema: dict[str, Any] | None = None
    config_value: dict[str, Any] | None = None
    description: str | None = None


class WorkflowGenericNode(WorkflowNodeBase):
    """A node of a kind that this module does not know, for tools that draw more than workflows."""

    node_type: str
    event_type: str | None = None
    event_types: list[str] | None = None

    def is_subclass_of(self, *type_names: str) -> bool:
        """Whether one of these names is among `event_types`."""
        return not set(type_names).isdisjoint(self.event_types or ())


WorkflowGraphNode = (
    WorkflowStepNode
    | WorkflowEventNode
    | WorkflowExternalNode
    | WorkflowResourceNode
    | WorkflowResourceConfigNode
    | WorkflowGenericNode
)


class WorkflowGraphEdge(BaseModel):
    """An arrow between two nodes, by id; `label` says as what, where that is not plain."""

    model_config = ConfigDict(defer_build=True)

    source: str
    target: str
    label: str | None = None


class WorkflowGraph(BaseModel):
    """A workflow's steps, events and resources, and what leads where."""

    model_config = ConfigDict(defer_build=True)

    name: str
    # From left to right: a generic node takes any `node_type`, so the others must have had their chance.
    nodes: list[Annotated[WorkflowGraphNode, Field(union_mode="left_to_right")]]
    edges: list[WorkflowGraphEdge]
    description: str | None = None

    def filter_by_node_type(self, *node_types: str) -> WorkflowGraph:
        """The graph without the nodes of these types; what led through one of them is now one edge with its label."""
        removed = {n.id: n.label for n in self.nodes if n.node_type in node_types}
        outgoing: defaultdict[str, list[WorkflowGraphEdge]] = defaultdict(list)
        for edge in self.edges:
            outgoing[edge.source].append(edge)
        edges: list[WorkflowGraphEdge] = []
        for edge in self.edges:
            if edge.source in removed:
                continue
            if edge.target not in removed:
                edges.append(edge)
                continue
            edges += [
                WorkflowGraphEdge(source=edge.source, target=target, label=removed[edge.target])
                for target in _through(edge.target, removed, outgoing)
            ]
        unique = {(e.source, e.target, e.label): e for e in edges}
        nodes = [n for n in self.nodes if n.id not in removed]
        return WorkflowGraph(name=self.name, nodes=nodes, edges=list(unique.values()), description=self.description)


def _through(start: str, removed: dict[str, str], outgoing: dict[str, list[WorkflowGraphEdge]]) -> list[str]:
    """The nodes that stay and are reached from `start` over removed ones alone."""
    found: dict[str, None] = {}
    seen = {start}
    todo = [start]
    while todo:
        for edge in outgoing.get(todo.pop(), ()):
            if edge.target not in removed:
                found[edge.target] = None
            elif edge.target not in seen:
                seen.add(edge.target)
                todo.append(edge.target)
    return list(found)
