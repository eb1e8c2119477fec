"""A class or an instance is logged if its source makes the same again; what was changed since is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import mlflow
import pytest
from mlflow.exceptions import MlflowException

import mlflow_flavor

HEAD = "from workflows import Workflow, step\nfrom workflows.events import StartEvent, StopEvent\n"

CHANGEABLE = (
    HEAD
    + """
import contextvars
import enum
import functools
import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from pydantic import BaseModel, Field

class Mode(enum.Enum):
    FAST = 1
    SLOW = 2

@dataclass
class Settings:
    k: int = 5

class Client:
    def __init__(self):
        self.tools = []

class Words(list):
    unit = "lb"

class Name(str):
    unit = "lb"

class Order(BaseModel):
    euros: int = Field(1, description="how many")

client = Client()
words, name = Words(["a"]), Name("b")
prices = {"b": 1, "a": 2}
user = contextvars.ContextVar("user", default="ada")
KEY = "11111111111111111111111111111111"
keys = {KEY, uuid.uuid4().hex}

def tool(number):
    return lambda: number

def helper(text, loud=False):
    return text.upper()

class Base(Workflow):
    def say(self):
        return "base"

class Agent(Base):
    model = "small"

    def __init__(self, settings=None):
        super().__init__()
        self.settings = settings or Settings()
        self.tool = tool(1)
        self.shout = functools.partial(helper, "hi")
        self.home = Path("a")
        self.mode = Mode.FAST
        self.deep = [[[[[[[[[[{"a": 1}]]]]]]]]]]
        self.again = self
        self.log = logging.getLogger(f"{__name__}.below")
        self.key, self.ids, self.id = uuid.UUID(KEY), [KEY, str(uuid.uuid4())], uuid.uuid4()
        self.text, self.other = f'{{"{uuid.UUID(KEY)}": 1, "{uuid.uuid4()}": 2}}', f"id {uuid.UUID(KEY)}"

    @step(num_workers=2)
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[helper(self.say()), self.model, client.tools])

    def uses(self):
        return words, name, prices, user, KEY, keys, Order

agent = Agent()
"""
)

USUAL = (
    HEAD
    + """
import asyncio, collections, contextvars, datetime, enum, functools, itertools, logging, random, re, threading
import struct, types, typing, weakref
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, List, Optional
from openai import AsyncOpenAI
from pydantic import BaseModel, Field, PrivateAttr, validate_call
from workflows import Context
from workflows.events import Event
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

TOOLS = {}

def tool(function):
    TOOLS[function.__name__] = function
    return function

@tool
def search(text):
    return text

class Rights(enum.Flag):
    READ = 1
    WRITE = 2

class Plugin:
    known: ClassVar = []

    def __init_subclass__(cls):
        Plugin.known.append(cls)

class Weather(Plugin):
    pass

class Options(BaseModel):
    words: list[str] = ["a"]
    _seen: dict[str, int] = PrivateAttr(default_factory=dict)

@dataclass
class Undocumented:
    mode: Rights = Rights.READ
    make: object = field(default=lambda: 1)

class Lazy(BaseModel):
    other: Optional["Options"] = None
    later: Annotated["Later", Field(description="what comes")] = None

@validate_call
def find(options: Options, others: Optional["Options"] = None, more: List["Options"] = ()) -> "Undocumented":
    'Finds it.'
    return Undocumented()

class Memory:
    __slots__ = ("size",)

    def __init__(self):
        self.size = 3

    @functools.cached_property
    def whole(self):
        return object()

class Cached:
    @functools.cached_property
    def client(self):
        return object()

def make_memory() -> Memory:
    return Memory()

class Child(Workflow):
    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=1)

class Agent(Workflow):
    def __init__(self):
        super().__init__(timeout=7, num_concurrent_runs=3)
        self.llm = AsyncOpenAI(api_key="none")
        self.locks = [threading.Lock(), threading.RLock(), asyncio.Lock(), asyncio.Semaphore(2), asyncio.Event()]
        self.log, self.pattern, self.rights = logging.getLogger("agent"), re.compile("a+"), Rights.READ
        self.row = struct.Struct("<i")
        self.logs = [logging.getLogger(__name__), logging.getLogger(f"{__name__}.below")]
        self.when = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        self.queue, self.groups = collections.deque([Memory()], maxlen=3), collections.defaultdict(list, a=[Options()])
        self.random, self.numbers = random.Random(3), itertools.count()
        self.namespace, self.kinds = types.SimpleNamespace(a=1), {Memory, Options}
        self.method, self.reference, self.known = self.describe, weakref.ref(self), weakref.WeakKeyDictionary()
        self.child, self.cached = Child(timeout=9), Cached()

    def describe(self):
        return [Plugin.known, TOOLS]

    @step(retry_policy=retry_policy(wait=wait_fixed(1), stop=stop_after_attempt(2)))
    async def answer(self, ev: StartEvent, memory: Annotated[Memory, Resource(make_memory)]) -> "Later":
        self.llm.chat.completions, self.cached.client, ~self.rights, Rights(0), self.rights | Rights.WRITE
        await self.child.run()
        find(Options()), typing.get_type_hints(find), Lazy.model_rebuild(), Lazy.model_json_schema()
        return Later()

    @step
    async def end(self, ev: "Later") -> StopEvent:
        return StopEvent(result=[list(TOOLS), len(Plugin.known)])

