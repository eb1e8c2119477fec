"""`reproduce`: run the model version that made a trace on the trace's input again, and say what differs."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import mlflow
from mlflow.entities import Span, Trace
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracing.constant import TraceMetadataKey
from pydantic import ValidationError

from mlflow_flavor import _daemon
from mlflow_flavor._compat import attached_text, invalid
from mlflow_flavor._payloads import result_of, show, show_causes, show_emitted
from mlflow_flavor._rows import plain_result
from mlflow_flavor.autolog import handler as drawer
from mlflow_flavor.flavor import load_model
from workflows import Workflow
from workflows.events import StartEvent
from workflows.instrumentation import add_handler
from workflows.instrumentation import attributes as names
from workflows.instrumentation.content import ContentPolicy, exception_type
from workflows.instrumentation.recorder import RunRecorder
from workflows.instrumentation.records import RunEnded, RunStarted, StepEnded, StepStarted

__all__ = ["Difference", "IncompleteInputError", "Reproduction", "reproduce"]

INPUT_SPAN = "workflow.input"
FINAL = ("completed", "failed", "timed_out", "cancelled", "abandoned")


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
class Difference:
    """One thing that the second run did otherwise.

    Attributes:
        kind: `code`: another graph or version; `path`: other steps ran; `output`: a step made something else of the
            same input (a model's answer, a clock, the outside world); `result`: what the caller got.
        where: The step, as `name#n` for its n-th call, or what else differs.
        then: What the trace shows.
        now: What it was this time.
    """

    kind: Literal["code", "path", "output", "result"]
    where: str
    then: object
    now: object


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run of the past, and the same again.

    Attributes:
        trace_id: The trace of the first run.
        result: What the second run gave, as plain data; None if it failed.
        error: What failed the second run.
        differences: What differs, causes first; empty if nothing does.
    """

    trace_id: str
    result: Any
    error: Exception | None
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of a step took and gave, as a trace shows it."""

    step: str
    inputs: object
    outputs: object


def reproduce(trace_id: str, *, input: Mapping[str, Any] | None = None) -> Reproduction:
    """Run the model version that made a trace once more, on the same input, and compare step by step.

    A step that gives something else for the same input, in the same code, shows that a model's answer (or the world)
    changed; steps that come after it are compared only as far as their inputs are the same.

    Args:
        trace_id: A trace of a logged model's run.
        input: The start event's fields; those of the trace if left out.

    Raises:
        IncompleteInputError: If the trace does not hold the whole input, and none is given.
        MlflowException: If there is no such trace, it is of no workflow run, or of no logged model.
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
    workflow = load_model(f"models:/{model_id}")
    start = _start_event(trace, root, workflow, fields)
    recorder = RunRecorder()
    add_handler(recorder, workflow=workflow)
    result, error = _daemon.call(lambda: _again(workflow, start))
    found = list(_compared(trace, root, recorder))
    return Reproduction(trace_id, result, error, found)


def _start_event(trace: Trace, root: Span, workflow: Workflow, fields: dict[str, Any]) -> StartEvent:
    name = root.attributes.get(names.GEN_AI_WORKFLOW_NAME)
    if name not in (type(workflow).__name__, workflow.workflow_name):
        # MLflow names its active model where a trace is of no model at all.
        raise invalid(f"Trace {trace.info.trace_id} is of {name}, but the model it names is {type(workflow).__name__}.")
    try:
        return workflow.start_event_class(**fields)
    except ValidationError as error:
        raise invalid(f"The input does not fit {workflow.start_event_class.__name__}: {error}") from error


async def _again(workflow: Workflow, start: StartEvent) -> tuple[Any, Exception | None]:
    handler = workflow.run(start_event=start)
    try:
        return plain_result(await handler.stop_event_result()), None
    except Exception as error:  # noqa: BLE001  # whatever fails the run is part of what is compared
        return None, error


def _input_of(trace: Trace, root: Span) -> dict[str, Any]:
    for span in trace.data.spans:
        if span.name == INPUT_SPAN and isinstance(span.inputs, dict):
            return json.loads(attached_text(trace.info, str(span.inputs["start_event"])))
    if root.attributes.get(names.INPUT_COMPLETE) is not True or not isinstance(root.inputs, dict):
        raise IncompleteInputError(trace.info.trace_id)
    return dict(root.inputs)


def _compared(trace: Trace, root: Span, recorder: RunRecorder) -> Iterable[Difference]:
    policy = drawer.settings.content
    started, ended = recorder.of(RunStarted)[0], recorder.of(RunEnded)[-1]
    facts = {names.GRAPH_HASH: started.graph_hash, names.WORKFLOW_VERSION: started.version}
    for name, now in facts.items():
        if (then := root.attributes.get(name)) != now:
            yield Difference("code", name, then, now)
    yield from _different_calls(_numbered(_calls_then(trace, root)), _numbered(_calls_now(recorder, policy)))
    if ended.error is not None:
        outcome: object = exception_type(ended.error)
    else:
        outcome = show(result_of(ended.stop_event), policy.for_outputs()) if ended.stop_event is not None else None
    then = root.attributes.get(names.ERROR_TYPE) or root.outputs
    if _plain(then) != _plain(outcome):
        yield Difference("result", root.name, then, outcome)


def _different_calls(then: Mapping[str, Call], now: Mapping[str, Call]) -> Iterable[Difference]:
    for where, call in then.items():
        other = now.get(where)
        if other is None:
            yield Difference("path", where, call.inputs, None)
        elif _plain(call.inputs) == _plain(other.inputs) and _plain(call.outputs) != _plain(other.outputs):
            yield Difference("output", where, call.outputs, other.outputs)
    for where, call in now.items():
        if where not in then:
            yield Difference("path", where, None, call.inputs)


def _calls_then(trace: Trace, root: Span) -> Iterable[Call]:
    steps = [s for s in trace.data.spans if s.parent_id == root.span_id and names.STEP_EXECUTION_ID in s.attributes]
    for span in sorted(steps, key=lambda s: s.start_time_ns):
        yield Call(str(span.attributes[names.STEP_NAME]), span.inputs, span.outputs)


def _calls_now(recorder: RunRecorder, policy: ContentPolicy) -> Iterable[Call]:
    run_id = recorder.of(RunStarted)[0].run_id
    ends = {record.exec_id: record for record in recorder.of(StepEnded, run_id=run_id) if record.outcome in FINAL}
    for record in recorder.of(StepStarted, run_id=run_id):
        end = ends.pop(record.exec_id, None)  # a call's first attempt stands for it
        if end is not None:
            inputs = show_causes(record.causes, policy.for_inputs())
            yield Call(record.step, inputs, show_emitted(end.emitted, policy.for_outputs()))


def _numbered(calls: Iterable[Call]) -> dict[str, Call]:
    """Calls by `step#n`, in the order of their starts."""
    by_step: dict[str, list[Call]] = {}
    for call in calls:
        by_step.setdefault(call.step, []).append(call)
    return {f"{step}#{number}": call for step, found in by_step.items() for number, call in enumerate(found, 1)}


def _plain(value: object) -> str:
    return json.dumps(cast("Any", value), sort_keys=True, default=str)
