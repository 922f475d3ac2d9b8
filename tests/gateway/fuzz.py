"""Streams as no server should send them, out of a seed, and a gateway that gets them: ``tools/fuzz_streams.py``."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
from gateway_parts import served, task

from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Breaker
from redraft.gateway.server import JsonLines
from redraft.gateway.service import Gateway
from redraft.gateway.upstream import Upstream
from redraft.log import EditLog
from redraft.messages import Draft, message_text
from redraft.select import LateEnsemble

ODD: tuple[Any, ...] = (
    None,
    [],
    {},
    "",
    0,
    -1,
    7,
    True,
    1.5,
    float("nan"),
    float("-inf"),
    "\ud800",
    "\0",
    "x" * 3000,
    [None],
    [[]],
    {"a": {}},
)
NAMES = (
    "policy",
    "completion_id",
    "choices",
    "citations",
    "system_fingerprint",
    "error",
    "usage",
    "id",
    "created",
    "text",
)


@dataclass(frozen=True)
class Fuzzed:
    """What a server sends: ``parts`` of the body, and whether it then drops the connection."""

    parts: tuple[bytes, ...]
    abort: bool
    marker: str

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


def fuzzed(seed: str, *, whole: bool = False) -> Fuzzed:
    """A stream, or a whole answer, about half of them valid. The marker stands in its content and nowhere else."""
    rng = random.Random(seed)
    marker = f"MARK{rng.randrange(10**12):012d}"
    chunks = [_answer(rng, marker)] if whole else _chunks(rng, marker)
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 4)):
            _mutate(rng, rng.choice(chunks))
    said = _dumped(rng, chunks[0]) if whole else _framed(rng, chunks)
    if rng.random() < 0.15:
        place = rng.randrange(len(said) + 1)
        said = (
            said[:place]
            + rng.choice((b"", rng.randbytes(3), b"\xff", b"\r", b"\n\n"))
            + said[place + rng.randint(0, 4) :]
        )
    abort = rng.random() < 0.1
    if abort or rng.random() < 0.1:
        said = said[: rng.randrange(len(said) + 1)]
    cuts = sorted(rng.randrange(len(said) + 1) for _ in range(rng.choice((0, 1, 5, 30))))
    return Fuzzed(tuple(said[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)), abort, marker)


def _chunks(rng: random.Random, marker: str) -> list[dict[str, Any]]:
    """The chunks of a good stream: words or tool calls, a finish, usage."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}] if rng.random() < 0.7 else []
    words = [marker, " é€😀", " well", "\ud83d", "\ude00", "\0", "\n\ndata: x", " " * 9, "w" * rng.choice((1, 70_000))]
    deltas += [{"content": rng.choice((marker, *words))} for _ in range(rng.randint(1, 12))]
    if rng.random() < 0.3:
        called = [{"function": {"name": "send", "arguments": ""}}, {"function": {"arguments": f'{{"to": "{marker}"'}}]
        called += [{"function": {"arguments": "}"}}, {"id": "c", "type": "function"}, {"function": {"name": marker}}]
        rng.shuffle(called)
        deltas += [{"tool_calls": [{"index": rng.choice((0, 0, 1, 5, None)), **one}]} for one in called]
    deltas += [{"refusal": marker}] * (rng.random() < 0.05) + [{"reasoning_content": marker}] * (rng.random() < 0.1)
    made = [_chunk({"index": 0, "delta": delta, "finish_reason": None}) for delta in deltas]
    if rng.random() < 0.2:
        made.insert(rng.randrange(len(made)), _chunk({"index": 1, "delta": {"content": marker}}))
    if rng.random() < 0.85:
        made.append(_chunk({"index": 0, "delta": {}, "finish_reason": rng.choice(("stop", "length", "tool_calls"))}))
    return made + [{"choices": rng.choice(([], None)), "usage": {"total_tokens": 3}}] * (rng.random() < 0.7)


