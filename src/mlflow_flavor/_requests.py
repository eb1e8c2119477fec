"""Requests to an agent server, in their two shapes: a dict of the caller's own, and OpenAI's Responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from mlflow_flavor._compat import invalid

__all__ = ["asks", "checked", "fields_of_messages", "fields_of_request", "params_of"]

Fields = Mapping[str, Any]

ASKED = "input_required"


def fields_of_request(request: Any) -> Fields:
    """The start event's fields in a request to an `AgentServer`: all but `params` and `context`.

    Of a request in the form of OpenAI's Responses: the text of the last user message as `input`, and `custom_inputs`.
    """
    if not isinstance(request, Mapping):
        return fields_of_messages(request)
    request = cast("Fields", request)
    return {name: value for name, value in request.items() if name not in ("params", "context")}


def params_of(request: Any) -> dict[str, Any]:
    """Session, user and answers to questions, where a request has them.

    Raises:
        MlflowException: If its `params` are no mapping.
    """
    if isinstance(request, Mapping):
        request = cast("Fields", request)
        params: object = request.get("params") or {}
        if not isinstance(params, Mapping):
            raise invalid(f"params of a request needs to be an object, got {type(params).__name__}.")
        given = cast("Fields", params)
        return {**given, "resume": _as_text(given.get("resume"))}
    context: Any = request.context
    custom: dict[str, Any] = request.custom_inputs or {}
    return {
        "session_id": context.conversation_id if context is not None else None,
        "user": context.user_id if context is not None else None,
        "resume": _as_text(custom.get("resume")),
    }


def fields_of_messages(request: Any) -> Fields:
    """The text of the last user message as `input`, and the request's `custom_inputs` but for `resume`."""
    given: dict[str, Any] = request.custom_inputs or {}
    custom = {name: value for name, value in given.items() if name != "resume"}
    asked = [text for item in request.input if (text := _user_text(item.model_dump())) is not None]
    return {**({"input": asked[-1]} if asked else {}), **custom}


def checked(fields: object) -> Fields:
    if not isinstance(fields, Mapping):
        raise invalid(f"to_start() needs to return the start event's fields as a dict, got {type(fields).__name__}.")
    return cast("Fields", fields)


def asks(found: object) -> bool:
    return isinstance(found, dict) and cast("dict[str, object]", found).get("status") == ASKED and "resume" in found


def _as_text(resume: object) -> str | None:
    return resume if isinstance(resume, str) or resume is None else json.dumps(resume)


def _user_text(item: dict[str, Any]) -> str | None:
    if item.get("role") != "user":
        return None
    content = item.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[dict[str, Any]]", content or [])
    return "".join(str(part.get("text", "")) for part in parts)
