"""What a workflow looks like before it runs: the graph of its steps and events, and what is wrong with it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workflows.representation.validation import validate_graph

if TYPE_CHECKING:
    from workflows.representation.build import get_workflow_representation
    from workflows.representation.graph import (
        WorkflowEventNode,
        WorkflowExternalNode,
        WorkflowGenericNode,
        WorkflowGraph,
        WorkflowGraphEdge,
        WorkflowGraphNode,
        WorkflowNodeBase,
        WorkflowResourceConfigNode,
        WorkflowResourceNode,
        WorkflowStepNode,
    )

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
    "get_workflow_representation",
    "validate_graph",
]


def __getattr__(name: str) -> Any:
    """The graph's models are built when somebody asks for one: few do, and they take a while."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = "build" if name == "get_workflow_representation" else "graph"
    return getattr(import_module(f"{__name__}.{where}"), name)
