"""What callers give, and what is said to them where that is something else than was needed."""

from __future__ import annotations

from mlflow_flavor._compat import invalid
from workflows import Workflow

__all__ = ["required_workflow"]


def required_workflow(value: object, needed_by: str) -> Workflow:
    """The value, which is a workflow.

    Raises:
        MlflowException: If it is none, or a class.
    """
    if isinstance(value, type):
        name = value.__name__
        raise invalid(f"{needed_by} needs a Workflow instance, got type {name}: call it ({name}()).")
    if not isinstance(value, Workflow):
        raise invalid(f"{needed_by} needs a Workflow instance, got {type(value).__name__}.")
    return value
