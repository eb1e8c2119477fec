"""What a real Phoenix server shows of our runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import workflows_otel
from tests.workflows_otel.flows import Answer, AskPerson, Done, Echo, Failing, Work
from tests.workflows_otel.phoenix_server import Phoenix, outline
from workflows import Context, Workflow, step
from workflows.events import InputRequiredEvent, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed
from workflows_otel import Setup, llm_call, phoenix, tool

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("no_provider")]


@pytest.fixture
def telemetry(server: Phoenix, project: str) -> Iterator[Setup]:
    made = workflows_otel.setup(phoenix(project, endpoint=server.endpoint))
    yield made
    made.shutdown()


class Everything(Workflow):
    """Fans out, retries, calls a model and a tool, asks a person."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.failures = 1

    @step
    async def plan(self, ctx: Context, ev: StartEvent) -> Work | None:
        with llm_call(model="gpt-4o", provider="openai") as call:
            call.input("plan it").output("two parts").usage(input=100, output=20)
        for n in range(2):
            ctx.send_event(Work(n=n))

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def work(self, ev: Work) -> Done:
        if ev.n == 0:
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("no route; key sk-abcdefghijklmnop")
        with tool(name="fetch") as call:
            call.input({"n": ev.n, "api_key": "hunter2"})
        return Done(n=ev.n)

    @step
    async def join(self, ctx: Context, ev: Done) -> InputRequiredEvent | None:
        return None if ctx.collect_events(ev, [Done] * 2) is None else InputRequiredEvent()

    @step
    async def take(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


async def run_everything() -> None:
    with workflows_otel.context(session_id="s-everything", user_id="u1", tags=["a"], metadata={"plan": "pro"}):
        handler = Everything().run(topic="pirates")
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            assert handler.ctx is not None
            handler.ctx.send_event(Answer(text="yes"))
    assert await handler == "yes"


async def test_a_whole_run_is_one_tree(server: Phoenix, telemetry: Setup, project: str) -> None:
    await run_everything()
    assert telemetry.flush().ok
    spans = server.spans(project, 14)
    assert sorted(outline(spans)) == sorted(
        [
            "invoke_workflow Everything CHAIN OK",
            "  run_step plan CHAIN OK",
            "    chat gpt-4o LLM OK",
            "  run_step work CHAIN OK",
            "    attempt work CHAIN ERROR",
            "    attempt work CHAIN OK",
            "      execute_tool fetch TOOL OK",
            "  run_step work CHAIN OK",
            "    attempt work CHAIN OK",
            "      execute_tool fetch TOOL OK",
            "  run_step join CHAIN OK",
            "  run_step join CHAIN OK",
            "  run_step take CHAIN OK",
            "  wait Answer CHAIN OK",
        ]
    )


async def test_payloads_errors_and_identity_are_where_phoenix_looks(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    await run_everything()
    telemetry.flush()
    spans = server.spans(project, 14)
    run = next(span for span in spans if span["parent_id"] is None)
    about = run["attributes"]
    assert (about["input.value"], about["input.mime_type"]) == ('{"topic":"pirates"}', "application/json")
    assert about["output.value"] == "yes"
    assert (about["metadata.plan"], about["tag.tags"]) == ("pro", ["a"])
    assert {(span["attributes"]["session.id"], span["attributes"]["user.id"]) for span in spans} == {
        ("s-everything", "u1")
    }
    (failed,) = [span for span in spans if span["status_code"] == "ERROR"]
    assert failed["status_message"] == "ConnectionError: no route; key **********"
    assert [event["name"] for event in failed["events"]] == ["exception"]
    assert "hunter2" not in str(spans)
    assert "sk-abcdefghijklmnop" not in str(spans)


async def test_tokens_of_a_run_add_up_in_its_session(server: Phoenix, telemetry: Setup, project: str) -> None:
    class Asks(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            for _ in range(2):
                with llm_call(model="gpt-4o", provider="openai") as call:
                    call.usage(input=100, output=20)
            return StopEvent()

    with workflows_otel.context(session_id="s-tokens"):
        await Asks().run()
    telemetry.flush()
    server.spans(project, 4)  # they come one by one
    (session,) = server.sessions(project, 1)
    assert session["session_id"] == "s-tokens"
    assert [session[f"token_count_{side}"] for side in ("prompt", "completion", "total")] == [200, 40, 240]


async def test_two_runs_of_one_session_are_two_traces_of_it(server: Phoenix, telemetry: Setup, project: str) -> None:
    for _ in range(2):
        with workflows_otel.context(session_id="s-two"):
            await Echo().run()
    telemetry.flush()
    server.spans(project, 4)
    (session,) = server.sessions(project, 1)
    assert len(session["traces"]) == 2


async def test_a_run_below_a_span_that_phoenix_never_gets_is_a_root(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    remote = NonRecordingSpan(SpanContext(0xA1, 0xB1, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(remote), workflows_otel.context(session_id="s-remote"):
        await Echo().run(text="hello")
    telemetry.flush()
    root, _ = server.spans(project, 2)
    assert (root["name"], root["parent_id"]) == ("invoke_workflow Echo", None)
    assert server.sessions(project, 1)[0]["session_id"] == "s-remote"


async def test_the_span_of_another_library_that_arrives_first_names_the_session(
    server: Phoenix, telemetry: Setup, project: str
) -> None:
    class Calls(Workflow):
        @step
        async def call(self, ev: StartEvent) -> StopEvent:
            trace.get_tracer("client").start_span("GET", attributes={"gen_ai.conversation.id": "theirs"}).end()
            telemetry.flush()  # so that it arrives alone
            return StopEvent()

    with workflows_otel.context(session_id="s-first"):
        await Calls().run()
    telemetry.flush()
    server.spans(project, 3)
    assert [session["session_id"] for session in server.sessions(project, 1)] == ["s-first"]


async def test_a_failed_run_shows_its_error(server: Phoenix, telemetry: Setup, project: str) -> None:
    with pytest.raises(ValueError, match="broken"):
        await Failing().run(error=ValueError("broken"))
    telemetry.flush()
    assert outline(server.spans(project, 2)) == [
        "invoke_workflow Failing CHAIN ERROR",
        "  run_step fail CHAIN ERROR",
    ]


async def test_a_cancelled_run_is_no_error(server: Phoenix, telemetry: Setup, project: str) -> None:
    handler = AskPerson().run()
    await asyncio.sleep(0)
    await handler.cancel_run()
    telemetry.flush()
    assert {span["status_code"] for span in server.spans(project, 1)} == {"UNSET"}


async def test_phoenix_takes_spans_by_grpc(server: Phoenix, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOENIX_GRPC_PORT", server.grpc_endpoint.rpartition(":")[2])
    telemetry = workflows_otel.setup(phoenix(project, endpoint=server.grpc_endpoint))
    await Echo().run()
    assert telemetry.flush().sent == 2
    telemetry.shutdown()
    assert len(server.spans(project, 2)) == 2


@llm_call(model="gpt-4o")
async def said() -> AsyncIterator[str]:
    for word in ("one ", "two"):
        yield word


async def test_a_streamed_answer_is_an_llm_span_with_messages(server: Phoenix, telemetry: Setup, project: str) -> None:
    class Streams(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result="".join([word async for word in said()]))

    assert await Streams().run() == "one two"
    telemetry.flush()
    (chat,) = [span for span in server.spans(project, 3) if span["span_kind"] == "LLM"]
    assert chat["attributes"]["llm.model_name"] == "gpt-4o"
    assert "one two" in str(chat["attributes"])
