"""How does a caller see progress before the result? Steps write events to the stream of the run.

You see: four lines of progress as they happen, then the result.
"""

import asyncio

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Progress(Event):
    """Told to whoever watches; no step takes it."""

    done: int
    total: int


class Copy(Workflow):
    """Pretend to copy some pages."""

    @step
    async def copy(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Streams while it works."""
        for page in range(ev.pages):
            ctx.write_event_to_stream(Progress(done=page + 1, total=ev.pages))
            await asyncio.sleep(0.01)  # the work
        return StopEvent(result=f"{ev.pages} pages copied")


async def main() -> None:
    """`run()` returns at once with a handler: watch its stream first, then await it."""
    handler = Copy().run(pages=4)
    async for event in handler.stream_events():
        if isinstance(event, Progress):
            print(f"page {event.done} of {event.total}")
    print(await handler)


asyncio.run(main())
