"""`WorkflowCheckpointer`: a snapshot after each step of a run, and new runs that start from one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, cast
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from workflows._checkpoints import CheckpointCallback, SelectiveCallback
from workflows.context.context import Context
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.errors import WorkflowStepDoesNotExistError
from workflows.events import Event
from workflows.handler import WorkflowHandler
from workflows.workflow import Workflow

__all__ = ["Checkpoint", "WorkflowCheckpointer"]


def _read_event(value: Any) -> Event | None:
    found = value if value is None or isinstance(value, Event) else JsonSerializer().deserialize_value(value)
    if found is None or isinstance(found, Event):
        return found
    raise ValueError(f"an Event, or what it was dumped as, is needed here, not {type(found).__name__}")


def _read_output(value: Any) -> Event | list[Event] | None:
    if not isinstance(value, list):
        return _read_event(value)
    found = [_read_event(v) for v in cast("list[Any]", value)]
    return [event for event in found if event is not None]


def _write_output(output: Event | list[Event] | None) -> Any:
    return JsonSerializer().serialize_value(output)


KeptEvent = Annotated[
    Event | None, PlainValidator(_read_event), PlainSerializer(lambda event: JsonSerializer().serialize_value(event))
]
"""An event, dumped as snapshots have it: of its own class and equal when it is read, or not dumped at all."""

KeptOutput = Annotated[Event | list[Event] | None, PlainValidator(_read_output), PlainSerializer(_write_output)]
"""The same for what a step returned: an event, a list of events, or None."""


class Checkpoint(BaseModel):
    """Where a run stood when a step had returned and its events had gone nowhere yet.

    `ctx_state` is the snapshot (`Context.to_dict`) of that moment: what goes on from it routes what the step returned,
    and does not run it again. Written with `model_dump_json()` and read with `model_validate_json()`, a checkpoint's
    events are of their own classes again; those must be loaded by then.

    Attributes:
        input_event: What the step ran for: of several events the one that came last, of a list all in a
            `CollectionReleaseEvent`.
        output_event: What it returned: an event, a list of events, or None.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    id_: str = Field(default_factory=lambda: str(uuid4()))
    last_completed_step: str | None
    input_event: KeptEvent
    output_event: KeptOutput
    ctx_state: dict[str, Any]


class WorkflowCheckpointer:
    """Runs a workflow and keeps a checkpoint after each step.

    Args:
        workflow: What to run.
        checkpoint_serializer: Writes the snapshots; the workflow's own if left out.
        disabled_steps: Names of steps after which none is made.

    Attributes:
        checkpoints: By run id, in order.
        enabled_checkpoints: Names of the steps after which one is made.
    """

    def __init__(
        self,
        workflow: Workflow,
        checkpoint_serializer: BaseSerializer | None = None,
        disabled_steps: Iterable[str] = (),
    ) -> None:
        self.workflow = workflow
        self.checkpoints: dict[str, list[Checkpoint]] = {}
        self._serializer = checkpoint_serializer
        self._steps = set(workflow._get_steps())  # pyright: ignore[reportPrivateUsage]  # public to other packages, too
        self.enabled_checkpoints: set[str] = self._steps - set(disabled_steps)

    def enable_checkpoint(self, step: str) -> None:
        """Make checkpoints after this step.

        Raises:
            WorkflowStepDoesNotExistError: If the workflow has no such step.
        """
        self.enabled_checkpoints.add(self._known(step))

    def disable_checkpoint(self, step: str) -> None:
        """Make no checkpoints after this step.

        Raises:
            WorkflowStepDoesNotExistError: If the workflow has no such step.
        """
        self.enabled_checkpoints.discard(self._known(step))

    def run(self, **kwargs: Any) -> WorkflowHandler:
        """As `Workflow.run`, with checkpoints."""
        return self.workflow.run(checkpoint_callback=self.new_checkpoint_callback_for_run(), **kwargs)

    def run_from(self, checkpoint: Checkpoint, **kwargs: Any) -> WorkflowHandler:
        """Start a new run where a checkpoint was made, with checkpoints; see `Workflow.run_from`."""
        callback = self.new_checkpoint_callback_for_run()
        return self.workflow.run_from(checkpoint, self._serializer, checkpoint_callback=callback, **kwargs)

    def new_checkpoint_callback_for_run(self) -> CheckpointCallback:
        """What to pass to `Workflow.run(checkpoint_callback=...)`."""

        return SelectiveCallback(self._wants, self._keep)

    def _wants(self, run_id: str, step: str | None) -> bool:
        self.checkpoints.setdefault(run_id, [])
        return step in self.enabled_checkpoints

    async def _keep(
        self,
        run_id: str,
        step: str | None,
        input_event: Event | None,
        output_event: Event | list[Event] | None,
        ctx: Context[Any],
    ) -> None:
        self.checkpoints[run_id].append(
            Checkpoint(
                last_completed_step=step,
                input_event=input_event,
                output_event=output_event,
                ctx_state=ctx.to_dict(self._serializer),
            )
        )

    def filter_checkpoints(
        self,
        run_id: str | None = None,
        last_completed_step: str | None = None,
        input_event_type: type[Event] | None = None,
        output_event_type: type[Event] | None = None,
    ) -> list[Checkpoint]:
        """The checkpoints that fit every given filter; of a returned list, an event of the class is enough.

        Raises:
            ValueError: If no filter is given.
        """
        wanted = (run_id, last_completed_step, input_event_type, output_event_type)
        if all(w is None for w in wanted):
            raise ValueError("Please specify a filter.")
        runs = self.checkpoints.values() if run_id is None else [self.checkpoints.get(run_id, [])]
        return [
            c
            for kept in runs
            for c in kept
            if (last_completed_step in (None, c.last_completed_step))
            and (input_event_type is None or type(c.input_event) is input_event_type)
            and (output_event_type is None or output_event_type in _classes_of(c.output_event))
        ]

    def _known(self, step: str) -> str:
        if step not in self._steps:
            raise WorkflowStepDoesNotExistError(
                f"{type(self.workflow).__name__} has no step {step!r}; it has {', '.join(sorted(self._steps))}.",
                step=step,
            )
        return step


def _classes_of(output: Event | list[Event] | None) -> set[type[Event | None]]:
    return {type(event) for event in (output if isinstance(output, list) else [output])}
