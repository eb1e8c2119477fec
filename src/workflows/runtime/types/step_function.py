"""The three events that a run gives to `llama_index_instrumentation`, where readers of it look for them."""

from __future__ import annotations

from workflows.instrumentation.llama_index_events import (
    SpanCancelledEvent,
    WorkflowRunOutputEvent,
    WorkflowStepOutputEvent,
)

__all__ = ["SpanCancelledEvent", "WorkflowRunOutputEvent", "WorkflowStepOutputEvent"]
