"""Signals, and where a gateway listens: a process of its own with a scripted engine."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from redraft.config import ServeSettings
from redraft.errors import ConfigError
from redraft.gateway.sockets import bound
from redraft.log import EditLog

ASK: Any = {"model": "email", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway_parts import Scripted, task
from redraft.config import ServeSettings, Settings, TaskSettings
from redraft.errors import ConfigError
from redraft.gateway import server
from redraft.gateway.engine import Piece
from redraft.gateway.service import Gateway
from redraft.gateway.sockets import bound
from redraft.log import EditLog

class Endless(Scripted):
    async def stream(self, policy, request):
        yield Piece.of({"content": "Dear"}, None)
        yield Piece.of({"content": " Ann"}, None)
        await asyncio.Event().wait()

engine, reloads = Endless(), []

async def reload(gateway, settings, engines):
    reloads.append(gateway)
    if len(reloads) > 1:
        raise ConfigError("redraft.toml: unknown key 'x' at sqlite://ann:secret@here")

server.make_gateway = lambda settings, log, engines: Gateway(log, [task(engine)])
server.reload_gateway = reload
path = Path(sys.argv[1]) if sys.argv[1] != "tcp" else None
serve = ServeSettings(port=0, stop_seconds=float(sys.argv[2]), socket=path)
settings = Settings(tasks={"email": TaskSettings()}, serve=serve)
started = lambda where: print(where["url"], flush=True)
with EditLog("sqlite:///log.db") as log, bound(serve) as sockets:
    server.run(settings, log, without_keys=True, started=started, sockets=sockets, read=lambda: settings)
"""


@contextmanager
def process(folder: Path, where: str, patience: float) -> Generator[tuple[subprocess.Popen[str], str]]:
    with (folder / "err").open("w") as err:
        command = [sys.executable, "-c", PROGRAM, where, str(patience)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=err, text=True) as running:
            assert running.stdout is not None
            try:
                url = running.stdout.readline().strip()
                assert url, (folder / "err").read_text()
                yield running, url
            finally:
                running.kill()


def logged(folder: Path, message: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for line in (folder / "err").read_text().splitlines():
            if json.loads(line)["message"] == message:
                return json.loads(line)
        time.sleep(0.01)
    raise AssertionError((folder / "err").read_text())


def test_told_to_stop_an_answer_has_its_time_and_then_says_so(tmp_path: Path) -> None:
    where = tmp_path / "socket"
    with process(tmp_path, str(where), 0.3) as (running, url):
        assert url == f"unix:{where}"
        running.send_signal(signal.SIGHUP)
        assert logged(tmp_path, "reloaded")["tasks"] == ["email"]
        running.send_signal(signal.SIGHUP)
        assert logged(tmp_path, "not reloaded: serving on as before")["error"].endswith("at sqlite://***@here")
        with (
            httpx.Client(transport=httpx.HTTPTransport(uds=str(where)), base_url="http://redraft") as http,
            http.stream("POST", "/v1/chat/completions", json=ASK) as stream,
        ):
            lines = stream.iter_lines()
            assert "Dear" in next(lines)
            running.send_signal(signal.SIGTERM)
            told = [line for line in lines if line][-1]
        assert json.loads(told.removeprefix("data: "))["error"]["message"] == "the gateway is shutting down: try again"
        assert running.wait(10) == -signal.SIGTERM
    assert not where.exists()


@pytest.mark.slow
@pytest.mark.parametrize("twice", [False, True])
def test_what_was_sent_is_kept_however_it_stops(tmp_path: Path, twice: bool) -> None:
    with (
        process(tmp_path, "tcp", 60 if twice else 0.1) as (running, url),
        httpx.stream("POST", f"{url}/chat/completions", json=ASK) as stream,
    ):
        first = json.loads(next(stream.iter_lines()).removeprefix("data: "))
        running.send_signal(signal.SIGTERM)
        if twice:
            logged(tmp_path, "Shutting down")
            running.send_signal(signal.SIGTERM)
        assert running.wait(10) == -signal.SIGTERM
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as log:
        assert log.interaction(first["id"]).completion.response.startswith("Dear")
    assert "Traceback" not in (tmp_path / "err").read_text()


def test_a_port_is_taken_once_and_refuses_until_it_is_listened_on() -> None:
    with bound(ServeSettings(port=0)) as sockets:
        port = sockets[0].getsockname()[1]
        assert sockets[0].proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's delay on
        with pytest.raises(ConfigError, match=f"port {port} is in use"), bound(ServeSettings(port=port)):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("lacks", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_an_address_that_this_machine_lacks_is_left_out(lacks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = ServeSettings(host="localhost", port=0)
    rows = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))]
    both = [*rows, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    class Without(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(lacks, os.strerror(lacks))
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Without)
    for found in (both, both[::-1]):
        monkeypatch.setattr(socket, "getaddrinfo", Mock(return_value=found))
        with bound(serve) as sockets:
            assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", Mock(return_value=rows))
    with pytest.raises(ConfigError, match=r"localhost:0: .*: use another --host"), bound(serve):
        pass


def test_a_unix_socket_is_taken_once_and_from_who_has_gone(tmp_path: Path) -> None:
    serve = ServeSettings(socket=tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(serve.socket))
    with bound(serve), pytest.raises(ConfigError, match="in use"), bound(serve):
        pass
    assert not (tmp_path / "socket").exists()
    with pytest.raises(ConfigError, match="use another --socket"), bound(ServeSettings(socket=tmp_path / "a" / "b")):
        pass
