"""Recorded answers come in the order of then; a call that had none has none; one that nobody can tell of is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import mlflow_flavor

# Three tools at once, the last of which answers first. What is asked again answers otherwise.
AGENT = """
import asyncio, os, threading
from mlflow_flavor import recorded, set_model
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

ORDER = [2, 0, 1]
ANSWERED = [threading.Event() for _ in ORDER]

def may_answer(n):
    place = ORDER.index(n)
    return not place or ANSWERED[ORDER[place - 1]].is_set()

@recorded
async def tool(n):
    while not may_answer(n):
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, ANSWERED[n].set)
    return f"{n} {os.environ['SAID']}"

@recorded
def plain_tool(n):
    if (place := ORDER.index(n)):
        ANSWERED[ORDER[place - 1]].wait(10)
    threading.Timer(0.05, ANSWERED[n].set).start()
    return f"{n} {os.environ['SAID']}"

@recorded
async def never(n):
    await asyncio.Event().wait()

@recorded
def of_a_thread(n):
    return f"{n} {os.environ['SAID']}"

class Ask(Event):
    n: int

class Told(Event):
    text: str

class Agent(Workflow):
    @step
    async def split(self, ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(3)]

    @step
    async def ask(self, ev: Ask) -> Told:
        DO

    @step
    async def join(self, told: list[Told]) -> StopEvent:
        return StopEvent(result=[each.text for each in told])

set_model(Agent())
"""
RACE = """
        tasks = [asyncio.create_task(never(ev.n)), asyncio.create_task(tool(ev.n))]
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        left.pop().cancel()
        return Told(text=done.pop().result())
"""
THREADS = """
        loop = asyncio.get_running_loop()
        return Told(text=await tool(ev.n) + await loop.run_in_executor(None, of_a_thread, ev.n))
"""

Traced = Callable[[str], Awaitable[str]]


@pytest.fixture
def traced(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traced:
    """Logs an agent that does so, and runs it; gives the trace, and has its tools answer otherwise from then on."""

    async def run(do: str) -> str:
        mlflow_flavor.autolog(record_calls=True, publish_after_seconds=None)
        monkeypatch.setenv("SAID", "then")
        (tmp_path / "agent.py").write_text(AGENT.replace("DO", do.strip()))
        model = mlflow_flavor.log_model(tmp_path / "agent.py", name="agent", pip_requirements=["mlflow"])
        handler = mlflow_flavor.load_model(model.model_uri).run()
        await handler
        monkeypatch.setenv("SAID", "now")
        return str(mlflow_flavor.trace_id(handler))

    return run


@pytest.mark.parametrize("call", ["tool(ev.n)", "asyncio.to_thread(plain_tool, ev.n)"])
async def test_answers_come_in_the_order_in_which_they_came(traced: Traced, call: str):
    again = mlflow_flavor.reproduce(await traced(f"return Told(text=await {call})"), recorded=True)
    assert again.result == ["2 then", "0 then", "1 then"]
    assert (again.differences, again.replayed, again.made) == ([], 3, ())


async def test_a_call_that_was_given_up_is_given_up_again(traced: Traced):
    again = mlflow_flavor.reproduce(await traced(RACE), recorded=True)
    assert (again.differences, again.replayed, again.made) == ([], 3, ())


async def test_a_call_in_a_thread_without_context_is_told_as_made(traced: Traced):
    again = mlflow_flavor.reproduce(await traced(THREADS), recorded=True)
    assert sorted(again.result) == ["0 then0 now", "1 then1 now", "2 then2 now"]
    assert again.made == ("of_a_thread",) * 3
