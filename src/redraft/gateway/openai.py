"""OpenAI's chat contract, as far as a gateway has to read it; all else passes through untouched."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticSerializationError, to_json

from redraft.messages import message_text
from redraft.types import Message

__all__ = ["ChatMessage", "ChatRequest", "as_json", "completion_body"]

_ROLES = {"developer": "system", "function": "tool"}


class ChatMessage(BaseModel):
    """One message; ``content`` may be text, parts, or missing beside tool calls."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    def logged(self) -> Message:
        """Its text, and the fields that this stands for where it is not all."""
        role = cast(Any, _ROLES.get(self.role, self.role))
        if isinstance(self.content, str) and not self.model_extra:
            return Message(role, self.content)
        whole = self.model_dump(exclude_unset=True, exclude={"role"})
        plain = isinstance(self.content, str)
        more = {name: value for name, value in whole.items() if value is not None and not (plain and name == "content")}
        return Message(role, message_text(whole), more)


class StreamOptions(BaseModel):
    """What a stream contains besides text."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for one completion. ``model`` names a task, whose selector chooses, or pins one policy."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
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
        """The messages as the log keeps them: their text, and the fields that it stands for where it is not all."""
        return tuple(message.logged() for message in self.messages)

    def decoding(self) -> dict[str, Any]:
        """The decoding that was asked for, as the log keeps it."""
        asked = {"temperature": self.temperature, "max_new_tokens": self.limit, "seed": self.seed, "stop": self.stop}
        return {name: value for name, value in asked.items() if value is not None}

    def forwarded(self, model: str) -> dict[str, Any]:
        """The body for an upstream that knows the policy as ``model``; what only concerns us is left out."""
        return {**self.model_dump(exclude_unset=True, exclude={"metadata", "user"}), "model": model}


def as_json(body: Mapping[str, Any]) -> bytes:
    """A whole body in JSON; a third of the time that ``json`` takes, which knows half a surrogate pair too."""
    try:
        return to_json(body)
    except PydanticSerializationError:
        return json.dumps(body).encode()


def completion_body(
    completion_id: str, policy: str, choices: Sequence[Mapping[str, Any]], *, created: int | None = None, **more: Any
) -> dict[str, Any]:
    """A whole completion, or a chunk of the one ``created`` then. Its ``model`` is the policy that answered."""
    return {
        "id": completion_id,
        "object": "chat.completion" if created is None else "chat.completion.chunk",
        "created": int(time.time()) if created is None else created,
        "model": policy,
        "choices": list(choices),
        **more,
    }
