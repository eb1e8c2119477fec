"""A blocked event loop is told of while it is blocked, with the step that blocks it."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.instrumentation import watch_loop
from workflows.plugins import BasicRuntime


class Told(logging.Handler):
    """Lets the blocking step go on as soon as the watchdog has spoken."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()
        self.record: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if "by step" in record.getMessage():  # the loop may also have been blocked before the step began
            self.record = record
            self.came.set()


def test_the_step_that_blocks_the_loop_is_named() -> None:
    told = Told()

    class Blocks(Workflow):
        @step
        async def crunch(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=told.came.wait(20))

    async def main() -> bool:
        end = watch_loop(0.02)
        try:
            return await Blocks().run(run_id="slow")
        finally:
            end()

    watchdog = logging.getLogger("workflows.watchdog")
    watchdog.addHandler(told)
    try:
        assert asyncio.run(main())
    finally:
        watchdog.removeHandler(told)
    assert told.record is not None
    assert "by step crunch (attempt 1)" in told.record.getMessage()
    assert vars(told.record)["run_id"] == "slow"


async def test_a_watch_needs_a_time() -> None:
    with pytest.raises(ValueError, match="above 0"):
        watch_loop(0)


async def test_sync_steps_have_threads_of_their_own() -> None:
    class Sync(Workflow):
        @step
        def work(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=threading.current_thread().name)

    assert (await Sync().run()).startswith("workflows-step")
    with ThreadPoolExecutor(thread_name_prefix="mine") as threads:
        assert (await Sync(runtime=BasicRuntime(threads)).run()).startswith("mine")
