"""`@step` and `@catch_error`: turn a function into a step of a workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar, cast, overload

from workflows._option_checks import check_count, check_seconds
from workflows._signature import UnresolvedAnnotation, caller_locals, read_signature
from workflows._spec import StepRole, StepSpec
from workflows.errors import WorkflowValidationError
from workflows.events import StepFailedEvent

if TYPE_CHECKING:  # the words of retry policies are loaded by who has one
    from workflows.retry_policy import RetryPolicy

__all__ = [
    "CatchErrorHandler",
    "StepConfig",
    "StepFunction",
    "StepGraphCheck",
    "StepRole",
    "WorkflowGraphCheck",
    "catch_error",
    "make_step_function",
    "spec_of",
    "step",
]

WorkflowGraphCheck = Literal["reachability", "terminal_event", "dead_end"]
StepGraphCheck = Literal["reachability", "dead_end"]
StepConfig = StepSpec
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_GRAPH_CHECKS = frozenset({"reachability", "dead_end", "terminal_event"})


class StepFunction(Protocol):
    """A decorated function; `_step_config` is its spec, or what compiles it once every name is defined."""

    _step_config: StepSpec
    __name__: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class CatchErrorHandler(NamedTuple):
    """Which steps a `@catch_error` step covers (None: every step) and how often it may run in one lineage."""

    step_name: str
    for_steps: list[str] | None
    max_recoveries: int


@overload
def step(func: FunctionT) -> FunctionT: ...
@overload
def step(
    func: None = None,
    *,
    workflow: Any = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    skip_graph_checks: Iterable[str] | None = None,
    accept_event_subclasses: bool = False,
    timeout: float | None = None,
) -> Callable[[FunctionT], FunctionT]: ...
def step(
    func: Callable[..., Any] | None = None,
    *,
    workflow: Any = None,
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    skip_graph_checks: Iterable[str] | None = None,
    accept_event_subclasses: bool = False,
    timeout: float | None = None,
) -> Any:
    """Make a function a step: it runs for every event of the classes that its event parameter names.

    Args:
        func: The function, when used as a bare `@step`.
        workflow: A workflow class or instance to attach a free function to.
        num_workers: How many calls may run at once in one run. One that only waits for events is none of them until its
            answer comes; one whose wait is given up (`asyncio.timeout` around it) goes on at once, also beyond these,
            and soon where all who have the workers wait for a lock which it may hold (that is logged; half a minute
            later where they try for it again and again, as for a file or a key of Redis).
        retry_policy: When a failed attempt is tried again; None is never.
        skip_graph_checks: Names of graph checks ("reachability", "dead_end") that this step is excused from.
        accept_event_subclasses: Also run for subclasses of the named event classes.
        timeout: Seconds one attempt may take, its resources included; `StepTimeoutError` then goes to the retry policy.

    Raises:
        WorkflowValidationError: If an argument or the signature is wrong.
    """
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "retry_policy": retry_policy,
        "skip_graph_checks": frozenset(skip_graph_checks or ()),
        "accept_event_subclasses": accept_event_subclasses,
        "timeout": timeout,
    }

    def decorate(function: Callable[..., Any]) -> Any:
        _check_options(function, options)
        return _decorated(function, workflow, options, "step")

    return decorate(func) if func is not None else decorate


def catch_error(
    func: Callable[..., Any] | None = None, *, for_steps: list[str] | None = None, max_recoveries: int = 1
) -> Any:
    """Make a function the handler of failures that a step's retries could not mend.

    It takes exactly one `StepFailedEvent`; what it returns goes on through the graph, what it raises fails the run.

    Args:
        func: The function, when used as a bare `@catch_error`.
        for_steps: Names of the steps it covers; None covers every step that no other handler names.
        max_recoveries: How often it may run in one lineage of events.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        _check_name(function, "@catch_error")
        where = f"@catch_error on {function.__qualname__}"
        check_count(f"{where}: max_recoveries", max_recoveries, step=function.__name__)
        if isinstance(for_steps, str):
            raise WorkflowValidationError(
                f"{where}: for_steps must be a list of names, got {for_steps!r}. Write for_steps=[{for_steps!r}].",
                step=function.__name__,
            )
        options: dict[str, Any] = {
            "num_workers": 1,
            "for_steps": tuple(for_steps) if for_steps is not None else None,
            "max_recoveries": max_recoveries,
        }
        return _decorated(function, None, options, "catch_error")

    return decorate(func) if func is not None else decorate


def make_step_function(
    func: Callable[..., Any],
    num_workers: int = 4,
    retry_policy: RetryPolicy | None = None,
    localns: dict[str, Any] | None = None,
    skip_graph_checks: Iterable[str] | None = None,
    accept_event_subclasses: bool = False,
) -> StepFunction:
    """Make a function a step without a decorator, and without attaching it; `localns` are names its annotations use.

    Raises:
        WorkflowValidationError: If an argument or the signature is wrong.
    """
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "retry_policy": retry_policy,
        "skip_graph_checks": frozenset(skip_graph_checks or ()),
        "accept_event_subclasses": accept_event_subclasses,
        "timeout": None,
    }
    _check_options(func, options)
    made = cast(Any, func)
    made._step_config = _compile(func, options, "step", dict(localns or {}))
    return made


