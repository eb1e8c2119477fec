"""Lets `from llama_index.core.workflow import WorkflowCheckpointer` find the class, without touching that package.

The package has no such name, so Python looks for a module of it here; what then stands in `sys.modules`, it gets.
"""

import sys

from workflows.checkpointer import WorkflowCheckpointer

sys.modules[__name__] = WorkflowCheckpointer  # type: ignore[assignment]
