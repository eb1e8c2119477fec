"""On whose behalf a run works, in the words of everybody who may have said so around it.

The engine's own `context` comes first, then OpenInference's `using_session` and its kin, then Langfuse's
`propagate_attributes`, then a few baggage entries that another process may have sent.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from workflows.instrumentation import Identity
from workflows.instrumentation import attributes as at
from workflows.instrumentation import context as engine_context
from workflows.instrumentation.content import ContentPolicy, to_jsonable
from workflows.instrumentation.redaction import mask_secrets
from workflows_otel.detaching import detach

__all__ = ["Caller", "caller_of", "context"]

LONGEST_BAGGAGE = 200

# Where OpenInference and Langfuse keep what they propagate in the OpenTelemetry context, and Langfuse in baggage.
_LANGFUSE = "langfuse.propagated."
_LANGFUSE_BAGGAGE = "langfuse_"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked for a run; `trace_name` is what the caller wants the trace to be called."""

    session_id: str | None
    user_id: str | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    trace_name: str | None

    def said(self, policy: ContentPolicy) -> dict[str, str]:
        """What the snapshot of a run keeps of it, for the next segment."""
        said = {
            at.SESSION_ID: self.session_id or "",
            at.USER_ID: self.user_id or "",
            at.TAGS: json.dumps(self.tags) if self.tags else "",
            at.METADATA: to_jsonable(dict(self.metadata), policy).text if self.metadata else "",
        }
        return {name: text for name, text in said.items() if text}

    def after(self, said: Mapping[str, str]) -> Caller:
        """The same, with what was said of the previous segment where nobody says otherwise now; tags add up."""
        if not said:
            return self
        metadata = _loaded(said.get(at.METADATA, ""))
        before = cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {}
        return replace(
            self,
            session_id=self.session_id or said.get(at.SESSION_ID),
            user_id=self.user_id or said.get(at.USER_ID),
            tags=tuple(dict.fromkeys((*_listed(said.get(at.TAGS, "")), *self.tags))),
            metadata={**before, **self.metadata},
        )


@contextmanager
def context(
    *,
    session_id: str | int | None = None,
    user_id: str | int | None = None,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Generator[Identity]:
    """Give the runs started inside the block a session, a user, tags and metadata.

    The session, the user and the tags also go into OpenTelemetry baggage (where they are ASCII of at most 200
    characters), so that services which are called with it know them; metadata stays in this process. Blocks nest: what
    an inner block leaves out is taken from the outer one; tags and metadata are merged.
    """
    session_id, user_id = (
        None if one is None else str(one) for one in (session_id, user_id)
    )  # a number, from a database
    with engine_context(session_id=session_id, user_id=user_id, tags=tags, metadata=metadata) as identity:
        around = otel_context.get_current()
        entries = {at.SESSION_ID: identity.session_id, at.USER_ID: identity.user_id}
        # With those that another process sent: they are merged on the spans, too.
        every = dict.fromkeys((*_split(_baggage(at.TAGS, around)), *identity.tags))
        entries[at.TAGS] = ",".join(tag for tag in every if "," not in tag)
        for name, value in entries.items():
            if value and value.isascii() and len(value) <= LONGEST_BAGGAGE:
                around = baggage.set_baggage(name, value, around)
        token = otel_context.attach(around)
        try:
            yield identity
        finally:
            detach(token)


def caller_of(identity: Identity, ambient: Context) -> Caller:
    """Who asked for a run that starts in `ambient`, with the identity that the engine knows."""
    session_id = (
        identity.session_id
        or _text(at.SESSION_ID, "session_id", ambient)
        or _baggage(at.GEN_AI_CONVERSATION_ID, ambient)
    )
    return Caller(
        _masked(session_id),
        _masked(identity.user_id or _text(at.USER_ID, "user_id", ambient)),
        tuple(dict.fromkeys(mask_secrets(tag) for tag in (*identity.tags, *_tags(ambient)))),
        {**_metadata(ambient), **identity.metadata} if identity.metadata else _metadata(ambient),
        _masked(_text("", "trace_name", ambient)),
    )


def _masked(text: str | None) -> str | None:
    return None if text is None else mask_secrets(text)


def _text(name: str, langfuse_name: str, ambient: Context) -> str | None:
    for key in (name, _LANGFUSE + langfuse_name):
        value = otel_context.get_value(key, ambient) if key else None
        if isinstance(value, str) and value:
            return value
    return (_baggage(name, ambient) if name else None) or _baggage(_LANGFUSE_BAGGAGE + langfuse_name, ambient)


def _baggage(name: str, ambient: Context) -> str | None:
    value = baggage.get_baggage(name, ambient)
    return value[:LONGEST_BAGGAGE] if isinstance(value, str) and value.isascii() and value else None


def _tags(ambient: Context) -> list[str]:
    found: list[str] = []
    for key in (at.TAGS, f"{_LANGFUSE}tags"):
        value = otel_context.get_value(key, ambient)
        if isinstance(value, (list, tuple)):
            found += [tag for tag in cast("Iterable[object]", value) if isinstance(tag, str)]
    for name in (at.TAGS, f"{_LANGFUSE_BAGGAGE}tags"):
        found += _split(_baggage(name, ambient))
    return found


def _split(tags: str | None) -> list[str]:
    return [tag.strip() for tag in (tags or "").split(",") if tag.strip()]


def _listed(text: str) -> list[str]:
    found = _loaded(text)
    return [tag for tag in cast("list[object]", found) if isinstance(tag, str)] if isinstance(found, list) else []


def _metadata(ambient: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in (at.METADATA, f"{_LANGFUSE}metadata"):
        value = otel_context.get_value(key, ambient)
        if isinstance(value, str):  # OpenInference keeps JSON
            value = _loaded(value)
        if isinstance(value, dict):
            found.update(cast("dict[str, Any]", value))
    return found


def _loaded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:  # somebody else's value under that name
        return None