def spec_of(function: Any) -> StepSpec | None:
    """The spec of a decorated function; None for anything else.

    Raises:
        UnresolvedAnnotation: If an annotation names something that is still not defined.
    """
    found = getattr(function, "_step_config", None)
    if isinstance(found, _Deferred):
        found = found.compile()
        function = getattr(function, "__func__", function)
        function._step_config = found
    return found if isinstance(found, StepSpec) else None


class _Deferred:
    """A step whose annotations name something defined later; compiled when its workflow is first used."""

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], role: StepRole, names: dict[str, Any]
    ) -> None:
        self.function, self.options, self.names = function, options, names
        self.role: StepRole = role

    def compile(self) -> StepSpec:
        return _compile(self.function, self.options, self.role, self.names)


def _decorated(function: Callable[..., Any], workflow: Any, options: dict[str, Any], role: StepRole) -> Any:
    free = "." not in function.__qualname__.rpartition("<locals>.")[2]
    if free and workflow is None and role == "step":  # add_step() attaches a handler of failures
        raise WorkflowValidationError(
            f"{function.__qualname__} is a free function: say which workflow it belongs to, "
            f"@step(workflow=MyWorkflow), or move it into the workflow class.",
            step=function.__name__,
        )
    names = caller_locals(function, depth=3)
    try:
        spec: StepSpec | _Deferred = _compile(function, options, role, names)
    except UnresolvedAnnotation:
        spec = _Deferred(function, options, role, names)
    decorated = cast(Any, function)
    decorated._step_config = spec
    if workflow is not None:
        is_class = workflow.__class__ is not workflow and hasattr(workflow, "__mro__")
        (workflow.add_step if is_class else workflow.__definition__.attach)(decorated)
    return decorated


def _compile(function: Callable[..., Any], options: dict[str, Any], role: StepRole, names: dict[str, Any]) -> StepSpec:
    signature = read_signature(function, names)
    accepted = tuple(dict.fromkeys(c for classes in signature.event_parameters.values() for c in classes))
    if role == "catch_error" and accepted != (StepFailedEvent,):
        raise WorkflowValidationError(
            f"@catch_error {function.__qualname__} must take exactly one StepFailedEvent, "
            f"it takes {', '.join(c.__name__ for c in accepted)}.",
            step=function.__name__,
        )
    # The attribute is how objects that stand for an `async def` have told asyncio so.
    is_async = inspect.iscoroutinefunction(function) or bool(getattr(function, "_is_coroutine", False))
    simple = signature.join == "one" and not signature.resources and options.get("timeout") is None
    return StepSpec(
        name=function.__name__,
        function=function,
        is_method=signature.is_method,
        is_async=is_async,
        plain=is_async and simple,
        event_name=next(iter(signature.event_parameters)),
        event_parameters=signature.event_parameters,
        accepted_events=accepted,
        return_types=signature.return_types,
        list_returns=signature.list_returns,
        bare_returns=signature.bare_returns,
        strange_returns=signature.strange_returns,
        join=signature.join,
        take=signature.take,
        context_parameter=signature.context_parameter,
        state_type=signature.state_type,
        resources=signature.resources,
        role=role,
        **_facts_of(options.get("retry_policy")),
        **options,
    )


def _facts_of(policy: RetryPolicy | None) -> dict[str, Any]:
    if policy is None:
        return {}
    from workflows.retry_policy import max_attempts, takes_seed

    return {"max_attempts": max_attempts(policy), "policy_takes_seed": takes_seed(policy)}


def _check_name(function: Callable[..., Any], decorator: str) -> None:
    if not (hasattr(function, "__name__") and hasattr(function, "__qualname__")):  # a partial, or a callable object
        raise WorkflowValidationError(
            f"{decorator} on {function!r}: it has no name, and a step has the name of its function. Write an "
            f"`async def` that calls it.",
        )


def _check_options(function: Callable[..., Any], options: dict[str, Any]) -> None:
    _check_name(function, "@step")
    where = f"@step on {function.__qualname__}"
    if isinstance(function, staticmethod | classmethod):
        kind = type(cast("object", function)).__name__
        raise WorkflowValidationError(
            f"{where}: it is a {kind}; a step is an ordinary method, or a free function with @step(workflow=...).",
            step=function.__name__,
        )
    check_count(f"{where}: num_workers", options["num_workers"], step=function.__name__)
    check_seconds(f"{where}: timeout", options["timeout"], step=function.__name__)
    policy = options["retry_policy"]
    if policy is not None and (isinstance(policy, type) or not callable(getattr(policy, "next", None))):
        raise WorkflowValidationError(
            f"{where}: retry_policy must be an object with a method next(elapsed_time, attempts, error), got "
            f"{policy!r}. Build one with retry_policy(...), or make an instance of the class.",
            step=function.__name__,
        )
    if unknown := options["skip_graph_checks"] - _GRAPH_CHECKS:
        raise WorkflowValidationError(
            f"{where}: unknown graph check {', '.join(sorted(unknown))}; known are {', '.join(sorted(_GRAPH_CHECKS))}.",
            step=function.__name__,
        )
