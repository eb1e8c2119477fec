"""Running a run again: whatever a trace shows of it and was otherwise this time is told, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

import mlflow_flavor
from mlflow_flavor import Difference, Reproduction
from mlflow_flavor._likeness import are_alike
from tests.mlflow_flavor.fresh import Interpreter
from workflows.errors import WorkflowTimeoutError

Again = Callable[..., Awaitable[Reproduction]]

SCRIPT = """
import asyncio, os
from uuid import uuid4
import mlflow
from pydantic import BaseModel
from mlflow_flavor import recorded, set_model
from workflows import Context, Workflow, catch_error, step
from workflows.events import Event, StartEvent, StepFailedEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

def run() -> int:
    return int(os.environ["RUN"])

async def network(n: int) -> None:
    await asyncio.sleep(0.02 * (n if run() == 1 else 3 - n))  # it is not always as fast

class ApiError(Exception):
    pass

class Url(Event):
    n: int
    prices_change: bool

class Page(Url):
    pass

class Row(Event):
    n: int
    price: int

class Mid(Event):
    it: object = None

class Token(Event):
    delta: str

It, Is = Token(delta="It "), Token(delta="is")

class Guess(Event):
    pass

def rows() -> list[int]:
    return [0, 8] if run() == 1 else [8, 0]  # a set made of them has the order that they have here

class Sheet(BaseModel):
    number: int
    rows: set[int]

@recorded(name="points")
def points(sheet: Sheet) -> dict:
    return {"points": sheet.number, "of": set(rows())}

class Judge(Workflow):
    @step
    async def judge(self, ev: StartEvent) -> StopEvent:
        if ev.how == "failing child":
            raise ApiError(f"HTTP {run()}")
        if ev.how == "guess":
            return StopEvent(result=str(uuid4()))
        found = points(Sheet(number=ev.n, rows=set(rows())))["points"]
        return StopEvent(result=f"{found} points" if ev.how == "children" else f"{found} points of {run()}")

async def told(ctx: Context, n: int, times: int = 1) -> None:
    await network(n)
    for _ in range(times):
        ctx.write_event_to_stream(Mid(it=n))

async def judged(n: int, how: str) -> str:
    await network(n)
    return await Judge().run(n=n, how=how)

def streamed(what):
    match what:
        case "stream": return [Mid(it=f"token {run()}")]
        case "long stream": return [Mid(it=run() if n == 490 else n) for n in range(500)]
        case "middle of a long stream": return [Mid(it=run() if n == 250 else n) for n in range(500)]
        case "length of a long stream": return [Mid(it="tick") for n in range(500 + run())]
        case "pieces between others":
            return [It, Mid(it=1), Is] if run() == 1 else [It, Is, Mid(it=1)]
        case "other order of pieces":
            return [It, Mid(it=1), Is] if run() == 1 else [Is, Mid(it=1), It]
        case "pieces of a text": return [Token(delta=t) for t in (["It ", "is"] if run() == 1 else ["It is"])]
        case "secret in a stream": return [Mid(it={"api_key": str(run())})]
        case "set in a stream": return [Mid(it=set(rows()))]
    return []

def given(what):
    match what:
        case "set": return set(rows())
        case "texts": return set("abcdefghijklmnopqrstuvwxyz")
        case "sets": return [{"a": frozenset(rows()), "b": [1, 2]}, (set(reversed(rows())), 1)]
        case "list": return rows()
        case "other set": return {0, 8, run()}
        case "large set": return {f"{n:0100}" for n in range(run(), 1000)}
        case "address": return [f"<Pool object at {0x7f00 + run():#x}>", "at 0x1f"]
        case "other number at": return f"at 0x{run()}"
        case "dict": return {name: 0 for name in sorted("ab", reverse=run() == 1)}

