"""Running a run again whose trace shows its answers only in part: nobody is told that they are the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

import mlflow_flavor
from mlflow_flavor import Difference, Reproduction

Again = Callable[[str, str], Awaitable[Reproduction]]

SCRIPT = """
import os
import numpy as np
from mlflow_flavor import recorded, set_model
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

class Obj:
    def __init__(self, n):
        self.n = n

class Found(Event):
    it: object

@recorded(name="embed")
def embed(text: str) -> list[float]:
    return [float(os.environ["RUN"])] * 100

def given(what):
    n = int(os.environ["RUN"])
    match what:
        case "text": return "x " * 20_000 + str(n)
        case "list": return [*map(str, range(600)), str(n)]
        case "vector": return [n / 8] * 1536
        case "bytes": return bytes([n] * 8)
        case "array": return np.arange(3) * n
        case "object": return Obj(n)
        case "image": return [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,iVBORw0K{n:04}"}}]
        case "secret": return {"api_key": f"sk-{n}"}
        case "number": return np.int64(n)
        case "same": return {"texts": ["a", "b"], "n": np.float32(0.5), "set": {1}}
        case "embedding": return embed("text")

class Gives(Workflow):
    @step
    async def look(self, ev: StartEvent) -> Found:
        return Found(it=given(ev.what))

    @step
    async def tell(self, ev: Found) -> StopEvent:
        return StopEvent(result="done")

class Fails(Workflow):
    @step
    async def look(self, ev: StartEvent) -> StopEvent:
        raise OSError(given(ev.what))

class Answers(Workflow):
    @step
    async def look(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=given(ev.what))

class Asks(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question = InputRequiredEvent(prefix=given(ev.what))
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=question)
        return StopEvent()

set_model(%s())
"""


@pytest.fixture
def again(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Logs one of the workflows, lets it give something, and runs it again as run 2, which gives something else."""

    async def reproduced(workflow: str, what: str) -> Reproduction:
        monkeypatch.setenv("RUN", "1")
        (tmp_path / "agent.py").write_text(SCRIPT % workflow)
        info = mlflow_flavor.log_model(tmp_path / "agent.py", name="gives", pip_requirements=["mlflow"])
        handler = mlflow_flavor.load_model(info.model_uri).run(what=what)
        if workflow == "Asks":
            await anext(handler.stream_events())
            await handler.suspend()
        else:
            with suppress(OSError):
                await handler
        monkeypatch.setenv("RUN", "2")
        return mlflow_flavor.reproduce(str(mlflow_flavor.trace_id(handler)))

    return reproduced


IN_PART = ("text", "list", "vector", "bytes", "array", "object", "secret", "image")


@pytest.mark.parametrize("what", IN_PART)
async def test_a_step_whose_other_output_looks_the_same_is_not_compared(again: Again, what: str):
    found = await again("Gives", what)
    assert (found.differences, found.not_compared) == ([], ("look#1",))


@pytest.mark.parametrize("what", IN_PART)
async def test_a_result_that_looks_the_same_is_not_compared(again: Again, what: str):
    found = await again("Answers", what)
    assert (found.differences, found.not_compared) == ([], ("look#1", "Answers.run"))


async def test_a_question_that_looks_the_same_is_not_compared(again: Again):
    found = await again("Asks", "text")
    assert (found.differences, found.not_compared) == ([], ("ask#1",))


async def test_what_is_shown_whole_is_compared(again: Again):
    found = await again("Answers", "same")
    assert (found.differences, found.not_compared) == ([], ())


async def test_an_error_whose_message_is_cut_is_not_compared(again: Again):
    found = await again("Fails", "text")
    assert (found.differences, found.not_compared) == ([], ("look#1", "Fails.run"))


async def test_another_number_of_numpys_is_told(again: Again):
    found = await again("Answers", "number")
    assert (found.differences[-1], found.not_compared) == (Difference("result", "Answers.run", 1, 2), ())


async def test_a_warning_names_what_is_not_compared(again: Again, caplog: pytest.LogCaptureFixture):
    await again("Gives", "vector")
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "workflows.mlflow"]
    assert "look#1 did the same" in warning
    assert "mlflow_flavor.recorded" in warning


async def test_a_recorded_answer_is_compared_whole_where_the_trace_shows_only_its_size(again: Again):
    mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
    found = await again("Gives", "embedding")
    assert [(each.kind, each.where) for each in found.differences] == [("call", "embed#1")]


async def test_without_values_in_traces_nothing_is_called_the_same(again: Again, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENINFERENCE_HIDE_OUTPUTS", "true")
    mlflow_flavor.autolog(publish_after_seconds=None)
    found = await again("Gives", "same")
    assert (found.differences, found.not_compared) == ([], ("look#1", "tell#1", "Gives.run"))
