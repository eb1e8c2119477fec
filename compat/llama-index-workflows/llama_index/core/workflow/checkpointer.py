"""The checkpointer of older versions, at its import path of then; llama-index-core has no module of this name."""

from workflows.checkpointer import Checkpoint, WorkflowCheckpointer

__all__ = ["Checkpoint", "WorkflowCheckpointer"]
