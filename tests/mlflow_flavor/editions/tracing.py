"""With mlflow-tracing alone: runs are traced, and everything else says what it needs. Run as a program."""

from __future__ import annotations

import asyncio
import os

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # there is no server

import mlflow
from mlflow import tracing
from mlflow.entities.trace_location import MlflowExperimentLocation
from mlflow.version import IS_TRACING_SDK_ONLY

import mlflow_flavor
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class Echo(Workflow):
    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        span = mlflow.get_current_active_span()
        return StopEvent(result=span.name if span is not None else None)


async def run() -> None:
    handler = Echo().run()
    assert await handler == "echo"
    assert str(mlflow_flavor.trace_id(handler)).startswith("tr-")


def main() -> None:
    assert IS_TRACING_SDK_ONLY, "this is not mlflow-tracing"
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    tracing.set_destination(MlflowExperimentLocation("0"))
    mlflow_flavor.autolog()
    asyncio.run(run())
    try:
        mlflow_flavor.log_model  # noqa: B018
    except ImportError as error:
        assert "log_model needs MLflow, and only mlflow-tracing is installed" in str(error)  # noqa: PT017
    else:
        raise AssertionError("log_model is there")


main()
