"""`BasicRuntime`: runs live in the memory of this process, on the event loop that started them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from workflows._engine.live import RunPlan
from workflows._engine.loop import Run, Spawn

__all__ = ["BasicRuntime", "basic_runtime", "get_current_runtime"]


class BasicRuntime:
    """Owns the tasks of the runs of this process; a run goes on though its handler was dropped."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs: WeakValueDictionary[str, Run] = WeakValueDictionary()

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
        run = Run(plan, loop, _spawner(loop))
        self._runs[plan.run_id] = run
        if plan.gate is None:
            run.context.run(run.begin)
        if not run.is_over:
            task = loop.create_task(run.main(), name=plan.run_id, context=run.context)
            self._tasks.add(task)
            task.add_done_callback(partial(self._gone, run))
        return run

    def keep(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run a coroutine to its end on the running event loop, though nobody awaits it."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gone(self, run: Run, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        run.main_is_gone()


def _spawner(loop: asyncio.AbstractEventLoop) -> Spawn:
    """How attempts become tasks: straight, as `create_task` would do, where the loop does nothing else with them."""
    plain = type(loop).create_task is asyncio.BaseEventLoop.create_task and loop.get_task_factory() is None
    return partial(asyncio.Task, loop=loop) if plain else loop.create_task


basic_runtime = BasicRuntime()


def get_current_runtime() -> BasicRuntime:
    """Where a workflow's runs live if it is not given a runtime."""
    return basic_runtime
