"""Runs the cases of one topic on the engine that this Python has: `python -m tests.compat.engine TOPIC`."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from tests.compat.case import Case, cases_of, name_of, plain

BOUND = 3.0  # seconds that a case may take, on the clock of its loop
HANG = "hang"

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def main(topic: str) -> None:
    """Print what every case of the topic gives, as one JSON object."""
    with redirect_stdout(sys.stderr):
        results = {name: result_of(case) for name, case in cases_of(topic).items()}
    print(json.dumps(results), flush=True)
    os._exit(0)  # a step that hangs in a thread must not hold this process


def result_of(case: Case, loop_factory: LoopFactory = asyncio.new_event_loop) -> Any:
    """Run a case on a loop of its own and give its result as plain values; `"hang"` if it takes too long."""
    loop = loop_factory()
    asyncio.set_event_loop(loop)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return loop.run_until_complete(_bounded(case))
    except SystemExit as error:  # a task's SystemExit leaves through the loop
        return name_of(error)
    finally:
        logging.disable(before)
        loop.run_until_complete(_end_what_is_left())
        asyncio.set_event_loop(None)
        loop.close()


async def _bounded(case: Case) -> Any:
    task = asyncio.ensure_future(_called(case))
    done, _ = await asyncio.wait([task], timeout=BOUND)
    return task.result() if done else HANG


async def _called(case: Case) -> Any:
    try:
        value = case.run()
        return plain(await value if inspect.isawaitable(value) else value)
    except BaseException as error:
        return name_of(error)


async def _end_what_is_left() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=0.5)


if __name__ == "__main__":
    main(sys.argv[1])
