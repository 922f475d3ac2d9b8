"""Does a gateway stay as it was? Many completions with an edit each, on one core: its memory and its slowest answers.

The gateway is held to one core, its log is SQLite, the upstream answers after 20 ms, and sixteen writers ask, read and
edit. After every thousand completions one line: resident memory in MB and the 99th percentile of the last thousand
requests for a completion, in milliseconds. The last line is one JSON object: memory at a tenth and at the end, and the
99th percentile of the first and of the last tenth. At the end the log is verified against a replay.

    python benchmarks/gateway_long.py [--completions 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil

from gateway import BODY, free_port, ours, process, resident

WRITERS, LINE = 16, 1000


def p99(seconds: list[float]) -> float:
    return 1e3 * sorted(seconds)[int(0.99 * (len(seconds) - 1))]


async def write(url: str, key: str, total: int, gateway: psutil.Process) -> tuple[list[float], list[float]]:
    """Seconds of every completion in the order of their ends, and memory after each thousand of them."""
    took: list[float] = []
    memory: list[float] = []
    left = iter(range(total))

    async def writer(session: aiohttp.ClientSession) -> None:
        for number in left:
            started = time.perf_counter()
            async with session.post(f"{url}/v1/chat/completions", json=BODY) as found:
                assert found.status == 200, await found.text()
                name = (await found.json())["id"]
            took.append(time.perf_counter() - started)
            if len(took) % LINE == 0:
                memory.append(resident(gateway))
                print(f"{len(took):>7} {memory[-1]:7.1f} MB  p99 {p99(took[-LINE:]):7.1f} ms", flush=True)
            said = {"completion_id": name, "edited": f"Dear all, we meet on Monday at {number}. Best, Ann"}
            async with session.post(f"{url}/v1/edits", json=said) as found:
                assert found.status == 200, await found.text()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"authorization": f"Bearer {key}"}) as session:
        await asyncio.gather(*(writer(session) for _ in range(WRITERS)))
    return took, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=20_000)
    total = parser.parse_args().completions
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [free_port(), free_port()]
        upstream, url = (f"http://127.0.0.1:{port}" for port in ports)
        command, key = ours(folder, ports[1], upstream)
        stub = [sys.executable, os.path.join(os.path.dirname(__file__), "gateway.py"), "--part", "stub", str(ports[0])]
        stack.enter_context(process([*stub, upstream], ports[0], key))
        gateway = stack.enter_context(process(command, ports[1], key))
        gateway.cpu_affinity([0])
        asyncio.run(write(url, key, 200, gateway))  # warm
        started = time.monotonic()
        took, memory = asyncio.run(write(url, key, total, gateway))
        seconds = time.monotonic() - started
        sound = subprocess.run([*command[:3], "log", "verify"], check=False).returncode == 0
    tenth = total // 10
    found = {"completions": total, "seconds": round(seconds), "sound": sound}
    found |= {"memory_mb": [round(memory[max(0, tenth // LINE - 1)], 1), round(memory[-1], 1)]}
    found |= {"p99_ms": [round(p99(took[:tenth]), 1), round(p99(took[-tenth:]), 1)]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
