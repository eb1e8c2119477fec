"""What is awaited, and is no coroutine, of a decorated function: its call lasts until that is done."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.workflows_otel.span_log import SpanLog, about
from workflows.testing import VirtualClockLoop
from workflows_otel import tool

pytestmark = pytest.mark.payloads


@tool
def promise() -> asyncio.Future[str]:
    """A future that somebody else sets."""
    return asyncio.get_running_loop().create_future()


async def test_a_future_is_given_as_it_is_and_drawn_until_it_is_done(spans: SpanLog) -> None:
    future = promise()
    assert (asyncio.isfuture(future), spans.finished) == (True, ())
    future.set_result("found")
    assert await future == "found"
    await asyncio.sleep(0)  # its callbacks come in the loop's next turn
    assert about(spans.named("execute_tool promise"))["output.value"] == "found"


async def test_a_task_lasts_until_its_end(clock: VirtualClockLoop, spans: SpanLog) -> None:
    async with asyncio.TaskGroup() as group:

        @tool
        def later() -> asyncio.Task[None]:
            return group.create_task(asyncio.sleep(5))

        task = later()
        await asyncio.sleep(4)
        assert spans.finished == ()
    await task
    assert spans.outline() == ["execute_tool later OK"]


async def test_a_future_that_fails_is_a_call_that_fails(spans: SpanLog) -> None:
    future = promise()
    future.set_exception(KeyError("no such page"))
    with pytest.raises(KeyError):
        await future
    await asyncio.sleep(0)  # its callbacks come in the loop's next turn
    assert spans.outline() == ["execute_tool promise ERROR: KeyError: 'no such page'"]


async def test_a_future_that_is_cancelled_says_so(spans: SpanLog) -> None:
    future = promise()
    future.cancel()
    await asyncio.sleep(0)
    assert about(spans.named("execute_tool promise"))["workflow.call.outcome"] == "cancelled"


async def test_the_failure_of_a_future_that_nobody_asks_is_still_told(clock: VirtualClockLoop, spans: SpanLog) -> None:
    told: list[str] = []
    clock.set_exception_handler(lambda loop, about: told.append(about["message"]))
    future = promise()
    future.set_exception(KeyError("unheard"))
    await asyncio.sleep(0)
    del future
    assert told == ["Future exception was never retrieved"]


@pytest.fixture
def work() -> Iterator[Executor]:
    """A thread."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_the_future_of_an_executor_lasts_until_its_end(work: Executor, spans: SpanLog) -> None:
    go_on = threading.Event()

    @tool
    def look() -> Future[str]:
        return work.submit(lambda: "found" if go_on.wait(10) else "late")

    future = look()
    assert (isinstance(future, Future), spans.finished) == (True, ())
    go_on.set()
    assert future.result() == "found"
    work.shutdown()  # its thread has called back
    assert about(spans.named("execute_tool look"))["output.value"] == "found"


def test_the_future_of_an_executor_that_fails_is_a_call_that_fails(work: Executor, spans: SpanLog) -> None:
    @tool
    def look() -> Future[Any]:
        return work.submit({}.__getitem__, "page")

    with pytest.raises(KeyError):
        look().result()
    work.shutdown()
    assert spans.outline() == ["execute_tool look ERROR: KeyError: 'page'"]


def test_the_future_of_an_executor_that_is_done_already_ends_its_call_once(spans: SpanLog) -> None:
    @tool
    def look() -> Future[str]:
        future: Future[str] = Future()
        future.set_result("found")
        return future

    assert look().result() == "found"
    assert spans.outline() == ["execute_tool look OK"]


def test_the_future_of_an_executor_that_is_cancelled_says_so(spans: SpanLog) -> None:
    @tool
    def look() -> Future[str]:
        return Future()

    look().cancel()
    assert about(spans.named("execute_tool look"))["workflow.call.outcome"] == "cancelled"


async def test_an_old_coroutine_is_awaited_as_before(spans: SpanLog) -> None:
    @tool
    @types.coroutine
    def old(answer: str) -> Generator[Any, Any, str]:
        yield from asyncio.sleep(0).__await__()
        return answer

    assert await old("yes") == "yes"
    assert about(spans.named("execute_tool old"))["output.value"] == "yes"
