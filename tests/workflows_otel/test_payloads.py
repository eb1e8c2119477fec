"""What of payloads leaves the process: by mode, bounded, and never a secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import SecretStr

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink
from tests.workflows_otel.span_log import SpanLog, about
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.instrumentation.redaction import Redact
from workflows.testing import RecordLog
from workflows_otel.setting_up import Setup

SECRETS = ["hunter2", "123-45-6789", "s3cret-value", "sk-abcdefghijklmnop", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"]


class Login(StartEvent):
    user: str
    password: str
    ssn: Annotated[str, Redact()]
    token: SecretStr


class Session(Event):
    headers: dict[str, str]


class SignIn(Workflow):
    """Handles secrets in every way that there is, and fails with some of them."""

    @step
    async def check(self, ev: Login) -> Session:
        session = Session(headers={"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln"})
        session["note"] = "uses sk-abcdefghijklmnop"
        return session

    @step
    async def enter(self, ev: Session) -> StopEvent:
        raise PermissionError("denied for password=hunter2 with key sk-abcdefghijklmnop")


@pytest.fixture
def telemetry(no_provider: None, sink: OtlpSink) -> Iterator[Setup]:
    made = workflows_otel.setup(workflows_otel.otlp(sink.endpoint), content="full")
    yield made
    made.shutdown()


async def test_no_secret_leaves_the_process(telemetry: Setup, sink: OtlpSink) -> None:
    with pytest.raises(PermissionError):
        await SignIn().run(user="ann", password="hunter2", ssn="123-45-6789", token=SecretStr("s3cret-value"))
    telemetry.flush()
    assert b"ann" in sink.raw
    assert [secret for secret in SECRETS if secret.encode() in sink.raw] == []


async def spans_of(**options: Any) -> SpanLog:
    """The spans of one run under these options."""
    log = SpanLog()
    workflows_otel.instrument(log.provider, start_marker=False, **options)
    await Echo().run(text="hello")
    workflows_otel.uninstrument(log.provider)
    return log


def values(log: SpanLog, name: str) -> tuple[Any, Any]:
    attributes = about(log.named(name))
    return attributes.get("input.value"), attributes.get("output.value")


async def test_full_mode_shows_values(records: RecordLog) -> None:
    log = await spans_of(content="full")
    assert values(log, "invoke_workflow Echo") == ('{"text":"hello"}', "hello")
    assert values(log, "run_step reply") == ('{"text":"hello"}', '{"result":"hello"}')


async def test_types_mode_shows_names_and_sizes_of_runs(records: RecordLog) -> None:
    log = await spans_of()
    shown = ('{"type":"StartEvent","fields":{"text":"<str 5>"}}', '{"type":"<str 5>"}')
    assert values(log, "invoke_workflow Echo") == shown
    assert values(log, "run_step reply") == (None, None)


async def test_off_mode_shows_nothing(records: RecordLog) -> None:
    log = await spans_of(content="off")
    assert values(log, "invoke_workflow Echo") == values(log, "run_step reply") == (None, None)


SHAPES = ('{"type":"StartEvent","fields":{"text":"<str 5>"}}', '{"type":"<str 5>"}')


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "false", SHAPES),
        ("OPENINFERENCE_HIDE_INPUTS", "true", (None, "hello")),
        ("OPENINFERENCE_HIDE_OUTPUTS", "true", ('{"text":"hello"}', None)),
    ],
)
async def test_the_environment_wins(
    records: RecordLog, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: tuple[Any, Any]
) -> None:
    monkeypatch.setenv(variable, value)
    assert values(await spans_of(content="full"), "invoke_workflow Echo") == expected


async def test_the_redact_callback_sees_paths_and_replaces_values(records: RecordLog) -> None:
    log = await spans_of(content="full", redact=lambda path, value: "(hidden)" if path == "text" else value)
    assert values(log, "run_step reply")[0] == '{"text":"(hidden)"}'


async def test_a_redact_callback_that_raises_shows_nothing(records: RecordLog) -> None:
    def broken(path: str, value: Any) -> Any:
        raise RuntimeError("broken")

    assert values(await spans_of(content="full", redact=broken), "run_step reply")[0] == "<redaction failed>"


async def test_a_large_payload_is_cut(records: RecordLog) -> None:
    log = SpanLog()
    workflows_otel.instrument(log.provider, content="full")
    await Echo().run(text="x" * 100_000)
    workflows_otel.uninstrument(log.provider)
    run = about(log.named("invoke_workflow Echo"))
    assert len(str(run["input.value"])) <= 4096
    assert str(run["output.value"]).endswith("chars omitted]")
    assert run["workflow.truncated"] is True
    assert sum(len(str(value)) for value in run.values()) < 16_000