class Agent(Workflow):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def look(self, ctx: Context, ev: StartEvent) -> Mid | Url | Guess | None:
        for event in streamed(ev.what):
            ctx.write_event_to_stream(event)
        match ev.what:
            case "pages" | "prices":
                for n in range(4):
                    ctx.send_event(Url(n=n, prices_change=ev.what == "prices"))
                return None
            case "message":
                raise ApiError(f"HTTP {400 + run()}")
            case "same message":
                raise ApiError("HTTP 401")
            case "address in a message":  # as requests' ConnectionError has it
                raise ApiError(f"<Pool object at {0x7f00 + run():#x}>: no route to host")
            case "address and another message":
                raise ApiError(f"<Pool object at {0x7f00 + run():#x}>: HTTP {400 + run()}")
            case "parallel streams":
                await asyncio.gather(*(told(ctx, n) for n in range(4)))
            case "long parallel streams":
                await asyncio.gather(*(told(ctx, n, times=200) for n in range(4)))
            case "guesses":
                for _ in range(40):
                    ctx.send_event(Guess())
                await asyncio.sleep(1)
            case "chain":
                raise ApiError("no answer") from OSError(run())
            case "secret message":
                raise ApiError(f"password=hunter{run()}")
            case "attempts":
                if run() == 2 and not await ctx.store.get("tried", default=False):
                    await ctx.store.set("tried", True)
                    raise ApiError("busy")
            case "time":
                await asyncio.sleep(60)
            case "child" | "children" | "failing child":
                await asyncio.gather(*(judged(n, ev.what) for n in range(4)), return_exceptions=True)
            case "child that nobody traces":
                with mlflow.tracing.context(enabled=False):
                    await judged(0, "child")
            case "long input of a child":
                await Judge().run(n=0, how="children", text="x" * 50_000 + str(run()))
            case "other input of a child":
                await Judge().run(n=0, how="children", text=str(run()))
        return Mid(it=given(ev.what))

    @step(num_workers=4)
    async def guess(self, ev: Guess) -> None:
        await asyncio.gather(*(Judge().run(n=0, how="guess") for _ in range(2)))

    @step(num_workers=4)
    async def fetch(self, ev: Url) -> Page:
        await network(ev.n)
        return Page(n=ev.n, prices_change=ev.prices_change)

    @step(num_workers=4)
    async def parse(self, ev: Page) -> Row:
        return Row(n=ev.n, price=10 * ev.n + (run() if ev.prices_change else 0))

    @step
    async def total(self, ctx: Context, ev: Row) -> StopEvent | None:
        rows = ctx.collect_events(ev, [Row] * 4)
        return None if rows is None else StopEvent(result=f"{len(rows)} rows")

    @step
    async def tell(self, ev: Mid) -> StopEvent:
        return StopEvent(result="done")

class Catching(Agent):
    @catch_error
    async def catch(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result="caught")

set_model(%s)
"""


@pytest.fixture
def again(autolog: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Again:
    """Logs the workflow, runs it as run 1, in which something is one way, and again as run 2, where it is another."""

    async def reproduced(
        what: str, workflow: str = "Agent()", *, recorded: bool = False, cancel: bool = False
    ) -> Reproduction:
        monkeypatch.setenv("RUN", "1")
        (tmp_path / "agent.py").write_text(SCRIPT % workflow)
        info = mlflow_flavor.log_model(tmp_path / "agent.py", name="agent", pip_requirements=["mlflow"])
        model = mlflow_flavor.load_model(info.model_uri)
        handler = model.run(what=what)
        if cancel:
            await handler.cancel_run()
        with suppress(Exception):
            await handler
        monkeypatch.setenv("RUN", "2")
        trace_id = str(mlflow_flavor.trace_id(handler))
        return await asyncio.to_thread(mlflow_flavor.reproduce, trace_id, recorded=recorded)

    return reproduced


ELSEWHERE = """
import os
import mlflow_flavor

for trace_id in os.environ["TRACES"].split():
    again = mlflow_flavor.reproduce(trace_id)
    print("TOLD", again.differences, again.not_compared)
