"""`Runtime`: where runs live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, Self
from weakref import WeakValueDictionary

from workflows._spec import WorkflowSpec

if TYPE_CHECKING:
    from workflows._engine.live import RunPlan
    from workflows._engine.loop import Run
    from workflows.context.serializers import BaseSerializer

__all__ = ["RunsHere", "Runtime", "current_runtime"]

current_runtime: ContextVar[Runtime | None] = ContextVar("current_runtime", default=None)
"""The runtime of the innermost `registering()` block."""


class Registered(Protocol):
    """What is kept of a workflow instance, as a runtime sees it."""

    @property
    def spec(self) -> WorkflowSpec: ...

    def register(self) -> WorkflowSpec: ...


class RunsHere(Protocol):
    """A workflow instance, as a runtime sees it."""

    @property
    def __definition__(self) -> Registered: ...

    @property
    def serializer(self) -> BaseSerializer: ...


class Runtime(ABC):
    """Where runs live: it starts them, owns their tasks and knows them by id.

    A workflow belongs to the runtime that it was given, else to that of the `registering()` block it was made in, else
    to `basic_runtime`. From its first run, or from `launch()`, it stays there.
    """

    def __init__(self) -> None:
        # By id: a workflow that is a pydantic model as well has no hash.
        self._workflows: WeakValueDictionary[int, RunsHere] = WeakValueDictionary()
        self._registered: WeakValueDictionary[int, RunsHere] = WeakValueDictionary()
        self._launched = False

    @abstractmethod
    def start(self, plan: RunPlan) -> Run:
        """Start a run on the running event loop.

        Raises:
            RuntimeError: If a run with this id is there already, or no event loop runs.
        """

    @abstractmethod
    def is_live(self, run_id: str) -> bool:
        """Whether a run with this id is not over."""

    @property
    def is_launched(self) -> bool:
        """Whether `launch()` was called, and `destroy()` was not."""
        return self._launched

    @contextmanager
    def registering(self) -> Generator[Self]:
        """Workflows that are made in this block, and are given no runtime, belong to this one."""
        token = current_runtime.set(self)
        try:
            yield self
        finally:
            current_runtime.reset(token)

    def track_workflow(self, workflow: RunsHere) -> None:
        """Count a workflow among those that `launch()` registers; making one does this."""
        self._workflows[id(workflow)] = workflow

    def untrack_workflow(self, workflow: RunsHere) -> None:
        """Leave a workflow out of `launch()`."""
        self._workflows.pop(id(workflow), None)

    def register(self, workflow: RunsHere) -> WorkflowSpec:
        """Check a workflow now, rather than at its first run; from now on it stays here.

        Raises:
            WorkflowValidationError: If its graph is not valid.
        """
        spec = workflow.__definition__.register()
        self._registered[id(workflow)] = workflow
        return spec

    def get_registered(self, workflow: RunsHere) -> WorkflowSpec | None:
        """What a registered workflow was compiled to; None for any other."""
        found = self._registered.get(id(workflow))
        return None if found is None else found.__definition__.spec

    def get_or_register(self, workflow: RunsHere) -> WorkflowSpec:
        """What a workflow was compiled to; it is registered if it was not."""
        return self.get_registered(workflow) or self.register(workflow)

    def get_serializer(self, workflow: RunsHere) -> BaseSerializer:
        """What writes and reads a workflow's events and state: it knows their classes."""
        return workflow.serializer

    async def launch(self) -> None:
        """Register every workflow that is tracked; a runtime with a store or a server opens it here."""
        self.launch_sync()

    async def destroy(self) -> None:
        """Let go of what `launch()` opened. Runs that are not over go on."""
        self.destroy_sync()

    def launch_sync(self) -> None:
        """As `launch()`, where no event loop runs.

        Raises:
            WorkflowValidationError: If the graph of a tracked workflow is not valid.
        """
        for workflow in list(self._workflows.values()):
            self.get_or_register(workflow)
        self._launched = True

    def destroy_sync(self) -> None:
        """As `destroy()`, where no event loop runs."""
        self._launched = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._workflows)} workflows)"
