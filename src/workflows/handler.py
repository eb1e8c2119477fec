"""`WorkflowHandler`: what `run()` gives back: await it, read its stream, send to it, cancel it."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import suppress
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from workflows.context.context import Context
from workflows.errors import RunInterruptedError, WorkflowRuntimeError
from workflows.events import Event, StopEvent

if TYPE_CHECKING:  # see Context
    from workflows._engine.effects import EndRun
    from workflows._engine.loop import Run
    from workflows._engine.stream import StreamCursor
    from workflows.context.serializers import BaseSerializer
    from workflows.instrumentation.history import RunHistory

__all__ = ["WorkflowHandler"]

T = TypeVar("T")

logger = logging.getLogger("workflows.run")


class WorkflowHandler(Awaitable[Any]):
    """One run, as seen by whoever started it.

    Awaiting gives the result: `StopEvent.result`, or the event itself where a subclass of `StopEvent` ended the run.
    It raises what failed the run, `WorkflowTimeoutError`, or `WorkflowCancelledByUser`. Awaiting twice is fine, and
    cancelling whoever awaits (`asyncio.wait_for`, a client that went away) leaves the run alone.

    The run is awaited, and its stream read, on the event loop that it was started on; another one gets a
    `WorkflowRuntimeError` at once. `send_event`, `cancel_run`, `suspend` and `run_step` work on any, in any thread.
    """

    def __init__(self, run: Run, ctx: Context[Any]) -> None:
        self._run = run
        self._ctx = ctx
        self._seen = False
        self._callbacks: Sequence[tuple[Callable[[WorkflowHandler], object], Variables]] = ()
        run.handler = ref(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        run = self._run
        if not run.is_over:
            waiter = run.waits_for_end()
            run.awaited += 1
            try:
                run.check_idle()
                if run.stepper is not None:
                    run.stepper.end_awaited()
                yield from waiter
            finally:
                run.awaited -= 1
                run.no_longer_waits(waiter)
        return _result_of(self._stop_event())

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
        return self._run.is_over

    async def stop_event_result(self) -> StopEvent:
        """Wait for the end and give the event that ended the run; raises as awaiting does."""
        await self
        return self._stop_event()

    def _stop_event(self) -> StopEvent:
        self._seen = True
        end = self._run.end
        if end is None:
            raise RunInterruptedError(f"Run {self.run_id} never began.", run_id=self.run_id)
        end.raise_error()
        return end.stop_event

    def get_stop_event(self) -> StopEvent | None:
        """The event that ended the run; None while it runs, and where it failed or timed out."""
        end = self._run.end
        failed = end is not None and end.outcome in ("failed", "timed_out")
        return end.stop_event if end is not None and self.is_done() and not failed else None

    def stream_events(
        self,
        expose_internal: bool = False,
        *,
        include_children: bool = False,
        types: type[Event] | Iterable[type[Event]] = Event,
        start: int | None = None,
    ) -> StreamCursor:
        """An async iterator over what the steps write to the stream; it ends after the run's terminal event.

        Every call gives a reader of its own, from the first event on. One that follows a reader which was left half-way
        (`break`) goes on where that one stopped.

        Args:
            expose_internal: Also give events about the engine itself (`StepStateChanged`, `UnhandledEvent`, ...), from
                when the first reader that wants them came: they are built for such readers only.
            include_children: Also give what runs stream that steps of this run started, and their steps in turn, from
                now on; without the events that end those runs.
            types: Give events of these classes only.
            start: Pass over that many events of the stream: a reader that comes back gives the `position` of the one
                that it had. The stream of a run that goes on from a snapshot begins anew, with what nobody had read.

        Raises:
            WorkflowRuntimeError: If `types` holds what is no class. While iterating, if events that it should give are
                no longer kept; it says with which `start` there are some. The last `Workflow(stream_buffer=)` are kept,
                and what an attached reader has not read.
        """
        wanted = (types,) if isinstance(types, type) else tuple(types)
        for each in wanted:
            if not isinstance(each, type):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
                raise WorkflowRuntimeError(f"stream_events(types=) takes event classes, got {each!r}.")
        return self._run.stream.cursor(
            internal=expose_internal,
            children=include_children,
            types=wanted,
            start=start,
        )

    async def send_event(self, event: Event, step: str | None = None, *, wait_id: str | None = None) -> None:
        """Send an event into the run; see `Context.send_event`."""
        self._run.sender_outside = True
        self._ctx.send_event(event, step, wait_id=wait_id)

    async def cancel_run(self, *, timeout: float = 5.0) -> None:
        """End the run: its steps are cancelled, its stream ends with `WorkflowCancelledEvent`.

        Returns when no task of the run is left, or after `timeout` seconds. Does nothing if the run is over.
        """
        self._run.mailbox.post(self._run.cancel)
        self._seen = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._on_its_loop(self._run.until_over)

    async def run_step(self) -> list[Event] | None:
        """In a run started with `run(stepwise=True)`: let the calls that can start run to their end.

        Where they return nothing, those that they have led to go as well, so that `while produced := await
        handler.run_step()` ends with the run.

        Returns:
            What they returned, for the caller to send on with `handler.ctx.send_event`; None when the run is over.

        Raises:
            ValueError: If the run was not started with `stepwise=True`.
        """
        if self._run.stepper is None:
            raise ValueError("Workflow must be created passing stepwise=True to call this method.")
        produced = await self._on_its_loop(self._run.stepper.step)
        if produced is None and self._run.end is not None and self._run.end.error is not None:
            self._seen = True
            self._run.end.raise_error()
        return produced

    async def suspend(self, *, serializer: BaseSerializer | None = None) -> dict[str, Any]:
        """Let go of the run where it stands, and give the snapshot that it goes on from.

        Streamed events that no reader has got are in the snapshot and come again, so an attached reader may get them
        twice. Steps that run are stopped, and run again from the top when a run goes on with `Context.from_dict(...)`.
        Awaiting the handler then gives an `IdleReleasedEvent`. The snapshot is of one moment, so it is written in one
        piece: some 10 µs for each call in flight, more for large events, in which the event loop does nothing else.

        Args:
            serializer: Writes the snapshot; the workflow's own if left out. `Context.from_dict` needs the same.

        Raises:
            WorkflowRuntimeError: If the run is over.
            ValueError: If an event or the state holds something that the serializer cannot write; the run goes on.
        """
        return await self._on_its_loop(partial(self._suspend, serializer))

    async def _suspend(self, serializer: BaseSerializer | None) -> dict[str, Any]:
        if self._run.end is not None:
            raise WorkflowRuntimeError(f"Run {self.run_id} is over ({self._run.end.outcome}); nothing to suspend.")
        snapshot = self._ctx.to_dict(serializer)
        self._run.suspend()
        await self._run.until_over()
        return snapshot

    async def _on_its_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it on the run's loop, whichever runs here: a run may not be touched from another thread."""
        loop = self._run.loop
        if self._run.is_over or asyncio.get_running_loop() is loop:
            return await work()
        if not loop.is_running():
            self._run.check_loop()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    # names of older versions, in which a handler was an asyncio.Future

    def done(self) -> bool:
        """Older name of `is_done()`."""
        _deprecated("done()", "is_done()")
        return self.is_done()

    def result(self) -> Any:
        """What awaiting would give, without waiting.

        Raises:
            asyncio.InvalidStateError: If the run is not over.
        """
        _deprecated("result()", "await handler")
        end = self._ended("Result is not ready")
        end.raise_error()
        return _result_of(end.stop_event)

    def exception(self) -> BaseException | None:
        """What awaiting would raise; None where it would not.

        Raises:
            asyncio.InvalidStateError: If the run is not over.
        """
        _deprecated("exception()", "await handler")
        return self._ended("Exception is not set").error

    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        _deprecated("cancelled()", "get_stop_event()")
        return self._run.end is not None and self._run.end.outcome == "cancelled"

    def cancel(self) -> None:
        """Ask for the run's end without waiting for it."""
        _deprecated("cancel()", "await handler.cancel_run()")
        self._seen = True
        self._run.mailbox.post(self._run.cancel)

    def add_done_callback(self, fn: Callable[[WorkflowHandler], object], *, context: Variables | None = None) -> None:
        """Call `fn(handler)` soon after the end of the run; soon, where that is past."""
        _deprecated("add_done_callback()", "await handler")
        self._callbacks = [*self._callbacks, (fn, context or copy_context())]
        if self._run.is_over:
            self._call_back(self._run)
        elif len(self._callbacks) == 1:
            self._run.when_over(self._call_back)

    def remove_done_callback(self, fn: Callable[[WorkflowHandler], object]) -> int:
        """Take back every `add_done_callback(fn)`; how many there were."""
        before = len(self._callbacks)
        self._callbacks = [pair for pair in self._callbacks if pair[0] != fn]
        return before - len(self._callbacks)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the run lives on."""
        return self._run.loop

    def _call_back(self, run: Run) -> None:
        callbacks, self._callbacks = self._callbacks, ()
        for fn, context in callbacks:
            run.loop.call_soon(fn, self, context=context)

    def __del__(self) -> None:
        """Log the failure of a run that nobody ever awaited, once, when nobody can any more."""
        if getattr(self, "_seen", True):
            return
        run = self._run
        if not run.is_over:
            run.when_over(_log_failure)
        elif _has_failed(run):
            # Not here: this may be the garbage collector in the middle of anything, and tracebacks take long to format.
            run.later(partial(_log_failure, run))

    def _ended(self, otherwise: str) -> EndRun:
        end = self._run.end
        if end is None or not self.is_done():
            raise asyncio.InvalidStateError(f"{otherwise}: run {self.run_id} is not over. Await the handler.")
        self._seen = True
        return end

    def __str__(self) -> str:
        stop = self.get_stop_event()
        name = self._ctx._workflow.workflow_name  # pyright: ignore[reportPrivateUsage]  # two halves of one run
        return f"WorkflowHandler(workflow={name}, run_id={self.run_id}, result={stop})"


def _result_of(stop: StopEvent) -> Any:
    return stop.result if type(stop) is StopEvent else stop


def _has_failed(run: Run) -> bool:
    return run.end is not None and run.end.outcome in ("failed", "timed_out")


def _log_failure(run: Run) -> None:
    if run.end is not None and _has_failed(run):
        logger.error(
            "run %s of %s %s and nobody awaited it",
            run.run_id,
            run.spec.name,
            "timed out" if run.end.outcome == "timed_out" else f"failed in step {run.end.failed_step}",
            exc_info=run.end.error,
            extra={"run_id": run.run_id},
        )


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"handler.{old} is the name of older versions; use {new} instead.", DeprecationWarning, stacklevel=3)
