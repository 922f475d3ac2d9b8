"""``POST /v1/responses``: OpenAI's newer API for the same answers.

A request is translated into one for chat, so that choice, log and edits know no difference; the response's ``id`` is
the completion's, to which an edit refers. Left out, and refused in plain words: what needs a memory of earlier
responses (``previous_response_id``, ``conversation``, ``background``) and tools that run here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from redraft.gateway.auth import Authority
from redraft.gateway.chat import begun, parsed, passed_on, reply_headers
from redraft.gateway.engine import EngineError
from redraft.gateway.openai import ChatRequest
from redraft.gateway.response_events import Form, output_of, response_events
from redraft.gateway.service import Gateway
from redraft.gateway.streams import EventStream

__all__ = ["Responses", "ResponsesRequest"]

Object = dict[str, Any]

_REFUSED = {
    "previous_response_id": "no response is kept: send the whole conversation as input",
    "conversation": "no conversation is kept: send all of it as input, and metadata.conversation_id to keep one policy",
    "background": "an answer cannot be fetched later: leave it out, or stream",
    "prompt": "no prompt is stored here: send input and instructions",
    "top_logprobs": "use /v1/chat/completions for log-probabilities",
}
_UNHEEDED = frozenset({"store", "include", "truncation", "stream_options", "service_tier", "max_tool_calls"})


class ResponsesRequest(BaseModel):
    """A request for one response, as far as it differs from one for chat; other fields are passed on."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: str | list[Object]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    text: Object | None = None
    reasoning: Object | None = None
    user: str | None = None
    safety_identifier: str | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: Any = None
    conversation: Any = None
    background: bool | None = None
    prompt: Any = None
    top_logprobs: int | None = None

    def chat(self) -> ChatRequest:
        """The same for chat; raises ``EngineError`` (400) for what is not supported, and ``RequestValidationError``."""
        for name, remedy in _REFUSED.items():
            if getattr(self, name):
                raise _unsupported(name, remedy)
        text, reasoning = self.text or {}, self.reasoning or {}
        told = {
            **{name: value for name, value in (self.model_extra or {}).items() if name not in _UNHEEDED},
            "model": self.model,
            "messages": _messages(self.instructions, self.input),
            "stream": self.stream,
            "max_completion_tokens": self.max_output_tokens,
            "tools": None if self.tools is None else [_tool(tool) for tool in self.tools] or None,
            "tool_choice": _tool_choice(self.tool_choice),
            "response_format": _format(text.get("format")),
            "verbosity": text.get("verbosity"),
            "reasoning_effort": reasoning.get("effort"),
            "user": self.user or self.safety_identifier,
        }
        try:
            return ChatRequest.model_validate({name: value for name, value in told.items() if value is not None})
        except ValidationError as error:
            raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error

    def form(self) -> Form:
        """What every response to it repeats."""
        more = self.model_extra or {}
        text = self.text or {}
        return {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": more.get("metadata") or {},
            "parallel_tool_calls": more.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None} | (self.reasoning or {}),
            "temperature": more.get("temperature"),
            "text": text | {"format": text.get("format") or {"type": "text"}},
            "tool_choice": self.tool_choice or "auto",
            "tools": [{"strict": None, "parameters": None, **tool} for tool in self.tools or ()],
            "top_p": more.get("top_p"),
            "truncation": "disabled",
            "user": self.user,
            "safety_identifier": self.safety_identifier,
        }


class Responses:
    """The route, over a gateway."""

    def __init__(self, gateway: Gateway, authority: Authority) -> None:
        self._gateway, self._authority = gateway, authority

    async def __call__(self, request: Request) -> Response:
        """Answer, as in OpenAI's reference of responses."""
        caller = await self._authority.caller(request.headers.get("authorization"))
        caller.require("client")
        asked = parsed(ResponsesRequest, await request.body())
        reply = await self._gateway.complete(asked.chat(), caller.project)
        form = asked.form() | {"id": reply.completion_id, "model": reply.model, "created_at": int(time.time())}
        if reply.pieces is not None:
            first = await begun(reply.pieces)
            return EventStream(response_events(form, first, reply.pieces), reply_headers(reply, first))
        answer = reply.answer
        assert answer is not None
        body = output_of(form, answer.choice["message"], answer.choice.get("finish_reason"), answer.usage)
        return JSONResponse(passed_on(answer.more) | body, headers=reply_headers(reply, answer))


def _unsupported(param: str, remedy: str) -> EngineError:
    code = "unsupported_parameter"
    return EngineError(f"{param} is not supported: {remedy}", status=400, retry=False, code=code, param=param)


def _messages(instructions: str | None, given: str | Sequence[Object]) -> list[Object]:
    """Chat's messages. Calls of tools belong to the message of the assistant before them."""
    messages: list[Object] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for item in given:
        match item.get("type", "message"):
            case "message":
                messages.append({"role": item.get("role"), **_content(item.get("content"))})
            case "function_call":
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                function = {"name": item.get("name"), "arguments": item.get("arguments")}
                call = {"id": item.get("call_id"), "type": "function", "function": function}
                messages[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                said = _content(item.get("output"))
                messages.append({"role": "tool", "tool_call_id": item.get("call_id"), **said})
            case "reasoning":  # of another model: nothing here can read it
                continue
            case other:
                raise _unsupported("input", f"items of type {other!r} have no meaning here")
    return messages


def _content(given: Any) -> Object:
    """Content in chat's form: text where it is text only, else parts, and what was said in refusing."""
    if not isinstance(given, list):
        return {"content": given}
    parts: list[Object] = []
    refusals: list[str] = []
    for part in given:
        match part if isinstance(part, dict) else {}:
            case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "refusal", "refusal": str(text)}:
                refusals.append(text)
            case {"type": "input_image", "image_url": str(url), **more}:
                parts.append({"type": "image_url", "image_url": {"url": url, "detail": more.get("detail") or "auto"}})
            case {"type": "input_file", **more}:
                parts.append({"type": "file", "file": more})
            case {"type": "input_audio", **more}:
                parts.append({"type": "input_audio", **more})
            case other:
                raise _unsupported("input", f"a part of type {other.get('type')!r} has no meaning here")
    refusal = {"refusal": "".join(refusals)} if refusals else {}
    if all(part["type"] == "text" for part in parts):
        return {"content": "".join(part["text"] for part in parts) if parts or not refusals else None, **refusal}
    return {"content": parts, **refusal}


def _tool(tool: Object) -> Object:
    if tool.get("type") != "function":
        raise _unsupported("tools", f"{tool.get('type')!r} does not run here: use tools of type 'function'")
    return {"type": "function", "function": {name: v for name, v in tool.items() if name != "type" and v is not None}}


def _tool_choice(choice: str | Object | None) -> str | Object | None:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function":
        raise _unsupported("tool_choice", "use auto, none, required, or a function by its name")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _format(given: Any) -> Object | None:
    match given:
        case {"type": "json_schema", **schema}:
            return {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case None | {"type": "text"}:
            return None
        case _:
            raise _unsupported("text", "format is text, json_object or json_schema")
