"""More of what a real Phoenix makes of our runs: kinds, costs, pages, filters, feedback, resumed and child runs."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry import trace

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Echo, Failing, Flaky
from tests.workflows_otel.phoenix_server import Phoenix, outline
from workflows import Context, Workflow, step
from workflows.errors import WorkflowTimeoutError
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows_otel import Setup, feedback, llm_call, phoenix, retriever, tool, trace_of

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_provider")]


@pytest.fixture
def telemetry(server: Phoenix, project: str) -> Iterator[Setup]:
    made = workflows_otel.setup(phoenix(project, endpoint=server.endpoint))
    yield made
    made.shutdown()


class Retried(Workflow):
    """Its only step fails once."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.retry_info().retry_number == 0:
            raise ConnectionError("no route")
        return StopEvent(result="fetched")


class Calling(Workflow):
    """Calls everything that has a kind of its own."""

    @step
    async def call(self, ev: StartEvent) -> StopEvent:
        with llm_call(model="gpt-4o", provider="openai") as call:
            call.input("x").output("y").usage(input=1000, output=500)
        with tool(name="search") as call:
            call.input({"q": "x"}).output("y")
        with retriever(name="notes") as call:
            call.input("x").output([{"text": "y", "score": 0.5}])
        return StopEvent()


async def test_every_span_has_a_kind_that_phoenix_knows(server: Phoenix, telemetry: Setup, project: str) -> None:
    await Calling().run()
    telemetry.flush()
    kinds = [span["span_kind"] for span in server.spans(project, 5)]
    assert sorted(kinds) == ["CHAIN", "CHAIN", "LLM", "RETRIEVER", "TOOL"]


