"""OpenAI's chat contract, as far as a gateway has to read it; what it need not know passes through untouched."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from redraft.types import Message

__all__ = ["ChatMessage", "ChatRequest", "chunk_of", "error_body", "response_of", "text_of"]


class ChatMessage(BaseModel):
    """One message; ``content`` may be text, parts, or missing beside tool calls."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(BaseModel):
    """What a stream holds beside text."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for one completion. ``model`` names a task, whose selector chooses, or pins one policy."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=1, description="One answer to a request: edits are of one.")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def conversation(self) -> str | None:
        """``metadata.conversation_id``: one policy answers all of it."""
        found = (self.metadata or {}).get("conversation_id")
        return None if found is None else str(found)

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        stop = self.stop or ()
        return (stop,) if isinstance(stop, str) else tuple(text for text in stop if text)

    def logged(self) -> tuple[Message, ...]:
        """The messages as the log keeps them: their text, and a mark for every part that is none."""
        roles = {"developer": "system", "function": "tool"}
        return tuple(
            Message(cast(Any, roles.get(message.role, message.role)), text_of(message.content))
            for message in self.messages
        )

    def decoding(self) -> dict[str, Any]:
        """What was asked of the decoding, for the log."""
        asked = {"temperature": self.temperature, "max_new_tokens": self.limit, "seed": self.seed, "stop": self.stop}
        return {name: value for name, value in asked.items() if value is not None}

    def forwarded(self, model: str) -> dict[str, Any]:
        """The body for an upstream that knows the policy as ``model``; what only concerns us is left out."""
        return {**self.model_dump(exclude_unset=True, exclude={"metadata", "user"}), "model": model}


def text_of(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """The text of a message or an answer; a part that is no text leaves its type in brackets."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(p.get("text", "")) if p.get("type") == "text" else f"[{p.get('type')}]" for p in content)


def response_of(
    completion_id: str, policy: str, choice: Mapping[str, Any], usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A whole completion. Its ``model`` is the policy that answered."""
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": policy,
        "choices": [{**choice, "index": 0}],
        "usage": usage,
    }


def chunk_of(
    completion_id: str, policy: str, created: int, choices: Sequence[Mapping[str, Any]], usage: Any = None
) -> dict[str, Any]:
    """A piece of a streamed completion."""
    chunk = {
        "id": completion_id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": policy,
        "choices": list(choices),
    }
    return chunk if usage is None else {**chunk, "usage": usage}


def error_body(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
