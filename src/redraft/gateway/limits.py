"""Limits on what a stranger can do to a server: the size of a body, its time to arrive, and concurrent requests.

An ASGI layer around the application, and a protocol class for uvicorn, which would wait for ever for a request's
headers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from redraft.gateway.failures import Failure, failure

__all__ = ["ANSWERS", "Limits", "PatientProtocol", "limited"]

ANSWERS = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"})
"""Paths where a policy answers."""

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
            busy_now = Failure(429, f"{limits.concurrency} requests are being answered: try again later")
            return await busy_now.response()(scope, receive, send)
        busy += 1
        try:
            return await app(scope, _replay(await _body(scope, receive, limits), receive), send)
        except HTTPException as refused:
            response = failure(refused).response()
            response.headers["connection"] = "close"
            return await response(scope, receive, send)
        finally:
            busy -= 1

    return run


async def _body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body; one that is too large is not kept."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limits.body:
        await _discard(receive, limits)
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
                    break
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {limits.seconds:g} seconds") from None
    if message.get("more_body"):
        await _discard(receive, limits)
    raise HTTPException(413, f"the body has more than {limits.body:,} bytes")


async def _discard(receive: Receive, limits: Limits) -> None:
    """Let a client go on sending for a while: one whose connection is closed before sees no answer but a reset."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(min(limits.seconds, 5.0)):
            while (message := await receive()).get("more_body") and size < 4 * limits.body:
                size += len(message["body"])


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
    """uvicorn's protocol, which also bounds the time that headers take, and stops to answer who has gone away.

    The time counts from a request's first byte, for a connection's first request from its beginning; between requests
    uvicorn's ``timeout_keep_alive`` rules. Who goes away cancels what would have been the answer, if it is one of a
    policy; a write such as an edit goes on.
    """

    headers_within = 30.0
    _awaited_since: float | None = None
    _timer: asyncio.TimerHandle | None = None  # one for the connection: a new one for each request costs more than all
    _answering: asyncio.Task[Any] | None = None

    def connection_made(self, transport: Any) -> None:
        """Start to wait for headers."""
        super().connection_made(transport)
        self._app, self.app = self.app, self._watched
        self._awaited_since = self.loop.time()
        self._look()

    def data_received(self, data: bytes) -> None:
        """Start to wait for headers where this is not the rest of a request."""
        if self._awaited_since is None and self.cycle.response_complete:
            self._awaited_since = self.loop.time()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """They are there."""
        self._awaited_since = None
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for, and nobody to answer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        if self._answering is not None:
            self._answering.cancel()
        self.app = self._app  # no reference to itself

    async def _watched(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in ANSWERS:
            self._answering = asyncio.current_task()
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:  # the client has gone, or the server stops
            self.transport.close()
        finally:
            self._answering = None

    def _look(self) -> None:
        """Close the connection when it is time, else look again then."""
        now = self.loop.time()
        due = (now if self._awaited_since is None else self._awaited_since) + self.headers_within
        if now < due:
            self._timer = self.loop.call_at(due, self._look)
        elif not self.transport.is_closing():
            self.transport.close()
