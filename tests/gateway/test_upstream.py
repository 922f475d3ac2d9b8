"""Upstreams over real HTTP: a server that does what a test says, spoken to through aiohttp."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from gateway_parts import request, served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from redraft.errors import ConfigError
from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.upstream import Upstream

T = TypeVar("T")


class Server:
    """``answers`` come first, one for each request; then good ones."""

    def __init__(self) -> None:
        self.answers: list[Callable[[dict[str, Any]], Response]] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.adapters, self.asked, self.hides = {"smollm2"}, list[str](), False
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
                Route("/v1/embeddings", self.chat, methods=["POST"]),
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
        self.asked.append("models")
        return JSONResponse({"data": [None, *({"id": name} for name in self.adapters if not self.hides)]})

    async def load(self, asked: Request) -> Response:
        self.asked.append("load")
        body = await asked.json()
        if body["lora_name"] in self.adapters:
            return JSONResponse({"object": "error", "message": "it has already been loaded"}, 400)
        self.adapters.add(body["lora_name"])
        return Response("Success")

    def vllm(self, body: dict[str, Any]) -> Response:
        """An answer as vLLM gives it: only by a model that it knows."""
        return good(body) if body["model"] in self.adapters else JSONResponse({"message": "no such model"}, 404)


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


def status(code: int, text: str = "no", **headers: str) -> Callable[[dict[str, Any]], Response]:
    return lambda _: Response(text, code, {name.replace("_", "-"): value for name, value in headers.items()})


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


async def pieces(upstream: Upstream, policy: str = "base") -> list[Piece]:
    return [piece async for piece in upstream.stream(policy, request(stream=True))]


def test_an_answer_whole_and_in_pieces() -> None:
    async def ask(upstream: Upstream) -> Any:
        asked = request(temperature=0.2, tools=[{"type": "function"}], metadata={"conversation_id": "c"}, user="ann")
        return await upstream.complete("base", asked), await pieces(upstream)

    server = Server()
    answer, streamed = use(server, ask, models={"base": "smollm2"})
    assert (answer.text, answer.usage, answer.choice["finish_reason"]) == ("All is well.", {"total_tokens": 7}, "stop")
    assert [piece.text for piece in streamed] == ["All ", "is ", "well.", "", ""]
    assert streamed[3].usage == {"total_tokens": 7}
    assert streamed[4].choices[0]["finish_reason"] == "stop"  # the server said no more than [DONE]
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


def refused(server: Server, *, streamed: bool = False, **options: Any) -> EngineError:
    async def ask(upstream: Upstream) -> EngineError:
        with pytest.raises(EngineError) as caught:
            await (pieces(upstream) if streamed else upstream.complete("base", request()))
        return caught.value

    return use(server, ask, **options)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("answer", "told", "retry", "times"),
    [
        (status(503), 503, True, 2),
        (status(429), 429, True, 2),
        (status(529), 503, True, 2),
        (status(401), 502, True, 1),
        (status(404, "no such model"), 502, True, 1),
        (status(301, location="http://127.0.0.1:9/v1"), 502, True, 1),
        (status(400, "temperature is too high"), 400, False, 1),
        (status(413, "too large"), 413, True, 1),
        (status(204, ""), 502, True, 1),
        (status(200, "{}"), 502, True, 1),
        (status(200, "no json"), 502, True, 1),
        (status(200, "<html>"), 502, True, 1),
        (status(200, '{"choices": [{"message": null}]}'), 502, True, 1),
        (status(200, '{"error": {"message": "overloaded", "code": 503}}'), 503, True, 1),
    ],
)
def test_an_answer_that_is_none(answer: Any, told: int, retry: bool, times: int, streamed: bool) -> None:
    server = Server()
    server.answers = [answer] * 5
    error = refused(server, streamed=streamed, retries=1)
    assert (error.status, error.retry, len(server.bodies)) == (told, retry, times)
    useless = str(error).startswith(("vllm refused", "vllm does not know", "vllm answered 301"))
    assert error.final is (times == 2 or useless)  # we asked again: a client that did too would multiply


@pytest.mark.parametrize(
    ("answer", "times", "seconds", "final"),
    [
        (status(429, retry_after="7"), 1, 7, False),
        (status(503, retry_after="0.01"), 3, 0.01, True),
        (status(503, x_should_retry="false"), 1, None, True),
        (status(429, '{"error": {"message": "used up", "code": "insufficient_quota"}}'), 1, None, True),
        (status(503, retry_after="tomorrow"), 3, None, True),
    ],
)
def test_a_busy_server_says_when_to_ask_again(answer: Any, times: int, seconds: float | None, final: bool) -> None:
    server = Server()
    server.answers = [answer] * 5
    error = refused(server)
    assert (len(server.bodies), error.retry_after, error.final) == (times, seconds, final)


def test_no_attempt_is_multiplied_where_patience_is_asked_for_late() -> None:
    server = Server()
    server.answers = [status(500), status(429, retry_after="7")]
    error = refused(server)
    assert (len(server.bodies), error.retry_after, error.final) == (2, 7, True)


def test_errors_keep_their_fields_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "very-secret")
    server = Server()
    said = {"message": "no very-secret here", "type": "invalid_request_error", "code": "too_long", "param": "messages"}
    server.answers = [status(code, json.dumps({"error": said})) for code in (400, 401)]
    passed, hidden = (refused(server, api_key_env="UPSTREAM_KEY", retries=0) for _ in range(2))
    assert (str(passed), passed.kind, passed.code, passed.param) == ("no *** here", *list(said.values())[1:])
    assert str(hidden) == "vllm refused the gateway's key (401)"
    (logged,) = [record.__dict__["detail"] for record in caplog.records]  # whose message may quote a person's text
    assert logged.startswith("invalid_request_error, too_long, messages, ")


def test_credentials_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()

    async def ask(_: Upstream) -> str:
        upstream = Upstream("vllm", SHARED.url.replace("://", "://me:p%40ss@") + "/v1/")
        await upstream.complete("base", request())
        await upstream.close()
        return upstream.base_url

    assert use(server, ask) == f"{SHARED.url}/v1"
    assert server.headers[0]["authorization"] == "Basic bWU6cEBzcw=="
    monkeypatch.setenv("UPSTREAM_KEY", "secret")
    with pytest.raises(ConfigError, match="keep one of them") as caught:
        Upstream("vllm", "http://me:p%40ss@host/v1", api_key_env="UPSTREAM_KEY")
    assert "ss@" not in str(caught.value)


def test_an_address_that_is_none() -> None:
    for odd in ("", "localhost:8000/v1", "ftp://host/v1", "http://me:pw@", "http://[::1", "http://me:pw@host:99999/v1"):
        with pytest.raises(ConfigError, match="write it as http://HOST:PORT/v1") as caught:
            Upstream("vllm", odd)
        assert "pw" not in str(caught.value)


def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        upstream = Upstream("vllm", "http://127.0.0.1:9/v1", retries=1, pause=0, adapters={"email/sft@1": Path()})
        await upstream.start(["base", "email/sft@1"])  # it may come later
        assert "adapter not loaded yet" in caplog.messages
        for policy in ("base", "email/sft@1"):
            with pytest.raises(EngineError, match="vllm cannot be reached") as caught:
                await upstream.complete(policy, request())
            assert (caught.value.status, caught.value.retry) == (502, True)
        await upstream.close()

    asyncio.run(run())


def test_a_stream_that_breaks_off() -> None:
    """After the first piece nothing is asked again, and what was cut is not whole."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "All "}}]}
    answers = [sse([chunk, {"error": "out of memory"}]), sse([chunk], done=False), Response("data: " + "x" * 10)]

    async def read(upstream: Upstream, seen: list[str]) -> None:
        async for piece in upstream.stream("base", request(stream=True)):
            seen += [piece.text]

    async def ask(upstream: Upstream) -> list[str]:
        seen: list[str] = []
        with pytest.raises(EngineError) as caught:
            await read(upstream, seen)
        return [*seen, str(caught.value), str(caught.value.code)]

    server = Server()
    server.answers = [lambda _, answer=answer: answer for answer in answers]
    assert use(server, ask) == ["All ", "out of memory", "None"]
    cut = ["All ", "vllm broke off before the end of its answer", "stream_cut"]
    assert use(server, ask) == cut
    assert use(server, ask) == ["vllm ended without an answer", "None"]
    assert len(server.bodies) == 3


