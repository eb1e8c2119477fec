"""What callers get where a run gives numbers and arrays of numpy's: plain values, as from MLflow's own server."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from pydantic import BaseModel, ConfigDict

import mlflow_flavor
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

ANSWERS = [
    (np.int64(6), 6),
    (np.float32(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),
    (np.array([0.1, 0.7, 0.2]), [0.1, 0.7, 0.2]),
    (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    (np.arange(2000), list(range(2000))),
    (np.array(["a", "b"]), ["a", "b"]),
    (np.array([b"\xff\xd8>", None, np.int64(1)], dtype=object), ["/9g+", None, 1]),
    (np.array([1 + 2j]), ["1+2j"]),
    (np.clongdouble(1 + 2j), "1+2j"),
    (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"),
    (np.array(["2026-01-02"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00.000000000"]),
    (np.timedelta64(90, "s"), "PT1M30S"),
    (np.array([(1, 2.5)], dtype=[("n", int), ("x", float)]), [[1, 2.5]]),
    (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    (pd.Series([1, 2]).sum(), 3),
    ({np.int64(1): np.int64(2)}, {"1": 2}),
    (list(np.arange(2)), [0, 1]),
    (deque([np.int64(1)]), [1]),
]


class Ask(StartEvent):
    it: Any


class Tell(Workflow):
    @step
    async def tell(self, ev: Ask) -> StopEvent:
        return StopEvent(result=ev.it)


class Scores(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    best: Any
    all: np.ndarray[Any, Any]


class Labelled(StopEvent):
    label: Any
    scores: Scores


class Progress(Event):
    done: Any


class Label(Workflow):
    @step
    async def label(self, ctx: Context, ev: StartEvent) -> Labelled:
        ctx.write_event_to_stream(Progress(done=np.float32(0.5)))
        scores = np.array([0.25, 0.75])
        return Labelled(label=scores.argmax(), scores=Scores(best=scores.max(), all=scores))


LABELLED = {"label": 1, "scores": {"best": 0.75, "all": [0.25, 0.75]}}


@pytest.mark.parametrize(("given", "answer"), ANSWERS, ids=[repr(given)[:40] for given, _ in ANSWERS])
def test_numpys_values_are_answered_as_plain_values(given: Any, answer: object):
    found = mlflow_flavor.WorkflowPyfunc(Tell()).predict([Ask(it=given)])
    assert (found, type(found)) == (answer, type(answer))


def test_numpys_values_in_fields_of_models_are_answered_as_plain_values():
    assert mlflow_flavor.predict_fn(Label())() == LABELLED


def test_numpys_values_are_streamed_as_plain_values():
    chunks = list(mlflow_flavor.WorkflowPyfunc(Label()).predict_stream({}))
    assert chunks == [
        {"type": "Progress", "data": {"done": 0.5}},
        {"type": "StopEvent", "data": {"result": LABELLED}},
    ]


SCRIPT = """
import mlflow_flavor, numpy as np
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Rank(Workflow):
    @step
    async def rank(self, ev: StartEvent) -> StopEvent:
        scores = np.array([0.25, 0.75])
        return StopEvent(result={"best": scores.argmax(), "sure": scores.max() > 0.5, "scores": scores})

mlflow_flavor.set_model(Rank())
"""


async def test_numpys_values_are_numbers_over_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    (tmp_path / "agent.py").write_text(SCRIPT)
    mlflow_flavor.save_model(tmp_path / "agent.py", tmp_path / "model", pip_requirements=["mlflow"])
    app = scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model")))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        reply = await client.post("/invocations", json={"inputs": {}})
    assert reply.json() == {"predictions": {"best": 1, "sure": True, "scores": [0.25, 0.75]}}
