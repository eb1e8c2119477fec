"""Processes that end by a signal, and processes that have children: who sends what."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from tests.workflows_otel.processes import environment, run, start

pytestmark = pytest.mark.slow

RUN = ["invoke_workflow Echo", "run_step reply"]
CUT = ["run_step ask", "run_step reply", "wait Answer"]

WAITS_FOR_A_SIGNAL = """
    import asyncio, signal, sys
    import workflows_otel
    from tests.workflows_otel.flows import AskPerson, Echo

    async def main():
        await Echo().run()
        handler = AskPerson().run()
        await asyncio.sleep(0)
        print("ready", flush=True)
        await handler

    if "theirs" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    workflows_otel.setup(
        workflows_otel.otlp(sys.argv[1]), start_marker=False, flush_on_sigterm="asked" in sys.argv
    )
    asyncio.run(main())
"""


def _terminated(sink: OtlpSink, *how: str, number: int = signal.SIGTERM) -> int:
    # The first export is due in a minute, so that what arrives was flushed.
    with start(WAITS_FOR_A_SIGNAL, sink.endpoint, *how, OTEL_BSP_SCHEDULE_DELAY="60000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    return process.returncode


def test_sigterm_sends_what_there_is_and_tells_that_the_open_run_was_cut(sink: OtlpSink) -> None:
    assert _terminated(sink, "asked") == 128 + signal.SIGTERM
    assert sorted(sink.names()) == ["invoke_workflow AskPerson", "invoke_workflow Echo", *CUT]
    cut = sink.named("invoke_workflow AskPerson")
    assert (cut.status, cut.attributes["workflow.run.outcome"]) == ("UNSET", "interrupted")


BY_SETUP = """
    def begin(address):
        workflows_otel.setup(workflows_otel.otlp(address), start_marker=False)
"""
OWN_PROVIDER = """
    def own_provider(address):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces")))
        return provider
"""
BY_INSTRUMENT = f"""{OWN_PROVIDER}
    def begin(address):
        workflows_otel.instrument(own_provider(address), start_marker=False)
"""
BEFORE_ITS_PROVIDER = f"""{OWN_PROVIDER}
    def begin(address):
        from opentelemetry import trace
        workflows_otel.instrument(start_marker=False)
        trace.set_tracer_provider(own_provider(address))
"""
RUNS_AT_EXIT = """
    def begin(address):
        atexit.register(lambda: asyncio.run(last()))
        workflows_otel.setup(workflows_otel.otlp(address), start_marker=False)

    async def last():
        from tests.workflows_otel.flows import Echo
        await Echo().run()
"""
ENDS_WITH_AN_OPEN_RUN = """
    import asyncio, atexit, sys, threading
    import workflows_otel
    from tests.workflows_otel.flows import AskPerson

    def serve():
        asyncio.run(main())

    async def main():
        handler = AskPerson().run()
        await asyncio.sleep(0)
        begun.set()
        await handler

    for address in sys.argv[1:]:
        begin(address)
    begun = threading.Event()
    threading.Thread(target=serve, daemon=True).start()
    assert begun.wait(30)
"""


def test_each_of_several_back_ends_gets_what_was_open_when_the_process_ended(sink: OtlpSink) -> None:
    with http_sink() as other:
        run(BY_SETUP + ENDS_WITH_AN_OPEN_RUN, sink.endpoint, other.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
        assert sorted(sink.names()) == sorted(other.names())
    assert "invoke_workflow AskPerson" in sink.names()


@pytest.mark.parametrize("begun", [BY_INSTRUMENT, BEFORE_ITS_PROVIDER])
def test_an_applications_own_provider_gets_what_was_open_when_the_process_ended(sink: OtlpSink, begun: str) -> None:
    run(begun + ENDS_WITH_AN_OPEN_RUN, sink.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert sink.named("invoke_workflow AskPerson").attributes["workflow.run.outcome"] == "interrupted"


ENDS_AFTER_A_COLLECTION = """
    import gc, sys
    import workflows_otel

    def stream():
        with workflows_otel.llm_call(model="small"):
            yield

    begin(sys.argv[1])
    half_read = stream()
    next(half_read)
    cycle = [half_read]
    cycle.append(cycle)
    del half_read, cycle
    gc.collect()
