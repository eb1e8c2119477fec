"""From a workflow to its graph: `get_workflow_representation`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

from workflows._spec import StepSpec, takes
from workflows.errors import WorkflowValidationError
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent
from workflows.representation.children import child_workflows
from workflows.representation.compiling import specs_of
from workflows.representation.graph import (
    WorkflowEventNode,
    WorkflowExternalNode,
    WorkflowGraph,
    WorkflowGraphEdge,
    WorkflowGraphNode,
    WorkflowStepNode,
)
from workflows.representation.resources import ResourceNodes
from workflows.representation.schema import schema_of

__all__ = ["EXTERNAL", "HasSteps", "get_workflow_representation"]

EXTERNAL = "external_step"


class HasSteps(Protocol):
    """A workflow, as far as its graph is concerned."""

    @classmethod
    def _get_steps_from_class(cls) -> dict[str, Callable[..., Any]]: ...

    def _get_steps(self) -> dict[str, Callable[..., Any]]: ...


def get_workflow_representation(
    workflow: HasSteps | type[HasSteps], *, include_child_workflows: bool = False
) -> WorkflowGraph:
    """The graph of a workflow class or instance: its steps, their events and resources, in definition order.

    Ids of step nodes are step names, ids of event nodes class names. Where a name is taken (by a step, or by another
    class), the id is the class's full name. Nothing is validated and no resource is made or read twice.

    Args:
        workflow: The class, or an instance (which may have steps and child workflows of its own).
        include_child_workflows: Add the graphs of the workflows that steps name in their code, or reach through an
            attribute of the instance; their node ids begin with `<step>.<class>/`.

    Raises:
        WorkflowValidationError: If it is no workflow.
    """
    graph = _Builder(workflow).build()
    if include_child_workflows:
        _add_children(graph, workflow, (_class_of(workflow),))
    return graph


class _Builder:
    """Collects the nodes and edges of one workflow."""

    def __init__(self, workflow: HasSteps | type[HasSteps]) -> None:
        self.cls = _class_of(workflow)
        self.steps = specs_of(_functions(workflow))
        self.nodes: dict[str, WorkflowGraphNode] = {}
        self.edges: list[WorkflowGraphEdge] = []
        self.resources = ResourceNodes(self.nodes, self.edges)
        self._ids: dict[Hashable, str] = {name: name for name in self.steps}
        self._ids[EXTERNAL] = EXTERNAL

    def build(self) -> WorkflowGraph:
        for step in self.steps.values():
            self._add_step(step)
        self._link_subclasses()
        doc = self.cls.__doc__
        return WorkflowGraph(
            name=self.cls.__name__,
            nodes=list(self.nodes.values()),
            edges=self.edges,
            description=inspect.cleandoc(doc) if doc else None,
        )

    def _add_step(self, step: StepSpec) -> None:
        doc = inspect.getdoc(step.function)
        self.nodes[step.name] = WorkflowStepNode(id=step.name, label=step.name, description=doc)
        for event in step.accepted_events:
            node = self._event(event)
            self._link(node, step.name)
            if issubclass(event, HumanResponseEvent):
                self._link(self._external(), node)
        for event in dict.fromkeys(step.return_types):
            node = self._event(event)
            self._link(step.name, node)
            if issubclass(event, InputRequiredEvent):
                self._link(node, self._external())
        for parameter in step.resources:
            node = self.resources.add(parameter.resource, parameter.type_annotation)
            self._link(step.name, node, parameter.name)

    def _link_subclasses(self) -> None:
        known = [key for key in self._ids if isinstance(key, type) and issubclass(key, Event)]
        for step in self.steps.values():
            for event in known:
                if takes(step, event):
                    self._link(self._ids[event], step.name)

    def _link(self, source: str, target: str, label: str | None = None) -> None:
        edge = WorkflowGraphEdge(source=source, target=target, label=label)
        if edge not in self.edges:
            self.edges.append(edge)

    def _event(self, event: type[Event]) -> str:
        if event in self._ids:
            return self._ids[event]
        taken = set(self._ids.values())
        node_id = next(name for name in _names(event) if name not in taken)
        self._ids[event] = node_id
        chain = [c.__name__ for c in event.__mro__ if issubclass(c, Event) and c is not Event] or [event.__name__]
        self.nodes[node_id] = WorkflowEventNode(
            id=node_id,
            label=node_id,
            event_type=event.__name__,
            event_types=chain,
            event_schema=schema_of(event),
            produced_by=[s.name for s in self.steps.values() if event in s.return_types],
        )
        return node_id

    def _external(self) -> str:
        if EXTERNAL not in self.nodes:
            self.nodes[EXTERNAL] = WorkflowExternalNode(id=EXTERNAL, label=EXTERNAL)
        return EXTERNAL


def _names(event: type[Event]) -> Iterator[str]:
    yield event.__name__
    full = f"{event.__module__}.{event.__qualname__}"
    yield full
    number = 2
    while True:
        yield f"{full}#{number}"
        number += 1


def _class_of(workflow: HasSteps | type[HasSteps]) -> type[HasSteps]:
    cls = workflow if isinstance(workflow, type) else type(workflow)
    if not hasattr(cls, "_get_steps_from_class"):
        raise WorkflowValidationError(
            f"{workflow!r} is no workflow, so it has no graph. Pass a subclass of Workflow, or an instance of one."
        )
    return cls


def _functions(workflow: HasSteps | type[HasSteps]) -> dict[str, Callable[..., Any]]:
    return workflow._get_steps_from_class() if isinstance(workflow, type) else workflow._get_steps()  # pyright: ignore[reportPrivateUsage]  # HasSteps names them


def _add_children(
    graph: WorkflowGraph, workflow: HasSteps | type[HasSteps], ancestors: tuple[type[HasSteps], ...]
) -> None:
    for name, function in _functions(workflow).items():
        for child in child_workflows(function, workflow):
            cls = _class_of(child)
            if cls in ancestors:  # a workflow that runs itself again
                continue
            inner = _Builder(child).build()
            _add_children(inner, child, (*ancestors, cls))
            _merge(graph, inner, name)


def _merge(graph: WorkflowGraph, inner: WorkflowGraph, step: str) -> None:
    prefix = f"{step}.{inner.name}/"
    known = {n.id for n in graph.nodes}
    if any(f"{prefix}{n.id}" in known for n in inner.nodes):
        return
    graph.nodes += [n.model_copy(update={"id": f"{prefix}{n.id}"}) for n in inner.nodes]
    graph.edges += [
        WorkflowGraphEdge(source=f"{prefix}{e.source}", target=f"{prefix}{e.target}", label=e.label)
        for e in inner.edges
    ]
    for node in inner.nodes:
        if isinstance(node, WorkflowEventNode) and "/" not in node.id:
            if node.is_subclass_of("StartEvent"):
                graph.edges.append(WorkflowGraphEdge(source=step, target=f"{prefix}{node.id}", label="runs"))
            elif node.is_subclass_of("StopEvent"):
                graph.edges.append(WorkflowGraphEdge(source=f"{prefix}{node.id}", target=step, label="returns"))
