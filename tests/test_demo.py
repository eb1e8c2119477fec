"""The demo's parts, and the whole of it in one command."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from demo.chat import chat
from demo.joke import JokeFlow
from demo.llm import LLM, local_llm
from demo.summary import run_table
from demo.watch import watch
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows.testing import RecordLog, VirtualClockLoop

ROOT = Path(__file__).parent.parent
TOOL_SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}


@pytest.fixture
def scripted_llm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "DEMO_MODEL"):
        monkeypatch.setenv(name, "")  # so that what the server sets is undone
    with local_llm(tmp_path / "llm.log", scripted=True) as llm:
        yield llm


def paper(width: int) -> Console:
    return Console(file=StringIO(), record=True, width=width)


class Work(Event):
    part: int


class Flaky(Workflow):
    """Two parts, side by side; the first attempt of each fails."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Work | None:
        for part in (1, 2):
            ctx.send_event(Work(part=part))

    @step(num_workers=1, retry_policy=retry_policy(wait=wait_fixed(30), stop=stop_after_attempt(2)))
    async def work(self, ctx: Context, ev: Work) -> StopEvent | None:
        if ev.part == 2:
            return None
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("no")
        return StopEvent(result="done")


async def test_summary_shows_every_attempt_under_its_cause(clock: VirtualClockLoop, records: RecordLog) -> None:
    await Flaky(timeout=None).run()
    console = paper(width=110)
    console.print(run_table(records.records, width=110))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines == [
        "run                   waited     took  tokens  when                      outcome",
        "Flaky                         30.00 s                                    ✓ completed",
        "└─ split              0.0 ms   0.0 ms          ━                         ✓ Work ×2",
        "   ├─ work attempt 1  0.0 ms   0.0 ms          ━                         ↻ ConnectionError, again in 30 s",
        "   ├─ work attempt 1  0.0 ms   0.0 ms          ━                         ✓ completed",
        "   └─ work attempt 2  0.0 ms   0.0 ms                                 ━  ✓ StopEvent",
        "4 attempts, 1 retried, 0 events streamed",
    ]


async def test_joke_streams_its_tokens_and_says_that_they_are_scripted(scripted_llm: LLM) -> None:
    console = paper(width=200)
    result = await watch(console, JokeFlow(timeout=10), topic="pirates")
    assert result == "[scripted] The joke is short, which is the best thing about it."
    assert "[scripted] Why do pirates test in production?" in console.export_text()


def test_a_model_that_cannot_start_is_replaced_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no wheel for this machine')")
    with local_llm(tmp_path / "llm.log") as llm:
        assert llm.model == "scripted-answers-no-model"
        assert llm.why_scripted == "ImportError: no wheel for this machine"


class AskForCity(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        question: str = ev.question
        return StopEvent(result=await chat(ctx, [{"role": "user", "content": question}], schema=TOOL_SCHEMA))


@pytest.mark.server
@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="`make demo` installs the model")
async def test_real_model_obeys_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "DEMO_MODEL"):
        monkeypatch.setenv(name, "")
    with local_llm(tmp_path / "llm.log") as llm:
        assert llm.why_scripted is None
        city = await AskForCity(timeout=60).run(question="Which city is the capital of Italy? Answer as JSON.")
    assert re.fullmatch(r'\{\s*"city"\s*:\s*"(Oslo|Rome)"\s*\}', city)


@pytest.mark.server
def test_the_whole_demo_runs_in_one_command(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "COLUMNS": "120"}
    command = [sys.executable, "-m", "demo", "--scripted"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert "No language model: every answer below is scripted." in told
    assert "↻ ConnectionError, again in" in told
    assert "[scripted] 17 times 23 is 391. It snows in Oslo, at -4 degrees." in told
    assert "[scripted] 12 times 12 is 144. It is sunny in Lisbon, at 24 degrees." in told
    assert re.findall(r"trace  tr-\w+  (\d+) spans", told) == ["5", "12", "12"]
    assert (tmp_path / ".demo" / "mlflow.db").exists()
