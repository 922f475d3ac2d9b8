"""What a gateway adds to an upstream that answers after 20 ms: ours, a bare proxy and LiteLLM's, in one run.

The bare proxy passes bytes on (Starlette and aiohttp) and is what any Python gateway must be measured against. Ours
knows the caller's key, parses, chooses, writes the decision to SQLite durably and only then answers. All run as
processes of their own on uvicorn, one worker each, and answer the same requests at each concurrency, in turn, as often
as there are rounds.
Printed: requests a second, added latency at the median and the 99th percentile in milliseconds (over the upstream asked
directly), resident memory in MB. The last line is one JSON object.

    python benchmarks/gateway.py [--seconds 5] [--rounds 3] [--litellm path/to/litellm]
    python benchmarks/gateway.py --against 524eb1b --rounds 8

With ``--against`` a commit's gateway runs beside today's, in this environment, and what is printed is today's requests
a second over the commit's, pair by pair: the median ratio with the 95 % interval of the median.

LiteLLM needs an environment of its own: pip install 'litellm[proxy]' there, and name its ``litellm`` command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from against import ratio_of, source_of

DELAY, CONCURRENCIES = 0.02, (1, 16, 64)
BODY = {"model": "email", "messages": [{"role": "user", "content": "Notes by Ann: meeting on Monday. Write an email."}]}


async def stub(_: Request) -> Response:
    await asyncio.sleep(DELAY)
    message = {"role": "assistant", "content": "Dear all, we meet on Monday. Best, Ann"}
    usage = {"prompt_tokens": 12, "completion_tokens": 10, "total_tokens": 22}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


class Bare:
    """Passes bytes on and knows nothing."""

    def __init__(self, upstream: str) -> None:
        self.upstream, self.session = upstream, None
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.chat, methods=["POST"])])

    async def chat(self, request: Request) -> Response:
        """Answer with what the upstream answered."""
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        headers = {"content-type": "application/json"}
        async with self.session.post(
            f"{self.upstream}/v1/chat/completions", data=await request.body(), headers=headers
        ) as found:
            return Response(await found.read(), found.status, media_type="application/json")


def serve_part(name: str, port: int, upstream: str) -> None:
    """Run the stub or the bare proxy; the benchmark starts itself again for it."""
    import uvicorn

    app = (
        Starlette(routes=[Route("/v1/chat/completions", stub, methods=["POST"])])
        if name == "stub"
        else Bare(upstream).app
    )
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


@contextmanager
def process(command: Sequence[str], port: int, key: str, source: Path | None = None) -> Generator[psutil.Process]:
    """A server that listens on ``port`` before it is given; ``key`` is LiteLLM's, which wants one.

    ``source`` is the folder of the package to run in place of the installed one.
    """
    environment = {**os.environ, "LITELLM_MASTER_KEY": key, **({"PYTHONPATH": str(source)} if source else {})}
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert started.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.05)
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def load(url: str, key: str, concurrency: int, seconds: float) -> list[float]:
    """Seconds of each request that was answered with 200."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def work(session: aiohttp.ClientSession) -> None:
        while time.perf_counter() < until:
            started = time.perf_counter()
            async with session.post(
                f"{url}/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {key}"}
            ) as found:
                await found.read()
                assert found.status == 200, f"{url} answered {found.status}"
            took.append(time.perf_counter() - started)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
    return took


def ours(folder: Path, port: int, upstream: str, source: Path | None = None) -> tuple[list[str], str]:
    """The command of our gateway, and a key for it; ``source`` as for ``process``: a log has its version's schema."""
    folder.mkdir()
    file = folder / "redraft.toml"
    file.write_text(
        f'[log]\nurl = "sqlite:///{folder}/log.db"\n[serve]\nport = {port}\n'
        f'[serve.upstreams.stub]\nurl = "{upstream}/v1"\n'
        'models = { a = "m", b = "m", c = "m" }\n[tasks.email]\npolicies = ["a", "b", "c"]\n'
    )
    command = [str(Path(sys.executable).with_name("redraft")), "--config", str(file)]
    environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    add = [*command, "keys", "add", "benchmark", "--json"]
    made = subprocess.run(add, check=True, capture_output=True, text=True, env=environment)
    return [*command, "serve"], json.loads(made.stdout)["key"]


