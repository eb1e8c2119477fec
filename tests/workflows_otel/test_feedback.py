"""Feedback as it goes over the wire, and what is refused; a real Phoenix takes it in test_phoenix.py."""

from __future__ import annotations

import asyncio
import base64
import json
from fractions import Fraction
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import workflows_otel
from tests.workflows_otel.flows import Echo
from tests.workflows_otel.otlp_sink import OtlpSink, http_sink
from workflows_otel import Setup, TelemetrySetupError, TraceRef, feedback, langfuse, otlp, phoenix, trace_of

pytestmark = pytest.mark.usefixtures("no_provider")

# Every field that its API documents for a score, with the types it takes; traceId, name and value are needed.
LANGFUSE_SCORE = {
    "id": str,
    "traceId": str,
    "name": str,
    "value": (float, str),
    "dataType": str,
    "comment": str,
    "metadata": dict,
    "environment": str,
}
REF = TraceRef("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def to_langfuse(sink: OtlpSink) -> Setup:
    preset = langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint, environment="staging")
    return workflows_otel.setup(preset)


def judgements(sink: OtlpSink, path: str) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in sink.requests if request.path == path]


async def test_langfuse_gets_a_score_of_the_trace_in_its_documented_shape(sink: OtlpSink) -> None:
    telemetry = to_langfuse(sink)
    handler = Echo().run()
    await handler
    sent = feedback(handler, "helpful", True, comment="found it")
    assert await asyncio.wrap_future(sent) == ("langfuse",)
    telemetry.shutdown()
    (score,) = judgements(sink, "/api/public/scores")
    assert all(isinstance(value, LANGFUSE_SCORE[key]) for key, value in score.items())
    found = trace_of(handler)
    assert found is not None
    wanted = {"traceId": found.trace_id, "name": "helpful", "value": 1.0, "dataType": "BOOLEAN", "comment": "found it"}
    assert {**wanted, "environment": "staging"}.items() <= score.items()


def test_langfuse_is_asked_with_its_keys(sink: OtlpSink) -> None:
    telemetry = to_langfuse(sink)
    feedback(REF, "helpful", True).result(10)
    telemetry.shutdown()
    (request,) = sink.requests
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"pk-lf-1:sk-lf-2"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("value", "sent", "kind"),
    [(True, 1.0, "BOOLEAN"), (0.5, 0.5, "NUMERIC"), (3, 3.0, "NUMERIC"), ("ok", "ok", "CATEGORICAL")],
)
def test_langfuse_is_told_what_kind_of_value_it_is(sink: OtlpSink, value: Any, sent: object, kind: str) -> None:
    telemetry = to_langfuse(sink)
    feedback(REF, "tone", value).result(10)
    telemetry.shutdown()
    (score,) = judgements(sink, "/api/public/scores")
    assert (score["value"], score["dataType"]) == (sent, kind)


def test_phoenix_gets_an_annotation_of_the_runs_span(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint, api_key="k1"))
    feedback(REF, "tone", "kind", comment="warm words", judge="LLM").result(10)
    telemetry.shutdown()
    (body,) = judgements(sink, "/v1/span_annotations")
    (annotation,) = body["data"]
    assert annotation.pop("identifier")
    assert annotation == {
        "span_id": REF.span_id,
        "name": "tone",
        "annotator_kind": "LLM",
        "result": {"label": "kind", "explanation": "warm words"},
    }
    assert sink.requests[0].headers["authorization"] == "Bearer k1"


def test_the_same_judge_replaces_what_it_said_and_another_does_not(sink: OtlpSink) -> None:
    telemetry = to_langfuse(sink)
    for by in ("ann", "ann", "bob"):
        feedback(REF, "helpful", True, by=by).result(10)
    telemetry.shutdown()
    first, again, other = [score["id"] for score in judgements(sink, "/api/public/scores")]
    assert first == again != other


def test_every_back_end_that_keeps_feedback_gets_it(sink: OtlpSink) -> None:
    presets = [langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint), phoenix(endpoint=sink.endpoint)]
    telemetry = workflows_otel.setup([*presets, otlp(sink.endpoint)])
    assert feedback(REF, "helpful", True).result(10) == ("langfuse", "phoenix")
    telemetry.shutdown()


async def test_a_back_end_that_does_not_get_the_trace_gets_no_feedback(
    sink: OtlpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    presets = [langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint), phoenix(endpoint=sink.endpoint)]
    telemetry = workflows_otel.setup(presets)
    handler = Echo().run()
    await handler
    assert await asyncio.wrap_future(feedback(handler, "helpful", True)) == ("phoenix",)
    telemetry.shutdown()