class Later(Event):
    options: Options = Options()

agent = Agent()
"""
)


Import = Callable[[str], ModuleType]


def save(workflow: object, tmp_path: Path) -> str:
    mlflow_flavor.save_model(workflow, tmp_path / "model", pip_requirements=["mlflow"])  # pyright: ignore[reportArgumentType]  # of a module that only the test knows
    return str(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("agent.settings.k = 9", "its settings.k is not what its source makes"),
        ("agent = Agent(Settings(k=77))", "its settings.k is not what its source makes"),
        ("agent.tool = tool(2)", "its tool is not what its source makes"),
        ("agent.shout = functools.partial(helper, 'ho')", "its shout is not what its source makes"),
        ("agent.home = Path('b')", "its home is not what its source makes"),
        ("agent.mode = Mode.SLOW", "its mode is not what its source makes"),
        (
            "agent.deep[0][0][0][0][0][0][0][0][0][0]['a'] = 2",
            "its deep['a'] is not what its source makes",
        ),
        ("agent.extra = 1", "its extra is not what its source makes"),
        ("agent.say = lambda: 'own'", "its say is not what its source makes"),
        ("Agent.model = 'big'", "Agent.model is not what its source makes"),
        ("Base.say = lambda self: 'patched'", "Base.say is not what its source makes"),
        ("client.tools.append('search')", "client.tools is not what its source makes"),
        ("Base.say = lambda self, *words: 'base'", "Base.say is not what its source makes"),
        ("agent.log = logging.getLogger('other')", "its log is not what its source makes"),
        ("helper = lambda text, loud=False: text", "helper is not what its source makes"),
        ("helper.__defaults__ = (True,)", "its shout is not what its source makes"),
        ("Client.size = 3", "Client.size is not what its source makes"),
        ("Mode.SLOW.pace = 3", "Mode.SLOW.pace is not what its source makes"),
        ("words.unit = 'kg'", "words.unit is not what its source makes"),
        ("name.unit = 'kg'", "name.unit is not what its source makes"),
        ("prices['b'] = prices.pop('b')", "prices is not what its source makes"),
        ("user = contextvars.ContextVar('user', default='eve')", "user is not what its source makes"),
        (f"KEY = '{'2' * 32}'", "KEY is not what its source makes"),
        (f"agent.key = uuid.UUID('{'2' * 32}')", "its key is not what its source makes"),
        (f"keys.remove('{'1' * 32}'), keys.add('{'2' * 32}')", "keys is not what its source makes"),
        (f"agent.ids[0] = '{'2' * 32}'", "its ids is not what its source makes"),
        ("agent.other = f'id {uuid.uuid4()}'", "its other is not what its source makes"),
        ("agent.text = agent.text.replace(': 2', ': 3')", "its text is not what its source makes"),
        ("helper.__doc__ = 'Says it loud.'", "its shout.__doc__ is not what its source makes"),
        ("helper.__name__ = 'shout'", "its shout.__name__ is not what its source makes"),
        ("helper.__annotations__['text'] = str", "its shout.__annotations__ is not what its source makes"),
        ("Agent.uses.__doc__ = 'Uses them.'", "Agent.uses.__doc__ is not what its source makes"),
        ("Order.__doc__ = 'An order.'", "Order.__doc__ is not what its source makes"),
        ("Order.model_fields['euros'].description = 'price'", "Order.euros.description is not what its source makes"),
        ("Order.model_fields['euros'].default = 2", "Order.euros.default is not what its source makes"),
    ],
)
def test_what_was_changed_since_is_refused(module: Import, tmp_path: Path, change: str, reason: str):
    found = module(CHANGEABLE)
    exec(change, vars(found))
    with pytest.raises(MlflowException) as caught:
        save(found.agent, tmp_path)
    assert f"cannot be written to a script ({reason})" in str(caught.value)


def test_what_was_not_changed_is_logged(module: Import, tmp_path: Path):
    assert Path(save(module(CHANGEABLE).agent, tmp_path)).exists()


async def test_what_agents_usually_hold_is_logged_also_after_a_run(module: Import, tmp_path: Path):
    agent = module(USUAL).agent
    made = await agent.run()
    assert (made, await mlflow_flavor.load_model(save(agent, tmp_path)).run()) == ([["search"], 1], [["search"], 1])


@pytest.mark.parametrize(
    ("value", "kind"),
    [("(n for n in (1, 2))", "generator"), ("ssl.create_default_context()", "ssl.SSLContext")],
)
def test_what_cannot_be_compared_is_refused_by_name(module: Import, tmp_path: Path, value: str, kind: str):
    text = CHANGEABLE.replace("self.again = self", f"self.held = {value}").replace("import enum", "import enum, ssl")
    found = module(text)
    with pytest.raises(MlflowException) as caught:
        save(found.agent, tmp_path)
    assert f"(its held, a {kind}, cannot be compared with what its source makes): pass the path" in str(caught.value)


@pytest.mark.parametrize("lookup", ["globals()", "sys.modules[__name__]"])
def test_names_that_are_found_only_when_the_model_runs_are_refused(module: Import, tmp_path: Path, lookup: str):
    found = module("import sys\n" + CHANGEABLE.replace("text.upper()", f"str({lookup})"))
    with pytest.raises(MlflowException) as caught:
        save(found.Agent, tmp_path)
    assert f"(it finds names by `{lookup}`, where a script would have only some)" in str(caught.value)


def test_a_step_that_reads_where_its_file_is_is_refused(module: Import, tmp_path: Path):
    found = module(CHANGEABLE.replace("text.upper()", "Path(__file__).name"))
    with pytest.raises(MlflowException, match=r"\(it reads `__file__`, which a script of its own has in another dir"):
        save(found.Agent, tmp_path)


async def test_names_in_an_evaluated_text_belong_to_the_source(module: Import, tmp_path: Path):
    text = "WORD = 'hi'\n" + CHANGEABLE.replace("client.tools]", "eval('WORD')]")
    assert await mlflow_flavor.load_model(save(module(text).Agent, tmp_path)).run() == ["BASE", "small", "hi"]


ELSEWHERE = """
import mlflow_flavor
from tests.mlflow_flavor.agents import Streaming

