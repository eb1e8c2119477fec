"""`Workflow`: subclass it, decorate methods with `@step`, and `run()` it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from workflows._checkpoints import CheckpointCallback, HasSnapshot, awaited_checkpoint, output_of
from workflows._definition import Definition
from workflows._option_checks import check_count, check_seconds
from workflows._run_resources import RunResources
from workflows._run_start import (
    check_same_workflow,
    check_stepwise,
    check_usable,
    new_run_id,
    option_in,
    plan_class,
    start_event_from,
)
from workflows._step_functions import WorkflowMeta, attach_to_class, steps_of_class
from workflows.context.context import Context, context_inside
from workflows.errors import WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation.dispatcher import Dispatcher, process_dispatcher
from workflows.instrumentation.scope import current_identity
from workflows.plugins.basic import get_current_runtime
from workflows.resource import ResourceManager
from workflows.runtime.runtime import Runtime

if TYPE_CHECKING:  # see Context
    from workflows.context.serializers import BaseSerializer

__all__ = ["Workflow", "WorkflowMeta"]

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
        self.__kept_definition__ = Definition(self, idle_counts=idle_counts, stream_buffer=stream_buffer, grace=grace)
        self._runtime = runtime or get_current_runtime()
        self._runtime.track_workflow(self)
        self._workflow_name = workflow_name
        self._skip_graph_checks = _checked(skip_graph_checks)
        self._serializer = serializer
        self._dispatcher = Dispatcher(process_dispatcher)
        if verbose:
            from workflows.instrumentation.log_handler import LogHandler

            self._dispatcher.add(LogHandler())
        _ = self.__definition__.spec  # a wrong one is refused now

    @property
    def __definition__(self) -> Definition:
        """What is kept of the instance, under this name: any without underscores at both ends is free for its class.

        It is `workflows._definition.Definition`, which is no part of the public API.
        """
        found = self.__kept_definition__
        if found.owner() is not self:
            found = self.__kept_definition__ = found.copied_for(self)
        return found

    @classmethod
    def add_step(cls, func: Callable[..., Any]) -> None:
        """Attach a decorated free function to the class; its subclasses get it, and instances that are there already.

        Raises:
            WorkflowValidationError: If it is not decorated with `@step`, or a step of that name exists.
        """
        attach_to_class(cls, func, steps_of_class(cls))

    @classmethod
    def _get_steps_from_class(cls) -> dict[str, Callable[..., Any]]:
        """Every step function by name: base classes first, each in definition order."""
        return steps_of_class(cls)

    def _get_steps(self) -> dict[str, Callable[..., Any]]:
        return {**steps_of_class(type(self)), **self.__definition__.attached}

    @property
    def workflow_name(self) -> str:
        """The explicit name, else `module.Class`."""
        return self._workflow_name or f"{type(self).__module__}.{type(self).__qualname__}"

    def _switch_runtime(self, runtime: Runtime) -> None:
        """Let the runs live elsewhere.

        Raises:
            RuntimeError: If the workflow has run, or its runtime was launched.
        """
        self.__definition__.check_unlocked("reassign runtime")
        self._runtime.untrack_workflow(self)
        self._runtime = runtime
        runtime.track_workflow(self)

    def _switch_workflow_name(self, name: str) -> None:
        """Give the workflow another name.

        Raises:
            RuntimeError: If the workflow has run, or its runtime was launched.
        """
        self.__definition__.rename(name)

    @property
    def start_event_class(self) -> type[StartEvent]:
        """The StartEvent class that the steps accept."""
        return self.__definition__.spec.start_event or StartEvent

    @property
    def stop_event_class(self) -> type[StopEvent]:
        """The StopEvent class that the steps return."""
        return self.__definition__.spec.stop_event or StopEvent

    # By their old names: hosts of agents read them.
    _start_event_class = start_event_class
    _stop_event_class = stop_event_class

    @property
    def events(self) -> list[type[Event]]:
        """Every event class that the steps accept or return."""
        steps = self.__definition__.spec.steps.values()
        return list(dict.fromkeys(c for s in steps for c in (*s.accepted_events, *s.return_types)))

    @property
    def runtime(self) -> Runtime:
        """Where the runs live."""
        return self._runtime

    @property
    def serializer(self) -> BaseSerializer:
        """What writes and reads snapshots; it knows the events and the state, local classes included."""
        return self.__definition__.serializer(self._serializer)

    @serializer.setter
    def serializer(self, serializer: BaseSerializer) -> None:
        self._serializer = serializer

    async def aclose(self) -> None:
        """Let go of what the resource manager has cached; a later run makes it anew. Call it while no run is alive."""
        await self._resource_manager.aclose()

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
        return self.__definition__.validate(resource_configs=validate_resource_configs, resources=validate_resources)

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
        definition = self.__definition__
        definition.asks_people_once_valid()
        definition.locked, spec = True, definition.spec
        named = kwargs.pop("run_id", None)
        stepwise = bool(kwargs.pop("stepwise", False))
        if type(self).run is not Workflow.run:
            stepwise = bool(option_in(start_event, "stepwise")) or stepwise
            checkpoint_callback = option_in(start_event, "checkpoint_callback") or checkpoint_callback
        if stepwise:
            check_stepwise(spec)
        if ctx is not None:
            check_usable(ctx)
        context: Context[Any] = ctx if ctx is not None else Context(self)
        resume = context._resume_point()  # pyright: ignore[reportPrivateUsage]
        if resume is not None:
            check_same_workflow(resume, spec)
        event = None if resume is not None else self._get_start_event_instance(start_event, **kwargs)
        kept = resume.state.run_id if resume and not self._runtime.is_live(resume.state.run_id) else None
        run_id = str(named or kept or new_run_id())
        resources = RunResources(self._resource_manager) if spec.uses_resources else None
        run = self._runtime.start(
            plan_class()(
                spec=spec,
                run_id=run_id,
                start_event=event,
                workflow=self,
                home=context._home,  # pyright: ignore[reportPrivateUsage]
                bind=definition.bound,
                make_context=context_inside,
                dispatcher=self._dispatcher.awake(self),
                identity=current_identity(),
                timeout=self._timeout,
                idle_counts=definition.idle_counts,
                stream_buffer=definition.stream_buffer,
                version=self.__version__,
                span_kind=self.__span_kind__,
                gate=definition.gate(self._num_concurrent_runs),
                resume=resume,
                stepwise=stepwise,
                checkpoint=awaited_checkpoint(context, checkpoint_callback),
                resolve=resources.resolve if resources else None,
                teardown=resources.aclose if resources else None,
                grace=definition.grace,
            )
        )
        context._begin(run)  # pyright: ignore[reportPrivateUsage]
        definition.history = run.history
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
        kwargs.setdefault("run_id", new_run_id())
        return self.run(ctx=context, checkpoint_callback=checkpoint_callback, **kwargs)

    def run_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Run to the end on an event loop of its own and give the result; for code without one.

        Raises:
            WorkflowRuntimeError: If an event loop runs in this thread: await `run()` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(_to_end(self, args, kwargs))
        raise WorkflowRuntimeError(
            "run_sync() was called where an event loop runs, which it would block. Use `await workflow.run(...)` there."
        )

    def _validate(self) -> bool:
        """Check the graph once; whether the workflow asks people, False where that was never checked."""
        return self.__definition__.asks_people_once_valid()

    def _get_start_event_instance(self, start_event: StartEvent | None, **kwargs: Any) -> StartEvent:
        if start_event is not None:
            if not isinstance(start_event, StartEvent):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError("The 'start_event' argument must be an instance of 'StartEvent'.")
            if kwargs:
                logger.warning("run() got a start_event, so these keywords are ignored: %s", ", ".join(kwargs))
            return start_event
        return start_event_from(self.__definition__.spec.start_event or StartEvent, kwargs)


def _checked(checks: Iterable[str] | None) -> frozenset[str]:
    names = frozenset(checks or ())
    if unknown := names - _GRAPH_CHECKS:
        raise WorkflowValidationError(
            f"Unknown graph check {', '.join(sorted(unknown))}; known are {', '.join(sorted(_GRAPH_CHECKS))}."
        )
    return names


async def _to_end(workflow: Workflow, args: tuple[Any, ...], fields: Mapping[str, Any]) -> Any:
    return await workflow.run(*args, **fields)
