"""`Context`: what a step, and the code that started the run, hold of a run."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from pydantic import BaseModel

from workflows._spec import HasSpec, WorkflowSpec, takes
from workflows.errors import ContextStateError, WorkflowRuntimeError
from workflows.events import Event, StopEvent
from workflows.instrumentation.scope import current_attempt

if TYPE_CHECKING:  # the engine is loaded with the first run: for a quick `import workflows`
    from workflows._engine.attempt import Attempt
    from workflows._engine.live import ResumePoint
    from workflows._engine.loop import Run
    from workflows._engine.state import RunState
    from workflows._engine.stream import StreamCursor

if TYPE_CHECKING:  # so are these, when first needed
    from workflows.context.external_context import ExternalContext
    from workflows.context.serializers import BaseSerializer
    from workflows.context.state_store import InMemoryStateStore
    from workflows.retry_policy import RetryInfo

__all__ = ["Context", "context_inside"]

StateT = TypeVar("StateT", bound=BaseModel)
EventT = TypeVar("EventT", bound=Event)
_MISSING: Any = object()


class OfContext(Protocol):
    """A workflow instance, as a context sees it."""

    @property
    def __definition__(self) -> HasSpec: ...

    @property
    def serializer(self) -> BaseSerializer: ...

    @property
    def workflow_name(self) -> str: ...


class Home:
    """The state that all contexts of one run share; free-form state is made when first asked for."""

    __slots__ = ("_store",)

    def __init__(self, state_type: type[Any] | None, store: InMemoryStateStore[Any] | None = None) -> None:
        self._store = _store_class()(state_type()) if state_type is not None else store

    @property
    def store(self) -> InMemoryStateStore[Any]:
        """The run's state."""
        if self._store is None:
            from workflows.context.state_store import DictState

            self._store = _store_class()(DictState())
        return self._store


@cache
def _store_class() -> type[InMemoryStateStore[Any]]:
    from workflows.context.state_store import InMemoryStateStore  # not every workflow has state

    return InMemoryStateStore


