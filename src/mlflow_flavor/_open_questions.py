"""Which runs wait for a person: told by the records of one workflow, also where only mlflow-tracing is installed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from workflows import Context
from workflows.events import HumanResponseEvent, InputRequiredEvent, StepStateChanged, WorkflowIdleEvent
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

NO_TIMEOUT = (None, inspect.signature(Context[Any].wait_for_event).parameters["timeout"].default)


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

    async def unanswered(self, handler: WorkflowHandler, seconds: float) -> list[WaitStarted]:
        """What a run asks people, where it has done nothing but wait for them for so long; none if it ends.

        A wait for something else, or one that the author gave a timeout, may end without anybody: such a run is let go
        on. So is one whose own code answers in time, as a stand-in for the person does.
        """
        events = handler.stream_events(expose_internal=True)
        waits: list[WaitStarted] = []
        while True:
            try:
                async with asyncio.timeout(seconds if waits else None):
                    event = await anext(events)
            except StopAsyncIteration:
                return []
            except TimeoutError:
                if [wait.wait_id for wait in waits] == [wait.wait_id for wait in self.of(handler.run_id)]:
                    return waits
                waits = []  # one was answered, and what waited for it goes on
                continue
            if isinstance(event, WorkflowIdleEvent):
                open_now = self.of(handler.run_id)
                waits = open_now if all(map(_needs_person, open_now)) else []
            elif isinstance(event, StepStateChanged):
                waits = []


def _needs_person(wait: WaitStarted) -> bool:
    """Whether nothing but a person's answer ends a wait."""
    asks = isinstance(wait.asked, InputRequiredEvent) or any(issubclass(c, HumanResponseEvent) for c in wait.takes)
    return asks and wait.timeout in NO_TIMEOUT
