"""What a run tells its `checkpoint_callback`, and what `run_from` needs of a checkpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from workflows.context.context import Context
from workflows.events import Event
from workflows.instrumentation.scope import AttemptScope

if TYPE_CHECKING:  # see Context
    from workflows._engine.live import Checkpoint

__all__ = ["CheckpointCallback", "HasSnapshot", "SelectiveCallback", "awaited_checkpoint", "output_of"]

T = TypeVar("T")
Output = Event | list[Event] | None

CheckpointCallback = Callable[[str, str | None, Event | None, Output, Context[Any]], Awaitable[None]]
"""Run id, step, what the step ran for, what it returned, the run's context. The events are copies."""


class SelectiveCallback:
    """A callback for some steps only: after the others nothing is copied for it.

    Attributes:
        wants: Whether it is to be called, by run id and step.
    """

    __slots__ = ("_callback", "wants")

    def __init__(self, wants: Callable[[str, str | None], bool], callback: CheckpointCallback) -> None:
        self.wants = wants
        self._callback = callback

    async def __call__(
        self, run_id: str, step: str | None, input_event: Event | None, output: Output, context: Context[Any]
    ) -> None:
        """Await the callback after a step that it wants."""
        if self.wants(run_id, step):
            await self._callback(run_id, step, input_event, output, context)


class HasSnapshot(Protocol):
    """A checkpoint, as `run_from` needs it."""

    @property
    def ctx_state(self) -> dict[str, Any]: ...


def awaited_checkpoint(context: Context[Any], callback: CheckpointCallback | None) -> Checkpoint | None:
    """What a run awaits when a step has returned, if anything."""
    if callback is None:
        return None

    async def checkpoint(attempt: AttemptScope, input_event: Event | None, output: Output) -> None:
        if isinstance(callback, SelectiveCallback) and not callback.wants(attempt.run_id, attempt.step):
            return
        # Later steps get the events themselves and may change them: a checkpoint says what was when it was made.
        await callback(attempt.run_id, attempt.step, _copied(input_event), _copied(output), context)

    return checkpoint


def output_of(checkpoint: HasSnapshot) -> tuple[str | None, list[Event]]:
    """The step at whose end a checkpoint was made, and what it says that the step returned; none where it says nothing.

    Copies, again: several runs may start from one checkpoint.
    """
    step, output = (getattr(checkpoint, name, None) for name in ("last_completed_step", "output_event"))
    events = cast("Output", _copied(output))
    return step, events if isinstance(events, list) else [] if events is None else [events]


def _copied(events: T) -> T:
    try:
        return deepcopy(events)
    except Exception:  # noqa: BLE001  # an event that holds what cannot be copied, as a lock, is kept as it is
        return events
