"""How do steps find each other? By the events they take and return.

You see: 9 words, longest "events".
"""

import asyncio

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Words(Event):
    """What `split` returns, and therefore what `count` takes."""

    words: list[str]


class WordCount(Workflow):
    """Count the words of a text."""

    @step
    async def split(self, ev: StartEvent) -> Words:
        """Runs first: it takes the start event, whose fields are the arguments of `run()`."""
        return Words(words=ev.text.split())

    @step
    async def count(self, ev: Words) -> StopEvent:
        """Runs because `split` returned `Words`. A `StopEvent` ends the run; its result is what `await` gives."""
        return StopEvent(result=f'{len(ev.words)} words, longest "{max(ev.words, key=len)}"')


async def main() -> None:
    """One run."""
    print(await WordCount().run(text="steps never call each other but pass events along"))


asyncio.run(main())
