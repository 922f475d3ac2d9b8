"""Bodies and headers that trickle in, and more than there may be."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_parts import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from redraft.gateway.limits import Limits, PatientProtocol, limited


async def size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = limited(Starlette(routes=[Route("/", size, methods=["POST"])]), Limits(1000, 0.2, 8))  # pyright: ignore[reportArgumentType]
    protocol = type("Protocol", (PatientProtocol,), {"headers_within": 0.2})
    with served(app, http=protocol) as url:
        yield int(url.rpartition(":")[2])


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts with pauses and return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        got = b""
        while piece := connection.recv(65536):
            got += piece
            if b"\r\n\r\n" in got and b"Connection: close" not in got and b"connection: close" not in got:
                break
        return got


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


def test_a_good_request_is_answered(port: int) -> None:
    assert talk(port, HEAD + b"Content-Length: 3\r\n\r\nabc").startswith(b"HTTP/1.1 200")


def test_headers_that_never_end_close_the_connection(port: int) -> None:
    started = time.monotonic()
    assert talk(port, b"POST / HTTP/1.1\r\n", b"X-Slow: 1\r\n") == b""
    assert 0.15 < time.monotonic() - started < 3


def test_saying_nothing_closes_the_connection(port: int) -> None:
    assert talk(port) == b""


def test_a_body_that_trickles_is_408(port: int) -> None:
    answer = talk(port, HEAD + b"Content-Length: 900\r\n\r\n", b"a", b"b", pause=0.15)
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("head", [b"Content-Length: 1001\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_beyond_the_limit_is_413(port: int, head: bytes) -> None:
    body = b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n" if b"chunked" in head else b""
    assert talk(port, HEAD + head + body).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("nonsense", [b"\x00\xff\xfe" * 50, b"GET / HTTP/9.9\r\n\r\n"])
def test_nonsense_is_400_or_closed(port: int, nonsense: bytes) -> None:
    answer: Any = talk(port, nonsense)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_a_body_that_has_arrived_is_refused_at_once() -> None:
    """Nothing more comes of it: who waited for more would keep the client waiting."""
    whole: Any = {"type": "http.request", "body": b"x" * 2000, "more_body": False}
    sent: list[Any] = []

    async def run() -> None:
        messages = iter([whole])

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        async with asyncio.timeout(1):
            scope: Any = {"type": "http", "path": "/", "headers": [], "method": "POST"}
            await limited(Starlette(), Limits(1000, 5.0, 8))(scope, receive, send)

    asyncio.run(run())
    assert sent[0]["status"] == 413
