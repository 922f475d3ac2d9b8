"""Upstreams over real HTTP: a server that does what a test says, spoken to through aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gateway_parts import request, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from redraft.errors import ConfigError, ModelError
from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.upstream import Upstream

T = TypeVar("T")


class Server:
    """``answers`` come first, one for each request; then good ones."""

    def __init__(self) -> None:
        self.answers: list[Callable[[dict[str, Any]], Response]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.adapters = {"smollm2"}
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
            ]
        )

    async def chat(self, asked: Request) -> Response:
        body = await asked.json()
        self.bodies.append(body)
        self.headers.append(dict(asked.headers))
        if self.answers:
            return self.answers.pop(0)(body)
        return good(body)

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": name} for name in self.adapters]})

    async def load(self, asked: Request) -> Response:
        body = await asked.json()
        if body["lora_name"] in self.adapters:
            return JSONResponse({"error": "loaded already"}, 400)
        self.adapters.add(body["lora_name"])
        return Response("Success")


def good(body: dict[str, Any]) -> Response:
    if not body.get("stream"):
        message = {"role": "assistant", "content": "All is well."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "theirs", "model": body["model"], "choices": [choice], "usage": {"total_tokens": 7}})
    chunks = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("All ", "is ", "well.")]
    return sse([*chunks, {"choices": [], "usage": {"total_tokens": 7}}])


def sse(chunks: list[Any], *, done: bool = True) -> Response:
    async def lines() -> AsyncIterator[str]:
        for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n"
        if done:
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def status(code: int, text: str = "no") -> Callable[[dict[str, Any]], Response]:
    return lambda _: Response(text, code)


class Shared:
    """One listening server for the module, in front of the ``Server`` of the running test."""

    def __init__(self) -> None:
        self.server, self.url = Server(), ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.server.app(scope, receive, send)


SHARED = Shared()


@pytest.fixture(scope="module", autouse=True)
def listening() -> Iterator[None]:
    with served(SHARED) as SHARED.url:
        yield


def use(server: Server, ask: Callable[[Upstream], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        SHARED.server = server
        upstream = Upstream("vllm", f"{SHARED.url}/v1", pause=0.001, **options)
        try:
            return await ask(upstream)
        finally:
            await upstream.close()

    return asyncio.run(run())


async def pieces(upstream: Upstream) -> list[Piece]:
    return [piece async for piece in upstream.stream("base", request(stream=True))]


def test_an_answer_whole_and_in_pieces() -> None:
    async def ask(upstream: Upstream) -> Any:
        asked = request(temperature=0.2, tools=[{"type": "function"}], metadata={"conversation_id": "c"}, user="ann")
        return await upstream.complete("base", asked), await pieces(upstream)

    server = Server()
    answer, streamed = use(server, ask, models={"base": "smollm2"})
    assert (answer.text, answer.usage, answer.choice["finish_reason"]) == ("All is well.", {"total_tokens": 7}, "stop")
    assert [piece.text for piece in streamed] == ["All ", "is ", "well.", ""]
    assert streamed[-1].usage == {"total_tokens": 7}
    whole, stream = server.bodies
    assert whole["model"] == stream["model"] == "smollm2"
    assert (whole["temperature"], whole["tools"]) == (0.2, [{"type": "function"}])
    assert not {"metadata", "user", "stream"} & set(whole)  # what only concerns us goes nowhere
    assert stream["stream_options"] == {"include_usage": True}


def test_the_key_is_sent_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "secret\n")
    server = Server()
    use(server, lambda upstream: upstream.complete("base", request()), api_key_env="UPSTREAM_KEY")
    assert server.headers[0]["authorization"] == "Bearer secret"
    with pytest.raises(ConfigError, match="set NO_SUCH_KEY"):
        Upstream("vllm", "http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(code: int) -> None:
    server = Server()
    server.answers = [status(code), status(code)]
    assert use(server, lambda upstream: upstream.complete("base", request())).text == "All is well."
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("answer", "told", "retry", "times"),
    [
        (status(503), 502, True, 2),
        (status(429), 429, True, 2),
        (status(401), 502, True, 1),
        (status(404, "no such model"), 502, True, 1),
        (status(400, "temperature is too high"), 400, False, 1),
        (status(200, "{}"), 502, True, 1),
        (status(200, "no json"), 502, True, 1),
        (status(200, '{"choices": [{"message": null}]}'), 502, True, 1),
    ],
)
def test_an_answer_that_is_none(answer: Any, told: int, retry: bool, times: int) -> None:
    server = Server()
    server.answers = [answer] * 5

    async def ask(upstream: Upstream) -> EngineError:
        with pytest.raises(EngineError, match="vllm") as caught:
            await upstream.complete("base", request())
        return caught.value

    error = use(server, ask, retries=1)
    assert (error.status, error.retry, len(server.bodies)) == (told, retry, times)


def test_nobody_there() -> None:
    async def run() -> None:
        upstream = Upstream("vllm", "http://127.0.0.1:9/v1", retries=1, pause=0)
        with pytest.raises(EngineError, match="cannot be reached"):
            await upstream.complete("base", request())
        await upstream.close()
        loading = Upstream("vllm", "http://127.0.0.1:9/v1", adapters={"email/sft@1": Path()})
        with pytest.raises(ModelError, match="cannot be reached"):
            await loading.start(["email/sft@1"])
        await loading.close()

    asyncio.run(run())


@pytest.mark.parametrize("rest", [{"error": "out of memory"}, {"no": "choices"}])
def test_a_stream_that_breaks_off_or_turns_into_nonsense(rest: Any) -> None:
    server = Server()
    server.answers = [lambda _: sse([{"choices": [{"index": 0, "delta": {"content": "All "}}]}, rest])]

    async def ask(upstream: Upstream) -> str:
        stream = upstream.stream("base", request(stream=True))
        first = await anext(stream)
        with pytest.raises(EngineError, match="vllm"):
            await anext(stream)
        return first.text

    assert use(server, ask) == "All "
    assert len(server.bodies) == 1  # never twice after the first byte


def test_adapters_are_loaded_once_under_their_immutable_names(tmp_path: Path) -> None:
    server = Server()
    server.adapters.add("email/dpo@1")
    adapters = {name: tmp_path / name for name in ("email/sft@1", "email/dpo@1")}

    async def ask(upstream: Upstream) -> None:
        await upstream.start(["base", *adapters])
        await upstream.start(["base", *adapters])

    use(server, ask, adapters=adapters)
    assert server.adapters == {"smollm2", *adapters}


def test_silence_ends_in_a_time_out() -> None:
    async def slow() -> AsyncIterator[bytes]:
        await asyncio.sleep(1)
        yield b""

    server = Server()
    server.answers = [lambda _: StreamingResponse(slow(), media_type="application/json")] * 3

    async def ask(upstream: Upstream) -> int:
        with pytest.raises(EngineError) as caught:
            await upstream.complete("base", request())
        return caught.value.status

    assert use(server, ask, timeout=0.1, retries=0) == 504