def litellm(folder: Path, port: int, upstream: str, command: str) -> list[str]:
    file = folder / "litellm.yaml"
    model = {"model": "openai/m", "api_base": f"{upstream}/v1", "api_key": "none"}
    file.write_text(json.dumps({"model_list": [{"model_name": "email", "litellm_params": model}]}))
    return [command, "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]


def resident(process: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litellm")
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        serve_part(options.part[0], int(options.part[1]), options.part[2])
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = {name: free_port() for name in ("stub", "bare", "redraft", "then", "litellm")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        again = [sys.executable, os.path.abspath(__file__), "--part"]
        commands = {name: [*again, name, str(ports[name]), urls["stub"]] for name in ("stub", "bare")}
        commands["redraft"], key = ours(folder / "redraft", ports["redraft"], urls["stub"])
        keys, sources = {"redraft": key}, dict[str, Path]()
        if options.against:
            sources["then"] = stack.enter_context(source_of(options.against))
            commands["then"], keys["then"] = ours(folder / "then", ports["then"], urls["stub"], sources["then"])
            del commands["bare"]
        if options.litellm:
            commands["litellm"] = litellm(folder, ports["litellm"], urls["stub"], options.litellm)
        running = {
            name: stack.enter_context(process(command, ports[name], key, sources.get(name)))
            for name, command in commands.items()
        }
        keyed = {name: (urls[name], keys.get(name, key)) for name in running}
        for at in keyed.values():
            asyncio.run(load(*at, 4, 1))  # warm
        found = measure(keyed, options.seconds, options.rounds)
        memory = {name: round(resident(one)) for name, one in running.items()}
    if options.against:
        compare(found, options.against)
    else:
        report(found, memory)


def compare(found: dict[str, dict[int, list[Any]]], commit: str) -> None:
    ratios = {
        str(c): ratio_of([now[0] for now in found["redraft"][c]], [then[0] for then in found["then"][c]])
        for c in CONCURRENCIES
    }
    for concurrency, ratio in ratios.items():
        print(f"{concurrency:>3} at once: {ratio} times {commit}'s requests a second")
    print(json.dumps({"against": commit, "requests_per_second": {c: ratio.as_dict() for c, ratio in ratios.items()}}))


def measure(servers: Mapping[str, tuple[str, str]], seconds: float, rounds: int) -> dict[str, dict[int, list[Any]]]:
    """Rows (requests a second, median, 99th percentile) of each server by concurrency; every other round backwards."""
    found: dict[str, dict[int, list[Any]]] = {name: {c: [] for c in CONCURRENCIES} for name in servers}
    for number in range(rounds):
        for concurrency in CONCURRENCIES:
            for name in list(servers)[:: -1 if number % 2 else 1]:
                took = sorted(asyncio.run(load(*servers[name], concurrency, seconds)))
                row = (len(took) / seconds, statistics.median(took), took[int(0.99 * (len(took) - 1))])
                found[name][concurrency].append(row)
    return found


def report(found: dict[str, dict[int, list[Any]]], memory: dict[str, int]) -> None:
    direct = {c: [statistics.median(column) for column in zip(*rows, strict=True)] for c, rows in found["stub"].items()}
    result: dict[str, Any] = {}
    for name, by in found.items():
        result[name] = {"memory_mb": memory[name]}
        for concurrency, rows in by.items():
            rate, middle, slow = (statistics.median(column) for column in zip(*rows, strict=True))
            added = [1e3 * (middle - direct[concurrency][1]), 1e3 * (slow - direct[concurrency][2])]
            result[name][str(concurrency)] = {
                "requests_per_second": round(rate, 1),
                "added_p50_ms": round(added[0], 2),
                "added_p99_ms": round(added[1], 2),
            }
            print(f"{name:>8} {concurrency:>3} at once {rate:8.0f}/s  p50 +{added[0]:.2f} ms  p99 +{added[1]:.2f} ms")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
