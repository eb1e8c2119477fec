"""Resources are made once for whom they are meant, shared by identity, and let go when their time is over."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from workflows import Context, Workflow, step
from workflows.errors import ResourceError, WorkflowRuntimeError, WorkflowValidationError
from workflows.events import Event, StartEvent, StopEvent
from workflows.resource import Resource, ResourceConfig, ResourceDefinition, ResourceDescriptor, ResourceManager
from workflows.retry_policy import retry_policy, wait_fixed
from workflows.testing import VirtualClockLoop


class Branch(Event):
    pass


class Settings(BaseModel):
    model: str
    retries: int = 3


class Client:
    """A context manager that writes down what becomes of it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def __aenter__(self) -> Client:
        self.log.append("open")
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(1)
        self.log.append("closed")


def giving(*resources: Any, kind: Any = object) -> type[Workflow]:
    """A workflow whose result is the values of one or two resources, after it said so in the log of `run(log=)`."""
    first, second = resources[0], resources[-1]

    class Giving(Workflow):
        @step
        async def give(
            self,
            ev: StartEvent,
            a: Annotated[kind, first],  # pyright: ignore[reportInvalidTypeForm]
            b: Annotated[kind, second],  # pyright: ignore[reportInvalidTypeForm]
        ) -> StopEvent:
            ev.get("log", []).append("step")
            return StopEvent(result=(a, b))

    return Giving


def counting() -> Callable[[], int]:
    """A factory that gives 1, 2, 3, ..."""
    made = iter(range(1, 99))
    return lambda: next(made)


async def test_a_cached_resource_is_made_once_for_all_runs() -> None:
    workflow = giving(Resource(counting()))()
    assert [await workflow.run() for _ in range(2)] == [(1, 1), (1, 1)]


async def test_each_workflow_instance_has_its_own() -> None:
    flow = giving(Resource(counting()))
    assert [await flow().run() for _ in range(2)] == [(1, 1), (2, 2)]


async def test_without_cache_each_attempt_has_its_own_and_shares_it() -> None:
    workflow = giving(Resource(counting(), cache=False))()
    assert [await workflow.run() for _ in range(2)] == [(1, 1), (2, 2)]


async def test_a_resource_of_the_run_is_shared_by_its_steps_and_retries(clock: VirtualClockLoop) -> None:
    resource = Resource(counting(), scope="run")

    class Flow(Workflow):
        @step(retry_policy=retry_policy(wait=wait_fixed(1)))
        async def start(self, ctx: Context, ev: StartEvent, n: Annotated[int, resource]) -> Branch:
            if not ctx.retry_info().retry_number:
                raise ValueError
            return Branch.model_validate({"n": n})

        @step
        async def end(self, ev: Branch, n: Annotated[int, resource]) -> StopEvent:
            return StopEvent(result=(ev.n, n))

    workflow = Flow()
    assert [await workflow.run() for _ in range(2)] == [(1, 1), (2, 2)]


async def test_closures_of_one_function_are_two_resources() -> None:
    def made(value: str) -> Resource:
        return Resource(lambda: value)

    assert await giving(made("a"), made("b"))().run() == ("a", "b")


