"""The nodes of a workflow's resources, and of what the factories of those need in turn."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from workflows.errors import WorkflowError
from workflows.representation.graph import (
    WorkflowGraphEdge,
    WorkflowGraphNode,
    WorkflowResourceConfigNode,
    WorkflowResourceNode,
)
from workflows.representation.schema import schema_of
from workflows.resource import Resource, ResourceConfig, ResourceDescriptor

__all__ = ["ResourceNodes"]


class ResourceNodes:
    """Adds the nodes of resources to a graph; one factory, or one place in a file, is one node."""

    def __init__(self, nodes: dict[str, WorkflowGraphNode], edges: list[WorkflowGraphEdge]) -> None:
        self._nodes = nodes
        self._edges = edges
        self._ids: dict[object, str] = {}

    def add(self, resource: ResourceDescriptor, annotation: Any) -> str:
        """The id of a resource's node, made when it is first met; those that it needs are linked to it."""
        key = _identity(resource)
        if key in self._ids:
            return self._ids[key]
        kind = "resource_config" if isinstance(resource, ResourceConfig) else "resource"
        node_id = self._ids[key] = self._new_id(kind, resource.name)
        if isinstance(resource, ResourceConfig):
            self._nodes[node_id] = _config_node(node_id, resource, annotation)
        else:
            self._nodes[node_id] = _resource_node(node_id, resource, annotation)
        for name, needed, needed_annotation in _needs(resource):
            target = self.add(needed, needed_annotation)
            self._edges.append(WorkflowGraphEdge(source=node_id, target=target, label=name))
        return node_id

    def _new_id(self, kind: str, text: str) -> str:
        # Two lambdas of one function share their name: number those that follow.
        for number in range(1, len(self._nodes) + 2):
            digest = hashlib.sha256(f"{text}#{number}".encode() if number > 1 else text.encode()).hexdigest()
            if f"{kind}_{digest[:12]}" not in self._nodes:
                return f"{kind}_{digest[:12]}"
        raise AssertionError("a graph of n nodes cannot hold n + 1 of these ids")


def _identity(resource: ResourceDescriptor) -> object:
    if isinstance(resource, Resource):
        return id(resource.factory)
    return resource.name if isinstance(resource, ResourceConfig) else id(resource)


def _resource_node(node_id: str, resource: ResourceDescriptor, annotation: Any) -> WorkflowResourceNode:
    factory: Any = inspect.unwrap(resource.factory) if isinstance(resource, Resource) else type(resource)
    code = getattr(factory, "__code__", None)
    type_name = _type_name(annotation)
    return WorkflowResourceNode(
        id=node_id,
        label=type_name or resource.name,
        type_name=type_name,
        getter_name=getattr(factory, "__name__", resource.name),
        source_file=getattr(code, "co_filename", None),
        source_line=getattr(code, "co_firstlineno", None),
        description=inspect.getdoc(factory) if code is not None or isinstance(factory, type) else None,
    )


def _config_node(node_id: str, resource: ResourceConfig, annotation: Any) -> WorkflowResourceConfigNode:
    type_name = _type_name(annotation)
    return WorkflowResourceConfigNode(
        id=node_id,
        label=resource.label or type_name or resource.name,
        type_name=type_name,
        config_file=resource.config_file,
        path_selector=resource.path_selector,
        config_schema=_schema(annotation),
        config_value=_value(resource.config_file, resource.path_selector),
        description=resource.description,
    )


def _needs(resource: ResourceDescriptor) -> list[tuple[str, ResourceDescriptor, Any]]:
    try:
        return resource.get_dependencies()
    except WorkflowError:  # an annotation that cannot be read; the run says so, a drawing goes on without
        return []


def _schema(annotation: Any) -> dict[str, Any] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        model: type[BaseModel] = annotation
        return schema_of(model)
    return None


def _value(file: str, selector: str | None) -> dict[str, Any] | None:
    try:
        value: Any = json.loads(Path(file).read_text(encoding="utf-8"))
        for part in selector.split(".") if selector else ():
            value = value[part]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _type_name(annotation: Any) -> str | None:
    if annotation is None:
        return None
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
