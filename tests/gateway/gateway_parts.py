"""Parts of gateways for tests: engines that do what a test says, tasks, and a server in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn

from redraft.gateway.engine import Answer, Engine, EngineError, Piece
from redraft.gateway.limits import PatientProtocol
from redraft.gateway.openai import ChatRequest
from redraft.gateway.service import Gateway, Task
from redraft.log import EditLog
from redraft.select import LateEnsemble, Selector

T = TypeVar("T")
ARMS = ("base", "email/sft@1")
WORDS = ("Dear", " Ann,", " all", " is", " well.")


class Scripted(Engine):
    """Says ``WORDS``, or what ``says`` has for a policy; fails where ``fails`` says how often still."""

    def __init__(self, says: Mapping[str, Sequence[str]] | None = None) -> None:
        self.says = dict(says or {})
        self.fails: dict[str, int] = {}
        self.breaks_after: dict[str, int] = {}
        self.asked: list[str] = []
        self.started: list[str] = []
        self.refuses: EngineError | None = None
        self.gate: asyncio.Event | None = None

    async def start(self, policies: list[str]) -> None:
        self.started += policies

    async def close(self) -> None:
        self.started.clear()

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        pieces = [piece async for piece in self.stream(policy, request)]
        text = "".join(piece.text for piece in pieces)
        return Answer({"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}, pieces[-1].usage)

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        self.asked.append(policy)
        if self.refuses is not None:
            raise self.refuses
        if self.fails.get(policy, 0):
            self.fails[policy] -= 1
            raise EngineError(f"{policy} is out of order")
        if self.gate is not None:
            await self.gate.wait()
        words = self.says.get(policy, WORDS)
        for number, word in enumerate(words):
            if self.breaks_after.get(policy) == number:
                raise EngineError(f"{policy} broke off")
            await asyncio.sleep(0)
            last = "stop" if number + 1 == len(words) else None
            yield Piece(({"index": 0, "delta": {"content": word}, "finish_reason": last},), None)
        yield Piece((), {"prompt_tokens": 3, "completion_tokens": len(words), "total_tokens": 3 + len(words)})


def task(engine: Engine, selector: Selector | None = None, **fields: Any) -> Task:
    found = selector or LateEnsemble(ARMS)
    name = fields.pop("name", "email")
    return Task(name, fields.pop("project", "default"), found, dict.fromkeys(found.arms, engine), **fields)


def request(**fields: Any) -> ChatRequest:
    said = {"model": "email", "messages": [{"role": "user", "content": "Notes: all well."}], **fields}
    return ChatRequest.model_validate(said)


def with_gateway(log: EditLog, tasks: Sequence[Task], use: Callable[[Gateway], Awaitable[T]], **options: Any) -> T:
    """Run ``use`` inside a gateway on an event loop of its own."""

    async def run() -> T:
        async with Gateway(log, tasks, **options) as gateway:
            return await use(gateway)

    return asyncio.run(run())


class _Prompt(uvicorn.Server):
    """Looks ten times as often whether it should stop, since hundreds of tests wait for that."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.01)


@contextmanager
def served(app: Any, **options: Any) -> Generator[str]:
    """A real server in a thread; gives its address without /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options.setdefault("http", PatientProtocol)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, **options)
    server = _Prompt(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
