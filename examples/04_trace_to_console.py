"""What does a trace hold? One span for the run, one for each step, one for each attempt of a step that retries.

You see: five spans as one tree. `attempt fetch` is there twice below its step: once with its error, once fine.
"""

import asyncio

import workflows_otel
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed


class Page(Event):
    """What was fetched."""

    text: str


class Summary(Workflow):
    """Fetch a page, shorten it."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> Page:
        """Fails once."""
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("connection refused")
        return Page(text=f"{ev.url}: all of it")

    @step
    async def shorten(self, ev: Page) -> StopEvent:
        """Keeps the first word."""
        return StopEvent(result=ev.text.split()[0])


async def main() -> None:
    """`setup()` is all it takes; `setup("otlp")` sends the same spans to Jaeger, Phoenix, a collector ..."""
    workflows_otel.setup("console")
    await Summary().run(url="news")


asyncio.run(main())