def test_a_piece_is_there_before_the_next_is_sent() -> None:
    async def lines() -> AsyncIterator[str]:
        yield 'data: {"choices": [{"delta": {"content": "All "}}]}\n\n'
        await asyncio.to_thread(came.wait, 5)
        yield "data: [DONE]\n\nnothing that counts"

    async def ask(upstream: Upstream) -> list[str]:
        seen: list[str] = []
        async for piece in upstream.stream("base", request(stream=True)):
            seen.append(piece.text)
            came.set()
        return seen

    came, server = threading.Event(), Server()
    server.answers = [lambda _: StreamingResponse(lines(), media_type="text/event-stream")]
    assert use(server, ask) == ["All ", ""]
    assert came.is_set()


def test_fields_that_a_server_does_not_take_are_dropped() -> None:
    server = Server()

    async def ask(upstream: Upstream) -> None:
        await upstream.complete("base", request(temperature=1, n=3))
        await pieces(upstream)

    use(server, ask, drop=("temperature", "stream_options"))
    assert not {"temperature", "stream_options", "n"} & {*server.bodies[0], *server.bodies[1]}


def test_other_requests_are_passed_on() -> None:
    server = Server()
    told = JSONResponse({"data": [{"embedding": [0.5]}]}, headers={"x-request-id": "r", "server-timing": "x"})
    server.answers = [lambda _: told, status(404)]

    async def ask(upstream: Upstream) -> tuple[int, dict[str, str], bytes]:
        body = {"input": "a", "user": "ann", "model": "email"}
        code, headers, data = await upstream.forward("/embeddings", body, "base")
        found = b"".join([part async for part in data])
        with pytest.raises(EngineError, match="does not know the model"):
            await upstream.forward("/embeddings", body, "base")
        return code, headers, found

    code, headers, data = use(server, ask, models={"base": "smollm2"})
    assert server.bodies[0] == {"input": "a", "model": "smollm2"}
    assert (code, json.loads(data)) == (200, {"data": [{"embedding": [0.5]}]})
    assert headers == {"content-type": "application/json", "x-request-id": "r"}


