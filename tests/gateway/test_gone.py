"""Clients that leave, connections that wait, and streams that are silent."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import Scripted, served, task
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from redraft.errors import NotFoundError
from redraft.gateway import streams
from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Answer, Piece
from redraft.gateway.limits import Limits, PatientProtocol, limited
from redraft.gateway.openai import ChatRequest
from redraft.gateway.service import Gateway, Reply
from redraft.log import EditLog

ASK: Any = {"model": "email", "messages": [{"role": "user", "content": "hi"}]}


class Slow(Scripted):
    """Answers when it is let, and tells of requests that were cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.cancelled, self.first = 0, 0, True

    async def _wait(self) -> None:
        self.began += 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        await self._wait()
        raise AssertionError

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        if self.first:
            yield Piece.of({"content": "Dear"}, None)
            yield Piece.of({"content": " Ann"}, None)
        await self._wait()
        yield Piece.of({}, "stop")


@pytest.fixture
def engine() -> Slow:
    return Slow()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


@pytest.fixture
def gateway(log: EditLog, engine: Slow) -> Gateway:
    return Gateway(log, [task(engine)])


@pytest.fixture
def port(log: EditLog, gateway: Gateway) -> Iterator[int]:
    app = limited(create_app(gateway, Authority(log.key, "default")), Limits(10_000, 5, 8))
    with served(app) as url:
        yield int(url.rpartition(":")[2])


def soon(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.005)
    return happened()


def kept(log: EditLog, completion_id: str) -> bool:
    with suppress(NotFoundError):
        return log.interaction(completion_id).completion.response.startswith("Dear")
    return False


def asking(port: int, path: str, body: Any) -> socket.socket:
    said = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)
    return connection


PATHS = [("/v1/chat/completions", ASK), ("/v1/responses", {"model": "email", "input": "hi"})]


@pytest.mark.parametrize("asked", [(*said, stream) for said in PATHS for stream in (False, True)])
def test_who_leaves_before_the_answer_is_not_answered(
    port: int, engine: Slow, gateway: Gateway, caplog: pytest.LogCaptureFixture, asked: tuple[str, Any, bool]
) -> None:
    path, body, stream = asked
    engine.first = False
    with asking(port, path, body | {"stream": stream}):
        assert soon(lambda: engine.began == 1)
    assert soon(lambda: engine.cancelled == 1)
    assert soon(lambda: not gateway.board("email").counts()["base"].decisions)  # withdrawn
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("asked", PATHS)
def test_who_leaves_in_mid_stream_has_what_was_sent_logged(
    port: int, engine: Slow, log: EditLog, caplog: pytest.LogCaptureFixture, asked: tuple[str, Any]
) -> None:
    path, body = asked
    with asking(port, path, body | {"stream": True}) as connection:
        got = b""
        while b"Dear" not in got:
            got += connection.recv(65536)
        assert soon(lambda: engine.began == 1)
    assert soon(lambda: engine.cancelled == 1)
    name = got.partition(b'"id": "')[2].partition(b'"')[0].decode()

    assert soon(lambda: kept(log, name))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Watched(Gateway):
    """Keeps the replies that have begun."""

    def __init__(self, log: EditLog, engine: Slow) -> None:
        super().__init__(log, [task(engine)])
        self.replies = list[Reply]()

    async def complete(self, request: ChatRequest, project: str) -> Reply:
        self.replies.append(reply := await super().complete(request, project))
        return reply


def test_who_leaves_while_one_of_several_streams_has_begun_ends_it(log: EditLog) -> None:
    class Uneven(Slow):
        async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
            async for piece in super().stream(policy, request):
                self.first = False
                yield piece

    engine = Uneven()
    gateway = Watched(log, engine)
    app = limited(create_app(gateway, Authority(log.key, "default")), Limits(10_000, 5, 8))
    with served(app) as url:
        with asking(int(url.rpartition(":")[2]), "/v1/chat/completions", ASK | {"stream": True, "n": 2}):
            assert soon(lambda: engine.began == 1 and len(gateway.replies) == 1)
        assert soon(lambda: kept(log, gateway.replies[0].completion_id))
    assert (len(gateway.replies), engine.cancelled) == (1, 1)


def test_a_write_goes_on_for_who_has_left() -> None:
    done: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            done.append("began")
            await asyncio.sleep(0.2)
            done.append("written")
            await PlainTextResponse("")(scope, receive, send)

    with served(app, lifespan="off") as url:
        with asking(int(url.rpartition(":")[2]), "/v1/edits", {}):
            assert soon(lambda: done == ["began"])
        assert soon(lambda: done == ["began", "written"])


async def hello(scope: Any, receive: Any, send: Any) -> None:
    request = Request(scope, receive)
    await PlainTextResponse(str(request.url))(scope, receive, send)


def closes_after(connection: socket.socket) -> float:
    started = time.monotonic()
    while connection.recv(65536):
        pass
    return time.monotonic() - started


def test_between_requests_a_connection_may_idle_longer_than_headers_take() -> None:
    protocol = type("Protocol", (PatientProtocol,), {"headers_within": 0.1})
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with served(hello, lifespan="off", http=protocol, timeout_keep_alive=0.6) as url:
        where = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(where, timeout=5) as connection:
            for _ in range(2):
                connection.sendall(get)
                got = b""
                while b"http://x/" not in got:
                    got += connection.recv(65536)
                time.sleep(0.25)
            connection.sendall(b"\r\n")  # a byte, but no request: the clock of headers runs
            assert closes_after(connection) < 0.4
        with socket.create_connection(where, timeout=5) as connection:
            connection.sendall(get)
            assert closes_after(connection) > 0.45


def test_silence_in_a_stream_is_filled(port: int, engine: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE", 0.05)
    with asking(port, "/v1/chat/completions", ASK | {"stream": True}) as connection:
        got, started = b"", time.monotonic()
        while got.count(b": keep-alive\n\n") < 3:
            got += connection.recv(65536)
        assert time.monotonic() - started > 0.12
    head = got.partition(b"\r\n\r\n")[0].lower()
    assert b"cache-control: no-cache" in head
    assert b"x-accel-buffering: no" in head
    assert b"text/event-stream" in head


def test_behind_tls_addresses_say_https(log: EditLog, engine: Slow) -> None:
    forwarded = {"x-forwarded-proto": "https", "host": "example.org"}

    def said(trusted: str) -> tuple[str, str]:
        app = create_app(Gateway(log, [task(engine)]), Authority(log.key, "default"), trusted_proxies=trusted)
        with served(app, proxy_headers=False) as url, httpx.Client(base_url=url, headers=forwarded) as http:
            return http.get("/").json()["base_url"], http.get("/v1/edits/").headers["location"]

    assert said("127.0.0.1") == ("https://example.org/v1", "https://example.org/v1/edits")
    assert said("10.0.0.1") == ("http://example.org/v1", "http://example.org/v1/edits")
