"""What llama-index's models, tools and retrievers say of a call: who is asked, messages, tokens, documents.

Its objects are read by their public names, and by those of the providers' answers that it hands on (`raw`). What is
not there, or is of another kind than expected, is left out. This module imports nothing of llama-index.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from workflows.instrumentation import attributes as at
from workflows_otel.calls import CallKind
from workflows_otel.messages import SHOWN_MESSAGES

__all__ = [
    "as_messages",
    "documents",
    "embedding_kind",
    "model_kind",
    "query_text",
    "response_of",
    "retriever_kind",
    "tool_kind",
    "usage",
]

INTEGRATIONS = ("llama_index", "llms")  # the package of a provider is llama_index.llms.<provider>
UNKNOWN_MODEL = "unknown"  # llama-index's own word for it
SHOWN_DOCUMENTS = 40

# Names of `gen_ai.provider.name` where an integration's package is called otherwise.
PROVIDERS = {
    "azure_inference": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google_genai": "gcp.gemini",
    "mistralai": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
}
# Where providers say how many tokens went in and came out, in the order in which they are looked for.
COUNTS = (
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("prompt_token_count", "candidates_token_count"),
    ("prompt_eval_count", "eval_count"),
    ("inputTokens", "outputTokens"),
)


def model_kind(instance: object, model: Any, operation: str) -> CallKind:
    """A call of a model; `model` is what the event says of it."""
    about: dict[str, AttributeValue] = {}
    name = _text(model, "model_name") or _text(model, "model")
    if name == UNKNOWN_MODEL:
        name = None
    if name:
        about |= {at.GEN_AI_REQUEST_MODEL: name, at.LLM_MODEL_NAME: name}
    if provider := _provider(instance):
        about |= {at.GEN_AI_PROVIDER_NAME: provider, at.LLM_PROVIDER: provider}
    about |= _asked_of(instance)
    return CallKind(operation, "LLM", SpanKind.CLIENT, f"{operation} {name}" if name else operation, about)


def embedding_kind(model: Any) -> CallKind:
    """A call of an embedding model."""
    name = _text(model, "model_name")
    about: dict[str, AttributeValue] = {}
    if name and name != UNKNOWN_MODEL:
        about = {at.GEN_AI_REQUEST_MODEL: name, at.EMBEDDING_MODEL_NAME: name}
    return CallKind("embeddings", "EMBEDDING", SpanKind.CLIENT, f"embeddings {name}" if about else "embeddings", about)


def tool_kind(metadata: Any) -> CallKind:
    """A call of a tool."""
    name, description = _text(metadata, "name") or "tool", _text(metadata, "description")
    about: dict[str, AttributeValue] = {at.GEN_AI_TOOL_NAME: name, at.TOOL_NAME: name}
    if description:
        about |= {at.GEN_AI_TOOL_DESCRIPTION: description, at.TOOL_DESCRIPTION: description}
    return CallKind("execute_tool", "TOOL", SpanKind.INTERNAL, f"execute_tool {name}", about)


def retriever_kind(instance: object) -> CallKind:
    """A search, called by the class of the retriever."""
    return CallKind("retrieval", "RETRIEVER", SpanKind.CLIENT, f"retrieval {type(instance).__name__}", {})


def as_messages(messages: Any) -> list[dict[str, Any]]:
    """Chat messages as plain data: role, text, tools asked for, and which of them one answers."""
    found = cast("Sequence[Any]", messages) if isinstance(messages, (list, tuple)) else [messages]
    return [_as_message(message) for message in found[:SHOWN_MESSAGES]]


def response_of(event: Any) -> Any:
    """What a model answered: a message for a chat, a text for a completion; None where nothing came."""
    response = getattr(event, "response", None)
    message = getattr(response, "message", None)
    return _as_message(message) if message is not None else _text(response, "text")


def usage(response: Any) -> tuple[int | None, int | None, str | None]:
    """Tokens in, tokens out, and the model that answered."""
    raw = getattr(response, "raw", None)
    counted = [getattr(response, "additional_kwargs", None)]
    counted += [_field(raw, name) for name in ("usage", "usage_metadata", "usageMetadata", "token_usage")]
    model = _text(raw, "model") or _text(raw, "model_version")
    for holder in (*counted, raw):
        for sent, received in COUNTS:
            given, made = _field(holder, sent), _field(holder, received)
            if isinstance(given, int) or isinstance(made, int):
                return given if isinstance(given, int) else None, made if isinstance(made, int) else None, model
    return None, None, model


def query_text(query: Any) -> Any:
    """What is searched: the text of a query bundle, or the text itself."""
    return query if isinstance(query, str) else _text(query, "query_str")


def documents(nodes: Any) -> list[dict[str, Any]]:
    """What a retriever found, with scores."""
    found: list[dict[str, Any]] = []
    for scored in cast("Sequence[Any]", nodes or ())[:SHOWN_DOCUMENTS]:
        node = _field(scored, "node")
        about = {"content": _text(node, "text"), "id": _text(node, "node_id"), "score": _field(scored, "score")}
        found.append({name: value for name, value in about.items() if value is not None})
    return found


def _as_message(message: Any) -> dict[str, Any]:
    role = _field(message, "role")
    more = _field(message, "additional_kwargs")
    shown: dict[str, Any] = {"role": str(getattr(role, "value", role)), "content": _said(message)}
    if calls := _tool_calls(message, more):
        shown["tool_calls"] = calls
    if answers := _text(more, "tool_call_id"):
        shown["tool_call_id"] = answers
    return shown


def _said(message: Any) -> str:
    """The text of a message; of a part that is none (a picture, a sound) the kind."""
    blocks = _field(message, "blocks")
    if not isinstance(blocks, (list, tuple)):
        return _text(message, "content") or ""
    parts: list[str] = []
    for block in cast("Iterable[Any]", blocks):
        kind = _text(block, "block_type") or "part"
        if kind not in ("tool_call", "thinking"):
            parts.append(_text(block, "text") if kind == "text" else f"<{kind}>")  # pyright: ignore[reportArgumentType]  # filtered below
    return "\n".join(part for part in parts if part)


def _tool_calls(message: Any, more: Any) -> list[dict[str, Any]]:
    """In blocks since llama-index-core 0.14; before, among the arguments, in the provider's or llama-index's words."""
    calls: list[dict[str, Any]] = []
    for block in cast("Iterable[Any]", _field(message, "blocks") or ()):
        if _text(block, "block_type") == "tool_call":
            about = (_text(block, "tool_call_id"), _text(block, "tool_name"), _field(block, "tool_kwargs"))
            calls.append(_tool_call(*about))
    if not calls and isinstance(asked := _field(more, "tool_calls"), (list, tuple)):
        for one in cast("Iterable[Any]", asked):
            function = _field(one, "function")
            if function is not None:
                about = (_text(one, "id"), _text(function, "name"), _field(function, "arguments"))
            else:
                about = (_text(one, "tool_id"), _text(one, "tool_name"), _field(one, "tool_kwargs"))
            calls.append(_tool_call(*about))
    return calls


def _tool_call(call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    return {"id": call_id or "", "name": name or "tool", "arguments": {} if arguments is None else arguments}


def _provider(instance: object) -> str | None:
    """Who runs a model, by the package of its integration; None for a class of the user's."""
    for kind in type(instance).__mro__:
        parts = kind.__module__.split(".")
        if tuple(parts[:2]) == INTEGRATIONS and len(parts) > 2:
            return PROVIDERS.get(parts[2], parts[2])
    return None


def _asked_of(instance: object) -> dict[str, AttributeValue]:
    """The parameters of a request, as far as they are the model's own."""
    asked: dict[str, Any] = {}
    for name, key in (("temperature", at.GEN_AI_REQUEST_TEMPERATURE), ("max_tokens", at.GEN_AI_REQUEST_MAX_TOKENS)):
        value = _field(instance, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            asked[key] = value
    if not asked:
        return {}
    names = {key.rpartition(".")[2]: value for key, value in asked.items()}
    return {**asked, at.LLM_INVOCATION_PARAMETERS: json.dumps(names)}


def _text(holder: Any, name: str) -> str | None:
    value = _field(holder, name)
    return value if isinstance(value, str) and value else None


def _field(holder: Any, name: str) -> Any:
    """A value of a mapping or of an object; None where there is none, or where a property of the object raises."""
    if isinstance(holder, Mapping):
        return cast("Mapping[str, Any]", holder).get(name)
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001  # a property of somebody's object: a node without text raises ValueError
        return None
