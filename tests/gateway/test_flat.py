"""Bad requests in numbers, against the real process: each is refused, and none leaves anything in memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from gateway_parts import served
from test_crash import ASK, UPSTREAM, process, settings

LIMIT = 4_000_000  # bytes, serve.max_body_bytes


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[psutil.Process, str]]:
    with served(UPSTREAM) as upstream:
        file = settings(tmp_path, upstream, f"sqlite:///{tmp_path / 'log.db'}")
        with process(file) as (started, url):
            yield psutil.Process(started.pid), url


def spill() -> Iterator[bytes]:
    """A body that does not say how long it is, and is too long."""
    for _ in range(2 * LIMIT // 100_000):
        yield b" " * 100_000


def refused(http: httpx.Client, rounds: int) -> set[int]:
    bodies = (b"{", b"[1, 2", b"\xff\xfe{}", b'{"model": "email", "messages": [{"role": "user"', b" " * (LIMIT + 1))
    found: set[int] = set()
    for _ in range(rounds):
        for path in ("/v1/chat/completions", "/v1/edits"):
            found |= {http.post(path, content=body).status_code for body in bodies}
            try:
                found.add(http.post(path, content=spill()).status_code)
            except httpx.TransportError:  # the answer came while we were still sending, and the connection closed
                found.add(413)
    return found


def test_memory_stays_flat(gateway: tuple[psutil.Process, str]) -> None:
    server, url = gateway
    with httpx.Client(base_url=url, timeout=20) as http:
        asked = http.post("/v1/chat/completions", json={"model": "email", "messages": ASK})
        said = {"completion_id": asked.json()["id"], "edited": "All is very well."}
        assert http.post("/v1/edits", json=said).status_code == 200  # what prices edits is loaded
        assert refused(http, 3) <= {400, 413}
        before = server.memory_info().rss
        assert refused(http, 10) <= {400, 413}
        address = urlsplit(url)
        slow = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"POST /v1/edits HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n{")
        assert http.get("/healthz").status_code == 200
        for connection in slow:
            connection.close()
        assert refused(http, 3) <= {400, 413}
    assert server.memory_info().rss - before < 16e6  # four bodies, of more than a hundred
