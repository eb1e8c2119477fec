"""`Workflow`: subclass it, decorate methods with `@step`, and `run()` it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from workflows._checkpoints import CheckpointCallback, HasSnapshot, awaited_checkpoint, output_of
from workflows._option_checks import check_count, check_seconds
from workflows._run_resources import RunResources, check_resources
from workflows._spec import StepSpec, WorkflowSpec
from workflows._step_functions import WorkflowMeta, check_new_step, option_in, start_event_from, steps_of_class
from workflows.context.context import Context, context_inside
from workflows.errors import ContextStateError, WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.dispatcher import Dispatcher, process_dispatcher
from workflows.instrumentation.scope import current_identity
from workflows.plugins.basic import get_current_runtime
from workflows.representation.compiling import compiled
from workflows.representation.validation import (
    asks_people,
    validate_graph,
)
from workflows.resource import ResourceManager
from workflows.runtime.runtime import Runtime

if TYPE_CHECKING:  # see Context
    from workflows._engine.live import RunPlan
    from workflows._engine.state import RunState
    from workflows.context.serializers import BaseSerializer

__all__ = ["Workflow", "WorkflowMeta"]

_LETTER_OF_BYTE = bytes((string.ascii_letters + string.digits).encode()[byte % 62] for byte in range(256))
_GRAPH_CHECKS = frozenset({"reachability", "terminal_event", "dead_end"})

logger = logging.getLogger("workflows.run")


class Workflow(metaclass=WorkflowMeta):
    """An event-driven workflow: steps that take and return events.

    Args:
        timeout: Seconds one run may take; None is no limit.
        disable_validation: Run without checking the graph first.
        verbose: Log every record of the runs of this instance as a text line.
        resource_manager: Holds the cached resources; by default one of this instance's own.
        num_concurrent_runs: How many runs of this instance may live at once; further ones wait their turn.
        workflow_name: Name in traces and of the representation; the class name if left out.
        skip_graph_checks: Names of graph checks to leave out: "reachability", "terminal_event", "dead_end".
        serializer: Writes and reads snapshots; the default keeps types and never imports what it reads.
        idle_counts: Whether the time in which a run, or a step of it, only waits for an answer counts towards its
            timeout; who only awaits runs that wait, waits as well. A step that awaits its wait through
            `asyncio.shield()`, `as_completed()` or a queue counts as working. An idle run waits wherever somebody may
            still send it something, so one that is stuck though it was answered goes on, with a warning in the log.
        stream_buffer: How many streamed events a run keeps for readers that attach late.
        grace: Seconds that steps get to clean up when they are cancelled at the end of a run, before they are cancelled
            again; after ten times that the run ends without them.

    Raises:
        WorkflowConfigurationError: If the steps do not accept exactly one StartEvent class, or do not return exactly
            one StopEvent class.

    Attributes:
        __version__: Version of the workflow, for its traces.
        __span_kind__: What a trace shows its runs as: "CHAIN", or "AGENT".
    """

    __version__: ClassVar[str | None] = None
    __span_kind__: ClassVar[str] = "CHAIN"

    def __init__(
        self,
        timeout: float | None = 45.0,
        disable_validation: bool = False,
        verbose: bool = False,
        resource_manager: ResourceManager | None = None,
        num_concurrent_runs: int | None = None,
        runtime: Runtime | None = None,
        workflow_name: str | None = None,
        skip_graph_checks: Iterable[str] | None = None,
        serializer: BaseSerializer | None = None,
        *,
        idle_counts: bool = True,
        stream_buffer: int = 10_000,
        grace: float = 0.5,
    ) -> None:
        if num_concurrent_runs is not None:
            check_count("num_concurrent_runs", num_concurrent_runs)
        check_count("stream_buffer", stream_buffer)
        check_seconds("timeout", timeout, zero=True)
        check_seconds("grace", grace, zero=True)
        self._timeout = timeout
        self._disable_validation = disable_validation
        self._verbose = verbose
        self._resource_manager = resource_manager if resource_manager is not None else ResourceManager()
        self._num_concurrent_runs = num_concurrent_runs
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._runtime = runtime or get_current_runtime()
        self._runtime.track_workflow(self)
        self._locked = False
        self._asks_people = False
        self._workflow_name = workflow_name
        self._skip_graph_checks = _checked(skip_graph_checks)
        self._serializer = serializer
        self._knowing: tuple[WorkflowSpec, BaseSerializer] | None = None
        self._idle_counts = idle_counts
        self._stream_buffer = stream_buffer
        self._grace = grace
        self._dispatcher = Dispatcher(process_dispatcher)
        if verbose:
            from workflows.instrumentation.log_handler import LogHandler

            self._dispatcher.add(LogHandler())
        self._attached_steps: dict[str, Callable[..., Any]] = {}
        self._compiled: WorkflowSpec | None = None
        self._validated: WorkflowSpec | None = None
        if type(self)._get_steps_from_class():
            _ = self._spec

    @classmethod
    def add_step(cls, func: Callable[..., Any]) -> None:
        """Attach a decorated free function to the class; subclasses inherit it.

        Raises:
            WorkflowValidationError: If it is not decorated with `@step`, or a step of that name exists.
        """
        check_new_step(cls.__name__, func, cls._get_steps_from_class())
        vars(cls)["_step_functions"][func.__name__] = func

    def _attach_step(self, func: Callable[..., Any]) -> None:
        """Attach a decorated free function to this instance alone.

        Raises:
            WorkflowValidationError: As `add_step`; or the instance has run already.
        """
        if self._validated is not None:
            raise WorkflowValidationError(
                f"{type(self).__name__} has run already; attach step {getattr(func, '__name__', func)!r} before run()."
            )
        check_new_step(type(self).__name__, func, self._get_steps())
        self._attached_steps[func.__name__] = func
        self._compiled = None

    @classmethod
    def _get_steps_from_class(cls) -> dict[str, Callable[..., Any]]:
        """Every step function by name: base classes first, each in definition order."""
        return steps_of_class(cls)

    def _get_steps(self) -> dict[str, Callable[..., Any]]:
        return {**type(self)._get_steps_from_class(), **self._attached_steps}

    @property
    def workflow_name(self) -> str:
        """The explicit name, else `module.Class`."""
        return self._workflow_name or f"{type(self).__module__}.{type(self).__qualname__}"

    def _switch_runtime(self, runtime: Runtime) -> None:
        """Let the runs live elsewhere.

        Raises:
            RuntimeError: If the workflow has run, or its runtime was launched.
        """
        self._check_unlocked("reassign runtime")
        self._runtime.untrack_workflow(self)
        self._runtime = runtime
        runtime.track_workflow(self)

    def _switch_workflow_name(self, name: str) -> None:
        """Give the workflow another name.

        Raises:
            RuntimeError: If the workflow has run, or its runtime was launched.
        """
        self._check_unlocked("change workflow_name")
        self._workflow_name = name
        self._compiled = self._validated = None

    def _lock_runtime(self) -> None:
        self._locked = True

    def _check_unlocked(self, what: str) -> None:
        if self._locked:
            raise RuntimeError(
                f"Cannot {what} after workflow has been launched: {self.workflow_name} has run, or its runtime was "
                f"launched. Do it right after the workflow is made."
            )

    @property
    def start_event_class(self) -> type[StartEvent]:
        """The StartEvent class that the steps accept."""
        return self._spec.start_event or StartEvent

    @property
    def stop_event_class(self) -> type[StopEvent]:
        """The StopEvent class that the steps return."""
        return self._spec.stop_event or StopEvent

    # By their old names: hosts of agents read them.
    _start_event_class = start_event_class
    _stop_event_class = stop_event_class

    @property
    def events(self) -> list[type[Event]]:
        """Every event class that the steps accept or return."""
        steps = self._spec.steps.values()
        return list(dict.fromkeys(c for s in steps for c in (*s.accepted_events, *s.return_types)))

    @property
    def runtime(self) -> Runtime:
        """Where the runs live."""
        return self._runtime

    @property
    def serializer(self) -> BaseSerializer:
        """What writes and reads snapshots; it knows the events and the state, local classes included."""
        spec = self._spec
        if self._knowing is None or self._knowing[0] is not spec:
            from workflows.context.own_types import own_serializer

            self._knowing = (spec, own_serializer(spec, self._serializer))
        return self._knowing[1]

    async def aclose(self) -> None:
        """Let go of what the resource manager has cached; a later run makes it anew. Call it while no run is alive."""
        await self._resource_manager.aclose()

    @serializer.setter
    def serializer(self, serializer: BaseSerializer) -> None:
        self._serializer, self._knowing = serializer, None

    def validate(self, *, validate_resource_configs: bool = True, validate_resources: bool = False) -> bool:
        """Check the graph and the resources now.

        Args:
            validate_resource_configs: Also read the files of every `ResourceConfig`.
            validate_resources: Also make every resource once and let go of it; only where no event loop runs.

        Returns:
            Whether the workflow asks people: it produces an InputRequiredEvent or takes a HumanResponseEvent.

        Raises:
            WorkflowValidationError: With everything that is wrong, a line each.
            WorkflowConfigurationError: If there are no steps.
        """
        validate_graph(self._spec, self._skip_graph_checks)
        check_resources(
            self._spec.steps.values(),
            self._resource_manager,
            configs=validate_resource_configs,
            make=validate_resources,
        )
        return asks_people(self._spec)

    def run(
        self,
        ctx: Context[Any] | None = None,
        start_event: StartEvent | None = None,
        *,
        checkpoint_callback: CheckpointCallback | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Start a run on the running event loop and return at once.

        Args:
            ctx: A context to run with; its state goes on from where it is.
            start_event: The first event; else it is built from the keywords.
            checkpoint_callback: Awaited as `(run_id, step, input event, what it returned, context)` after each step,
                before its events are routed; `context.to_dict()` is then the snapshot from which they are. What it
                raises fails the step.
            kwargs: Fields of the start event; but `run_id` names the run, and `stepwise=True` starts it by hand (see
                `WorkflowHandler.run_step`).

        Raises:
            WorkflowValidationError: If the graph is not valid.
            WorkflowRuntimeError: If the start event cannot be built from the keywords.
            ContextStateError: If `ctx` is in use by a run that is not over, or was left by one of another workflow.
            RuntimeError: If no event loop runs, or the run id is taken.
        """
        asyncio.get_running_loop()
        self._validate()
        self._locked = True
        named = kwargs.pop("run_id", None)
        stepwise = bool(kwargs.pop("stepwise", False))
        if type(self).run is not Workflow.run:
            stepwise = bool(option_in(start_event, "stepwise")) or stepwise
            checkpoint_callback = option_in(start_event, "checkpoint_callback") or checkpoint_callback
        if stepwise and asks_people(self._spec):
            raise WorkflowRuntimeError(
                f"Human-in-the-loop is not supported with stepwise execution: {self._spec.name} asks people."
            )
        if ctx is not None and not isinstance(ctx, Context):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers are not all typed
            raise WorkflowRuntimeError(
                f"run(ctx=...) takes a Context, got {type(ctx).__name__}. Fields of the start event are given by name, "
                f"as run(topic=...); what to_dict() gave is read with Context.from_dict(workflow, data)."
            )
        if ctx is not None and ctx._is_live():  # pyright: ignore[reportPrivateUsage]
            raise ContextStateError(
                "Cannot start a new run while context is already running. "
                "Wait for its run to end, or use a new Context."
            )
        context: Context[Any] = ctx if ctx is not None else Context(self)
        resume = context._resume_point()  # pyright: ignore[reportPrivateUsage]
        if resume is not None and resume.state.spec.fingerprint != self._spec.fingerprint:
            raise ContextStateError(
                f"The context has an unfinished run of {resume.state.spec.name}, which {self._spec.name} cannot go on "
                f"with: their steps or events differ. Pass it to a workflow of the class that it was made for."
            )
        event = None if resume is not None else self._get_start_event_instance(start_event, **kwargs)
        kept = resume.state.run_id if resume and not self._runtime.is_live(resume.state.run_id) else None
        run_id = str(named or kept or _new_run_id())
        resources = RunResources(self._resource_manager) if self._spec.uses_resources else None
        run = self._runtime.start(
            _plan_class()(
                spec=self._spec,
                run_id=run_id,
                start_event=event,
                workflow=self,
                home=context._home,  # pyright: ignore[reportPrivateUsage]
                bind=Workflow._bind,
                make_context=context_inside,
                dispatcher=self._dispatcher.awake(self),
                identity=current_identity(),
                timeout=self._timeout,
                idle_counts=self._idle_counts,
                stream_buffer=self._stream_buffer,
                version=self.__version__,
                span_kind=self.__span_kind__,
                gate=self._gate(),
                resume=resume,
                stepwise=stepwise,
                checkpoint=awaited_checkpoint(context, checkpoint_callback),
                resolve=resources.resolve if resources else None,
                teardown=resources.aclose if resources else None,
                grace=self._grace,
            )
        )
        context._begin(run)  # pyright: ignore[reportPrivateUsage]
        self._history = run.history  # of the last run, for drawings; outlives it
        return WorkflowHandler(run, context)

    def run_from(
        self,
        checkpoint: HasSnapshot,
        ctx_serializer: BaseSerializer | None = None,
        checkpoint_callback: CheckpointCallback | None = None,
        **kwargs: Any,
    ) -> WorkflowHandler:
        """Start a new run where a checkpoint was made: its state, its work in flight, what its step returned.

        Where `checkpoint.output_event` is another event than the step returned, the run goes on with that.

        Raises:
            WorkflowRuntimeError: If it is another number of events than the step returned.
        """
        context: Context[Any] = Context.from_dict(self, checkpoint.ctx_state, ctx_serializer)
        context._go_on_with(*output_of(checkpoint))  # pyright: ignore[reportPrivateUsage]
        kwargs.setdefault("run_id", _new_run_id())
        return self.run(ctx=context, checkpoint_callback=checkpoint_callback, **kwargs)

    def run_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run to the end on an event loop of its own and give the result; for code without one.

        Raises:
            WorkflowRuntimeError: If an event loop runs in this thread: await `run()` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._run_to_end(*args, **kwargs))
        raise WorkflowRuntimeError(
            "run_sync() was called where an event loop runs, which it would block. Use `await workflow.run(...)` there."
        )

    async def _run_to_end(self, *args: Any, **kwargs: Any) -> Any:
        return await self.run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Workflow:
        """A copy has gates of its own: a place that a live run holds is never given back to the copy."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        for name, value in vars(self).items():
            setattr(copied, name, WeakKeyDictionary() if name == "_gates" else deepcopy(value, memo))
        return copied

    @property
    def _spec(self) -> WorkflowSpec:
        if self._compiled is None:
            self._compiled = compiled(self._workflow_name or type(self).__name__, self._get_steps())
        return self._compiled

    def _gate(self) -> asyncio.Semaphore | None:
        """What limits the runs that live at once on this event loop; a semaphore belongs to one loop."""
        if self._num_concurrent_runs is None:
            return None
        loop = asyncio.get_running_loop()
        if loop not in self._gates:
            self._gates[loop] = asyncio.Semaphore(self._num_concurrent_runs)
        return self._gates[loop]

    def _validate(self) -> bool:
        """Check the graph once; whether the workflow asks people, False where that was never checked."""
        spec = self._spec
        if self._validated is not spec and not self._disable_validation:
            self._asks_people = self.validate()
            self._validated = spec
        return self._asks_people

    def _context_at(
        self, state: RunState | None, snapshot: Mapping[str, Any] | None, serializer: BaseSerializer | None
    ) -> Context[Any]:
        """A context that goes on from a state, with what `ctx.store` held in a snapshot; for runtimes."""
        context: Context[Any] = Context(self, snapshot, serializer)
        if state is not None:
            context._go_on_from(state)  # pyright: ignore[reportPrivateUsage]
        return context

    def _bind(self, step: StepSpec) -> Callable[..., Any]:
        attached = self._attached_steps.get(step.name)
        return attached if attached is not None else getattr(self, step.name, step.function)

    def _get_start_event_instance(self, start_event: StartEvent | None, **kwargs: Any) -> StartEvent:
        if start_event is not None:
            if not isinstance(start_event, StartEvent):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError("The 'start_event' argument must be an instance of 'StartEvent'.")
            if kwargs:
                logger.warning("run() got a start_event, so these keywords are ignored: %s", ", ".join(kwargs))
            return start_event
        return start_event_from(self.start_event_class, kwargs)


@cache
def _plan_class() -> type[RunPlan]:
    from workflows._engine.live import RunPlan  # the engine is loaded with the first run

    return RunPlan


def _checked(checks: Iterable[str] | None) -> frozenset[str]:
    names = frozenset(checks or ())
    if unknown := names - _GRAPH_CHECKS:
        raise WorkflowValidationError(
            f"Unknown graph check {', '.join(sorted(unknown))}; known are {', '.join(sorted(_GRAPH_CHECKS))}."
        )
    return names


def _new_run_id() -> str:
    """Ten letters and digits, 59 random bits; of one draw, since one for each letter took a tenth of a small run."""
    return secrets.token_bytes(10).translate(_LETTER_OF_BYTE).decode()
