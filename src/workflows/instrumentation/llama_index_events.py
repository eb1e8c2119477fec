"""The three events that a run gives to `llama_index_instrumentation`; imported only where that package is."""

from __future__ import annotations

from llama_index_instrumentation.base import (  # pyright: ignore[reportMissingImports]  # whoever looks here has it
    BaseEvent,  # pyright: ignore[reportUnknownVariableType]
)

__all__ = ["SpanCancelledEvent", "WorkflowRunOutputEvent", "WorkflowStepOutputEvent"]


class WorkflowStepOutputEvent(BaseEvent):  # pyright: ignore[reportUntypedBaseClass]
    """A step returned; `output` is a summary of what."""

    output: str

    @classmethod
    def class_name(cls) -> str:
        return "step.output"


class WorkflowRunOutputEvent(BaseEvent):  # pyright: ignore[reportUntypedBaseClass]
    """A run ended; `output` is a summary of its result."""

    output: str

    @classmethod
    def class_name(cls) -> str:
        return "workflow.output"


class SpanCancelledEvent(BaseEvent):  # pyright: ignore[reportUntypedBaseClass]
    """A run or a step was cancelled; `reason` says why."""

    reason: str

    @classmethod
    def class_name(cls) -> str:
        return "SpanCancelledEvent"
