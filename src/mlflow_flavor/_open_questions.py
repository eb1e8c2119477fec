"""Which runs wait for a person: told by the records of one workflow, also where only mlflow-tracing is installed."""

from __future__ import annotations

from collections.abc import Mapping

from workflows.events import WorkflowIdleEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.records import (
    Record,
    RunEnded,
    RunSuspended,
    WaitCancelled,
    WaitResolved,
    WaitStarted,
    WaitTimedOut,
)

__all__ = ["OpenQuestions"]


class OpenQuestions:
    """A record handler of one workflow instance that knows which waits of which runs are open."""

    name = "mlflow_questions"
    destination = None

    def __init__(self) -> None:
        self._open: dict[str, dict[str, WaitStarted]] = {}

    def handle(self, record: Record) -> None:
        """Take one record; only those about waits and ends matter."""
        match record:
            case WaitStarted():
                self._open.setdefault(record.run_id, {})[record.wait_id] = record
            case WaitResolved() | WaitTimedOut() | WaitCancelled():
                self._open.get(record.run_id, {}).pop(record.wait_id, None)
            case RunEnded() | RunSuspended():
                self._open.pop(record.run_id, None)
            case _:
                pass

    def carrier(self, run_id: str) -> Mapping[str, str] | None:
        """Nothing to carry."""
        return None

    def of(self, run_id: str) -> list[WaitStarted]:
        """The open waits of a run, oldest first."""
        return list(self._open.get(run_id, {}).values())

    async def stopping(self, handler: WorkflowHandler) -> list[WaitStarted]:
        """The open waits of a run, as soon as it does nothing else than to wait; none if it has ended before that."""
        async for event in handler.stream_events(expose_internal=True):
            if isinstance(event, WorkflowIdleEvent) and (waits := self.of(handler.run_id)):
                return waits
        return []