async def test_concurrent_steps_wait_for_the_one_that_is_made(clock: VirtualClockLoop) -> None:
    made: list[str] = []

    async def slow_client() -> list[str]:
        await asyncio.sleep(5)
        made.append("client")
        return made

    class Wide(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> Branch | None:
            for _ in range(3):
                ctx.send_event(Branch())

        @step
        async def use(
            self, ctx: Context, ev: Branch, client: Annotated[list[str], Resource(slow_client)]
        ) -> StopEvent | None:
            done = ctx.collect_events(ev, [Branch] * 3)
            return StopEvent(result=client) if done else None

    assert await Wide().run() == ["client"]
    assert clock.time() == 5


async def test_who_waited_makes_it_when_the_first_failed(clock: VirtualClockLoop) -> None:
    outcomes = iter([ConnectionError("first"), "second"])

    async def flaky() -> str:
        await asyncio.sleep(1)
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    manager, resource = ResourceManager(), Resource(flaky)
    first, second = await asyncio.gather(manager.get(resource), manager.get(resource), return_exceptions=True)
    assert (str(first), second) == ("first", "second")


async def test_factories_may_need_resources_in_turn() -> None:
    async def url(settings: Annotated[dict[str, str], Resource(lambda: {"host": "db"})]) -> str:
        return f"sql://{settings['host']}"

    def connect(url: Annotated[str, Resource(url)], retries: int = 2) -> str:
        return f"{url}?retries={retries}"

    assert await giving(Resource(connect))().run() == ("sql://db?retries=2",) * 2


async def test_methods_classes_and_callable_objects_make_resources() -> None:
    class Maker:
        made = 0

        def __call__(self) -> str:
            return "called"

        def count(self) -> int:
            self.made += 1
            return self.made

    maker, manager = Maker(), ResourceManager()
    assert await manager.get(Resource(maker)) == "called"
    assert isinstance(await manager.get(Resource(Maker)), Maker)
    assert [await manager.get(Resource(maker.count)) for _ in range(2)] == [1, 1]


def loop_a(b: Annotated[int, "later"]) -> int:
    return b


def loop_b(a: Annotated[int, Resource(loop_a)]) -> int:
    return a


loop_a.__annotations__["b"] = Annotated[int, Resource(loop_b)]


@pytest.mark.parametrize("unchecked", [False, True])
async def test_a_circle_of_resources_is_refused_with_its_names(unchecked: bool) -> None:
    with pytest.raises(ResourceError, match="dependency detected: loop_a -> loop_b -> loop_a"):
        await giving(Resource(loop_a))(disable_validation=unchecked).run()


async def test_what_is_cached_for_all_runs_cannot_need_what_one_run_has() -> None:
    def pool(request: Annotated[str, Resource(lambda: "request", scope="run")]) -> str:
        return request

    with pytest.raises(ResourceError, match=r"pool is cached for all runs, but needs .* Give .*pool scope='run'"):
        await giving(Resource(pool))().run()


def opened_async(log: list[str]) -> Callable[[], AsyncGenerator[str]]:
    async def client() -> AsyncGenerator[str]:
        log.append("open")
        yield "client"
        await asyncio.sleep(1)
        log.append("closed")

    return client


def opened_sync(log: list[str]) -> Callable[[], Generator[str]]:
    def client() -> Generator[str]:
        log.append("open")
        yield "client"
        log.append("closed")

    return client


OPENING = {
    "async generator": opened_async,
    "generator": opened_sync,
    "asynccontextmanager": lambda log: asynccontextmanager(opened_async(log)),
    "contextmanager": lambda log: contextmanager(opened_sync(log)),
    "object": lambda log: lambda: Client(log),
}


@pytest.mark.parametrize("opening", OPENING.values(), ids=OPENING)
async def test_what_is_not_cached_is_closed_with_the_run(clock: VirtualClockLoop, opening: Any) -> None:
    log: list[str] = []
    workflow = giving(Resource(opening(log), cache=False))()
    await workflow.run(log=log)
    assert log == ["open", "step", "closed"]


@pytest.mark.parametrize("opening", OPENING.values(), ids=OPENING)
async def test_what_is_cached_is_closed_with_the_workflow(clock: VirtualClockLoop, opening: Any) -> None:
    log: list[str] = []
    workflow = giving(Resource(opening(log)))()
    await workflow.run(log=log)
    await workflow.run(log=log)
    await workflow.aclose()
    assert log == ["open", "step", "step", "closed"]


async def test_a_closed_workflow_opens_its_resources_anew(clock: VirtualClockLoop) -> None:
    log: list[str] = []
    workflow = giving(Resource(opened_async(log)))()
    for _ in range(2):
        await workflow.run(log=log)
        await workflow.aclose()
    assert log == ["open", "step", "closed"] * 2


def test_what_is_cached_is_closed_with_the_event_loop() -> None:
    log: list[str] = []
    workflow = giving(Resource(lambda: Client(log)))()
    workflow.run_sync(log=log)
    workflow.run_sync(log=log)
    assert log == ["open", "step", "closed"] * 2


async def test_what_is_cached_is_closed_when_the_workflow_is_gone(clock: VirtualClockLoop) -> None:
    log: list[str] = []
    await giving(Resource(opened_async(log)))().run(log=log)
    gc.collect()
    await asyncio.sleep(2)
    assert log == ["open", "step", "closed"]


async def test_resources_close_in_the_reverse_order(clock: VirtualClockLoop) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def engine() -> AsyncGenerator[str]:
        yield "engine"
        log.append("engine closed")

    @asynccontextmanager
    async def session(engine: Annotated[str, Resource(engine, scope="run")]) -> AsyncGenerator[str]:
        yield f"session of {engine}"
        log.append("session closed")

    assert await giving(Resource(session, scope="run"))().run() == ("session of engine",) * 2
    assert log == ["session closed", "engine closed"]


@pytest.mark.parametrize("ending", ["fail", "cancel", "timeout"])
async def test_resources_are_closed_however_the_run_ends(clock: VirtualClockLoop, ending: str) -> None:
    log: list[str] = []

    resource = Resource(lambda: Client(log), cache=False)

    class Ending(Workflow):
        @step
        async def work(self, ev: StartEvent, client: Annotated[Client, resource]) -> StopEvent:
            if ending == "fail":
                raise ValueError
            await asyncio.sleep(1000)
            return StopEvent()

    handler = Ending(timeout=5).run()
    await asyncio.sleep(1)
    if ending == "cancel":
        await handler.cancel_run()
    await asyncio.gather(handler, return_exceptions=True)
    assert log == ["open", "closed"]


async def test_a_context_is_left_in_the_task_that_entered_it(clock: VirtualClockLoop) -> None:
    async def limited() -> AsyncGenerator[int]:
        async with asyncio.timeout(100), asyncio.TaskGroup():
            yield 1

    assert await giving(Resource(limited, cache=False))().run() == (1, 1)


async def test_a_failure_to_close_is_logged_and_hurts_no_run(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncGenerator[int]:
        yield 1
        raise OSError("disk")

    assert await giving(Resource(broken, cache=False))().run() == (1, 1)
    assert [r.message.rpartition(".")[2] for r in caplog.records] == ["broken failed while it was left"]


async def test_a_resource_that_does_not_close_is_cancelled(
    clock: VirtualClockLoop, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn() -> AsyncGenerator[int]:
        yield 1
        await asyncio.sleep(1000)

    with caplog.at_level(logging.WARNING):
        assert await giving(Resource(stubborn, cache=False))().run() == (1, 1)
    assert clock.time() == 10
    assert "was not left within 10.0 s" in caplog.text


async def test_a_failure_to_open_is_the_steps_own() -> None:
    async def broken() -> AsyncGenerator[int]:
        raise ConnectionError("no route")
        yield 1

    with pytest.raises(ConnectionError, match="no route"):
        await giving(Resource(broken, cache=False))().run()


async def test_locks_are_not_taken_and_enter_can_be_switched_off() -> None:
    log: list[str] = []
    lock, client = await giving(Resource(asyncio.Lock), Resource(lambda: Client(log), enter=False))().run()
    assert (lock.locked(), log, type(client)) == (False, [], Client)


async def test_who_asks_for_the_context_manager_itself_gets_it() -> None:
    workflow = giving(Resource(TemporaryDirectory[str]), kind=TemporaryDirectory)()
    directory, _ = await workflow.run()
    assert os.listdir(directory.name) == []
    await workflow.aclose()
    with pytest.raises(FileNotFoundError):
        os.listdir(directory.name)


async def test_a_given_value_replaces_a_factory_by_name() -> None:
    def client() -> str:
        raise AssertionError("not called")

    manager, resource = ResourceManager(), Resource(client)
    await manager.set(resource.name, "fake")
    assert await giving(resource)(resource_manager=manager).run() == ("fake", "fake")
    assert manager.get_all() == {resource.name: "fake"}


async def test_a_resolution_scope_shares_what_is_not_cached() -> None:
    manager, resource = ResourceManager(), Resource(counting(), cache=False)
    with manager.resolution_scope():
        shared = [await manager.get(resource) for _ in range(2)]
    assert [*shared, await manager.get(resource)] == [1, 1, 2]


async def test_any_descriptor_can_stand_in_an_annotation() -> None:
    class Secret:
        name, cache = "secret", False

        def set_type_annotation(self, type_annotation: Any) -> None: ...
        def set_localns(self, localns: dict[str, Any] | None) -> None: ...
        def get_dependencies(self) -> list[tuple[str, ResourceDescriptor, Any]]:
            return []

        async def resolve(self, manager: Any) -> str:
            return f"secret {await manager.get(Resource(lambda: 42))}"

    assert await giving(Secret())().run() == ("secret 42", "secret 42")
    assert ResourceDefinition(name="a", resource=Secret()).type_annotation is None


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "app.json"
    path.write_text(json.dumps({"llm": {"fast": {"model": "small"}}, "names": ["a"]}))
    return path


async def test_a_config_is_read_into_the_annotated_model(config: Path) -> None:
    workflow = giving(ResourceConfig("app.json", "llm.fast"), kind=Settings)()
    assert await workflow.run() == (Settings(model="small"),) * 2


async def test_one_config_can_be_read_as_two_models(config: Path) -> None:
    class Name(BaseModel):
        model: str

    entry = ResourceConfig("app.json", "llm.fast")
    manager = ResourceManager()
    assert await manager.get(entry, Settings) == Settings(model="small")
    assert await manager.get(entry, Name) == Name(model="small")


async def test_factories_may_need_configs(config: Path) -> None:
    def llm(settings: Annotated[Settings, ResourceConfig("app.json", "llm.fast")]) -> str:
        return f"llm {settings.model}"

    assert await giving(Resource(llm))().run() == ("llm small", "llm small")


def test_a_config_must_be_json() -> None:
    with pytest.raises(ResourceError, match=r"'app.yaml' does not end in '\.json'"):
        ResourceConfig("app.yaml")


@pytest.mark.parametrize(
    ("file", "selector", "text"),
    [
        ("none.json", None, "'none.json': no such file"),
        ("app.json", "llm.slow", "an object is expected at path 'llm.slow', found NoneType"),
        ("app.json", "names", "an object is expected at path 'names', found list"),
        ("app.json", "llm", "model\n  Field required"),
        ("bad.json", None, "'bad.json' is no JSON"),
    ],
)
async def test_a_config_that_does_not_fit_is_refused_before_the_run(
    config: Path, file: str, selector: str | None, text: str
) -> None:
    config.with_name("bad.json").write_text("{")
    workflow = giving(ResourceConfig(file, selector), kind=Settings)()
    with pytest.raises(WorkflowValidationError, match=text):
        workflow.run()
    assert workflow.validate(validate_resource_configs=False) is False


async def test_a_missing_config_fails_the_step_of_an_unchecked_workflow(config: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'none\.json': no such file"):
        await giving(ResourceConfig("none.json"))(disable_validation=True).run()


def test_validation_can_make_every_resource_and_lets_go_of_it() -> None:
    log: list[str] = []
    giving(Resource(opened_sync(log)))().validate(validate_resources=True)
    assert log == ["open", "closed"]


def test_validation_tells_what_cannot_be_made() -> None:
    def broken() -> None:
        raise KeyError("token")

    workflow = giving(Resource(broken))()
    assert workflow.validate() is False
    with pytest.raises(ResourceError, match="In step 'give': KeyError: 'token'"):
        workflow.validate(validate_resources=True)


async def test_resources_cannot_be_made_for_validation_on_a_running_loop() -> None:
    with pytest.raises(WorkflowRuntimeError, match="Call it before the loop starts"):
        giving(Resource(counting()))().validate(validate_resources=True)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda: Resource(5), "needs a function that makes the value, got 5"),  # type: ignore[arg-type]
        (lambda: Resource(dict, scope="step"), "must be 'workflow' or 'run', got 'step'"),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused_when_it_is_written(write: Callable[[], object], text: str) -> None:
    with pytest.raises(ResourceError, match=text):
        write()
