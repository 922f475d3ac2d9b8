"""Limits on what a stranger can do to a server: the size of a body, its time to arrive, and concurrent requests.

An ASGI layer around the application, and a protocol class for uvicorn, which would wait for ever for a request's
headers.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redraft.gateway.openai import error_response

__all__ = ["Limits", "PatientProtocol", "limited"]

_UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, seconds until it has arrived, and requests answered at the same time."""

    body: int
    seconds: float
    concurrency: int


def limited(app: ASGIApp, limits: Limits) -> ASGIApp:
    """Pass on to ``app`` what keeps to ``limits``; answer the rest with 408, 413 or 429, in OpenAI's shape."""
    busy = 0

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal busy
        if scope["type"] != "http" or scope["path"] in _UNLIMITED:
            return await app(scope, receive, send)
        if busy >= limits.concurrency:
            busy_now = error_response(429, f"{limits.concurrency} requests are being answered: try again later")
            return await busy_now(scope, receive, send)
        busy += 1
        try:
            return await app(scope, _replay(await _body(scope, receive, limits), receive), send)
        except HTTPException as refused:
            response = error_response(refused.status_code, refused.detail)
            response.headers["connection"] = "close"
            return await response(scope, receive, send)
        finally:
            busy -= 1

    return run


async def _body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body; a request that says it is too large is refused before it is read."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limits.body:
        raise HTTPException(413, f"the body has {int(declared):,} bytes, more than {limits.body:,}")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(400, "the client went away")
                part = message.get("body", b"")
                size += len(part)
                if size > limits.body:
                    raise HTTPException(413, f"the body has more than {limits.body:,} bytes")
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {limits.seconds:g} seconds") from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, then whatever follows."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also closes a connection when a request's headers do not arrive in time."""

    headers_within = 30.0
    _awaited_since: float | None = None
    _timer: asyncio.TimerHandle | None = None  # one for the connection: a new one for each request costs more than all

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        super().connection_made(transport)
        self._awaited_since = self.loop.time()
        self._look()

    def on_headers_complete(self) -> None:
        """They are there."""
        self._awaited_since = None
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request's."""
        super().on_response_complete()
        self._awaited_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection when it is time, else look again then."""
        now = self.loop.time()
        due = (now if self._awaited_since is None else self._awaited_since) + self.headers_within
        if now < due:
            self._timer = self.loop.call_at(due, self._look)
        elif not self.transport.is_closing():
            self.transport.close()