"""


@pytest.mark.parametrize("begun", [BY_SETUP, BY_INSTRUMENT])
def test_what_the_garbage_collector_ended_last_is_sent_at_exit(sink: OtlpSink, begun: str) -> None:
    run(begun + ENDS_AFTER_A_COLLECTION, sink.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert sink.names() == ["chat small"]


def test_what_the_garbage_collector_ended_is_sent_by_the_next_flush(sink: OtlpSink) -> None:
    begun = """
    def begin(address):
        global made
        made = workflows_otel.setup(workflows_otel.otlp(address))
"""
    ends = ENDS_AFTER_A_COLLECTION + "    print(made.flush())\n"
    assert run(begun + ends, sink.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000").startswith("FlushResult(sent=1,")


def test_collections_are_watched_only_where_something_is_drawn() -> None:
    script = """
        import asyncio, gc
        import workflows_otel
        from tests.workflows_otel.flows import Echo
        from workflows_otel import instrument, setup, tool

        async def main():
            await Echo().run()

        asyncio.run(main())
        print(len(gc.callbacks))
    """
    assert run(script) == "0\n"


def test_runs_between_the_ends_of_two_back_ends_are_drawn_for_the_one_that_is_left(sink: OtlpSink) -> None:
    with http_sink() as other:
        run(RUNS_AT_EXIT + ENDS_WITH_AN_OPEN_RUN, sink.endpoint, other.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
    assert "invoke_workflow Echo" not in other.names()
    assert sink.names().count("invoke_workflow Echo") == 1


def test_sigterm_is_left_to_whoever_handles_it_already(sink: OtlpSink) -> None:
    assert _terminated(sink, "asked", "theirs") == 7
    assert len(sink.spans) == 5


def test_sigterm_ends_the_process_as_ever_where_nobody_asked(sink: OtlpSink) -> None:
    assert _terminated(sink) == -signal.SIGTERM
    assert sink.spans == []


def test_a_kill_loses_what_was_not_sent_and_nothing_else(sink: OtlpSink) -> None:
    assert _terminated(sink, number=signal.SIGKILL) == -signal.SIGKILL
    assert sink.spans == []


def test_a_first_export_imports_nothing_which_a_fork_in_its_middle_would_leave_half_done(sink: OtlpSink) -> None:
    script = """
        import sys, workflows_otel
        telemetry = workflows_otel.setup(workflows_otel.otlp(sys.argv[1]))
        before = set(sys.modules)
        telemetry.provider.get_tracer("app").start_span("first").end()
        assert telemetry.flush().sent == 1
        print(sorted(set(sys.modules) - before))
    """
    assert run(script, sink.endpoint) == "[]\n"


FORKS = """
    import asyncio, multiprocessing, os, sys
    import workflows_otel
    from tests.workflows_otel.flows import Echo

    async def one_run(name):
        with workflows_otel.context(session_id=name):
            await Echo().run()

    def child():
        asyncio.run(one_run("child"))
        if how == "flush":
            result = telemetry.flush()
            assert (result.sent, result.failed, result.dropped, result.pending) == (2, 0, 0, 0), result

    how = sys.argv[2]
    telemetry = workflows_otel.setup(workflows_otel.otlp(sys.argv[1]), start_marker=False)
    asyncio.run(one_run("parent"))
    if how == "exported":
        assert telemetry.flush().sent == 2  # the connection to the back end stays open
    if how == "flush":
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    else:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
    asyncio.run(one_run("parent again"))