STEPS = 2
agent = Streaming(steps=STEPS)

def save(path):
    mlflow_flavor.save_model(agent, path, pip_requirements=["mlflow"])
"""


async def test_an_instance_of_an_imported_class_is_compared_with_what_its_own_module_makes(
    module: Import, tmp_path: Path
):
    found = module(ELSEWHERE)
    found.save(tmp_path / "model")
    events = [e async for e in mlflow_flavor.load_model(str(tmp_path / "model")).run(question="?").stream_events()]
    assert [event.percent for event in events[:2]] == [0, 1]
    vars(found)["STEPS"] = 3
    with pytest.raises(MlflowException, match=r"\(STEPS is not what its source makes\)"):
        found.save(tmp_path / "other")


def test_tables_are_compared_by_what_they_hold(module: Import, tmp_path: Path):
    text = CHANGEABLE.replace("import enum", "import enum, pandas")
    text = text.replace("self.again = self", "self.table = pandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})")
    found = module(text)
    assert Path(save(found.agent, tmp_path)).exists()
    found.agent.table.loc[0, "a"] = 3
    with pytest.raises(MlflowException, match=r"\(its table.* is not what its source makes\)"):
        mlflow_flavor.save_model(found.agent, tmp_path / "other", pip_requirements=["mlflow"])


def test_a_client_that_was_used_is_still_what_its_source_makes(module: Import, tmp_path: Path):
    text = CHANGEABLE.replace("import enum", "import enum, httpx")
    found = module(text.replace("self.again = self", "self.client = httpx.Client(base_url='http://127.0.0.1:9')"))
    with pytest.raises(httpx.ConnectError):
        found.agent.client.get("/")
    assert Path(save(found.agent, tmp_path)).exists()


CONFIGURED = """
import mlflow_flavor

CONFIG = mlflow_flavor.config({"tone": "kind", "times": 1})
TONES = [CONFIG["tone"]] * CONFIG["times"]

class Agent(Workflow):
    tone = CONFIG["tone"]

    def __init__(self, greeting=f"a {CONFIG['tone']} hello"):
        super().__init__()
        self.greeting = greeting

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[self.greeting, self.tone, TONES])

agent = Agent()
"""


@pytest.mark.parametrize("logs", ["agent", "Agent"])
def test_a_module_reads_the_settings_of_the_model_where_it_is_one(
    module: Callable[[str], ModuleType], tmp_path: Path, logs: str
):
    logged = getattr(module(HEAD + CONFIGURED), logs)
    mlflow_flavor.save_model(
        logged, tmp_path / "model", model_config={"tone": "cool", "times": 2}, pip_requirements=["mlflow"]
    )
    answers = [
        mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config=each).predict({})
        for each in (None, {"times": 1})
    ]
    assert answers == [["a cool hello", "cool", ["cool", "cool"]], ["a cool hello", "cool", ["cool"]]]
