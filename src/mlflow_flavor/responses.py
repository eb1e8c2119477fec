"""`WorkflowResponsesAgent`: a workflow as MLflow's `ResponsesAgent`. Importing this module loads most of MLflow."""

from __future__ import annotations

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# The functions of MLflow that are called here have no types.
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from mlflow.pyfunc.model import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from mlflow_flavor._requests import asks, checked, params_of
from mlflow_flavor._rows import plain_result
from mlflow_flavor.pyfunc import WorkflowPyfunc
from workflows.events import Event, StopEvent

__all__ = ["WorkflowResponsesAgent"]

Fields = Mapping[str, Any]


class WorkflowResponsesAgent(ResponsesAgent):
    """A workflow that speaks OpenAI's Responses; `as_responses_agent` makes it.

    Args:
        model: The workflow.
        to_start: Makes the start event's fields of a request.
        to_text: The text that a streamed event adds to the answer; None where it adds none.
    """

    def __init__(
        self,
        model: WorkflowPyfunc,
        to_start: Callable[[ResponsesAgentRequest], Fields],
        to_text: Callable[[Event], str | None],
    ) -> None:
        self._model = model
        self._start_fields = list(model.get_raw_model().start_event_class.model_fields)
        self._to_start = to_start
        self._to_text = to_text

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """Run the workflow and wait for its answer."""
        return self._response(self._model.predict([self._fields(request)], params_of(request)))

    async def predict_here(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """As `predict`, on the running event loop: for a server that has one."""
        return self._response(await self._model.predict_here([self._fields(request)], params_of(request)))

    def predict_stream(self, request: ResponsesAgentRequest) -> Iterator[ResponsesAgentStreamEvent]:  # pyright: ignore[reportIncompatibleMethodOverride]  # MLflow asks for a Generator, and calls only next()
        """Run the workflow and give the answer's text as it comes, then the whole message."""
        message = f"msg_{uuid4().hex}"
        for chunk in self._model.predict_stream([self._fields(request)], params_of(request), self._show):
            yield self._part(chunk, message)

    async def stream_here(self, request: ResponsesAgentRequest) -> AsyncIterator[ResponsesAgentStreamEvent]:
        """As `predict_stream`, on the running event loop."""
        message = f"msg_{uuid4().hex}"
        async with aclosing(self._model.stream_here([self._fields(request)], params_of(request), self._show)) as chunks:
            async for chunk in chunks:
                yield self._part(chunk, message)

    def _response(self, found: Any) -> ResponsesAgentResponse:
        item: Any = self.create_text_output_item(_answer(found), f"msg_{uuid4().hex}")
        return ResponsesAgentResponse(output=[item], custom_outputs=found if asks(found) else None)

    def _part(self, chunk: Any, message: str) -> ResponsesAgentStreamEvent:
        """A piece of text; or at last the whole message, of the result or a question."""
        if isinstance(chunk, str):
            return ResponsesAgentStreamEvent(**self.create_text_delta(chunk, message))
        custom = chunk if asks(chunk) else None
        item = self.create_text_output_item(_answer(custom or chunk["result"]), message)
        return ResponsesAgentStreamEvent(type="response.output_item.done", item=item, custom_outputs=custom)  # pyright: ignore[reportCallIssue]  # MLflow keeps extra fields

    def _show(self, event: Event) -> object:
        return {"result": plain_result(event)} if isinstance(event, StopEvent) else self._to_text(event)

    def _fields(self, request: ResponsesAgentRequest) -> Fields:
        fields = checked(self._to_start(request))
        if len(self._start_fields) == 1 and list(fields) == ["input"]:
            return {self._start_fields[0]: fields["input"]}
        return fields


def _answer(found: Any) -> str:
    if asks(found):
        found = [wait["event"]["data"] for wait in found["waiting"] if wait["event"]]
        found = next(iter(found[0].values())) if len(found) == 1 and len(found[0]) == 1 else found
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
