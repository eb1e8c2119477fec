"""Workflows behind MLflow's agent interfaces: `AgentServer` (asynchronous, SSE) and `ResponsesAgent`."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlflow_flavor._arguments import required_workflow
from mlflow_flavor._compat import invalid
from mlflow_flavor._model_code import digest_of, module_of_model
from mlflow_flavor._requests import asks, checked, fields_of_messages, fields_of_request, params_of
from mlflow_flavor._rows import plain_chunk
from mlflow_flavor._stream import text_delta
from mlflow_flavor.pyfunc import WorkflowPyfunc
from mlflow_flavor.token_store import TokenStore
from workflows import Workflow
from workflows.events import Event

if TYPE_CHECKING:  # loading them loads pandas, and takes MLflow a second
    from mlflow.pyfunc.model import ResponsesAgent
    from mlflow.types.responses import ResponsesAgentRequest

    from mlflow_flavor.responses import WorkflowResponsesAgent

__all__ = ["as_responses_agent", "register_agent"]

Fields = Mapping[str, Any]


def register_agent(
    workflow: Workflow,
    *,
    to_start: Callable[[Any], Fields] = fields_of_request,
    to_chunk: Callable[[Event], dict[str, Any] | None] = plain_chunk,
    token_store: TokenStore | None = None,
) -> None:
    """Answer an `mlflow.genai.agent_server.AgentServer` with a workflow, whose runs live on the server's own loop.

    A request gives `{"result": <result>}`; with `"stream": true`, a chunk for each streamed event and one for the
    result. A run that asks a person ends the request with `{"status": "input_required", "waiting", "resume"}`, and a
    request with `"params": {"resume": <JSON>}` goes on with it. `session_id` and `user` of the run come from `params`.
    A client that goes away cancels its run. An `AgentServer("ResponsesAgent")` gets answers in that form, as those of
    `as_responses_agent`.

    Args:
        workflow: What answers.
        to_start: Makes the start event's fields of a request, a dict (or a `ResponsesAgentRequest`).
        to_chunk: Makes a chunk of an event, in the form that the server takes; None leaves the event out.
        token_store: Where runs that wait for a person are kept; a token then works once. None: in the token itself,
            which is sealed with `WORKFLOWS_MLFLOW_RESUME_KEY`; where that is not set, a question is an error.

    Raises:
        MlflowException: If an agent is registered already (MLflow holds one a process), or it is no instance.
    """
    from mlflow.genai import agent_server  # it loads a web framework

    if agent_server.get_invoke_function() is not None or agent_server.get_stream_function() is not None:
        raise invalid("An agent is registered in this process already: start another process for another agent.")
    required_workflow(workflow, "register_agent()")
    model = WorkflowPyfunc(workflow, source=_source(workflow), token_store=token_store, serving=True)

    def responses() -> WorkflowResponsesAgent:
        from mlflow_flavor.responses import WorkflowResponsesAgent

        return WorkflowResponsesAgent(model, to_start, text_of_event)

    async def invoke(request: Any) -> Any:
        if not isinstance(request, Mapping):  # it is a `ResponsesAgentRequest`, and the server checks the answer
            return await responses().predict_here(request)
        found = await model.predict_here([checked(to_start(request))], params_of(request))
        return found if asks(found) else {"result": found}

    async def stream(request: Any) -> AsyncIterator[Any]:
        if not isinstance(request, Mapping) and to_chunk is plain_chunk:
            async for part in responses().stream_here(request):
                yield part
            return
        async for chunk in model.stream_here([checked(to_start(request))], params_of(request), to_chunk):
            yield chunk

    # MLflow calls the request's span after the function.
    invoke.__name__, stream.__name__ = f"invoke_{type(workflow).__name__}", f"stream_{type(workflow).__name__}"
    agent_server.invoke()(invoke)
    agent_server.stream()(stream)


def text_of_event(event: Event) -> str | None:
    """The piece of text that an event of the stream is: its only field, called `delta`, `token` or `chunk`."""
    return text_delta(event)


def as_responses_agent(
    workflow: Workflow,
    *,
    to_start: Callable[[ResponsesAgentRequest], Fields] = fields_of_messages,
    to_text: Callable[[Event], str | None] = text_of_event,
    token_store: TokenStore | None = None,
) -> ResponsesAgent:
    """The workflow as an agent that speaks OpenAI's Responses, to serve or to evaluate with MLflow.

    The last user message becomes the only field of the start event, or its field `input`. The result is one text
    message; what is no text is shown as JSON. A question to a person comes as `custom_outputs`, its answer goes into
    `custom_inputs["resume"]`.

    Args:
        workflow: What answers.
        to_start: Makes the start event's fields of a request.
        to_text: The text that a streamed event adds to the answer; None where it adds none.
        token_store: As in `register_agent`.

    Raises:
        MlflowException: If it is no instance of `Workflow`.
    """
    from mlflow_flavor.responses import WorkflowResponsesAgent  # it loads most of MLflow

    required_workflow(workflow, "as_responses_agent()")
    model = WorkflowPyfunc(workflow, source=_source(workflow), token_store=token_store)
    return WorkflowResponsesAgent(model, to_start, to_text)


def _source(workflow: Workflow) -> str:
    """What a resume token of this workflow is for: the model that it was loaded from, else its class."""
    home = module_of_model(workflow)
    named = f"{type(workflow).__module__}.{type(workflow).__qualname__}" if home is None else digest_of(home)
    return hashlib.sha256(named.encode()).hexdigest()