class Context(Generic[StateT]):
    """State, events and waits of one run.

    It has three phases: before a run (`store` only), outside a running or finished run (`handler.ctx`), and inside a
    step (the parameter annotated `Context`). A method that does not belong to the phase raises `ContextStateError`.
    """

    def __init__(
        self,
        workflow: OfContext,
        previous_context: Mapping[str, Any] | None = None,
        serializer: BaseSerializer | None = None,
    ) -> None:
        """Make a context for a first run, or one that goes on from what `to_dict()` gave.

        Raises:
            WorkflowRuntimeError: If `workflow` is none.
            ContextSerdeError: If `previous_context` is not what `to_dict()` gives, or names classes that may not be
                rebuilt.
        """
        if not hasattr(type(workflow), "__definition__"):
            raise WorkflowRuntimeError(f"Context(...) takes a Workflow instance, got {workflow!r}.")
        self._workflow = workflow
        self._run: Run | None = None
        self._attempt: Attempt | None = None
        self._resume: ResumePoint | None = None
        self._queue: asyncio.Queue[Event] | None = None
        self._serializer = self._knowing(serializer) if serializer is not None else workflow.serializer
        if previous_context is None:
            self._home = Home(workflow.__definition__.spec.state_type)
        else:
            from workflows.context.snapshots import load_context

            store, self._resume = load_context(previous_context, workflow.__definition__.spec, self._serializer)
            self._home = Home(None, store)

    @classmethod
    def from_dict(
        cls, workflow: OfContext, data: Mapping[str, Any], serializer: BaseSerializer | None = None
    ) -> Context[Any]:
        """The context that `to_dict()` was called on; pass it to `run(ctx=...)` to go on.

        Raises:
            ContextSerdeError: If the data is malformed, or names classes that may not be rebuilt.
        """
        return cls(workflow, data, serializer)

    @classmethod
    def _inside(cls, attempt: Attempt) -> Context[Any]:
        context: Context[Any] = cls.__new__(cls)
        run = cast("Run", attempt.run)
        context._workflow, context._run, context._home = run.plan.workflow, run, run.plan.home
        context._attempt = attempt
        return context

    def _begin(self, run: Run) -> None:
        """A run starts with this context; the state of an earlier one stays."""
        self._run = run
        self._queue = None
        self._resume = None

    def _go_on_with(self, step: str | None, output: list[Event]) -> None:
        """Let the run of this snapshot, taken when a step had returned, go on with this output, if there is any."""
        if self._resume is not None and output:
            from workflows.context.snapshots import with_output

            self._resume = with_output(self._resume, step, output)

    def _go_on_from(self, state: RunState) -> None:
        """The next run takes up this state."""
        from workflows._engine.live import ResumePoint

        self._resume = ResumePoint(state, 1, {})

    def _resume_point(self) -> ResumePoint | None:
        """Where an unfinished run of this context goes on, if there is one: read from a snapshot, or stopped here."""
        run = self._run
        if run is None or run.end is None or run.end.outcome not in ("cancelled", "suspended", "interrupted"):
            return self._resume
        segment = run.plan.resume.segment if run.plan.resume else 0
        from workflows._engine.going_on import revive
        from workflows._engine.live import ResumePoint
        from workflows._engine.returned import returned_so_far
        from workflows.context.snapshots import carriers_of

        return ResumePoint(revive(run.standing()), segment + 1, carriers_of(run), returned=returned_so_far(run))

    def _knowing(self, serializer: BaseSerializer) -> BaseSerializer:
        from workflows.context.own_types import own_serializer

        return own_serializer(self._workflow.__definition__.spec, serializer)

    # every phase

    @property
    def store(self) -> InMemoryStateStore[StateT]:
        """The run's state."""
        return self._home.store

    def _is_live(self) -> bool:
        return self._run is not None and not self._run.is_over

    @property
    def is_running(self) -> bool:
        """Whether the run is not over; before a run: whether the snapshot was taken in the middle of one."""
        if self._attempt is not None:
            warnings.warn("In a step, ctx.is_running is always true: leave it out.", DeprecationWarning, stacklevel=2)
            return True
        if self._run is None:
            return self._resume is not None
        return not self._run.is_over

    def to_dict(self, serializer: BaseSerializer | None = None, *, include_state: bool = True) -> dict[str, Any]:
        """A snapshot of plain values: state, work in flight, open waits, unread stream. Not in a step.

        A run that goes on from it (`Context.from_dict`, then `run(ctx=...)`) starts steps that were running again from
        the top. Costs what is alive, however long the run has been. In another thread than the run's it waits for the
        run's event loop, which writes it.

        Raises:
            ContextStateError: If called in a step.
            ValueError: If an event or the state holds something that the serializer cannot write.
        """
        if self._attempt is not None:
            raise ContextStateError("to_dict is only available from handler code, not from within steps.")
        serializer, run = self._knowing(serializer) if serializer is not None else self._serializer, self._run
        if run is None or run.is_over or not run.loop.is_running():
            return self._dumped(serializer, include_state)
        return run.mailbox.ask(self._dumped, serializer, include_state)

    def _dumped(self, serializer: BaseSerializer, include_state: bool) -> dict[str, Any]:
        from workflows.context.snapshots import dump_context

        state = self._home.store.to_dict(serializer) if include_state else None
        return dump_context(self._run, self._resume, state, serializer)

    async def get(self, key: str, default: Any = _MISSING) -> Any:
        """Older name of `store.get`."""
        _deprecated("ctx.get", "ctx.store.get")
        return await (self._home.store.get(key) if default is _MISSING else self._home.store.get(key, default))

    async def set(self, key: str, value: Any, make_private: bool = False) -> None:
        """Older name of `store.set`."""
        _deprecated("ctx.set", "ctx.store.set")
        await self._home.store.set(key, value)

    # inside and outside

    def send_event(self, message: Event, step: str | None = None, *, wait_id: str | None = None) -> None:
        """Send an event to every step that accepts it, or to one named step; from any thread.

        Does nothing once the run is over.

        Args:
            message: The event.
            step: The only step that gets it.
            wait_id: The only wait that it answers, where several take its class: the `waiter_id` of `wait_for_event`
                (of several calls that share one, the event meets the requirements of the one that it is for), or what
                the record `WaitStarted` says. Not in a step. Without it, it may be the answer to the oldest
                question that a step returned or streamed.

        Raises:
            WorkflowRuntimeError: If the named step does not exist or does not accept the event.
            ContextStateError: If the run has not started; or in a step, with `wait_id`.
        """
        run = self._running("send_event")
        if not isinstance(message, Event):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
            raise WorkflowRuntimeError(
                f"send_event needs an Event instance, got {type(message).__name__}. Subclass workflows.events.Event."
            )
        if step is not None:
            _check_target(run.spec, message, step)
        if self._attempt is None:
            run.mailbox.post(run.send_from_outside, message, step, wait_id)
        elif wait_id is None:
            run.mailbox.post(self._attempt.send, message, step)
        else:
            raise ContextStateError("send_event(wait_id=) is only available from handler code, not from within steps.")

    # inside a step

    def write_event_to_stream(self, ev: Event | None) -> None:
        """Show an event to whoever reads `handler.stream_events()`; from any thread. None is ignored."""
        attempt = self._inside_step("write_event_to_stream")
        if ev is not None:
            if attempt.run.mailbox.is_here():
                attempt.publish(ev)
            else:
                attempt.run.mailbox.post(attempt.publish, ev)

    async def stream_event(self, ev: Event, *, ahead: int = 100) -> None:
        """Show an event as `write_event_to_stream` does, and wait while a reader has more than `ahead` events to read.

        So a step that streams much goes no faster than its slowest reader. Where nobody reads it does not wait, and a
        reader that leaves is not waited for. For `async def` steps.
        """
        attempt = self._inside_step("stream_event")
        attempt.run.check_loop()
        attempt.publish(ev)
        await attempt.run.stream.until_read(ahead)

    def collect_events(
        self, ev: Event, expected: Iterable[type[Event]], buffer_id: str | None = None
    ) -> list[Event] | None:
        """Keep events of this step until one of each expected class (repeats count) is there, then give them all.

        Events that belong together, such as those of one order, are kept apart from others by a `buffer_id` of theirs.

        Returns:
            The events in the order of `expected`, oldest first within a class; None while some are missing. Surplus
            events stay for the next group.
        """
        attempt = self._inside_step("collect_events")
        if not isinstance(expected, (list, tuple)):
            expected = list(expected)
        return attempt.run.mailbox.ask(attempt.collect, ev, expected, buffer_id or "default")

    async def wait_for_event(
        self,
        event_type: type[EventT],
        waiter_event: Event | None = None,
        waiter_id: str | None = None,
        requirements: dict[str, Any] | None = None,
        timeout: float | None = 2000,
    ) -> EventT:
        """Pause the step until an event of this class comes whose attributes equal `requirements`.

        `waiter_event` is streamed once, to ask for it. The step really waits, and its worker is free meanwhile. It may
        be cancelled: an answer that it has got by then is for the next waits of the step.

        Where a run goes on from a snapshot, what was answered before is answered again at once (by the same event, as
        the body has left it), and `timeout` goes on; time in `asyncio.timeout` around a wait passes anew. Give waits of
        one class a `waiter_id` each where one of them may be given up: by that they are told apart when the body runs
        again.

        Raises:
            asyncio.TimeoutError: If none came within `timeout` seconds (None: wait for ever).
        """
        attempt = self._inside_step("wait_for_event")
        _check_wait(event_type, waiter_event, timeout)
        required = dict(requirements or {})
        wait_id = attempt.wait_id(waiter_id, event_type, required)
        event: Any = await attempt.wait(
            event_type, wait_id=wait_id, asked=waiter_event, requirements=required, timeout=timeout
        )
        return event

    def retry_info(self) -> RetryInfo:
        """Where the current attempt stands among those of its call."""
        from workflows.retry_policy import RetryInfo

        attempt = self._inside_step("retry_info")
        call = attempt.call
        elapsed = call.elapsed_seconds(attempt.run.clock.now_ns())
        error = call.last_error if isinstance(call.last_error, Exception) else None
        failed_at = datetime.fromtimestamp(call.last_failed_ns / 1e9, UTC) if call.last_failed_ns else None
        return RetryInfo(attempt.attempt - 1, elapsed, error, failed_at)

    @staticmethod
    def get_step_context() -> Context[Any]:
        """The context of the step that is running; for code that a step calls."""
        attempt = current_attempt.get()
        context = getattr(attempt, "context", None)  # a run may have been named without a step of it running
        if context is None:
            raise WorkflowRuntimeError("Context.get_step_context() may only be called from within a step function")
        return context

    # outside

    def stream_events(self) -> StreamCursor:
        """Everything that the run streams, and from now on events about the engine; see `handler.stream_events`."""
        return self._outside("stream_events").stream.cursor(internal=True)

    @property
    def streaming_queue(self) -> asyncio.Queue[Event]:
        """Older way to the stream: a queue of everything that the run streams, from the first event that is kept."""
        _deprecated("ctx.streaming_queue", "handler.stream_events")
        run = self._outside("streaming_queue")
        if self._queue is None:
            self._queue = asyncio.Queue()
            from workflows.plugins.basic import basic_runtime

            basic_runtime.keep(_pump(run.stream.cursor(internal=True), self._queue), name=f"queue of {run.run_id}")
        return self._queue

    def get_result(self) -> Any:
        """Older way to the result of a run that is over.

        Raises:
            WorkflowRuntimeError: If it is not over, or gave no result.
        """
        _deprecated("ctx.get_result", "await handler")
        end = self._outside("get_result").end
        if end is None or end.error is not None:
            raise WorkflowRuntimeError("The run has no result (yet). Await its handler.")
        return end.stop_event.result if type(end.stop_event) is StopEvent else end.stop_event

    async def running_steps(self) -> list[str]:
        """Names of the steps that have a running call, in definition order."""
        run = self._running("running_steps")
        from workflows._engine.calls import CallPhase

        active = {c.step.name for c in list(run.state.calls.values()) if c.phase is CallPhase.RUNNING}
        return [name for name in run.spec.steps if name in active]

    @property
    def _face(self) -> ExternalContext | None:
        """The run as `llama-index-utils-workflow` draws it; None before a run and inside a step."""
        from workflows.context.external_context import ExternalContext  # only for drawings by another package

        if self._run is None or self._attempt is not None:
            return None
        return ExternalContext(self._run.history)

    def _running(self, method: str) -> Run:
        if self._run is None:
            raise ContextStateError(f"{method}() called before workflow started. Call workflow.run() first.")
        return self._run

    def _outside(self, method: str) -> Run:
        if self._attempt is not None:
            raise ContextStateError(f"{method} is only available from handler code, not from within steps.")
        return self._running(method)

    def _inside_step(self, method: str) -> Attempt:
        if self._attempt is None:
            raise ContextStateError(f"{method} is only available from within step functions.")
        return self._attempt


