"""A joke and its critique: the first workflow of every tutorial, on the demo's own model."""

from demo.chat import chat
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class JokeEvent(Event):
    """A joke, fresh from the model."""

    joke: str


class JokeFlow(Workflow):
    """Write a joke about `topic`, then criticise it."""

    @step
    async def generate_joke(self, ctx: Context, ev: StartEvent) -> JokeEvent:
        """The joke."""
        joke = await chat(ctx, [{"role": "user", "content": f"Write your best joke about {ev.topic}."}])
        return JokeEvent(joke=joke)

    @step
    async def critique_joke(self, ctx: Context, ev: JokeEvent) -> StopEvent:
        """What the model thinks of its joke."""
        prompt = f"Give a thorough analysis and critique of the following joke: {ev.joke}"
        return StopEvent(result=await chat(ctx, [{"role": "user", "content": prompt}]))
