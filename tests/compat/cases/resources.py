"""Resources: values that steps are given, made once or for every call."""

import asyncio
import functools
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from tests.compat.case import case, outcome
from workflows import Workflow, step
from workflows.errors import WorkflowValidationError
from workflows.events import StartEvent, StopEvent
from workflows.resource import Resource, ResourceConfig, ResourceManager


class Maker:
    """Counts what it makes."""

    def __init__(self):
        self.made = 0

    def plain(self):
        self.made += 1
        return {"n": self.made}

    async def later(self):
        self.made += 1
        await asyncio.sleep(0.01)
        return {"n": self.made}


def refused(call, error):
    """Whether the call raises an error of this class, or of one below it."""
    try:
        call()
    except error:
        return True
    return False


def using(resource, manager=None):
    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, value: Annotated[Any, resource]) -> StopEvent:
            return StopEvent(result=value)

    return W(resource_manager=manager) if manager else W()


@case([{"n": 1}, {"n": 1}, 1])
async def a_resource_is_made_once_for_a_workflow():
    maker = Maker()
    flow = using(Resource(maker.plain))
    return await flow.run(), await flow.run(), maker.made


@case([{"n": 1}, {"n": 2}])
async def each_instance_has_its_own():
    maker = Maker()
    resource = Resource(maker.plain)
    return await using(resource).run(), await using(resource).run()


@case([{"n": 1}, {"n": 2}])
async def a_resource_may_be_made_for_every_step():
    maker = Maker()
    flow = using(Resource(maker.plain, cache=False))
    return await flow.run(), await flow.run()


@case([{"n": 1}, 1])
async def a_factory_may_be_async():
    maker = Maker()
    flow = using(Resource(maker.later))
    return await flow.run(), maker.made


@case(["base", "base+top"])
async def a_resource_may_need_another():
    def base():
        return "base"

    def top(below: Annotated[str, Resource(base)]):
        return f"{below}+top"

    return await using(Resource(base)).run(), await using(Resource(top)).run()


@case([1, 2])
async def a_step_may_have_several():
    def make_one():
        return 1

    def make_two():
        return 2

    class W(Workflow):
        @step
        async def s(
            self, ev: StartEvent, one: Annotated[int, Resource(make_one)], two: Annotated[int, Resource(make_two)]
        ) -> StopEvent:
            return StopEvent(result=[one, two])

    return await W().run()


@case([1, 2], peer_gives=[1, 1], because="resources-by-identity")
async def two_closures_are_two_resources():
    def making(value):
        def make():
            return value

        return Resource(make)

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, one: Annotated[int, making(1)], two: Annotated[int, making(2)]) -> StopEvent:
            return StopEvent(result=[one, two])

    return await W().run()


@case([True, True])
async def one_step_gets_one_value_of_an_uncached_resource():
    resource = Resource(Maker().plain, cache=False)

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, a: Annotated[dict, resource], b: Annotated[dict, resource]) -> StopEvent:
            return StopEvent(result=[a is b, a["n"]])

    flow = W()
    (one, first), (other, second) = await flow.run(), await flow.run()
    return one and other, (first, second) == (1, 2)


def plain_maker():
    return ["made"]


@case([False, False], peer_gives=[True, False], because="uncached-beside-cached")
async def an_uncached_resource_is_not_the_cached_one():
    cached, fresh = Resource(plain_maker), Resource(plain_maker, cache=False)

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, a: Annotated[list, cached], b: Annotated[list, fresh]) -> StopEvent:
            return StopEvent(result=[a is b, a is None])

    return await W().run()