def _chunk(choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "u", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _answer(rng: random.Random, marker: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "send", "arguments": rng.choice(("{}", "{", marker))}}
    message = {"role": "assistant", "content": rng.choice((marker, None, [{"type": "text", "text": marker}]))}
    message |= {"tool_calls": [call]} if rng.random() < 0.3 else {}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return _chunk(choice) | {"object": "chat.completion", "usage": {"total_tokens": 3}}


def _mutate(rng: random.Random, value: Any) -> None:
    """Change one thing somewhere inside."""
    while True:
        inner = [
            one
            for one in (value.values() if isinstance(value, dict) else value)
            if one and isinstance(one, dict | list)
        ]
        if not inner or rng.random() < 0.3:
            break
        value = rng.choice(inner)
    odd = deepcopy(rng.choice((*ODD, _deep(rng.choice((50, 90, 3000))))))
    if isinstance(value, list):
        value.append(odd) if rng.random() < 0.5 else value.insert(0, odd)
    elif value and rng.random() < 0.3:
        del value[rng.choice(list(value))]
    else:
        value[rng.choice((*value, *NAMES))] = odd


def _deep(levels: int) -> Any:
    """A marker for ``_dumped``: json cannot write what is this deep."""
    return f"DEEP{levels}"


def _dumped(rng: random.Random, chunk: Mapping[str, Any]) -> bytes:
    text = json.dumps(chunk, ensure_ascii=rng.random() < 0.7, indent=rng.choice((None, None, None, 1)))
    for levels in (50, 90, 3000):
        text = text.replace(f'"DEEP{levels}"', '[{"a":' * levels + "1" + "}]" * levels)
    return text.replace("1.5", rng.choice(("1e999", "1.5"))).encode("utf-8", "surrogatepass")


def _framed(rng: random.Random, chunks: list[dict[str, Any]]) -> bytes:
    """The chunks as a server may write them, with noise between."""
    end = rng.choice((b"\n", b"\n", b"\r\n", b"\r"))
    before = rng.choice((b"data: ", b"data: ", b"data:", b"event: message\nid: 1\ndata: ".replace(b"\n", end), b""))
    noise = (
        b": ping",
        b":",
        b"data:",
        b'data: "keepalive"',
        b"data: null",
        b"data: {",
        b"<html>",
        b"retry: 5",
        b"\xff\xfe",
    )
    rare = (b'error: {"code":400,"message":"too long"}', b'data: {"error": {"message": "overloaded", "code": 503}}')
    rare += (b"event: error" + end + b'data: {"message": "no"}', b": " + b"z" * 700_000, b'data: {"error": null}')
    found = [b"\xef\xbb\xbf"] if rng.random() < 0.05 else []
    for chunk in chunks:
        lines = _dumped(rng, chunk).split(b"\n")
        found += [before, (end + b"data: ").join(lines) if before else b" ".join(lines), end]
        found += [end] if rng.random() < 0.97 else []
        found += [rng.choice(noise), end, end] if rng.random() < 0.1 else []
        found += [rng.choice(rare), end, end] if rng.random() < 0.02 else []
    found += [b"data: [DONE]", end, end] if rng.random() < 0.8 else []
    return b"".join([*found, found[1] if rng.random() < 0.05 else b""])


class FailedError(Exception):
    """A stream for which the gateway did what it must not."""


