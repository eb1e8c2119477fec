"""Runs a workflow while a person watches: tokens as they come, then the run's tree."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from demo.chat import Token, Usage, is_a
from demo.summary import run_table
from workflows import Workflow
from workflows.instrumentation import RunRecorder, add_handler


async def watch(console: Console, workflow: Workflow, **start: Any) -> Any:
    """The result of one run, whose tokens and tree are printed on the way.

    Args:
        console: Where to print.
        workflow: What to run.
        start: Fields of its start event.
    """
    recorder = RunRecorder()
    remove = add_handler(recorder, workflow=workflow)
    try:
        handler = workflow.run(**start)
        async for event in handler.stream_events():
            if is_a(event, Token):
                console.print(Text(event.text, style="italic"), end="")
            elif is_a(event, Usage) and event.shown:
                console.print()
        result = await handler
    finally:
        remove()
    console.print()
    console.print(run_table(recorder.records, console.width))
    return result
