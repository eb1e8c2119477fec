"""`Definition`: what is kept of a workflow instance beside the attributes that its class may name as it likes."""

# pyright: reportPrivateUsage=false
# `Defined` names them: compatible names, which hosts of agents read and set on the instance.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import ReferenceType, WeakKeyDictionary, ref

from workflows._run_resources import check_resources
from workflows._spec import StepSpec, WorkflowSpec
from workflows._step_functions import WorkflowMeta, check_new_step
from workflows.context.context import Context
from workflows.errors import WorkflowValidationError
from workflows.representation.compiling import compiled
from workflows.representation.validation import asks_people, validate_graph
from workflows.resource import ResourceManager

if TYPE_CHECKING:  # see Context
    from workflows._engine.state import RunState
    from workflows.context.serializers import BaseSerializer
    from workflows.instrumentation.history import RunHistory

__all__ = ["Definition"]


class Defined(Protocol):
    """A workflow instance, as its definition sees it."""

    _disable_validation: bool
    _resource_manager: ResourceManager
    _skip_graph_checks: frozenset[str]
    _workflow_name: str | None

    @property
    def __definition__(self) -> Definition: ...

    @property
    def serializer(self) -> BaseSerializer: ...

    @property
    def workflow_name(self) -> str: ...

    def _get_steps(self) -> dict[str, Callable[..., Any]]: ...