"""


@pytest.mark.server
async def test_in_another_process_the_same_is_no_difference(
    autolog: str, interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RUN", "1")
    (tmp_path / "agent.py").write_text(SCRIPT % "Agent()")
    info = mlflow_flavor.log_model(tmp_path / "agent.py", name="agent", pip_requirements=["mlflow"])
    traces: list[str] = []
    for what in ("texts", "message", "children", "set in a stream"):
        handler = mlflow_flavor.load_model(info.model_uri).run(what=what)
        with suppress(Exception):
            await handler
        traces.append(str(mlflow_flavor.trace_id(handler)))
    environment = {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), "MLFLOW_EXPERIMENT_ID": autolog}
    environment |= {"TRACES": " ".join(traces), "RUN": "1"}
    done = await asyncio.to_thread(interpreter.run, ELSEWHERE, tmp_path, environment=environment)
    assert [line for line in done.stdout.splitlines() if line.startswith("TOLD")] == ["TOLD [] ()"] * 4, done.stderr


SETS = ("set", "sets", "set in a stream", "dict")
STREAMS = ("pieces of a text", "pieces between others", "parallel streams")
SAME = ("pages", "children", "same message", "child that nobody traces", *SETS, *STREAMS)


@pytest.mark.parametrize("what", SAME)
async def test_another_order_of_what_has_none_is_no_difference(again: Again, what: str):
    found = await again(what)
    assert (found.differences, found.not_compared) == ([], ())


@pytest.mark.parametrize("what", ["address", "address in a message"])
async def test_where_an_object_was_in_memory_is_no_difference(again: Again, what: str):
    found = await again(what)
    assert (found.differences, found.not_compared) == ([], ())


async def test_a_number_that_is_no_address_is_told(again: Again):
    found = await again("other number at")
    then, now = ({"Mid": {"it": f"at 0x{n}"}} for n in (1, 2))
    assert found.differences[0] == Difference("output", "look#1", then, now)


async def test_another_message_with_an_address_is_told(again: Again):
    found = await again("address and another message")
    then, now = (f"ApiError: <Pool object>: HTTP {400 + n}" for n in (1, 2))
    assert found.differences[-1] == Difference("result", "Agent.run", then, now)


async def test_many_calls_that_took_the_same_are_not_compared_each_with_each(
    again: Again, monkeypatch: pytest.MonkeyPatch
):
    compared: list[None] = []

    def counted(then: object, now: object) -> bool | None:
        compared.append(None)
        return are_alike(then, now)

    monkeypatch.setattr("mlflow_flavor._run_comparison.are_alike", counted)
    found = await again("guesses")
    assert "guess#1/Judge.run#2/judge#1" in [each.where for each in found.differences]
    assert len(compared) < 1000  # 200 parts; each with each, it is many times that


async def test_a_call_is_compared_with_the_one_that_took_the_same_whichever_starts_first(again: Again):
    found = await again("prices")
    parsed = [each for each in found.differences if each.where.startswith("parse")]
    rows = [({"Row": {"n": n, "price": 10 * n + 1}}, {"Row": {"n": n, "price": 10 * n + 2}}) for n in range(4)]
    assert parsed == [Difference("output", f"parse#{n}", *rows[n - 1]) for n in range(1, 5)]


async def test_a_call_that_was_given_something_else_is_told(again: Again):
    found = await again("prices")
    inputs = [each for each in found.differences if each.kind == "input"]
    then, now = {"Row": {"n": 0, "price": 1}}, {"Row": {"n": 3, "price": 32}}
    assert inputs[0] == Difference("input", "total#1", then, now)
    assert [each.where for each in inputs] == [f"total#{n}" for n in range(1, 5)]


async def test_another_message_of_an_error_is_told(again: Again):
    found = await again("message")
    then, now = "ApiError: HTTP 401", "ApiError: HTTP 402"
    assert found.differences == [
        Difference("output", "look#1", [then], [now]),  # the attempt before the last
        Difference("output", "look#1", then, now),
        Difference("result", "Agent.run", then, now),
    ]


async def test_what_an_error_was_raised_from_is_not_compared(again: Again):
    found = await again("chain")
    assert (found.differences, found.not_compared) == ([], ("look#1", "Agent.run"))


async def test_a_masked_message_is_not_compared(again: Again):
    found = await again("secret message")
    assert (found.differences, found.not_compared) == ([], ("look#1", "Agent.run"))


async def test_an_error_that_is_caught_again_is_no_difference(again: Again):
    found = await again("same message", workflow="Catching()")
    assert (found.result, found.differences, found.not_compared) == ("caught", [], ())


async def test_another_message_of_an_error_that_is_caught_is_told(again: Again):
    found = await again("message", workflow="Catching()")
    assert [(each.kind, each.where) for each in found.differences][-2:] == [("output", "look#1"), ("input", "catch#1")]


async def test_an_attempt_that_failed_this_time_is_told(again: Again):
    assert (await again("attempts")).differences == [Difference("output", "look#1", [], ["ApiError: busy"])]


async def test_a_run_that_takes_too_long_again_is_no_difference(again: Again):
    found = await again("time", workflow="Agent(timeout=0.2)")
    assert isinstance(found.error, WorkflowTimeoutError)
    assert (found.differences, found.not_compared) == ([], ())


async def test_a_run_that_was_cancelled_and_now_is_not_is_told(again: Again):
    found = await again("nothing", cancel=True)
    assert found.differences[-1] == Difference("result", "Agent.run", "(cancelled)", "done")


async def test_another_streamed_event_is_told(again: Again):
    (found,) = (await again("stream")).differences
    then, now = ([{"Mid": f'{{"it":"token {n}"}}'}] for n in (1, 2))
    assert found == Difference("output", "look#1", then, now)


async def test_of_a_long_stream_its_ends_and_its_length_are_compared(again: Again):
    for what in ("long stream", "length of a long stream"):
        found = await again(what)
        assert [(each.kind, each.where) for each in found.differences] == [("output", "look#1")]
    found = await again("middle of a long stream")
    assert (found.differences, found.not_compared) == ([], ("look#1",))


async def test_pieces_of_a_text_in_another_order_are_told(again: Again):
    (found,) = (await again("other order of pieces")).differences
    assert (found.kind, found.where) == ("output", "look#1")


async def test_a_long_stream_in_another_order_is_compared_as_far_as_it_is_shown(again: Again):
    found = await again("long parallel streams")
    assert (found.differences, found.not_compared) == ([], ("look#1",))


async def test_a_masked_streamed_event_is_not_compared(again: Again):
    found = await again("secret in a stream")
    assert (found.differences, found.not_compared) == ([], ("look#1",))


async def test_where_no_streamed_events_are_shown_they_are_not_compared(again: Again):
    mlflow_flavor.autolog(publish_after_seconds=None, log_stream_events=False)
    found = await again("stream")
    assert (found.differences, found.not_compared) == ([], ("look#1",))


async def test_another_answer_of_a_child_run_is_told(again: Again):
    found = await again("child")
    then, now = ({"StopEvent": {"result": f"0 points of {n}"}} for n in (1, 2))
    assert found.differences[:2] == [
        Difference("output", "look#1/Judge.run#1/judge#1", then, now),
        Difference("output", "look#1/Judge.run#1", "0 points of 1", "0 points of 2"),
    ]


async def test_another_error_of_a_child_run_is_told(again: Again):
    found = await again("failing child")
    then, now = "ApiError: HTTP 1", "ApiError: HTTP 2"
    assert found.differences[1] == Difference("output", "look#1/Judge.run#1", then, now)


async def test_another_input_of_a_child_run_is_told(again: Again):
    (found,) = (await again("other input of a child")).differences
    assert (found.kind, found.where) == ("input", "look#1/Judge.run#1")


async def test_a_child_run_whose_input_is_cut_is_not_compared(again: Again):
    found = await again("long input of a child")
    assert (found.differences, found.not_compared) == ([], ("look#1/Judge.run#1",))


@pytest.mark.parametrize("recorded", [True, False])
async def test_recorded_answers_of_child_runs_are_found_whichever_starts_first(again: Again, recorded: bool):
    mlflow_flavor.autolog(publish_after_seconds=None, record_calls=True)
    found = await again("children", recorded=recorded)
    assert (found.replayed, found.made) == (4 if recorded else 0, ())
    assert (found.differences, found.not_compared) == ([], ())


async def test_another_set_is_told(again: Again):
    found = await again("other set")
    assert found.differences[0] == Difference(
        "output", "look#1", {"Mid": {"it": [0, 8, 1]}}, {"Mid": {"it": [0, 8, 2]}}
    )


async def test_a_list_in_another_order_is_told(again: Again):
    found = await again("list")
    assert found.differences[0] == Difference("output", "look#1", {"Mid": {"it": [0, 8]}}, {"Mid": {"it": [8, 0]}})


async def test_a_set_that_is_shown_in_part_is_not_compared(again: Again):
    found = await again("large set")
    assert (found.differences, found.not_compared) == ([], ("look#1",))
