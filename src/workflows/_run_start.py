"""What a run starts with: its options, a context that is fit for it, its first event, its id."""

# pyright: reportPrivateUsage=false
# A context is the run's own here.

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from workflows._spec import WorkflowSpec
from workflows.context.context import Context
from workflows.errors import ContextStateError, WorkflowRuntimeError
from workflows.events import StartEvent
from workflows.representation.validation import asks_people

if TYPE_CHECKING:  # see Context
    from workflows._engine.live import ResumePoint, RunPlan

__all__ = [
    "check_same_workflow",
    "check_stepwise",
    "check_usable",
    "new_run_id",
    "option_in",
    "plan_class",
    "start_event_from",
]

_LETTER_OF_BYTE = bytes((string.ascii_letters + string.digits).encode()[byte % 62] for byte in range(256))


def option_in(start_event: StartEvent | None, name: str) -> Any:
    """An option of `run()` that a `run()` of the user's own put into the start event, as llama-index's agents do."""
    extra = getattr(start_event, "__pydantic_extra__", None)
    return extra.pop(name, None) if extra else None


def check_stepwise(spec: WorkflowSpec) -> None:
    """Refuse to run by hand what asks people.

    Raises:
        WorkflowRuntimeError: If the workflow does.
    """
    if asks_people(spec):
        raise WorkflowRuntimeError(
            f"Human-in-the-loop is not supported with stepwise execution: {spec.name} asks people."
        )


def check_usable(ctx: object) -> None:
    """Refuse what a new run cannot have as its context.

    Raises:
        WorkflowRuntimeError: If it is none.
        ContextStateError: If it is in use by a run that is not over.
    """
    if not isinstance(ctx, Context):
        raise WorkflowRuntimeError(
            f"run(ctx=...) takes a Context, got {type(ctx).__name__}. Fields of the start event are given by name, "
            f"as run(topic=...); what to_dict() gave is read with Context.from_dict(workflow, data)."
        )
    if ctx._is_live():
        raise ContextStateError(
            "Cannot start a new run while context is already running. Wait for its run to end, or use a new Context."
        )


def check_same_workflow(resume: ResumePoint, spec: WorkflowSpec) -> None:
    """Refuse to go on with an unfinished run of another workflow.

    Raises:
        ContextStateError: If it is one.
    """
    if resume.state.spec.fingerprint != spec.fingerprint:
        raise ContextStateError(
            f"The context has an unfinished run of {resume.state.spec.name}, which {spec.name} cannot go on "
            f"with: their steps or events differ. Pass it to a workflow of the class that it was made for."
        )


def start_event_from(cls: type[StartEvent], fields: Mapping[str, Any]) -> StartEvent:
    """The first event of a run, of the keywords that `run()` got.

    Raises:
        WorkflowRuntimeError: If they do not make one; its text names each.
    """
    try:
        return cls(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise WorkflowRuntimeError(
            f"Failed creating a start event of type '{cls.__name__}' with the keyword arguments: "
            f"{', '.join(fields) or 'none'}. {wrong}. Pass these to run()."
        ) from error


def new_run_id() -> str:
    """Ten letters and digits, 59 random bits; of one draw, since one for each letter took a tenth of a small run."""
    return secrets.token_bytes(10).translate(_LETTER_OF_BYTE).decode()


@cache
def plan_class() -> type[RunPlan]:
    """`RunPlan`; the engine is loaded with the first run."""
    from workflows._engine.live import RunPlan

    return RunPlan