class Definition:
    """A workflow instance as compiled and checked, and what its runs share.

    It is no attribute of the instance itself, where a step, a method or an attribute of the user's may have its name.

    Attributes:
        idle_counts: As `Workflow` was given it; so are `stream_buffer` and `grace`.
        attached: Step functions of this instance alone.
        history: Of the last run, for drawings; outlives it.
        locked: It has run, or its runtime was launched: it keeps its name, and stays there.
        owner: The instance; another one that has this object is a copy of it, see `copied_for`.
    """

    __slots__ = (
        "_asks_people",
        "_class",
        "_compiled_from",
        "_functions",
        "_gates",
        "_serializer",
        "_spec",
        "_validated",
        "attached",
        "grace",
        "history",
        "idle_counts",
        "locked",
        "owner",
        "stream_buffer",
    )

    def __init__(self, workflow: Defined, *, idle_counts: bool, stream_buffer: int, grace: float) -> None:
        self.idle_counts = idle_counts
        self.stream_buffer = stream_buffer
        self.grace = grace
        self.attached: Mapping[str, Callable[..., Any]] = {}
        self.history: RunHistory | None = None
        self.locked = False
        self.owner: ReferenceType[Defined] = ref(workflow)
        self._class = cast("WorkflowMeta", type(workflow))  # which no protocol can say
        self._spec: WorkflowSpec | None = None
        self._compiled_from = 0  # which version of the class's step functions
        self._functions: Mapping[str, Callable[..., Any]] = {}
        self._validated: WorkflowSpec | None = None
        self._asks_people = False
        self._serializer: tuple[WorkflowSpec, BaseSerializer | None, BaseSerializer] | None = None
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def copied_for(self, workflow: Defined) -> Definition:
        """That of a copy of the workflow, to which this one came along with its attributes.

        It has gates of its own: a place that a live run holds is never given back to the copy.
        """
        own = copy(self)
        own.history, own.owner, own._gates = None, ref(workflow), WeakKeyDictionary()
        return own

    def __deepcopy__(self, memo: object) -> Definition:
        """Itself: the copy finds that it is not its own."""
        return self

    @property
    def spec(self) -> WorkflowSpec:
        """The steps as compiled; anew where one was attached since."""
        version = self._class._step_functions_version
        if self._spec is None or self._compiled_from != version:
            workflow = self._workflow
            self._functions = workflow._get_steps()
            self._spec = compiled(workflow._workflow_name or type(workflow).__name__, self._functions)
            self._compiled_from = version
            if any(step.context_parameter for step in self._spec.steps.values()):
                import_module("workflows.context.state_store")  # it would hold the event loop in the first run
        return self._spec

    def serializer(self, given: BaseSerializer | None) -> BaseSerializer:
        """What writes and reads snapshots; it knows the events and the state, local classes included."""
        spec = self.spec
        known = self._serializer
        if known is None or known[0] is not spec or known[1] is not given:
            from workflows.context.own_types import own_serializer

            known = self._serializer = (spec, given, own_serializer(spec, given))
        return known[2]

    def attach(self, func: Callable[..., Any]) -> None:
        """Attach a decorated free function to this instance alone.

        Raises:
            WorkflowValidationError: If it is not decorated with `@step`, a step of that name exists, or the instance
                has run already.
        """
        workflow = self._workflow
        where = type(workflow).__name__
        if self._validated is not None:
            name = getattr(func, "__name__", func)
            raise WorkflowValidationError(f"{where} has run already; attach step {name!r} before run().")
        check_new_step(where, func, workflow._get_steps())
        self.attached = {**self.attached, func.__name__: func}
        self._spec = None

    def rename(self, name: str) -> None:
        """Give the workflow another name.

        Raises:
            RuntimeError: If it has run, or its runtime was launched.
        """
        self.check_unlocked("change workflow_name")
        self._workflow._workflow_name = name
        self._spec = self._validated = None

    def check_unlocked(self, what: str) -> None:
        """Refuse to do this to a workflow that has run, or whose runtime was launched.

        Raises:
            RuntimeError: If that is so.
        """
        if self.locked:
            raise RuntimeError(
                f"Cannot {what} after workflow has been launched: {self._workflow.workflow_name} has run, or its "
                f"runtime was launched. Do it right after the workflow is made."
            )

    def asks_people_once_valid(self) -> bool:
        """Check the graph once; whether the workflow asks people, False where that was never checked."""
        spec = self.spec
        if self._validated is not spec and not self._workflow._disable_validation:
            self._asks_people = self.validate()
            self._validated = spec
        return self._asks_people

    def validate(self, *, resource_configs: bool = True, resources: bool = False) -> bool:
        """Check the graph and the resources now, as `Workflow.validate()`; whether the workflow asks people."""
        workflow, spec = self._workflow, self.spec
        validate_graph(spec, workflow._skip_graph_checks)
        check_resources(spec.steps.values(), workflow._resource_manager, configs=resource_configs, make=resources)
        return asks_people(spec)

    def register(self) -> WorkflowSpec:
        """Check the workflow and lock it, for its runtime.

        Raises:
            WorkflowValidationError: If its graph is not valid.
        """
        self.validate()
        self.locked = True
        return self.spec

    def gate(self, most: int | None) -> asyncio.Semaphore | None:
        """What limits the runs that live at once on this event loop to `most`; a semaphore belongs to one loop."""
        if most is None:
            return None
        loop = asyncio.get_running_loop()
        if loop not in self._gates:
            self._gates[loop] = asyncio.Semaphore(most)
        return self._gates[loop]

    def bound(self, workflow: object, step: StepSpec) -> Callable[..., Any]:
        """What a call of a step calls: the bound method of the instance, or the free function.

        Raises:
            WorkflowValidationError: If the instance has something else by the name of a step.
        """
        attached = self.attached.get(step.name)
        found = attached if attached is not None else getattr(workflow, step.name, None)
        if found is not None and not callable(found):
            name, kind = type(workflow).__name__, type(found).__name__
            raise WorkflowValidationError(
                f"{name}.{step.name} is a step, and the instance has an attribute of that name, a {kind}, which hides "
                f"it. Give one of them another name: self._{step.name} = ...",
            )
        return found if found is not None else self._functions[step.name]  # attached to the class

    def context_at(
        self, state: RunState | None, snapshot: Mapping[str, Any] | None, serializer: BaseSerializer | None
    ) -> Context[Any]:
        """A context that goes on from a state, with what `ctx.store` held in a snapshot; for runtimes."""
        context: Context[Any] = Context(self._workflow, snapshot, serializer)
        if state is not None:
            context._go_on_from(state)
        return context

    @property
    def _workflow(self) -> Defined:
        workflow = self.owner()
        assert workflow is not None, "whoever asks for the definition of a workflow holds the workflow"
        return workflow
