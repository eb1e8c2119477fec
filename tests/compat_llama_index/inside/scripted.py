"""An LLM that says its lines: what every test here talks to instead of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool
from pydantic import PrivateAttr


class ScriptedLLM(FunctionCallingLLM):
    """Answers with its lines in turn: a text, or the tool calls to make; the last line again once they are used up."""

    calls_tools: bool = True
    _lines: list[str | list[ToolSelection]] = PrivateAttr()
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    def __init__(self, *lines: str | list[ToolSelection], calls_tools: bool = True) -> None:
        super().__init__(calls_tools=calls_tools)
        self._lines = list(lines)

    @property
    def asked(self) -> list[list[ChatMessage]]:
        """The messages of every request so far."""
        return self._asked

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="scripted", is_function_calling_model=self.calls_tools)

    def _reply(self, messages: Sequence[ChatMessage]) -> ChatResponse:
        line = self._lines[min(len(self._asked), len(self._lines) - 1)]
        self._asked.append(list(messages))
        text, calls = (line, []) if isinstance(line, str) else ("", line)
        message = ChatMessage(role="assistant", content=text, additional_kwargs={"tool_calls": calls})
        return ChatResponse(message=message, delta=text)

    def _completion(self, prompt: str) -> CompletionResponse:
        text = self._reply([ChatMessage(role="user", content=prompt)]).message.content or ""
        return CompletionResponse(text=text, delta=text)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._reply(messages)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._reply(messages)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        yield self._reply(messages)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        reply = self._reply(messages)

        async def one() -> ChatResponseAsyncGen:
            yield reply

        return one()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self._completion(prompt)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self._completion(prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield from self._words(prompt)

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        async def words() -> CompletionResponseAsyncGen:
            for response in self._words(prompt):
                yield response

        return words()

    def _words(self, prompt: str) -> list[CompletionResponse]:
        words = self._completion(prompt).text.split()
        return [CompletionResponse(text=" ".join(words[: n + 1]), delta=word) for n, word in enumerate(words)]

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        asked = [ChatMessage(role="user", content=user_msg)] if isinstance(user_msg, str) else [user_msg]
        return {"messages": [*(chat_history or []), *(m for m in asked if m is not None)]}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        return response.message.additional_kwargs.get("tool_calls", [])