class _Server:
    """HTTP at its barest, so that it can break off anywhere: ``SEED x`` of the last message says what to send."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length:")[2].split("\r\n")[0])
            asked = json.loads(await reader.readexactly(size))
            found = fuzzed(asked["messages"][-1]["content"].removeprefix("SEED "), whole=not asked.get("stream"))
            kind = b"text/event-stream" if asked.get("stream") else b"application/json"
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: "
                + kind
                + b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            for part in filter(None, found.parts):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await writer.drain()
                await asyncio.sleep(0)
            if found.abort:
                writer.transport.abort()
            else:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @contextmanager
    def listening(self) -> Generator[str]:
        told: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()

        async def serve() -> None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            async with await asyncio.start_server(self, "127.0.0.1", 0) as server:
                told.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(ended.set)))
                await ended.wait()

        thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        thread.start()
        port, end = told.get(timeout=10)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            end()
            thread.join(10)


def run(streams: int, seed: int, folder: Path, *, at_once: int = 16) -> Counter[str]:
    """Send fuzzed streams through a real gateway over SQLite; counts how they ended. Raises ``FailedError``."""
    stderr, lines = io.StringIO(), _Lines()
    root = logging.getLogger()
    root.addHandler(lines)
    try:
        with _Server().listening() as theirs, EditLog(f"sqlite:///{folder / 'fuzz.db'}") as log:
            upstream = Upstream("fuzzed", theirs, retries=0, timeout=20)
            gateway = Gateway(log, [task(upstream, LateEnsemble(("up",)))])
            app = create_app(gateway, Authority(log.key, "default"))
            with redirect_stderr(stderr), patch.object(Breaker, "failed", _uncounted), served(app) as url:
                counts, failed = asyncio.run(
                    _asked(url, log, (f"{seed}:{number}" for number in range(streams)), at_once)
                )
    finally:
        root.removeHandler(lines)
    told = [line for line in (*lines.lines, *stderr.getvalue().splitlines()) if "MARK" in line or "Trace" in line]
    failed += [f"a log line has a text or a traceback: {line[:300]}" for line in told[:5]]
    if failed:
        raise FailedError("\n".join(failed))
    return counts


def _uncounted(_: Breaker) -> None:
    """No policy is left alone for having failed."""


class _Lines(logging.Handler):
    """All log lines as the server writes them."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


async def _asked(url: str, log: EditLog, seeds: Iterator[str], at_once: int) -> tuple[Counter[str], list[str]]:
    """How the streams ended, and which the gateway failed."""
    counts, failed = Counter[str](), list[str]()

    async def work(http: httpx.AsyncClient) -> None:
        for seed in seeds:
            if len(failed) >= 5:
                return
            try:
                counts[await _one(http, log, seed)] += 1
            except (FailedError, httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
                failed.append(f"{seed}: {type(error).__name__}: {str(error)[:300]}")

    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        await asyncio.gather(*(work(http) for _ in range(at_once)))
    return counts, failed


async def _one(http: httpx.AsyncClient, log: EditLog, seed: str) -> str:
    """How one stream ended."""
    whole = seed.endswith("7")
    body = {"model": "email", "messages": [{"role": "user", "content": f"SEED {seed}"}], "stream": not whole}
    got = await http.post("/v1/chat/completions", json=body)
    if got.status_code != 200:
        message = _strict(got.text)["error"]["message"]  # a plain 500 is no JSON
        if not message or message.lstrip().startswith(("{", "[", "Traceback")):
            raise FailedError(f"status {got.status_code} says {message!r}")
        return f"refused {got.status_code}"
    if whole:
        answer = _strict(got.text)
        await _same(log, answer["id"], message_text(answer["choices"][0]["message"]))
        return "whole"
    events = [line.removeprefix("data: ") for line in got.text.split("\n") if line and not line.startswith(":")]
    done = events[-1] == "[DONE]"
    chunks = [_strict(event) for event in events[: -1 if done else None]]
    cut = [chunk["error"] for chunk in chunks if "error" in chunk]
    if done == bool(cut):
        raise FailedError("a stream has either an end or an error")
    draft = Draft()
    for choice in (choice for chunk in chunks if "error" not in chunk for choice in chunk["choices"]):
        draft.add(choice)
    if done and draft.finish_reason is None:
        raise FailedError("a stream without a finish_reason ends as whole")
    await _same(log, chunks[0]["id"], draft.text)
    return "cut" if cut else "streamed"


def _strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise FailedError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


async def _same(log: EditLog, completion_id: str, seen: str) -> None:
    logged = (await asyncio.to_thread(log.interaction, completion_id)).completion.response
    if storable(seen) != storable(logged):
        raise FailedError(f"seen {seen[-80:]!r}, logged {logged[-80:]!r}")


def storable(text: str) -> str:
    """A text as a log can hold it: halves of a pair joined or replaced, and no NUL."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\0", "\ufffd")
