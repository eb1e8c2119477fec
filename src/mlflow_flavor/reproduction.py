"""`reproduce`: run the model version that made a trace on the trace's input again, and say what differs."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow.entities import Span, Trace
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracing.constant import TraceMetadataKey
from pydantic import ValidationError

from mlflow_flavor import _daemon
from mlflow_flavor._comparison import Difference, different_calls, different_environment, different_run
from mlflow_flavor._compat import attached_text, invalid
from mlflow_flavor._compat_models import download
from mlflow_flavor._loading import StoredModel, config_digest
from mlflow_flavor._questions import ModelSerializer
from mlflow_flavor._recording import RECORDING_SPAN, Playback
from mlflow_flavor._rows import plain_result
from mlflow_flavor.autolog import handler as drawer
from mlflow_flavor.recorded import played_back
from workflows import Workflow
from workflows.context.serializers import JsonSerializer
from workflows.events import StartEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation import attributes as names
from workflows.instrumentation.recorder import RunRecorder

__all__ = ["Difference", "IncompleteInputError", "Reproduction", "reproduce"]

INPUT_SPAN = "workflow.input"


class IncompleteInputError(MlflowException):
    """A trace shows only part of its run's input: it was cut for its length, masked, or not shown at all."""

    def __init__(self, trace_id: str) -> None:
        super().__init__(
            f"Trace {trace_id} does not hold the whole input of its run: it was cut, masked or left out. Pass input=, "
            "or call mlflow_flavor.autolog(record_inputs=True) where the runs are traced.",
            error_code=INVALID_PARAMETER_VALUE,
        )
        self.trace_id = trace_id


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run of the past, and the same again.

    Attributes:
        trace_id: The trace of the first run.
        result: What the second run gave, as plain data; None if it failed.
        error: What failed the second run.
        differences: What differs, causes first; empty if nothing does.
        new_trace_id: The trace of the second run; None where this process does not trace.
        replayed: How many calls got the answer that was recorded, and were not made.
        made: Names of `recorded` functions that were called although recorded answers were asked for: the first run
            did not ask them that.
    """

    trace_id: str
    result: Any
    error: Exception | None
    differences: list[Difference]
    new_trace_id: str | None = None
    replayed: int = 0
    made: tuple[str, ...] = ()


def reproduce(trace_id: str, *, input: Mapping[str, Any] | None = None, recorded: bool = False) -> Reproduction:
    """Run the model version that made a trace once more, on the same input, and compare step by step.

    A step that gives something else for the same input, in the same code, shows that a model's answer (or the world)
    changed; steps that come after it are compared only as far as their inputs are the same. Where the trace holds the
    answers of `mlflow_flavor.recorded` functions, they are compared one by one; or they are given again.

    Args:
        trace_id: A trace of a logged model's run.
        input: The start event's fields; those of the trace if left out.
        recorded: Give the recorded answers of models and tools again, and call none of them: what differs then comes
            from the code, the configuration or the environment.

    Raises:
        IncompleteInputError: If the trace does not hold the whole input, and none is given.
        MlflowException: If there is no such trace, it is of no workflow run, or of no logged model; or if recorded
            answers are asked for and it holds none.
    """
    trace = mlflow.get_trace(trace_id)
    if trace is None:
        raise invalid(f"There is no trace '{trace_id}' in {mlflow.get_tracking_uri()}.")
    root = next((s for s in trace.data.spans if names.RUN_ID in s.attributes), None)
    if root is None:
        raise invalid(f"Trace {trace_id} is of no workflow run.")
    model_id = trace.info.trace_metadata.get(TraceMetadataKey.MODEL_ID)
    if model_id is None:
        raise invalid(f"Trace {trace_id} names no logged model: only runs of models from load_model() can be repeated.")
    fields = dict(input) if input is not None else _input_of(trace, root)
    stored = StoredModel.read(download(f"models:/{model_id}", None))
    workflow = stored.load(None)
    start = _start_event(trace, root, workflow, fields)
    playback = _playback_of(trace, workflow, gives=recorded)
    recorder = RunRecorder()
    add_handler(recorder, workflow=workflow)
    again = _daemon.call(lambda: _again(workflow, start, playback))
    code, steps = different_run(trace, root, recorder, drawer.settings.content, config_digest(stored.config))
    environment = different_environment(stored.directory / "requirements.txt")
    return Reproduction(
        trace_id,
        again.result,
        again.error,
        [*code, *environment, *different_calls(playback), *steps],
        new_trace_id=drawer.trace_id(again.run_id),
        replayed=playback.given,
        made=tuple(playback.missing),
    )


def _start_event(trace: Trace, root: Span, workflow: Workflow, fields: dict[str, Any]) -> StartEvent:
    name = root.attributes.get(names.GEN_AI_WORKFLOW_NAME)
    if name not in (type(workflow).__name__, workflow.workflow_name):
        # MLflow names its active model where a trace is of no model at all.
        raise invalid(f"Trace {trace.info.trace_id} is of {name}, but the model it names is {type(workflow).__name__}.")
    try:
        return workflow.start_event_class(**fields)
    except ValidationError as error:
        raise invalid(f"The input does not fit {workflow.start_event_class.__name__}: {error}") from error


def _playback_of(trace: Trace, workflow: Workflow, *, gives: bool) -> Playback:
    serializer = ModelSerializer(workflow, JsonSerializer(), closed=False)
    playback = Playback(_recordings_of(trace), serializer, gives=gives)
    if gives and not playback:
        raise invalid(
            f"Trace {trace.info.trace_id} holds no recorded answers. Mark what asks models and tools with "
            "mlflow_flavor.recorded, and call mlflow_flavor.autolog(record_calls=True) where the runs are traced."
        )
    return playback


def _recordings_of(trace: Trace) -> Iterable[str]:
    for span in sorted(trace.data.spans, key=lambda s: s.start_time_ns):
        if span.name == RECORDING_SPAN and isinstance(span.inputs, dict):
            yield attached_text(trace.info, str(span.inputs["calls"]))


@dataclass(frozen=True, slots=True)
class Again:
    """How the second run ended."""

    run_id: str
    result: Any
    error: Exception | None


async def _again(workflow: Workflow, start: StartEvent, playback: Playback) -> Again:
    handler = workflow.run(start_event=start)
    with played_back(handler.run_id, playback):
        try:
            return Again(handler.run_id, plain_result(await handler.stop_event_result()), None)
        except Exception as error:  # noqa: BLE001  # whatever fails the run is part of what is compared
            return Again(handler.run_id, None, error)


def _input_of(trace: Trace, root: Span) -> dict[str, Any]:
    for span in trace.data.spans:
        if span.name == INPUT_SPAN and isinstance(span.inputs, dict):
            return json.loads(attached_text(trace.info, str(span.inputs["start_event"])))
    if root.attributes.get(names.INPUT_COMPLETE) is not True or not isinstance(root.inputs, dict):
        raise IncompleteInputError(trace.info.trace_id)
    return dict(root.inputs)
