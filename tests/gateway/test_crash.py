"""``kill -9`` under load: what was acknowledged is in the log once, and the statistics are those of a replay."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from gateway_parts import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from redraft.log import EditLog

ASK = [{"role": "user", "content": "Notes: all well."}]
WORKERS = 6
KILLS = int(os.environ.get("REDRAFT_TEST_KILLS", "12"))


async def answer(asked: Request) -> Response:
    body = await asked.json()
    if body.get("stream"):

        async def chunks() -> AsyncIterator[str]:
            for word in ("All ", "is ", "well."):
                yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': word}}]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(chunks(), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": "All is well."}, "finish_reason": "stop"}
    return JSONResponse({"choices": [choice], "usage": None})


UPSTREAM = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])


def settings(folder: Path, upstream: str, log: str) -> Path:
    file = folder / "redraft.toml"
    file.write_text(
        f'[log]\nurl = "{log}"\n[model]\ncache = "{folder / "cache"}"\n[serve]\nport = 0\n'
        f'[serve.upstreams.stub]\nurl = "{upstream}/v1"\n'
        'models = { plain = "m", kind = "m", brief = "m" }\n[tasks.email]\npolicies = ["plain", "kind", "brief"]\n'
    )
    return file


@contextmanager
def process(file: Path, stderr: IO[str] | int = subprocess.DEVNULL) -> Generator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", "from redraft.cli.app import main; main()", "--config", str(file), "serve"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REDRAFT_")}
    started = subprocess.Popen(
        [*command, "--without-keys", "--json"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
    )
    assert started.stdout is not None
    try:
        yield started, json.loads(started.stdout.readline())["url"].removesuffix("/v1")
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


class Load:
    """Workers that ask, edit, send again and revise until they are stopped; ``told`` is what was acknowledged."""

    def __init__(self, urls: list[str]) -> None:
        self.told: dict[tuple[str, int], str | None] = {}
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(urls, seed)) for seed in range(WORKERS)]
        for thread in self._threads:
            thread.start()

    def wait(self, count: int) -> None:
        """Until so many edits were acknowledged."""
        deadline = time.monotonic() + 30
        while len(self.told) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, urls: list[str], seed: int) -> None:
        rng = random.Random(seed)
        with httpx.Client(timeout=10) as http:
            while not self._stop.is_set():
                with suppress(httpx.TransportError):
                    self._once(http, rng, urls)

    def _once(self, http: httpx.Client, rng: random.Random, urls: list[str]) -> None:
        body = {"model": "email", "messages": ASK}
        if rng.random() < 0.3:
            answered = http.post(f"{rng.choice(urls)}/v1/chat/completions", json=body | {"stream": True})
            lines = [line for line in answered.text.splitlines() if line.startswith("data: {")]
            name = json.loads(lines[0][6:])["id"]
        else:
            name = http.post(f"{rng.choice(urls)}/v1/chat/completions", json=body).json()["id"]
        for _ in range(rng.randint(0, 3)):
            text = rng.choice([None, "All is very well.", "Well.", ""])
            said: dict[str, Any] = {"accepted": True} if text is None else {"edited": text}
            told = http.post(f"{rng.choice(urls)}/v1/edits", json={"completion_id": name, **said})
            if told.status_code == 200:
                with self._lock:
                    self.told[name, told.json()["revision"]] = text


def check(log: str, told: dict[tuple[str, int], str | None]) -> None:
    with EditLog(log) as found:
        assert found.verify() == []
        events = found.edit_events(["email"], limit=10**9)
        kept = {(row["completion_id"], row["revision"]): row["edited"] for row in events}
        assert len(kept) == len(events)  # none twice
        assert {place: kept.get(place, "lost") for place in told} == told


def crash(folder: Path, log: str, times: int, replicas: int) -> None:
    """Kill a replica ``times`` times at random moments under load; another one takes its place."""
    rng, told = random.Random(1), dict[tuple[str, int], str | None]()
    with served(UPSTREAM) as upstream, ExitStack() as stack:
        file = settings(folder, upstream, log)
        running = [stack.enter_context(process(file)) for _ in range(replicas)]
        for _ in range(times):
            load = Load([url for _, url in running])
            load.wait(5)
            time.sleep(rng.uniform(0, 0.3))
            place = rng.randrange(replicas)
            running[place][0].kill()
            time.sleep(0.1 * (replicas > 1))  # the others go on
            load.stop()
            told |= load.told
            running[place] = stack.enter_context(process(file))
    assert len(told) >= 5 * times
    check(log, told)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    crash(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", 2, 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_again_and_again(tmp_path: Path) -> None:
    crash(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", KILLS, 1)
