"""A stream of server-sent events: every one is sent as soon as it is there, and long silences are filled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["EventStream", "event"]

SILENCE = 15.0
"""Seconds after which a comment is sent, so that no proxy takes a thinking model for a dead connection."""

_COMMENT = b": keep-alive\n\n"


def event(body: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event, with a name where OpenAI's stream has names."""
    data = b"data: " + json.dumps(body).encode() + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data


class EventStream(StreamingResponse):
    """Sends events and closes their generator, also when the client goes away: that cancels this (``limits``)."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], headers: Mapping[str, str]) -> None:
        # nginx and its kin would otherwise hold events back
        super().__init__(events, headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        async with aclosing(self._events), _Pulse(send) as pulse:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for part in self._events:
                pulse.sent()
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Pulse:
    """Sends a comment after each ``SILENCE``: one timer for a stream, which looks again when it may be due."""

    def __init__(self, send: Send) -> None:
        self._send, self._loop = send, asyncio.get_running_loop()
        self._beat: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Pulse:
        self.sent()
        self._timer = self._loop.call_later(SILENCE, self._look)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def sent(self) -> None:
        """Note that something is sent now."""
        self._last = self._loop.time()

    def _look(self) -> None:
        if self._loop.time() >= self._last + SILENCE:
            self.sent()
            if self._beat is None or self._beat.done():  # else the client does not read
                self._beat = self._loop.create_task(self._said())
        self._timer = self._loop.call_at(self._last + SILENCE, self._look)

    async def _said(self) -> None:
        await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
