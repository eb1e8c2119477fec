"""Run first, log then: what a run leaves in an agent is no reason to refuse it; where it is, what to do is said."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor
from tests.mlflow_flavor.test_fidelity import HEAD, save

Import = Callable[[str], ModuleType]

needs_tenacity = pytest.mark.skipif(find_spec("tenacity") is None, reason="MLflow's small editions lack it")

AGENT = (
    HEAD
    + """
{before}

class Agent(Workflow):
    def __init__(self):
        super().__init__()
        {made}

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        {used}
        return StopEvent(result="hi")

agent = Agent()
"""
)

MEASURED = """
from tests.mlflow_flavor.agents import measured

@measured
async def ask(prompt):
    return prompt
"""
RETRIED = """
from tenacity import retry, stop_after_attempt

@retry(stop=stop_after_attempt(3))
async def ask(prompt):
    return prompt
"""
CACHED = """
import cachetools

@cachetools.cached(cachetools.TTLCache(9, 60))
def ask(prompt):
    return prompt
"""
DISPATCHED = """
import functools

@functools.singledispatch
def ask(prompt):
    return prompt

@ask.register
def _(prompt: str):
    return prompt.upper()
"""
ADAPTED = """
from pydantic import BaseModel, TypeAdapter

class Hit(BaseModel):
    url: str

HITS = TypeAdapter(list[Hit])
NAME = __name__
"""


VALIDATED = """
from pydantic import validate_call

@validate_call
def look(n: int) -> int:
    return n
"""


@pytest.mark.parametrize(
    ("before", "made", "used"),
    [
        (MEASURED, "pass", "await ask('hi')"),
        pytest.param(RETRIED, "pass", "await ask('hi')", marks=needs_tenacity),
        (CACHED, "pass", "ask('hi')"),
        (DISPATCHED, "pass", "ask('hi')"),
        (ADAPTED, "pass", "HITS.validate_json('[]'), NAME"),
        (VALIDATED, "pass", "look(1)"),
        ("import asyncio", "self.queue = asyncio.Queue()", "self.queue.put_nowait(1)"),
    ],
    ids=[
        "decorator",
        "tenacity",
        "cachetools",
        "singledispatch",
        "TypeAdapter",
        "validate_call",
        "queue",
    ],
)
async def test_an_agent_is_logged_after_a_run_as_before(
    module: Import, tmp_path: Path, before: str, made: str, used: str
):
    agent = module(AGENT.format(before=before, made=made, used=used)).agent
    assert await agent.run() == "hi"
    assert await mlflow_flavor.load_model(save(agent, tmp_path)).run() == "hi"


@pytest.mark.parametrize(
    ("before", "made", "change", "reason"),
    [
        (MEASURED, "ask", "ask.least = 9", "ask is not what its source"),
        (MEASURED, "ask", "ask = measured(ask.__wrapped__, 9)", "ask is not what its source"),
        (MEASURED, "ask", "ask.__wrapped__.__code__ = (lambda prompt: None).__code__", "ask is not what its source"),
        (ADAPTED, "HITS", "HITS = TypeAdapter(list[int])", "HITS is not what its source"),
        (ADAPTED, "NAME", "NAME = 'json'", "NAME is not what its source"),
        ("import asyncio", "self.q = asyncio.Queue()", "agent.q = asyncio.Queue(3)", "its q is not what its source"),
        ("", "self._client = None", "agent._client = 'text'", "its _client is not what its source"),
        ("", "self._client = None", "agent._client = {'a': 1}", "its _client is not what its source"),
        ("", "self._client = None", "agent._client = Agent()", "its _client is not what its source"),
        ("import numpy", "self._table = None", "agent._table = numpy.ones(2)", "its _table is not what its source"),
        ("import httpx", "self.client = None", "agent.client = httpx.Client()", "its client is not what its source"),
        ("import httpx", "self._given = None", "agent._given = httpx.Client()", "its _given is not what its source"),
        ("import httpx", "self._own = httpx.Client()", "agent._own = None", "its _own is not what its source"),
    ],
)
def test_what_may_be_more_than_a_trace_of_use_is_refused(
    module: Import, tmp_path: Path, before: str, made: str, change: str, reason: str
):
    found = module(AGENT.format(before=before, made=made, used=made if made in ("ask", "HITS", "NAME") else "pass"))
    exec(change, vars(found))
    with pytest.raises(MlflowException) as caught:
        save(found.agent, tmp_path)
    assert f"({reason}" in str(caught.value)


COUNTING = AGENT.format(before="CALLS = [0]", made="self.calls = 0", used="self.calls += {}; CALLS[0] += {}")


@pytest.mark.parametrize(
    ("take", "calls", "reason", "ways_out"),
    [
        ("agent", (1, 0), "its calls", "Or log it before it is run or changed, or log the class Agent."),
        ("agent", (0, 1), "CALLS", "Or log it before it is run or changed."),
        ("Agent", (0, 1), "CALLS", "Or log it before it is run or changed."),
    ],
)
async def test_a_refusal_after_a_run_says_what_else_can_be_logged(
    module: Import, tmp_path: Path, take: str, calls: tuple[int, int], reason: str, ways_out: str
):
    found = module(COUNTING.format(*calls))
    await found.agent.run()
    with pytest.raises(MlflowException) as caught:
        save(vars(found)[take], tmp_path)
    assert f"({reason} is not what its source makes)" in str(caught.value)
    assert str(caught.value).endswith(ways_out)


MADE_ANEW = AGENT.format(
    before="import functools, time, uuid\n{}", made="self.name = {}", used="return StopEvent(result={})"
)
IN_A_FUNCTION = "@functools.cache\ndef name():\n    return {}"


@pytest.mark.parametrize("value", ["str(uuid.uuid4())[:8]", "time.time_ns()"])
@pytest.mark.parametrize("take", ["agent", "Agent"])
async def test_a_variable_that_is_another_one_each_time_can_be_logged_as_the_refusal_says(
    module: Import, tmp_path: Path, take: str, value: str
):
    found = module(MADE_ANEW.format(f"NAME = {value}", None, "NAME"))
    with pytest.raises(MlflowException) as caught:
        save(vars(found)[take], tmp_path)
    assert "(NAME is another one each time its source is run: make it when it is first needed, in a function with " in (
        str(caught.value)
    )
    assert str(caught.value).endswith("mlflow.models.set_model(<workflow>).")  # before a run it is refused as well

    found = module(MADE_ANEW.format(IN_A_FUNCTION.format(value), None, "name()"))
    await found.agent.run()
    loaded = mlflow_flavor.load_model(save(vars(found)[take], tmp_path))
    assert await loaded.run() == await loaded.run() != await found.agent.run()


async def test_an_attribute_that_is_another_one_each_time_can_be_logged_as_the_refusal_says(
    module: Import, tmp_path: Path
):
    found = module(MADE_ANEW.format("", "time.time_ns()", "self.name"))
    with pytest.raises(MlflowException) as caught:
        save(found.agent, tmp_path)
    assert "(its name is another one each time its source is run)" in str(caught.value)
    assert str(caught.value).endswith("Or log the class Agent.")
    loaded = mlflow_flavor.load_model(save(found.Agent, tmp_path))
    assert await loaded.run() != await found.agent.run()


async def test_the_class_of_an_instance_that_was_changed_can_be_logged_as_the_refusal_says(
    module: Import, tmp_path: Path
):
    found = module(COUNTING.format(1, 0))
    await found.agent.run()
    assert await mlflow_flavor.load_model(save(found.Agent, tmp_path)).run() == "hi"


def test_what_cannot_say_what_it_is_may_be_logged_as_its_class(module: Import, tmp_path: Path):
    found = module(AGENT.format(before="import sqlite3", made="self.db = sqlite3.connect(':memory:')", used="pass"))
    with pytest.raises(MlflowException, match=r"\(its db, a sqlite3.Connection, .*\. Or log the class Agent\.$"):
        save(found.agent, tmp_path)
    assert Path(save(found.Agent, tmp_path)).exists()


HELD = """
import httpx

