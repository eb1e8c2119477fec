"""`WorkflowTestRunner`: run a workflow once and get everything that it streamed, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from workflows.context.context import Context
from workflows.events import Event, StartEvent
from workflows.workflow import Workflow

__all__ = ["WorkflowTestResult", "WorkflowTestRunner"]


@dataclass
class WorkflowTestResult:
    """What one run streamed and gave.

    Attributes:
        collected: The streamed events in order, the last one included.
        event_types: How many there were of each class.
        result: What awaiting the handler gives.
        ctx: The run's context, as seen from outside.
    """

    collected: list[Event]
    event_types: dict[type[Event], int]
    result: Any
    ctx: Context[Any]


class WorkflowTestRunner:
    """Runs one workflow for tests."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def run(
        self,
        start_event: StartEvent | None = None,
        ctx: Context[Any] | None = None,
        expose_internal: bool = True,
        exclude_events: list[type[Event]] | None = None,
    ) -> WorkflowTestResult:
        """Run to the end.

        Args:
            start_event: The first event; an empty one of the workflow's own class if left out.
            ctx: A context to run with.
            expose_internal: Also collect events about the engine itself, such as `StepStateChanged`.
            exclude_events: Exact classes that are not collected.

        Raises:
            Exception: What failed the run, as awaiting its handler would.
        """
        event = start_event if start_event is not None else self._workflow.start_event_class()
        handler = self._workflow.run(ctx=ctx, start_event=event)
        excluded = set(exclude_events or ())
        events = handler.stream_events(expose_internal)
        events.reads_later = True
        result = await handler
        collected = [e async for e in events if type(e) not in excluded]
        return WorkflowTestResult(collected, dict(Counter(type(e) for e in collected)), result, handler.ctx)