def test_adapters_are_loaded_once_under_their_immutable_names(tmp_path: Path) -> None:
    server = Server()
    server.adapters.add("email/dpo@1")
    adapters = {name: tmp_path / name for name in ("email/sft@1", "email/dpo@1")}

    async def ask(upstream: Upstream) -> None:
        await upstream.start(["base", *adapters])
        await upstream.start(["base", *adapters])

    use(server, ask, adapters=adapters)
    assert server.adapters == {"smollm2", *adapters}


def test_an_adapter_is_loaded_when_it_is_needed_and_again_when_forgotten(tmp_path: Path) -> None:
    server, name = Server(), "email/sft@1"
    server.answers = [server.vllm] * 20

    async def ask(upstream: Upstream) -> None:
        await asyncio.gather(*(upstream.complete(name, request()) for _ in range(5)))
        assert server.asked == ["models", "load"]
        server.adapters.discard(name)  # it was started anew
        await asyncio.gather(*(upstream.complete(name, request()) for _ in range(3)), pieces(upstream, name))
        assert server.asked == ["models", "load"] * 2
        with pytest.raises(EngineError, match="does not know the model"):
            await upstream.complete("other", request())
        assert server.asked == ["models", "load"] * 2

    use(server, ask, adapters={name: tmp_path})


def test_an_adapter_that_is_loaded_already_or_never(tmp_path: Path) -> None:
    server, name = Server(), "email/sft@1"

    server.hides = True
    server.adapters.add(name)
    use(server, lambda upstream: upstream.complete(name, request()), adapters={name: tmp_path})
    server.answers = [status(404)] * 5
    with pytest.raises(EngineError, match="does not know the model"):
        use(server, lambda upstream: upstream.complete(name, request()), adapters={name: tmp_path})
    assert len(server.bodies) == 3  # asked once more, not for ever


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
