"""Everything Spanflow raises on purpose, one tree under `WorkflowError`.

WorkflowError
├── WorkflowValidationError      a step, a graph or a decorator argument is wrong
│   └── ResourceError            a resource is declared in a way that cannot work; also a `ValueError`
├── WorkflowConfigurationError   a workflow has no steps, or not exactly one start and one stop event
├── WorkflowRuntimeError         a run was used, or behaved, in a way that cannot work
│   ├── WorkflowDeadlockError    a run waits for something that can never come
│   └── StepCancelledError       a step raised `CancelledError` though nobody cancelled it
├── WorkflowTimeoutError         a run took longer than its timeout
│   └── StepTimeoutError         one attempt of a step took longer than its timeout
├── WorkflowCancelledByUser      `cancel_run()` ended the run
├── RunInterruptedError          the event loop went away under a run
├── ContextSerdeError            a snapshot cannot be read
│   └── UnserializableValueError a value cannot be written so that it can be read again; also a `ValueError`
├── ContextStateError            a `Context` method was called in the wrong phase
├── WorkflowDone                 kept for imports; never raised
└── WorkflowStepDoesNotExistError   a name that is no step of the workflow
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workflows._slotted import FieldsCompared, slotted

__all__ = [
    "ContextSerdeError",
    "ContextStateError",
    "OpenFanIn",
    "ResourceError",
    "RunInterruptedError",
    "StepCancelledError",
    "StepTimeoutError",
    "UnserializableValueError",
    "WorkflowCancelledByUser",
    "WorkflowConfigurationError",
    "WorkflowDeadlockError",
    "WorkflowDone",
    "WorkflowError",
    "WorkflowRuntimeError",
    "WorkflowStepDoesNotExistError",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
]


class WorkflowError(Exception):
    """Base of every error that Spanflow raises on purpose.

    Attributes:
        run_id: The run it happened in, where there was one.
        step: The name of the step it is about, where there is one.
    """

    def __init__(self, *args: object, run_id: str | None = None, step: str | None = None) -> None:
        super().__init__(*args)
        self.run_id = run_id
        self.step = step


class WorkflowValidationError(WorkflowError):
    """A step signature, a workflow's graph or a decorator's argument is wrong; the message lists what and where."""


class ResourceError(WorkflowValidationError, ValueError):
    """A resource needs itself or cannot be made, or its file does not hold what it should."""


class WorkflowConfigurationError(WorkflowError):
    """A workflow has no steps, or not exactly one start and one stop event class."""


class WorkflowRuntimeError(WorkflowError):
    """A run was used, or behaved, in a way that cannot work."""


@slotted
class OpenFanIn(FieldsCompared):
    """A join that will never be complete: what it has and what it misses, as class names and how many of each."""

    step: str
    group: str
    has: Mapping[str, int]
    misses: Mapping[str, int]


class WorkflowDeadlockError(WorkflowRuntimeError):
    """A run is idle, unfinished, and nothing that could wake it can ever come.

    Attributes:
        fan_ins: Joins that wait for events which cannot come.
        last_events: The last events that steps gave, oldest first, as `step -> Class`.
    """

    def __init__(self, *args: object, fan_ins: Sequence[OpenFanIn] = (), run_id: str | None = None) -> None:
        super().__init__(*args, run_id=run_id)
        self.fan_ins = tuple(fan_ins)
        self.last_events: tuple[str, ...] = ()


class StepCancelledError(WorkflowRuntimeError):
    """A step's own code raised `asyncio.CancelledError` though nobody cancelled the run or the step."""


class WorkflowTimeoutError(WorkflowError):
    """A run took longer than its timeout."""


class StepTimeoutError(WorkflowTimeoutError):
    """One attempt of a step took longer than `@step(timeout=)` allows; the step's retry policy sees it."""


class WorkflowCancelledByUser(WorkflowError):
    """`handler.cancel_run()` ended the run."""


class RunInterruptedError(WorkflowError):
    """The event loop was closed, or the run's own task cancelled from outside, before the run ended."""


class ContextSerdeError(WorkflowError):
    """A serialised context cannot be read: malformed, or made by a newer version."""


class UnserializableValueError(ContextSerdeError, ValueError):
    """A snapshot would hold a value that could not be read back, or not as what it is."""


class ContextStateError(WorkflowError):
    """A `Context` method was called in a phase (before, outside or inside a step) that it does not belong to."""


class WorkflowDone(WorkflowError):
    """Kept because other packages import it; never raised."""


class WorkflowStepDoesNotExistError(WorkflowError):
    """A name was given that is no step of the workflow."""
