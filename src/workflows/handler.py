"""`WorkflowHandler`: what `run()` gives back: await it, read its stream, send to it, cancel it."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Generator
from functools import partial
from typing import Any

from workflows._engine.loop import Run
from workflows._engine.stream import StreamCursor
from workflows.context.context import Context
from workflows.errors import RunInterruptedError, WorkflowRuntimeError
from workflows.events import Event, StopEvent, WorkflowFailedEvent
from workflows.instrumentation.history import RunHistory

__all__ = ["WorkflowHandler"]

logger = logging.getLogger("workflows.run")


class WorkflowHandler(Awaitable[Any]):
    """One run, as seen by whoever started it.

    Awaiting gives the result: `StopEvent.result`, or the event itself where a subclass of `StopEvent` ended the run.
    It raises what failed the run, `WorkflowTimeoutError`, or `WorkflowCancelledByUser`. Awaiting twice is fine, and
    cancelling whoever awaits (`asyncio.wait_for`, a client that went away) leaves the run alone.
    """

    def __init__(self, run: Run, ctx: Context[Any]) -> None:
        self._run = run
        self._ctx = ctx
        self._failure = _Failure()
        run.over.add_done_callback(self._failure.note(run))

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._result().__await__()

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    @property
    def ctx(self) -> Context[Any]:
        """The run's context, as seen from outside its steps."""
        self._run.sender_outside = True
        return self._ctx

    @property
    def _history(self) -> RunHistory:
        """What the run remembers of itself, for drawings."""
        return self._run.history

    def is_done(self) -> bool:
        """Whether the run is over, with no task of it left."""
        return self._run.over.done()

    async def stop_event_result(self) -> StopEvent:
        """Wait for the end and give the event that ended the run; raises as awaiting does."""
        self._run.awaited += 1
        self._run.check_idle()
        try:
            await asyncio.shield(self._run.over)
        finally:
            self._run.awaited -= 1
        self._failure.seen = True
        end = self._run.end
        if end is None:
            raise RunInterruptedError(f"Run {self.run_id} never began.", run_id=self.run_id)
        if end.error is not None:
            raise end.error
        return end.stop_event

    def get_stop_event(self) -> StopEvent | None:
        """The event that ended the run; None while it runs, and where it failed or timed out."""
        end = self._run.end
        failed = end is not None and end.outcome in ("failed", "timed_out")
        return end.stop_event if end is not None and self.is_done() and not failed else None

    def stream_events(self, expose_internal: bool = False) -> StreamCursor:
        """An async iterator over what the steps write to the stream; it ends after the run's terminal event.

        Every call gives a reader of its own, from the first event that is kept. One that follows a reader which was
        left half-way (`break`) goes on where that one stopped.

        Args:
            expose_internal: Also give events about the engine itself (`StepStateChanged`, `UnhandledEvent`, ...).

        Raises:
            WorkflowRuntimeError: While iterating, if events that it should give are no longer kept.
        """
        return self._run.stream.cursor(internal=expose_internal)

    async def send_event(self, event: Event, step: str | None = None) -> None:
        """Send an event into the run; see `Context.send_event`."""
        self._run.sender_outside = True
        self._ctx.send_event(event, step)

    async def cancel_run(self, *, timeout: float = 5.0) -> None:
        """End the run: its steps are cancelled, its stream ends with `WorkflowCancelledEvent`.

        Returns when no task of the run is left, or after `timeout` seconds. Does nothing if the run is over.
        """
        self._run.mailbox.post(self._run.cancel)
        self._failure.seen = True
        await asyncio.wait([self._run.over], timeout=timeout)

    async def run_step(self) -> list[Event] | None:
        """In a run started with `run(stepwise=True)`: let the calls that can start run to their end.

        Returns:
            What they returned, for the caller to send on with `handler.ctx.send_event`; None when the run is over.

        Raises:
            ValueError: If the run was not started with `stepwise=True`.
        """
        if self._run.stepper is None:
            raise ValueError("Workflow must be created passing stepwise=True to call this method.")
        produced = await self._run.stepper.step()
        if produced is None and self._run.end is not None and self._run.end.error is not None:
            self._failure.seen = True
            raise self._run.end.error
        return produced

    async def suspend(self) -> dict[str, Any]:
        """Let go of the run where it stands, and give the snapshot that it goes on from.

        Steps that run are stopped, and run again from the top when a run goes on with `Context.from_dict(...)`.
        Awaiting the handler then gives an `IdleReleasedEvent`.

        Raises:
            WorkflowRuntimeError: If the run is over.
        """
        if self._run.end is not None:
            raise WorkflowRuntimeError(f"Run {self.run_id} is over ({self._run.end.outcome}); nothing to suspend.")
        snapshot = self._ctx.to_dict()
        self._run.suspend()
        await asyncio.shield(self._run.over)
        return snapshot

    # names of older versions

    def done(self) -> bool:
        """Older name of `is_done()`."""
        _deprecated("done()", "is_done()")
        return self.is_done()

    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        _deprecated("cancelled()", "get_stop_event()")
        return self._run.end is not None and self._run.end.outcome == "cancelled"

    def exception(self) -> BaseException | None:
        """What awaiting would raise; None while the run goes on."""
        _deprecated("exception()", "await handler")
        self._failure.seen = True
        return self._run.end.error if self._run.end is not None else None

    def cancel(self) -> None:
        """Ask for the run's end without waiting for it."""
        _deprecated("cancel()", "await handler.cancel_run()")
        self._failure.seen = True
        self._run.mailbox.post(self._run.cancel)

    def __str__(self) -> str:
        stop = self.get_stop_event()
        result = None if stop is None else stop
        return f"WorkflowHandler(workflow={self._run.spec.name}, run_id={self.run_id}, result={result})"

    async def _result(self) -> Any:
        stop = await self.stop_event_result()
        return stop.result if type(stop) is StopEvent else stop


class _Failure:
    """Logs the failure of a run that nobody ever awaited, once, when nobody can any more."""

    def __init__(self) -> None:
        self.seen = False
        self._run: Run | None = None

    def note(self, run: Run) -> Any:
        def over(_: object) -> None:
            self._run = run

        return over

    def __del__(self) -> None:
        run = self._run
        if run is None or self.seen or run.end is None or not isinstance(run.end.stop_event, WorkflowFailedEvent):
            return
        # Not here: this may be the garbage collector in the middle of anything, and a traceback takes a lot to format.
        run.later(partial(_log_failure, run))


def _log_failure(run: Run) -> None:
    failed_step = run.end.failed_step if run.end else None
    logger.error(
        "run %s of %s failed in step %s and nobody awaited it",
        run.run_id,
        run.spec.name,
        failed_step,
        exc_info=run.end.error if run.end else None,
        extra={"run_id": run.run_id},
    )


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"handler.{old} is the name of older versions; use {new} instead.", DeprecationWarning, stacklevel=3)
