"""The public drawing functions: from a workflow or a run to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workflows.drawing.html import html_of, svg_of
from workflows.drawing.mermaid import mermaid_of
from workflows.drawing.picture import Picture, picture_of_graph, picture_of_run
from workflows.errors import WorkflowRuntimeError
from workflows.handler import WorkflowHandler
from workflows.instrumentation.history import RunHistory
from workflows.representation.build import get_workflow_representation
from workflows.representation.graph import WorkflowGraph
from workflows.workflow import Workflow

__all__ = [
    "NotebookDrawing",
    "draw_all_possible_flows",
    "draw_all_possible_flows_mermaid",
    "draw_most_recent_execution",
    "draw_most_recent_execution_mermaid",
]


class NotebookDrawing:
    """What a notebook shows as the drawing when it is the value of a cell."""

    def __init__(self, svg: str) -> None:
        self._svg = svg

    def _repr_html_(self) -> str:
        return self._svg


def draw_all_possible_flows(
    workflow: Workflow | type[Workflow] | WorkflowGraph,
    filename: str = "workflow_all_flows.html",
    notebook: bool = False,
    max_label_length: int | None = None,
    include_child_workflows: bool = True,
) -> NotebookDrawing | None:
    """Write an HTML page that shows every step, every event, and what leads where.

    Args:
        workflow: The class or an instance; also a graph that `get_workflow_representation` gave.
        filename: Where the page goes; it needs no network and no other file.
        notebook: Also give what a notebook shows in the cell.
        max_label_length: Cut longer labels, with a `*` at the end.
        include_child_workflows: Also draw the workflows that steps name in their code.

    Raises:
        WorkflowValidationError: If it is no workflow.
    """
    return _write_html(_all_flows(workflow, max_label_length, include_child_workflows), filename, notebook)


def draw_all_possible_flows_mermaid(
    workflow: Workflow | type[Workflow] | WorkflowGraph,
    filename: str = "workflow_all_flows.mermaid",
    max_label_length: int | None = None,
    include_child_workflows: bool = True,
) -> str:
    """As `draw_all_possible_flows`, as Mermaid text: written to the file and returned."""
    return _write_mermaid(_all_flows(workflow, max_label_length, include_child_workflows), filename)


def draw_most_recent_execution(
    handler: Workflow | WorkflowHandler | RunHistory,
    filename: str = "workflow_recent_execution.html",
    notebook: bool = False,
    max_label_length: int | None = None,
) -> NotebookDrawing | None:
    """Write an HTML page that shows what a run did: a box for every attempt of a step and for every event.

    Args:
        handler: The run's handler; or a workflow instance, for the last run that it started.
        filename: Where the page goes.
        notebook: Also give what a notebook shows in the cell.
        max_label_length: Cut longer labels, with a `*` at the end.

    Raises:
        WorkflowRuntimeError: If nothing was run yet.
    """
    return _write_html(picture_of_run(_history(handler), max_label_length), filename, notebook)


def draw_most_recent_execution_mermaid(
    handler: Workflow | WorkflowHandler | RunHistory,
    filename: str = "workflow_recent_execution.mermaid",
    max_label_length: int | None = None,
) -> str:
    """As `draw_most_recent_execution`, as Mermaid text: written to the file and returned."""
    return _write_mermaid(picture_of_run(_history(handler), max_label_length), filename)


def _all_flows(
    workflow: Workflow | type[Workflow] | WorkflowGraph, max_label_length: int | None, children: bool
) -> Picture:
    if isinstance(workflow, WorkflowGraph):
        return picture_of_graph(workflow, max_label_length)
    graph = get_workflow_representation(workflow, include_child_workflows=children)
    return picture_of_graph(graph, max_label_length)


def _history(source: Any) -> RunHistory:
    """What a run remembers of itself; the only place that knows where that is kept."""
    if isinstance(source, RunHistory):
        return source
    definition = getattr(source, "__definition__", None)
    found = getattr(source, "_history", None) if definition is None else getattr(definition, "history", None)
    if not isinstance(found, RunHistory):
        raise WorkflowRuntimeError(
            f"{source!r} has no run to draw. Pass the handler that run() gave, or a workflow instance after its run(); "
            f"draw_all_possible_flows() draws a class."
        )
    return found


def _write_html(picture: Picture, filename: str, notebook: bool) -> NotebookDrawing | None:
    Path(filename).write_text(html_of(picture), encoding="utf-8")
    return NotebookDrawing(svg_of(picture)) if notebook else None


def _write_mermaid(picture: Picture, filename: str) -> str:
    text = mermaid_of(picture)
    Path(filename).write_text(text, encoding="utf-8")
    return text
