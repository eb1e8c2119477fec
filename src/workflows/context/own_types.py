"""What the snapshots of a workflow name without being told: its events, its state, and what their fields hold."""

from __future__ import annotations

from workflows._spec import WorkflowSpec
from workflows.context.class_names import model_types
from workflows.context.serializers import BaseSerializer, JsonSerializer, PickleSerializer

__all__ = ["own_serializer", "own_types"]


def own_types(spec: WorkflowSpec) -> list[type]:
    """The events that the steps accept or return, the state, and what serializers write of their fields."""
    events = [c for step in spec.steps.values() for c in (*step.accepted_events, *step.return_types)]
    return model_types([*events, spec.state_type] if spec.state_type is not None else events)


def own_serializer(spec: WorkflowSpec, given: BaseSerializer | None = None) -> BaseSerializer:
    """The given serializer, by default a `JsonSerializer`, so that it rebuilds what is the workflow's own.

    Local classes included, and whatever list of `allowed_types` it has. One of another kind is given back as it is.
    """
    serializer = JsonSerializer() if given is None else given
    if not isinstance(serializer, JsonSerializer) or isinstance(serializer, PickleSerializer):
        return serializer
    return serializer.with_types(*own_types(spec))
