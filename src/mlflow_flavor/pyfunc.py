"""`WorkflowPyfunc`: a loaded workflow as MLflow's `pyfunc` calls it: predict, stream, and their async twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mlflow_flavor import _daemon
from mlflow_flavor._compat import invalid
from mlflow_flavor._compat_models import in_requirement_capture
from mlflow_flavor._questions import AnsweredRun, Questions
from mlflow_flavor._rows import Row, plain_chunk, plain_result, rows_of
from mlflow_flavor.token_store import TokenStore
from workflows import Workflow
from workflows.events import Event, InternalDispatchEvent, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation import add_handler, context

__all__ = ["WorkflowPyfunc"]

ROWS_AT_ONCE = 16

Params = Mapping[str, Any] | None
Show = Callable[[Event], Any]

_END: Any = object()


@dataclass(frozen=True, slots=True)
class Job:
    """One run that is asked for: a new one from its start event, or a paused one with answers to its questions."""

    start: StartEvent | None
    answered: AnsweredRun | None
    session: str | None
    user: str | None


class WorkflowPyfunc:
    """A workflow that answers synchronous callers, all of them on one event loop of the process.

    One row in, one value out; n rows, a list of n values, in order. A value is the run's result as plain data, or the
    fields of the stop event where it is of a class of the user's own. A run that asks a person ends the call with
    `{"status": "input_required", "waiting": [{"id", "event"}], "resume": "<token>"}`; the next call, in this process or
    another, goes on with `params={"resume": json}`, the JSON being
    `{"token": "<token>", "answers": {"<id>": {"type": "<event class>", "data": {...}}}}`.

    Args:
        workflow: What to run.
        names: Input names of the model's signature, for a start event that declares no field.
        source: Digest of the model's source; a resume token of other source is refused.
        token_store: Where runs that wait for a person are kept; tokens then work once. None: in the token itself.
        serving: Whether this process serves: without a token store, a question then needs a key that other processes
            can have. Where `mlflow models serve` started it, that is known.
    """

    def __init__(
        self,
        workflow: Workflow,
        names: Sequence[str] = (),
        source: str = "",
        token_store: TokenStore | None = None,
        *,
        serving: bool = False,
    ) -> None:
        self._workflow = workflow
        self._names = tuple(names)
        self._questions = Questions(workflow, source, token_store, serving=serving)
        add_handler(self._questions.open, workflow=workflow)

    def get_raw_model(self) -> Workflow:
        """The workflow itself."""
        return self._workflow

    def predict(self, data: Any, params: Params = None) -> Any:
        """Run the workflow once a row and wait for all results; at most 16 rows run at a time.

        Args:
            data: Fields of the start event: a dict, a list of dicts, a DataFrame, or a bare value for a single field.
            params: `session_id` and `user` of the runs; `resume` to go on with a run that asked, whatever `data` is.

        Raises:
            MlflowException: If a row does not fit the start event, or a resume token or an answer is refused.
            Exception: What failed a run, as it was raised; the other rows' runs are cancelled.
        """
        if in_requirement_capture():
            return None  # what the model imports is known; its example has been run, or is not to be
        jobs = self._jobs(data, params)
        return _daemon.call(lambda: self._run_all(jobs))

    async def apredict(self, data: Any, params: Params = None) -> Any:
        """As `predict`, for callers with an event loop of their own."""
        jobs = await self._jobs_off_loop(data, params)
        return await _daemon.call_async(lambda: self._run_all(jobs))

    def predict_stream(self, data: Any, params: Params = None, show: Show = plain_chunk) -> Iterator[Any]:
        """Run the workflow for one row and give what it streams, as it comes; closing the iterator cancels the run.

        Args:
            data: As in `predict`, one row.
            params: As in `predict`.
            show: Makes a chunk of an event; None leaves the event out.

        Yields:
            `{"type": event class, "data": fields}`; the last one is the stop event, or what a person is asked.
        """
        chunks = self._stream(_single(self._jobs(data, params)), show)
        caller = copy_context()  # one context for every step of the iteration, or spans would not nest
        try:
            while (chunk := _daemon.call(lambda: anext(chunks, _END), caller)) is not _END:
                yield chunk
        finally:
            _daemon.call(chunks.aclose, caller)

    async def apredict_stream(self, data: Any, params: Params = None) -> AsyncIterator[dict[str, Any]]:
        """As `predict_stream`, for callers with an event loop of their own."""
        chunks = self._stream(_single(await self._jobs_off_loop(data, params)))
        caller = copy_context()
        try:
            while (chunk := await _daemon.call_async(lambda: anext(chunks, _END), caller)) is not _END:
                yield chunk
        finally:
            await _daemon.call_async(chunks.aclose, caller)

    async def predict_here(self, data: Any, params: Params = None) -> Any:
        """As `predict`, on the running event loop instead of the process's own: for a server that has one."""
        return await self._run_all(await self._jobs_off_loop(data, params))

    async def stream_here(
        self, data: Any, params: Params = None, show: Show = plain_chunk
    ) -> AsyncGenerator[Any, None]:
        """As `predict_stream`, on the running event loop; `show` makes a chunk of an event, or None to leave it out.

        The last chunk is made of the stop event, unless a person is asked.
        """
        job = _single(await self._jobs_off_loop(data, params))
        async with aclosing(self._stream(job, show)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _jobs_off_loop(self, data: Any, params: Params) -> list[Job]:
        """The jobs, on a running event loop: what opens a token may read a file."""
        if not (params or {}).get("resume"):
            return self._jobs(data, params)
        return await asyncio.to_thread(self._jobs, data, params)

    def _jobs(self, data: Any, params: Params) -> list[Job]:
        given = params or {}
        session, user = given.get("session_id") or None, given.get("user") or None
        if resume := given.get("resume"):
            run = self._questions.open_request(resume)
            return [Job(None, run, session or run.session, user or run.user)]
        rows = rows_of(data, self._workflow.start_event_class, self._names)
        return [Job(self._start_event(row, n), None, session, user) for n, row in enumerate(rows, 1)]

    def _start_event(self, row: Row, number: int) -> StartEvent:
        start = self._workflow.start_event_class
        try:
            return start(**row)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise invalid(f"row {number}: StartEvent '{start.__name__}': {where}: {first['msg']}.") from error

    async def _run_all(self, jobs: list[Job]) -> Any:
        if len(jobs) == 1:
            return await self._run(jobs[0])
        limit = asyncio.Semaphore(ROWS_AT_ONCE)

        async def one(job: Job) -> Any:
            async with limit:
                return await self._run(job)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(job)) for job in jobs]
        except* Exception as failures:  # noqa: BLE001  # decided inside the group, raised outside
            error = failures.exceptions[0]
            with suppress(Exception):  # some take no notes: a frozen dataclass, say
                error.add_note(f"It failed one of {len(jobs)} rows; the others were cancelled.")
            failed = error
        else:
            return [task.result() for task in tasks]
        raise failed

    async def _run(self, job: Job) -> Any:
        handler = self._begin(job)
        try:
            if await self._questions.open.stopping(handler):
                return await self._questions.ask(handler, job.session, job.user)
            return plain_result(await handler.stop_event_result())
        finally:
            if not handler.is_done():
                await handler.cancel_run()

    async def _stream(self, job: Job, show: Show = plain_chunk) -> AsyncGenerator[Any, None]:
        handler = self._begin(job)
        try:
            async for event in handler.stream_events(expose_internal=True):
                if self._questions.waits(handler, event):
                    yield await self._questions.ask(handler, job.session, job.user)
                    return
                hidden = isinstance(event, StopEvent | InternalDispatchEvent)
                if not hidden and (chunk := show(event)) is not None:
                    yield chunk
            if (last := show(await handler.stop_event_result())) is not None:
                yield last
        finally:
            if not handler.is_done():
                await handler.cancel_run()

    def _begin(self, job: Job) -> WorkflowHandler:
        with context(session_id=job.session, user_id=job.user):
            if job.answered is not None:
                return self._questions.go_on(job.answered)
            return self._workflow.run(start_event=job.start)


def _single(jobs: list[Job]) -> Job:
    if len(jobs) != 1:
        raise invalid(f"predict_stream() takes one row, got {len(jobs)}. Call it once a row, or use predict().")
    return jobs[0]
