"""A tool-calling agent, written as the script that MLflow logs and loads: it ends in `set_model`.

A question may ask several things. Each part chooses its tool on its own, the tools run side by side, and one of them
fails at first, on purpose: its retry is what the trace shows.
"""

from __future__ import annotations

import json
import re
from typing import Any

import mlflow.models
from openai.types.chat import ChatCompletionMessageParam

from demo.chat import chat
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_if_exception_type, retry_policy, stop_after_attempt, wait_fixed

WEATHER = {
    "Oslo": "It snows in Oslo, at -4 degrees.",
    "Lisbon": "It is sunny in Lisbon, at 24 degrees.",
    "Rome": "It rains in Rome, at 12 degrees.",
    "Cairo": "It is dry in Cairo, at 31 degrees.",
}


class Question(StartEvent):
    """What the user asks."""

    question: str


class Part(Event):
    """One thing that the question asks."""

    text: str


class WeatherCall(Event):
    """The model chose the weather tool."""

    city: str


class MultiplyCall(Event):
    """The model chose the calculator."""

    a: int
    b: int


class Fact(Event):
    """What a tool found out."""

    text: str


class Agent(Workflow):
    """Answer a question with tools."""

    __span_kind__ = "AGENT"

    @step
    async def split(self, ev: Question) -> list[Part]:
        """One `Part` for each thing asked; what becomes of them comes together again in `answer`."""
        parts = (part.strip() for part in re.split(r",? and |\?", ev.question))
        return [Part(text=f"{part}?") for part in parts if part]

    @step(num_workers=1)  # the model answers one at a time, so the second part waits here, where the trace shows it
    async def choose_tool(self, ctx: Context, ev: Part) -> WeatherCall | MultiplyCall:
        """The tool and its arguments, as JSON that a grammar enforces."""
        call = json.loads(await chat(ctx, [*EXAMPLES, _user(ev.text)], schema=TOOL_SCHEMA, show=False))
        if call["tool"] == "weather":
            return WeatherCall(city=call["city"])
        return MultiplyCall(a=call["a"], b=call["b"])

    @step(retry_policy=retry_policy(retry_if_exception_type(ConnectionError), wait_fixed(1), stop_after_attempt(3)))
    async def weather(self, ctx: Context, ev: WeatherCall) -> Fact:
        """The flaky tool: its first attempt always fails, on purpose."""
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError(f"the weather station of {ev.city} hung up (on purpose: this tool is flaky)")
        return Fact(text=WEATHER[ev.city])

    @step
    async def multiply(self, ev: MultiplyCall) -> Fact:
        """The tool that works."""
        return Fact(text=f"{ev.a} times {ev.b} is {ev.a * ev.b}.")

    @step
    async def answer(self, ctx: Context, facts: list[Fact]) -> StopEvent:
        """All facts in one friendly sentence, once each part has its own."""
        told = " ".join(fact.text for fact in facts)
        return StopEvent(result=await chat(ctx, [*STYLE, _user(told)]))


def _user(text: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": text}


def _assistant(text: str) -> ChatCompletionMessageParam:
    return {"role": "assistant", "content": text}


def _call_schema(tool: str, **arguments: dict[str, Any]) -> dict[str, Any]:
    properties = {"tool": {"const": tool}, **arguments}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


# A model of 135 million parameters needs examples, and the grammar keeps it to tools and cities that exist.
TOOL_SCHEMA = {
    "anyOf": [
        _call_schema("weather", city={"enum": [*WEATHER]}),
        _call_schema("multiply", a={"type": "integer"}, b={"type": "integer"}),
    ]
}
EXAMPLES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Choose the tool that answers the question. Tools: weather(city), multiply(a, b)."},
    _user("What is the weather in Rome?"),
    _assistant('{"tool": "weather", "city": "Rome"}'),
    _user("What is 6 times 7?"),
    _assistant('{"tool": "multiply", "a": 6, "b": 7}'),
    _user("Is it raining in Cairo?"),
    _assistant('{"tool": "weather", "city": "Cairo"}'),
    _user("How much is 12 * 30?"),
    _assistant('{"tool": "multiply", "a": 12, "b": 30}'),
]
STYLE: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You rewrite facts as one friendly sentence."},
    _user("It rains in Rome, at 12 degrees. 6 times 7 is 42."),
    _assistant("It rains in Rome, at 12 degrees, and 6 times 7 is 42!"),
    _user("It is dry in Cairo, at 31 degrees."),
    _assistant("It is dry in Cairo, at 31 degrees!"),
]

mlflow.models.set_model(Agent(timeout=60))