class Held(Workflow):
    def __init__(self, client=None):
        super().__init__()
        self._held = client

    def use(self, client):
        self._held = client

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=str(self._held.base_url))

def given():
    return Held(httpx.Client())

def used():
    agent = Held()
    agent.use(httpx.Client())
    return agent
"""

OWN = (
    HEAD
    + """
import httpx

class Own(Workflow):
    def __init__(self):
        super().__init__()
        self._client = None

    def connect(self, url="https://own"):
        if self._client is None:
            self._client = httpx.Client(base_url=url)
        return self._client

    @step
    async def ask(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=str(self.connect().base_url))
"""
)


async def test_of_a_client_that_came_after_the_agent_nobody_knows_from_where_so_the_author_says(
    module: Import, tmp_path: Path
):
    agent = module(OWN).Own()
    assert await agent.run() == "https://own"
    with pytest.raises(MlflowException, match=r"\(its _client is not what its source makes\)") as caught:
        save(agent, tmp_path)
    assert "or set that to None before, if the agent makes it again when it needs it" in str(caught.value)

    agent._client = None

    assert await mlflow_flavor.load_model(save(agent, tmp_path)).run() == "https://own"


async def test_where_the_source_has_no_such_attribute_the_author_deletes_it(module: Import, tmp_path: Path):
    source = OWN.replace("self._client = None\n", "pass\n").replace(
        "self._client is None", "not hasattr(self, '_client')"
    )
    agent = module(source).Own()
    assert await agent.run() == "https://own"
    with pytest.raises(MlflowException, match="or delete that before, if the agent makes it again when it needs it"):
        save(agent, tmp_path)

    del agent._client

    assert await mlflow_flavor.load_model(save(agent, tmp_path)).run() == "https://own"


@pytest.mark.parametrize("made", ["given", "used"])
def test_a_client_that_an_agent_was_given_is_not_taken_for_one_that_it_made(module: Import, tmp_path: Path, made: str):
    agent = vars(module(HEAD + HELD))[made]()
    with pytest.raises(MlflowException, match=r"\(its _held is not what its source makes\)"):
        save(agent, tmp_path)