async def test_phoenix_prices_the_call_and_sums_tokens_up_to_the_run(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    await Calling().run()
    telemetry.flush()
    server.spans(project, 5)
    shown = {span["name"]: span for span in server.shown(project, "name tokenCountTotal cumulativeTokenCountTotal")}
    assert (shown["chat gpt-4o"]["tokenCountTotal"], shown["run_step call"]["tokenCountTotal"]) == (1500, 0)
    assert shown["invoke_workflow Calling"]["cumulativeTokenCountTotal"] == 1500
    assert not any("llm.cost" in span["attributes"] for span in server.spans(project, 5))


async def test_a_retried_run_is_green_with_a_red_path_below(server: Phoenix, telemetry: Setup, project: str) -> None:
    await Retried().run()
    telemetry.flush()
    server.spans(project, 4)
    shown = server.shown(project, "name statusCode propagatedStatusCode")
    assert sorted((span["name"], span["statusCode"], span["propagatedStatusCode"]) for span in shown) == [
        ("attempt fetch", "ERROR", "ERROR"),
        ("attempt fetch", "OK", "OK"),
        ("invoke_workflow Retried", "OK", "ERROR"),
        ("run_step fetch", "OK", "ERROR"),
    ]


async def test_an_exception_is_the_banner_of_one_span(server: Phoenix, telemetry: Setup, project: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        await Failing().run(error=ValueError("broken"))
    telemetry.flush()
    spans = server.spans(project, 2)
    events = [(span["name"], event["name"]) for span in spans for event in span["events"]]
    assert events == [("run_step fail", "exception")]
    assert {span["status_message"] for span in spans} == {"ValueError: broken"}


async def test_a_timed_out_run_is_an_error_and_so_is_the_step_that_hung(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    class Hangs(Workflow):
        @step
        async def hang(self, ev: StartEvent) -> StopEvent:
            await asyncio.Event().wait()
            return StopEvent()

    with pytest.raises(WorkflowTimeoutError):
        await Hangs(timeout=0.05).run()
    telemetry.flush()
    spans = server.spans(project, 2)
    assert [(span["status_code"], span["attributes"]["error.type"]) for span in spans] == [("ERROR", "timeout")] * 2


async def test_a_resumed_run_is_one_tree_and_no_span_comes_twice(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    workflow = AskPerson(timeout=None)
    with workflows_otel.context(session_id="s-resumed"):
        handler = workflow.run(patience=None)
    await asyncio.sleep(0)
    snapshot = json.loads(json.dumps(await handler.suspend()))
    telemetry.flush()
    handler = workflow.run(ctx=Context.from_dict(workflow, snapshot))
    await asyncio.sleep(0)
    handler.ctx.send_event(Answer(text="yes"))
    assert await handler == "yes"
    sent = telemetry.flush().sent
    spans = server.spans(project, sent)
    assert len(spans) == sent
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    assert [span["name"] for span in spans if span["parent_id"] is None] == ["invoke_workflow AskPerson"]
    assert {span["attributes"]["session.id"] for span in spans} == {"s-resumed"}


async def test_a_child_run_lies_below_the_step_that_started_it(server: Phoenix, telemetry: Setup, project: str) -> None:
    class Parent(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=await Echo().run(text="hello"))

    await Parent().run()
    telemetry.flush()
    assert outline(server.spans(project, 4)) == [
        "invoke_workflow Parent CHAIN OK",
        "  run_step call CHAIN OK",
        "    invoke_workflow Echo CHAIN OK",
        "      run_step reply CHAIN OK",
    ]


async def test_what_a_link_says_is_in_attributes_as_well(server: Phoenix, telemetry: Setup, project: str) -> None:
    await Retried().run()
    telemetry.flush()
    spans = {span["name"]: span for span in server.spans(project, 4)}
    cause = spans["run_step fetch"]["attributes"]
    assert (cause["workflow.event.type"], cause["workflow.event.source"]) == ("StartEvent", "start")
    attempts = [span for span in server.spans(project, 4) if span["name"] == "attempt fetch"]
    first, second = sorted(attempts, key=lambda span: span["start_time"])
    assert second["attributes"]["workflow.retry_of.span_id"] == first["context"]["span_id"]


async def test_more_attributes_than_the_sdks_128_arrive(server: Phoenix, telemetry: Setup, project: str) -> None:
    class Chats(Workflow):
        @step
        async def chat(self, ev: StartEvent) -> StopEvent:
            attributes = {f"llm.input_messages.{n}.message.content": f"said {n}" for n in range(200)}
            with trace.get_tracer("client").start_as_current_span("chat", attributes=attributes):
                return StopEvent()

    await Chats().run()
    telemetry.flush()
    (chat,) = [span for span in server.spans(project, 3) if span["name"] == "chat"]
    assert chat["attributes"]["llm.input_messages.199.message.content"] == "said 199"
    assert chat["attributes"]["workflow.run.id"]


async def test_filters_of_the_docs_find_what_they_say(server: Phoenix, telemetry: Setup, project: str) -> None:
    await Retried().run()
    telemetry.flush()
    server.spans(project, 4)
    assert server.found_by(project, "attributes['workflow']['retry']['will_retry'] == True") == ["attempt fetch"]
    assert server.found_by(project, "attributes['workflow']['run']['outcome'] == 'completed'") == [
        "invoke_workflow Retried"
    ]
    assert server.found_by(project, "attributes['workflow']['step']['queue_wait_s'] > 60") == []


async def test_the_page_of_a_run_is_there(server: Phoenix, telemetry: Setup, project: str) -> None:
    handler = Echo().run()
    await handler
    telemetry.flush()
    server.spans(project, 2)
    found = trace_of(handler)
    assert found is not None
    assert found.url is not None
    assert found.url.startswith(f"{server.endpoint}/redirects/traces/")
    assert server.status_of_page(found.url) == 200


async def test_feedback_stands_at_the_run(server: Phoenix, telemetry: Setup, project: str) -> None:
    handler = Echo().run()
    await handler
    telemetry.flush()
    server.spans(project, 2)
    for value in (False, True):  # the second time it is said, it replaces the first
        assert feedback(handler, "helpful", value, comment="found it").result(30) == ("phoenix",)
    found = trace_of(handler)
    assert found is not None
    annotation = server.annotation(project, found.span_id, "true")
    assert (annotation["name"], annotation["annotator_kind"]) == ("helpful", "HUMAN")
    assert annotation["result"] == {"label": "true", "score": 1.0, "explanation": "found it"}


async def test_phoenix_register_and_setup_make_one_tree(
    server: Phoenix, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    otel = pytest.importorskip("phoenix.otel", reason="runs with arize-phoenix-otel: `pip install 'spanflow[phoenix]'`")
    monkeypatch.setenv("PHOENIX_DISCOVER_CONFIG", "false")
    provider = otel.register(
        endpoint=f"{server.endpoint}/v1/traces",
        protocol="http/protobuf",
        project_name=project,
        batch=True,
        verbose=False,
    )
    telemetry = workflows_otel.setup(phoenix(project, endpoint=server.endpoint))
    await Echo().run()
    telemetry.flush()
    telemetry.shutdown()
    provider.shutdown()
    assert outline(server.spans(project, 2)) == ["invoke_workflow Echo CHAIN OK", "  run_step reply CHAIN OK"]


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/logs"])
def test_phoenix_takes_no_metrics_and_no_logs_so_we_send_none(server: Phoenix, path: str) -> None:
    request = urllib.request.Request(f"{server.endpoint}{path}", b"", {"content-type": "application/x-protobuf"})
    with pytest.raises(urllib.error.HTTPError, match="405") as caught:
        urllib.request.urlopen(request, timeout=30)
    caught.value.close()


async def test_exhausted_retries_are_an_error_all_the_way_up(server: Phoenix, telemetry: Setup, project: str) -> None:
    class Never(Flaky):
        @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
        async def fetch(self, ctx: Context, ev: StartEvent) -> StopEvent:
            raise ConnectionError("no route")

    with pytest.raises(ConnectionError):
        await Never(failures=0).run()
    telemetry.flush()
    assert [span["status_code"] for span in server.spans(project, 4)] == ["ERROR"] * 4
