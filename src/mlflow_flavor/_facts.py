"""What a run says of itself as span attributes and trace metadata."""

from __future__ import annotations

import json
from typing import Any

from mlflow.tracing.constant import TraceMetadataKey

from workflows.instrumentation import attributes as names
from workflows.instrumentation.records import RunEnded, RunStarted, RunSuspended
from workflows.instrumentation.redaction import MASK, is_secret_key, mask_secrets

__all__ = [
    "CONFIG_METADATA",
    "FIRST_TRACE",
    "PROMPTS_METADATA",
    "count_facts",
    "run_facts",
    "said_metadata",
    "said_tags",
    "trace_metadata",
]

MAX_METADATA_CHARS = 250

CONFIG_METADATA = "workflow.model.config_sha256"
PROMPTS_METADATA = "workflow.model.prompts"
"""By URI the versions of the prompts that were loaded with the model, as JSON."""
"""Trace metadata: a digest of the configuration that the model of the run was loaded with."""

FIRST_TRACE = "workflow.run.first_trace_id"
"""Trace metadata: where a run began that goes on in this trace because it was open for long."""


def run_facts(record: RunStarted) -> dict[str, Any]:
    facts: dict[str, Any] = {
        names.RUN_ID: record.run_id,
        names.GEN_AI_WORKFLOW_NAME: record.workflow,
        names.GRAPH_HASH: record.graph_hash,
        names.RUN_SEGMENT: record.segment,
    }
    if record.version is not None:
        facts[names.WORKFLOW_VERSION] = record.version
    if record.timeout is not None:
        facts[names.TIMEOUT] = record.timeout
    if record.queue_wait > 0:
        facts[names.RUN_QUEUE_WAIT] = record.queue_wait
    if record.parent is not None:
        facts[names.PARENT_RUN_ID] = record.parent[0]
        facts[names.ROOT_RUN_ID] = record.root_run_id
        facts[names.GEN_AI_WORKFLOW_NESTED] = True
    return facts


def trace_metadata(record: RunStarted) -> dict[str, str]:
    """Session, user and the caller's own metadata, as MLflow stores them: text without secrets, 250 characters."""
    identity, carried = record.identity, record.carriers.get("mlflow", {})
    found = said_metadata(record)
    for key, value in (
        (TraceMetadataKey.TRACE_SESSION, identity.session_id or carried.get("session")),
        (TraceMetadataKey.TRACE_USER, identity.user_id or carried.get("user")),
    ):
        if value is not None:
            found[key] = str(value)[:MAX_METADATA_CHARS]
    return found


def said_metadata(record: RunStarted) -> dict[str, str]:
    """What the caller said beside session and user, as it is shown; also what that of an earlier segment said."""
    before: dict[str, str] = json.loads(record.carriers.get("mlflow", {}).get("metadata", "{}"))
    return before | {str(key): _shown(str(key), str(value)) for key, value in record.identity.metadata.items()}


def said_tags(record: RunStarted) -> str:
    """The caller's tags, those of an earlier segment first, as the one tag that MLflow shows."""
    before = record.carriers.get("mlflow", {}).get("tags", "").split(", ")
    return ", ".join(dict.fromkeys(tag for tag in (*before, *map(mask_secrets, record.identity.tags)) if tag))


def _shown(key: str, value: str) -> str:
    return MASK if is_secret_key(key) else mask_secrets(value[: 2 * MAX_METADATA_CHARS])[:MAX_METADATA_CHARS]


def count_facts(record: RunEnded | RunSuspended) -> dict[str, Any]:
    """What the run did; zeros are left out, but for the steps."""
    counts = record.counts
    found = {
        names.RUN_RETRIES: counts.retries,
        names.RUN_EVENTS: counts.events,
        names.RUN_STREAMED: counts.streamed,
        names.RUN_HANDLED_ERRORS: counts.handled_errors,
        names.RUN_UNHANDLED: counts.unhandled,
    }
    return {names.RUN_STEPS: counts.steps, **{name: count for name, count in found.items() if count}}
