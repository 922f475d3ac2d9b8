"""Who answers for a policy: what the gateway asks of it, and how it fails."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from redraft.errors import RedraftError
from redraft.gateway.openai import ChatRequest

__all__ = ["Answer", "Breaker", "Engine", "EngineError", "Piece"]


class EngineError(RedraftError):
    """A policy did not answer. ``status`` is what the client is told; ``retry`` whether another may answer instead."""

    def __init__(self, message: str, *, status: int = 502, retry: bool = True, body: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.status, self.retry, self.body = status, retry, body


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: OpenAI's choice (message and finish reason), usage, and the text y as it is logged."""

    choice: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer: OpenAI's choices of one chunk, or the usage at its end."""

    choices: tuple[Mapping[str, Any], ...]
    usage: Mapping[str, Any] | None
    text: str


class Engine(Protocol):
    """Answers for several policies; all methods run on the event loop."""

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """A whole answer; raises ``EngineError``."""
        ...

    def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """An answer piece by piece; an ``EngineError`` before the first piece leaves room for another policy."""
        ...

    async def start(self, policies: list[str]) -> None:
        """Make policies ready to answer; raises ``RedraftError``."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


@dataclass(slots=True)
class Breaker:
    """After ``failures`` in a row a policy is left alone for ``pause`` seconds; then one request tries it again."""

    failures: int = 5
    pause: float = 10.0
    clock: Callable[[], float] = field(default=time.monotonic)
    _failed: int = 0
    _closed_until: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether requests go there as they come."""
        return self._failed < self.failures

    def allows(self) -> bool:
        """Whether a request may go there now. The one that tries again keeps others away meanwhile."""
        if self.closed:
            return True
        if self.clock() < self._closed_until:
            return False
        self._closed_until = self.clock() + self.pause
        return True

    def succeeded(self) -> None:
        """An answer came."""
        self._failed = 0

    def failed(self) -> None:
        """None came."""
        self._failed += 1
        self._closed_until = self.clock() + self.pause
