"""`verbose=True`: a run tells what it does, in lines; which words it takes is not part of the API."""

import contextlib
import io
import logging

from tests.compat.case import case
from tests.compat.flows import A
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent


class Two(Workflow):
    @step
    async def s(self, ev: StartEvent) -> A:
        return A(n=0)

    @step
    async def t(self, ev: A) -> StopEvent:
        return StopEvent(result="x")


async def printed(flow, **keywords):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        await flow.run(**keywords)
    return out.getvalue().splitlines()


@case([2, 2])
async def every_start_and_end_of_a_step_is_told():
    lines = [line for line in await printed(Two(verbose=True)) if "run" not in line.split("]")[-1].split()[:1]]
    return sum(" started" in line for line in lines), sum(" complete" in line for line in lines)


@case(
    ["s completed with A", "t completed with StopEvent"],
    peer_gives=["[s:0] complete with A", "[t:0] complete with StopEvent"],
    because="verbose-lines",
)
async def an_end_is_told_with_what_the_step_gave():
    lines = [line for line in await printed(Two(verbose=True)) if " complete" in line and " with " in line]
    return [line.split("] ", 1)[1] if "completed" in line else line for line in lines]


@case([False], peer_gives=[True], because="verbose-lines")
async def no_line_tells_what_an_event_holds():
    return ["secret" in "".join(await printed(Two(verbose=True), topic="secret"))]


@case([])
async def a_run_that_is_not_verbose_says_nothing():
    return await printed(Two())


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.levels = set()

    def emit(self, record):
        self.levels.add(record.levelname)


async def logged(level):
    """At which levels lines are logged, and how many are printed, where the logger is on."""
    logger, handler = logging.getLogger("workflows.verbose"), Lines()
    before = logger.level, logging.root.manager.disable
    logger.addHandler(handler)
    logger.setLevel(level)
    logging.disable(logging.NOTSET)
    try:
        shown = await printed(Two(verbose=True))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logging.disable(before[1])
    return sorted(handler.levels), len(shown)


@case([[["DEBUG"], 0], [["INFO"], 0]])
async def lines_go_to_a_logger_that_wants_them():
    return await logged(logging.DEBUG), await logged(logging.INFO)
