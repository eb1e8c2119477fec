"""`BasicRuntime`: runs live in the memory of this process, on the event loop that started them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

from workflows._spec import WorkflowSpec
from workflows.instrumentation.scope import AttemptScope, current_attempt
from workflows.plugins.runs_of_loop import RunsOfLoop
from workflows.runtime.runtime import RunsHere, Runtime, current_runtime

if TYPE_CHECKING:
    from workflows._engine.live import RunPlan
    from workflows._engine.loop import Run, Spawn
    from workflows._engine.state import RunState
    from workflows.context.serializers import BaseSerializer
    from workflows.context.state_patch import StateCheckpoint
    from workflows.plugins.journal import JournalRecord

__all__ = [
    "BasicRuntime",
    "JournalRecord",
    "basic_runtime",
    "get_current_run_id",
    "get_current_runtime",
    "setting_run_id",
]

_named_run: ContextVar[tuple[str, AttemptScope | None] | None] = ContextVar("workflows_named_run", default=None)


class GoesOn(Protocol):
    """What makes contexts of a workflow instance that go on from a snapshot, or from a state."""

    @property
    def spec(self) -> WorkflowSpec: ...

    def context_at(
        self, state: RunState | None, snapshot: Mapping[str, Any] | None, serializer: BaseSerializer | None
    ) -> Any: ...


class Resumable(Protocol):
    """A workflow instance, as far as it can go on."""

    @property
    def __definition__(self) -> GoesOn: ...


class BasicRuntime(Runtime):
    """Owns the tasks of the runs of this process; a run goes on though its handler was dropped.

    Args:
        executor: Where plain `def` steps run; by default threads of its own for each event loop, as many as Python's
            default executor has, so that other users of that one and the steps do not wait for each other.
    """

    def __init__(self, executor: Executor | None = None) -> None:
        super().__init__()
        self._executor = executor
        self._of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Executor] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: WeakKeyDictionary[asyncio.AbstractEventLoop, RunsOfLoop] = WeakKeyDictionary()
        self._runs: WeakValueDictionary[str, Run] = WeakValueDictionary()
        self._executors = self._threads  # one object for all runs

    def track_workflow(self, workflow: RunsHere) -> None:
        """As every runtime does; and load the engine, which would hold the event loop in the first run."""
        super().track_workflow(workflow)
        _run_class()

    def is_live(self, run_id: str) -> bool:
        """Whether a run with this id is not over."""
        run = self._runs.get(run_id)
        return run is not None and not run.is_over

    def start(self, plan: RunPlan) -> Run:
        """Start a run on the running event loop.

        Raises:
            RuntimeError: If a run with this id is still referenced, or no event loop runs.
        """
        loop = asyncio.get_running_loop()
        earlier = self._runs.get(plan.run_id)
        if earlier is not None and not (plan.resume and earlier.is_over):
            raise RuntimeError(
                f"Workflow run with run_id '{plan.run_id}' already exists. Ids are free again when nobody holds the "
                f"run's handler or context any more; leave run_id out to get a new one."
            )
        live = self._live.get(loop)
        if live is None:
            live = self._live[loop] = RunsOfLoop()
        run = _run_class()(plan, loop, _spawner(loop), self._executors, live.crowd)
        self._runs[plan.run_id] = run
        if plan.gate is None:
            run.context.run(run.begin)
        else:
            run.begin_at_gate()
        if not run.is_over:
            live.add(run)
        return run

    @property
    def is_launched(self) -> bool:
        """Always: memory needs no opening."""
        return True

    def journal(self, run_id: str) -> AsyncGenerator[JournalRecord]:
        """Where a run stands, then what happens to it, until it is over. What `ctx.store` holds is not in it.

        Raises:
            RuntimeError: If nobody holds a run with this id.
            ValueError: While iterating, if an event cannot be written.
        """
        from workflows.plugins.journal import follow  # few need it

        return follow(self._found(run_id))

    def restore(
        self,
        workflow: Resumable,
        snapshot: Mapping[str, Any] | None,
        records: Iterable[JournalRecord],
        serializer: BaseSerializer | None = None,
    ) -> Any:
        """A context that goes on where the records of a journal end; state is that of the snapshot, if there is one.

        Without records it is that of the snapshot alone, or an empty one.

        Raises:
            ValueError: If a record is missing ("Journal gap").
            ContextSerdeError: If the snapshot cannot be read.
        """
        from workflows.context.serializers import JsonSerializer
        from workflows.plugins.journal import fold

        definition = workflow.__definition__
        kept = list(records)
        if not kept:
            return definition.context_at(None, snapshot, serializer)
        state = fold(kept, definition.spec, serializer if isinstance(serializer, JsonSerializer) else None)
        if snapshot is not None:
            snapshot = {**snapshot, "is_running": False}
        return definition.context_at(state, snapshot, serializer)

    def state_checkpoint(self, run_id: str) -> StateCheckpoint:
        """The committed state of a run at this moment, by reference.

        Raises:
            RuntimeError: If nobody holds a run with this id.
        """
        run = self._found(run_id)
        return run.plan.home.store.checkpoint()

    def keep(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run a coroutine to its end on the running event loop, though nobody awaits it."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _found(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            raise RuntimeError(
                f"There is no run {run_id!r} here: it was never started in this process, or nobody holds its handler "
                f"or context any more."
            )
        return run

    def __deepcopy__(self, memo: object) -> BasicRuntime:
        """Itself: a copy of a workflow runs in the same place."""
        return self

    def _threads(self) -> Executor:
        """One for each loop: sync steps that run workflows themselves must not take the threads that those need."""
        if self._executor is not None:
            return self._executor
        loop = asyncio.get_running_loop()
        made = self._of_loop.get(loop)
        if made is None:
            from concurrent.futures.thread import ThreadPoolExecutor  # few workflows have sync steps

            self._end_left_threads()
            made = self._of_loop[loop] = ThreadPoolExecutor(thread_name_prefix="workflows-step")
        return made

    def _end_left_threads(self) -> None:
        """End those of closed loops, which a traceback may keep alive. Other threads may be doing just the same."""
        for left in [reference() for reference in self._of_loop.keyrefs()]:
            if left is not None and left.is_closed() and (threads := self._of_loop.pop(left, None)) is not None:
                threads.shutdown(wait=False)


@cache
def _run_class() -> type[Run]:
    from workflows._engine.loop import Run  # the engine is loaded with the first workflow

    return Run


def _spawner(loop: asyncio.AbstractEventLoop) -> Spawn:
    """How attempts become tasks: straight, as `create_task` would do, where the loop does nothing else with them.

    Also where it would begin them at once (`asyncio.eager_task_factory`), in the middle of what the run does.
    """
    factory = loop.get_task_factory()
    plain = type(loop).create_task is asyncio.BaseEventLoop.create_task and factory is None
    eager = "eager_task_factory" in getattr(factory, "__qualname__", "")
    return asyncio.Task if plain or eager else _by_the_loop


def _by_the_loop(
    coroutine: Coroutine[Any, Any, None],
    /,
    *,
    loop: asyncio.AbstractEventLoop,
    name: str,
    context: contextvars.Context,
) -> asyncio.Task[None]:
    return loop.create_task(coroutine, name=name, context=context)


basic_runtime = BasicRuntime()


def get_current_runtime() -> Runtime:
    """Where the runs of a workflow live that is made here and given no runtime."""
    return current_runtime.get() or basic_runtime


def get_current_run_id() -> str | None:
    """Id of the run whose step calls this, or the one that `setting_run_id` gives; None outside both."""
    attempt = current_attempt.get()
    named = _named_run.get()
    if named is not None and named[1] is attempt:
        return named[0]
    return attempt.run_id if attempt is not None else None


@contextmanager
def setting_run_id(run_id: str) -> Generator[None]:
    """Let code in the block think that it runs in this run; steps of runs that are started in it know better."""
    token = _named_run.set((run_id, current_attempt.get()))
    try:
        yield
    finally:
        _named_run.reset(token)


def __getattr__(name: str) -> Any:
    if name == "JournalRecord":
        from workflows.plugins.journal import JournalRecord

        return JournalRecord
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