async def _pump(events: StreamCursor, queue: asyncio.Queue[Event]) -> None:
    async for event in events:
        queue.put_nowait(event)


def _check_target(spec: WorkflowSpec, message: Event, step: str) -> None:
    target = spec.steps.get(step)
    if target is None:
        raise WorkflowRuntimeError(f"Step {step} does not exist. {spec.name} has: {', '.join(spec.steps)}.", step=step)
    if not takes(target, type(message)):
        accepted = ", ".join(c.__name__ for c in target.accepted_events)
        raise WorkflowRuntimeError(
            f"Step {step} does not accept event of type {type(message)}. It accepts: {accepted}.", step=step
        )
    if target.join == "list":
        raise WorkflowRuntimeError(
            f"Step {step} gathers the branches of a returned list, so no event can be sent to it alone. Send the event "
            f"without step=..., or let a step that returns list[{type(message).__name__}] emit it.",
            step=step,
        )


def _check_wait(event_type: object, waiter_event: object, timeout: object) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise WorkflowRuntimeError(
            f"wait_for_event needs a class of events, got {event_type!r}. Subclass workflows.events.Event."
        )
    if waiter_event is not None and not isinstance(waiter_event, Event):
        raise WorkflowRuntimeError(
            f"wait_for_event streams its waiter_event, so it must be an Event instance, got {waiter_event!r}."
        )
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise WorkflowRuntimeError(f"The timeout of wait_for_event is in seconds, or None, got {timeout!r}.")


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old}() is the name of older versions; use {new}() instead.", DeprecationWarning, stacklevel=3)


def context_inside(attempt: Attempt) -> Context[Any]:
    """The context of one attempt: same run, same store."""
    return Context._inside(attempt)  # pyright: ignore[reportPrivateUsage]  # of this module
