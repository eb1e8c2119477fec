"""Events about the engine itself, for streams read with `expose_internal=True`; built only for those."""

from __future__ import annotations

from workflows._engine.attempt import Attempt
from workflows._engine.calls import CallPhase
from workflows._engine.effects import TellSent
from workflows._engine.live import LiveRun
from workflows._engine.routing import exec_id
from workflows._engine.ticks import AttemptCompleted, AttemptFailed
from workflows.events import Event, StepState, StepStateChanged, UnhandledEvent

__all__ = ["show_ended", "show_queued", "show_started", "show_unhandled"]


def show_queued(run: LiveRun, sent: TellSent) -> None:
    """An event waits for a worker of these steps."""
    for step in sent.takers:
        queue = run.state.queues.get(step.name)
        if queue is None or not queue.calls:
            continue
        own = run.state.calls.get(exec_id(step.name, sent.envelope.event_id))
        call = own or queue.calls[-1]  # which this event completed, if it did
        if call.phase is CallPhase.QUEUED and sent.envelope in call.inputs:
            _show(run, step.name, StepState.PREPARING, "<enqueued>", type(sent.envelope.event))


def show_started(attempt: Attempt) -> None:
    """An attempt began."""
    _show(attempt.run, attempt.step, StepState.RUNNING, str(attempt.call.worker), _input(attempt))


def show_ended(attempt: Attempt, tick: AttemptCompleted | AttemptFailed) -> None:
    """An attempt ended; the name of what it returned is None where it failed."""
    output = None
    if isinstance(tick, AttemptCompleted):
        output = tick.returned[0].event.__class__.__name__ if tick.returned else "NoneType"
    _show(attempt.run, attempt.step, StepState.NOT_RUNNING, str(attempt.call.worker), _input(attempt), output)


def show_unhandled(run: LiveRun, sent: TellSent) -> None:
    """No step accepted an event and no wait matched it."""
    event_class = type(sent.envelope.event)
    run.publish(
        UnhandledEvent(
            event_type=event_class.__name__,
            qualified_name=f"{event_class.__module__}.{event_class.__qualname__}",
            step_name=sent.target,
            idle=not run.state.busy,
        ),
        None,
    )


def _input(attempt: Attempt) -> type[Event]:
    inputs = attempt.call.inputs
    return type(inputs[0].event) if inputs else Event


def _show(
    run: LiveRun, step: str, state: StepState, worker: str, input_class: type[Event], output: str | None = None
) -> None:
    run.publish(
        StepStateChanged(
            name=step,
            step_state=state,
            worker_id=worker,
            input_event_name=input_class.__name__,
            output_event_name=output,
        ),
        None,
    )