async def test_feedback_that_no_back_end_would_get_is_refused(sink: OtlpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0")
    preset = langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint)
    telemetry = workflows_otel.setup([preset, otlp(sink.endpoint)])
    handler = Echo().run()
    await handler
    with pytest.raises(TelemetrySetupError, match="LANGFUSE_SAMPLE_RATE"):
        feedback(handler, "helpful", True)
    telemetry.shutdown()


def test_a_process_without_runs_can_give_it_by_ids_that_were_kept(sink: OtlpSink) -> None:
    assert feedback(REF, "helpful", True, to=phoenix(endpoint=sink.endpoint)).result(10) == ("phoenix",)


def test_what_a_back_end_refuses_is_the_results_exception(sink: OtlpSink) -> None:
    telemetry = to_langfuse(sink)
    sink.replies = [401]
    with pytest.raises(TelemetrySetupError, match=r"langfuse \(401") as caught:
        feedback(REF, "helpful", True).result(10)
    telemetry.shutdown()
    assert "sk-lf-2" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"value": None}, "value None is no finite number"),
        ({"value": [1]}, r"value \[1\] is no finite number"),
        ({"value": b"1"}, "is no finite number"),
        ({"value": 10**400}, "value of 1329 bits is no finite number"),
        ({"value": float("nan")}, "value nan is no finite number"),
        ({"name": ""}, "name '' does not say what is judged"),
        ({"name": None}, "name None does not say what is judged"),
        ({"judge": "ROBOT"}, "judge 'ROBOT' is unknown. Use one of HUMAN, LLM, CODE"),
        ({"comment": 5}, "comment 5 is no text"),
        ({"run": None}, "it is no run"),
        ({"run": TraceRef("zz", "1")}, "hexadecimal digits"),
    ],
)
def test_what_is_no_judgement_is_refused_at_the_call(said: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {"run": REF, "name": "helpful", "value": True, "to": phoenix(endpoint="http://x"), **said}
    with pytest.raises(TelemetrySetupError, match=why):
        feedback(**given)


def test_a_number_of_another_library_is_sent_as_one(sink: OtlpSink) -> None:
    feedback(REF, "tone", Fraction(1, 4), to=phoenix(endpoint=sink.endpoint)).result(10)  # pyright: ignore[reportArgumentType]
    assert judgements(sink, "/v1/span_annotations")[0]["data"][0]["result"] == {"score": 0.25}


def test_a_redirect_is_refused_and_sees_no_key(sink: OtlpSink) -> None:
    with http_sink() as foreign:
        sink.replies, sink.location = [302], f"{foreign.endpoint}/elsewhere"
        to = langfuse("pk-lf-1", "sk-lf-2", base_url=sink.endpoint)
        with pytest.raises(TelemetrySetupError, match=r"langfuse \(302"):
            feedback(REF, "helpful", True, to=to).result(10)


def test_a_dead_back_end_is_the_results_exception_and_blocks_nobody() -> None:
    telemetry = workflows_otel.setup(phoenix(endpoint="http://127.0.0.1:1"))
    with pytest.raises(TelemetrySetupError, match=r"phoenix \(ConnectionRefusedError\)"):
        feedback(REF, "helpful", True).result(10)
    telemetry.shutdown(timeout=0)


def test_feedback_that_nobody_keeps_is_refused(sink: OtlpSink) -> None:
    telemetry = workflows_otel.setup(otlp(sink.endpoint))
    with pytest.raises(TelemetrySetupError, match="No back end of setup"):
        feedback(REF, "helpful", True)
    telemetry.shutdown()


async def test_feedback_to_a_run_without_a_trace_is_refused(sink: OtlpSink) -> None:
    with pytest.raises(TelemetrySetupError, match="was not drawn in this process"):
        feedback("no such run", "helpful", True)
    telemetry = workflows_otel.setup(phoenix(endpoint=sink.endpoint), sampler=ALWAYS_OFF)
    handler = Echo().run()
    await handler
    with pytest.raises(TelemetrySetupError, match="is not sampled"):
        feedback(handler, "helpful", True)
    telemetry.shutdown()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_json_has_no_word_for_is_refused(value: float) -> None:
    with pytest.raises(TelemetrySetupError, match="no finite number"):
        feedback(REF, "helpful", value)