@case([[1, 1, 1], 1], peer_gives="!ValueError", because="resources-made-at-once")
async def steps_that_ask_at_once_share_one_creation():
    from tests.compat.flows import A
    from workflows import Context

    maker = Maker()

    class W(Workflow):
        @step
        async def s(self, ctx: Context, ev: StartEvent) -> A | None:
            for i in range(3):
                ctx.send_event(A(n=i))

        @step
        async def t(self, ctx: Context, ev: A, value: Annotated[dict, Resource(maker.later)]) -> StopEvent | None:
            seen = [*await ctx.store.get("seen", default=[]), value["n"]]
            await ctx.store.set("seen", seen)
            return StopEvent(result=[seen, maker.made]) if len(seen) == 3 else None

    return await outcome(W(timeout=1).run())


class Connection:
    def __init__(self):
        self.told = []

    async def __aenter__(self):
        self.told.append("entered")
        return self

    async def __aexit__(self, *error):
        self.told.append("left")


@case([["entered"], ["entered", "left"]], peer_gives=[[], []], because="resources-are-closed")
async def a_context_manager_is_entered_and_left():
    connection = Connection()

    def make():
        return connection

    class W(Workflow):
        @step
        async def s(self, ev: StartEvent, c: Annotated[Connection, Resource(make, cache=False)]) -> StopEvent:
            return StopEvent(result=list(c.told))

    return await W().run(), connection.told


@case("!ValueError")
async def a_resource_that_fails_fails_the_run():
    def make():
        raise ValueError

    return await outcome(using(Resource(make)).run())


@case(["set", True])
async def a_manager_can_be_filled_and_shared():
    manager = ResourceManager()
    maker = Maker()
    await manager.set("mine", "set")
    first = await using(Resource(maker.plain), manager).run()
    second = await using(Resource(maker.plain), manager).run()
    return manager.get_all()["mine"], first is second


class Settings(BaseModel):
    name: str
    n: int = 0


def file_with(data):
    path = Path(tempfile.mkdtemp()) / "settings.json"
    path.write_text(json.dumps(data))
    return str(path)


async def configured(data, **options):
    class W(Workflow):
        @step
        async def s(
            self, ev: StartEvent, settings: Annotated[Settings, ResourceConfig(file_with(data), **options)]
        ) -> StopEvent:
            return StopEvent(result=[type(settings).__name__, settings.name, settings.n])

    return await W().run()


@case([["Settings", "a", 3], ["Settings", "b", 0]])
async def a_config_comes_from_a_file():
    inner = {"deep": {"er": {"name": "b"}}}
    return await configured({"name": "a", "n": 3}), await configured(inner, path_selector="deep.er")


@case([True, "!ValueError"])
async def a_config_must_be_found_and_end_at_an_object():
    missing = using(ResourceConfig("/no/such/file.json"))
    missing._disable_validation = True
    found = await outcome(configured({"name": "a"}, path_selector="name"))
    return found in ("!ValueError", "!WorkflowValidationError", "!ResourceError"), "!ValueError"


@case(True)
async def resources_that_need_each_other_are_refused():
    async def run():
        return await using(Resource(_second)).run()

    found = await outcome(run())
    return isinstance(found, str) and found.startswith("!")


def _first(other: "Annotated[int, Resource(_second)]"):
    return other


def _second(other: "Annotated[int, Resource(_first)]"):
    return other


@case(True)
def a_config_file_is_json():
    return refused(lambda: ResourceConfig("settings.yaml"), ValueError)


@case([True, True, False])
def configs_are_validated():
    def flow(config):
        class W(Workflow):
            @step
            async def s(self, ev: StartEvent, settings: Annotated[Settings, config]) -> StopEvent:
                return StopEvent()

        return W()

    missing = flow(ResourceConfig("/no/such/file.json"))
    wrong = flow(ResourceConfig(file_with({"n": "no name"})))
    found = [refused(flow.validate, WorkflowValidationError) for flow in (missing, wrong)]
    return [*found, missing.validate(validate_resource_configs=False)]


@case([True, False])
async def resources_are_validated_on_request():
    def make():
        raise RuntimeError

    flow = using(Resource(make))
    call = functools.partial(flow.validate, validate_resources=True)
    return await asyncio.to_thread(refused, call, WorkflowValidationError), flow.validate()
