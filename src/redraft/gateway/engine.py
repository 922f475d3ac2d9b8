"""What answers for a policy: its interface, and how it fails."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from redraft.errors import RedraftError
from redraft.gateway.openai import ChatRequest
from redraft.messages import choice_size, content_text, message_text

__all__ = ["Answer", "Breaker", "Engine", "EngineError", "Forwarding", "Piece"]


class EngineError(RedraftError):
    """A policy did not answer. ``status`` is what the client gets; ``retry``: another policy may answer instead.

    ``kind``, ``code`` and ``param`` are the other fields of OpenAI's error object, and ``retry_after`` is the seconds
    that an upstream asked to wait. ``final`` says that the client should not ask again: we did, or it is of no use.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        retry: bool = True,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status, self.retry, self.final = status, retry, final
        self.kind, self.code, self.param, self.retry_after = kind, code, param, retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: OpenAI's choice (message and finish reason) and usage.

    ``more`` has the other fields of the upstream's body (``system_fingerprint``, ``citations``, …), ``request_id`` its
    ``x-request-id``.
    """

    choice: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request_id: str = ""

    @property
    def text(self) -> str:
        """The text y as it is logged."""
        return message_text(self.choice["message"])


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer: OpenAI's choices of one chunk, or the usage at its end; the rest as in ``Answer``.

    Every choice has a ``delta`` that is a mapping.
    """

    choices: tuple[Mapping[str, Any], ...]
    usage: Mapping[str, Any] | None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request_id: str = ""

    @classmethod
    def of(cls, delta: Mapping[str, Any], reason: str | None) -> Piece:
        """A piece with one choice."""
        return cls(({"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None},), None)

    @property
    def says(self) -> bool:
        """Whether it is part of an answer, rather than the announcement of one."""
        return self.usage is not None or any(
            choice.get("finish_reason") or any(value for name, value in choice["delta"].items() if name != "role")
            for choice in self.choices
        )

    @property
    def size(self) -> int:
        """Characters of all that it adds to the answer."""
        return sum(map(choice_size, self.choices))

    @property
    def text(self) -> str:
        """What it adds to the answer's content."""
        return "".join(content_text(choice["delta"].get("content")) for choice in self.choices)


class Engine(Protocol):
    """Answers for several policies; all methods run on the event loop."""

    @property
    def decoding(self) -> Mapping[str, str]:
        """What the log says of how it writes, beside what a request asks for."""
        return {}

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """A whole answer; raises ``EngineError``."""
        ...

    def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """An answer piece by piece; after an ``EngineError`` before the first piece another policy may answer."""
        ...

    async def start(self, policies: list[str]) -> None:
        """Make policies ready to answer; raises ``RedraftError``."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


@runtime_checkable
class Forwarding(Protocol):
    """An engine that also passes on requests other than chat; nothing of these is logged."""

    async def forward(
        self, path: str, body: Mapping[str, Any], policy: str
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Post ``body`` to ``path`` (``/embeddings``, below the base URL) with the policy's model.

        Gives the status (2xx), the headers that concern the client, and the answer's bytes, which must be read or
        closed. Raises ``EngineError``, and so does the reading where it breaks off.
        """
        ...


@dataclass(slots=True)
class Breaker:
    """A circuit breaker: open for ``pause`` seconds after ``failures`` in a row; then one request tries again."""

    failures: int = 5
    pause: float = 10.0
    clock: Callable[[], float] = field(default=time.monotonic)
    _failed: int = 0
    _open_until: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether all requests may go there."""
        return self._failed < self.failures

    @property
    def ready(self) -> bool:
        """Whether a request may go there now, be it to try again."""
        return self.closed or self.clock() >= self._open_until

    def allows(self) -> bool:
        """Whether a request may go there now. While one tries again, others are kept away."""
        if self.closed:
            return True
        if not self.ready:
            return False
        self._open_until = self.clock() + self.pause
        return True

    def succeeded(self) -> None:
        """Count an answer."""
        self._failed = 0

    def failed(self) -> None:
        """Count a failure."""
        self._failed += 1
        self._open_until = self.clock() + self.pause
