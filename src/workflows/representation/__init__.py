"""What a workflow looks like before it runs: the graph of its steps and events, and what is wrong with it."""

from workflows.representation.validation import validate_graph

__all__ = ["validate_graph"]