"""


@pytest.mark.parametrize("how", ["flush", "exit", "exported"])
def test_a_forked_child_sends_its_own_spans_and_none_of_its_parents(sink: OtlpSink, how: str) -> None:
    run(FORKS, sink.endpoint, how, OTEL_BSP_SCHEDULE_DELAY="60000")
    arrived = sorted((span.attributes["session.id"], span.name) for span in sink.spans)
    assert arrived == [(who, name) for who in ("child", "parent", "parent again") for name in RUN]


FORKS_IN_A_STEP = """
    import asyncio, concurrent.futures, multiprocessing, sys
    from opentelemetry import trace
    import workflows_otel
    from workflows import Workflow, step
    from workflows.events import StartEvent, StopEvent

    def work():
        with workflows_otel.tool(name="work"):
            return 1

    class Forks(Workflow):
        @step
        async def fork(self, ev: StartEvent) -> StopEvent:
            with trace.get_tracer("library").start_as_current_span("around"):
                if sys.argv[2] == "process":
                    process = multiprocessing.get_context("fork").Process(target=work)
                    process.start()
                    process.join()
                    return StopEvent(result=1 - process.exitcode)
                with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
                    return StopEvent(result=await asyncio.get_running_loop().run_in_executor(pool, work))

    async def main():
        assert await Forks().run() == 1

    sampler = workflows_otel.keep_errors_and_slow(0, slow=0.001) if sys.argv[3] == "tail" else None
    workflows_otel.setup(workflows_otel.otlp(sys.argv[1]), start_marker=False, sampler=sampler)
    asyncio.run(main())
"""


@pytest.mark.parametrize("sampler", ["none", "tail"])
@pytest.mark.parametrize("how", ["process", "pool"])
def test_a_child_forked_in_a_step_sends_nothing_that_is_open_in_its_parent(
    sink: OtlpSink, how: str, sampler: str
) -> None:
    run(FORKS_IN_A_STEP, sink.endpoint, how, sampler)
    ids = [span.span_id for span in sink.spans]
    assert len(ids) == len(set(ids))
    parents = [(span.name, span.status) for span in sink.spans if span.name != "execute_tool work"]
    assert sorted(parents) == [("around", "UNSET"), ("invoke_workflow Forks", "OK"), ("run_step fork", "OK")]


PRE_FORK_APP = """
import asyncio
import json
import os

import workflows_otel
from tests.workflows_otel.flows import Echo

workflows_otel.setup(workflows_otel.otlp(os.environ["SINK"]), start_marker=False)


def app(environ, start_response):
    handler = None

    async def answer():
        nonlocal handler
        handler = Echo().run(text="hello")
        return await handler

    body = {"answer": asyncio.run(answer()), "pid": os.getpid(), "trace": workflows_otel.trace_of(handler).trace_id}
    start_response("200 OK", [("content-type", "application/json")])
    return [json.dumps(body).encode()]
"""


def test_workers_of_a_pre_fork_server_send_their_spans_when_it_is_stopped(sink: OtlpSink, tmp_path: Path) -> None:
    pytest.importorskip(
        "gunicorn", reason="runs with gunicorn, which comes with MLflow: `pip install 'spanflow[mlflow]'`"
    )
    (tmp_path / "served.py").write_text(PRE_FORK_APP)
    command = [sys.executable, "-m", "gunicorn", "served:app", "--preload", "--workers", "2", "--bind", "127.0.0.1:0"]
    variables = environment(SINK=sink.endpoint, OTEL_BSP_SCHEDULE_DELAY="60000")
    with subprocess.Popen(
        [*command, "--no-control-socket"] if _has_control_socket() else command,
        cwd=tmp_path,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "Listening at" in line)
        address = line.split("Listening at: ")[1].split()[0]
        answers = [json.load(urllib.request.urlopen(address, timeout=30)) for _ in range(4)]
        server.terminate()
        server.communicate(timeout=60)
    assert {answer["answer"] for answer in answers} == {"hello"}
    assert sorted(sink.names()) == sorted(RUN * 4)
    assert {span.trace_id for span in sink.spans} == {answer["trace"] for answer in answers}


def _has_control_socket() -> bool:
    shown = subprocess.run([sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True, check=True)
    return "--no-control-socket" in shown.stdout
