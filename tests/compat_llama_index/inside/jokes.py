"""One workflow for every tracing set-up: a model below one step, user code with `@dispatcher.span` below the other."""

from __future__ import annotations

import llama_index_instrumentation
from llama_index.core.llms import MockLLM
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import instrument_tags

dispatcher = llama_index_instrumentation.get_dispatcher(__name__)


class Joke(Event):
    text: str


class Laughed(BaseEvent):
    """What user code tells of itself."""

    loudness: int
    password: str = "sk-aaaaaaaaaaaaaaaaaaaaaaaa"

    @classmethod
    def class_name(cls) -> str:
        return "Laughed"


@dispatcher.span
async def rate(text: str) -> int:
    return len(text)


class Jokes(Workflow):
    @step
    async def write(self, ctx: Context, ev: StartEvent) -> Joke:
        return Joke(text=str(await MockLLM().acomplete(ev.topic)))

    @step
    async def judge(self, joke: Joke) -> StopEvent:
        return StopEvent(result=await rate(joke.text))


class Laughs(Workflow):
    @step
    async def hear(self, ev: StartEvent) -> StopEvent:
        with instrument_tags({"mood": "good"}):
            dispatcher.event(Laughed(loudness=3))
        return StopEvent()


@dispatcher.span
async def evening() -> int:
    """A run inside somebody's own span."""
    return await Jokes().run(topic="pirates")
