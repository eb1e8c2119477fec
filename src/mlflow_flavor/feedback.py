"""From a run to its trace: `trace_id`, `feedback`, and `predict_fn` for MLflow's evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlflow

from mlflow_flavor import _daemon
from mlflow_flavor._arguments import required_workflow
from mlflow_flavor._compat import invalid
from mlflow_flavor._rows import plain_result
from mlflow_flavor.autolog import handler as drawer
from workflows import Workflow
from workflows.events import StopEvent
from workflows.handler import WorkflowHandler

__all__ = ["feedback", "predict_fn", "trace_id"]


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
        MlflowException: If the run was not traced, or MLflow refuses the value.
    """
    found = handler_or_trace_id if isinstance(handler_or_trace_id, str) else trace_id(handler_or_trace_id)
    if found is None:
        raise invalid(
            "This run was not traced by mlflow_flavor: nothing is there to judge. Call mlflow_flavor.autolog() before. "
            "Where workflows_otel draws runs for MLflow, pass 'tr-' + workflows_otel.trace_of(handler).trace_id."
        )
    mlflow.flush_trace_async_logging()  # the store refuses a judgement of a trace that it does not have yet
    mlflow.log_feedback(trace_id=found, name=name, value=value, **kw)


def predict_fn(workflow: Workflow) -> Callable[..., Any]:
    """A plain function that runs the workflow with its keywords and waits: for `mlflow.genai.evaluate(predict_fn=)`.

    Of a stop event of the user's own class it gives the fields, as a dict.

    Raises:
        MlflowException: If it is no instance of `Workflow`.
    """
    required_workflow(workflow, "predict_fn()")

    async def run(fields: dict[str, Any]) -> Any:
        found = await workflow.run(**fields)
        return plain_result(found) if isinstance(found, StopEvent) else found

    def predict(**fields: Any) -> Any:
        return _daemon.call(lambda: run(fields))

    predict.__name__ = predict.__qualname__ = f"run_{type(workflow).__name__}"
    return predict
