"""Whether a workflow that a written script made is the one that its author holds: same steps, same state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlflow_flavor._sameness import difference
from workflows import Workflow
from workflows.representation import get_workflow_representation

__all__ = ["changed_name", "class_change", "instance_change"]


def class_change(original: type[Workflow], rebuilt: type[Workflow]) -> str | None:
    """In words, what of a class, or of a base class that its source holds, is not what the source says; or None."""
    return difference(original.__name__, original, rebuilt)


def instance_change(original: Workflow, rebuilt: Workflow) -> str | None:
    """In words, what of an instance's steps and state is not what its source makes; None if all is."""
    if (steps := _steps(original)) != _steps(rebuilt):
        return f"its steps {', '.join(sorted(steps ^ _steps(rebuilt)))} were attached or removed by hand"
    change = difference("its", original, rebuilt)
    return change.replace("its.", "its ", 1) if change is not None and change.startswith("its.") else change


def changed_name(names: Iterable[str], original: Mapping[str, Any], rebuilt: Mapping[str, Any]) -> str | None:
    """In words, what of the values of names in a module is not what the module's statements make; or None.

    A name that the module has lost since is no variable of its functions either.
    """
    changes = (difference(name, original[name], rebuilt.get(name)) for name in sorted(names) if name in original)
    return next((change for change in changes if change is not None), None)


def _steps(workflow: Workflow) -> set[str]:
    nodes = get_workflow_representation(workflow).nodes
    return {node.label for node in nodes if node.node_type == "step"}
