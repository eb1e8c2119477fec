"""From a run to its trace: `trace_id`, `feedback`, and `predict_fn` for MLflow's evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_flavor import _daemon
from mlflow_flavor._arguments import required_workflow
from mlflow_flavor._compat import invalid
from mlflow_flavor._given_up import looked_at
from mlflow_flavor._open_questions import OpenQuestions
from mlflow_flavor._rows import plain_fields, plain_result
from mlflow_flavor.autolog import handler as drawer
from workflows import Workflow
from workflows.events import StopEvent
from workflows.handler import WorkflowHandler
from workflows.instrumentation import add_handler
from workflows.instrumentation.records import WaitStarted
from workflows.instrumentation.redaction import mask_secrets

__all__ = ["UnansweredError", "feedback", "predict_fn", "trace_id"]

SHOWN_CHARS = 200
GRACE_SECONDS = 1.0


def trace_id(handler: WorkflowHandler) -> str | None:
    """The MLflow trace of a run of this process; None where it was not traced.

    Raises:
        MlflowException: If it is given something else than a run.
    """
    if not hasattr(handler, "run_id"):
        raise invalid(f"trace_id() needs what Workflow.run() gave, got {type(handler).__name__}.")
    return drawer.trace_id(handler.run_id)


def feedback(handler_or_trace_id: WorkflowHandler | str, name: str, value: Any, **kw: Any) -> None:
    """Attach a judgement to a run's trace, which MLflow shows beside it.

    Args:
        handler_or_trace_id: The run, or its trace.
        name: What is judged: `correct`, `tone`, ...
        value: The judgement: a number, a bool, a text, a list or dict of those.
        kw: `rationale`, `source`, `metadata`, `span_id`, `error`: as `mlflow.log_feedback` takes them.

    Raises:
        MlflowException: If the run was not traced, has only begun, or MLflow refuses the value.
    """
    found = handler_or_trace_id if isinstance(handler_or_trace_id, str) else trace_id(handler_or_trace_id)
    if found is None:
        raise invalid(
            "This run was not traced by mlflow_flavor: nothing is there to judge. Call mlflow_flavor.autolog() before. "
            "Where workflows_otel draws runs for MLflow, pass 'tr-' + workflows_otel.trace_of(handler).trace_id."
        )
    mlflow.flush_trace_async_logging()  # the store refuses a judgement of a trace that it does not have yet
    try:
        mlflow.log_feedback(trace_id=found, name=name, value=value, **kw)
    except MlflowException as error:
        if isinstance(handler_or_trace_id, str) or handler_or_trace_id.is_done():
            raise
        raise invalid(
            "The store has no trace of this run yet, which is not over: await the handler, and judge the run then."
        ) from error


class UnansweredError(MlflowException):
    """A run of `predict_fn` asked a person, and can only go on with an answer, which nobody gave.

    Attributes:
        run_id: The run, which is cancelled.
        questions: What it asked, oldest first; nothing of a wait that comes without a question.
    """

    def __init__(self, workflow: str, run_id: str, waits: Sequence[WaitStarted]) -> None:
        asked = ", ".join(_question(wait) for wait in waits)
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # MLflow's has no types
            f"{workflow} waits for a person, and for {GRACE_SECONDS:g} s nobody answers: {asked}. Pass a function of "
            "your own as predict_fn that runs the workflow, and answers what handler.stream_events() shows by "
            "handler.ctx.send_event().",
            error_code=INVALID_PARAMETER_VALUE,
        )
        self.run_id = run_id
        self.questions = [wait.asked for wait in waits if wait.asked is not None]


def _question(wait: WaitStarted) -> str:
    if wait.asked is None:
        return f"an answer of class {wait.event_type}"
    fields = mask_secrets(json.dumps(plain_fields(wait.asked)))
    return f"{type(wait.asked).__name__} {fields[:SHOWN_CHARS]}"


def predict_fn(workflow: Workflow) -> Callable[..., Any]:
    """A plain function that runs the workflow with its keywords and waits: for `mlflow.genai.evaluate(predict_fn=)`.

    Of a stop event of the user's own class it gives the fields, as a dict. A run that for a second does nothing but
    wait for a person's answer (an `InputRequiredEvent` was asked, or a `HumanResponseEvent` is awaited), without a
    timeout for it, is cancelled, and the function raises `UnansweredError`. What waits for anything else goes on.

    Raises:
        MlflowException: If it is no instance of `Workflow`.
    """
    required_workflow(workflow, "predict_fn()")
    questions = OpenQuestions()
    add_handler(questions, workflow=workflow)

    async def run(fields: dict[str, Any]) -> Any:
        handler = workflow.run(**fields)
        try:
            if waits := await questions.unanswered(handler, GRACE_SECONDS):
                raise UnansweredError(type(workflow).__name__, handler.run_id, waits)
            found = await handler
        finally:
            if not handler.is_done():
                await handler.cancel_run()
            await looked_at(
                drawer.trace_id(handler.run_id)
            )  # MLflow reads the trace at once, and none that has open spans
        return plain_result(found) if isinstance(found, StopEvent) else found

    def predict(**fields: Any) -> Any:
        return _daemon.call(lambda: run(fields))

    predict.__name__ = predict.__qualname__ = f"run_{type(workflow).__name__}"
    return predict
