"""Several answers at once, what an upstream adds, what is passed on, and browsers; with the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_parts import WORDS, Scripted, served, task, with_gateway

from redraft.config import ServeSettings
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.openai import ChatRequest
from redraft.gateway.server import application
from redraft.gateway.service import Gateway
from redraft.log import EditLog
from redraft.select import Fixed

TEXT = "".join(WORDS)
ASK: Any = [{"role": "user", "content": "hi"}]
MORE = {"system_fingerprint": "fp", "citations": ["a"], "id": "theirs", "object": "theirs", "choices": []}


class Upstreamed(Scripted):
    """Adds what upstreams add, and passes requests on."""

    def __init__(self) -> None:
        super().__init__()
        self.forwarded: list[tuple[str, Mapping[str, Any], str]] = []
        self.seeds: list[int | None] = []

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        found = await super().complete(policy, request)
        return Answer(found.choice, found.usage, MORE, "req-7")

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        self.seeds.append(request.seed)
        async for piece in super().stream(policy, request):
            yield Piece(piece.choices, piece.usage, MORE, "req-7")

    async def forward(
        self, path: str, body: Mapping[str, Any], policy: str
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        self.forwarded.append((path, body, policy))
        if self.refuses is not None:
            raise self.refuses
        kind = "text/event-stream" if body.get("stream") else "application/json"

        async def parts() -> AsyncIterator[bytes]:
            yield b'data: {"choices": [{"text": "a"}]}\n\n' if body.get("stream") else b'{"object": "list", '
            if body.get("breaks"):
                raise EngineError("broke off")
            yield b"data: [DONE]\n\n" if body.get("stream") else b'"data": [{"embedding": [1.0], "index": 0}]}'

        return 200, {"content-type": kind, "x-request-id": "req-8"}, parts()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path_factory.mktemp('chat') / 'log.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def serving(log: EditLog) -> Iterator[tuple[Upstreamed, str]]:
    engine = Upstreamed()
    plain = task(Scripted(), Fixed(["base"]), name="plain")
    gateway = Gateway(log, [task(engine), plain])
    serve = ServeSettings(cors_origins=("https://app.example",))
    with served(application(serve, gateway, Authority(log.key, "default"))) as found:
        yield engine, found


@pytest.fixture
def engine(serving: tuple[Upstreamed, str]) -> Upstreamed:
    serving[0].__init__()
    return serving[0]


@pytest.fixture
def url(serving: tuple[Upstreamed, str]) -> str:
    return serving[1]


@pytest.fixture
def client(url: str, engine: Upstreamed) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as found:
        yield found


def test_several_answers_are_several_completions(client: openai.OpenAI, log: EditLog, engine: Upstreamed) -> None:
    got = client.chat.completions.create(model="email", messages=ASK, n=3)
    own = [(choice.model_extra or {}) for choice in got.choices]
    assert [choice.index for choice in got.choices] == [0, 1, 2]
    assert len({one["completion_id"] for one in own}) == 3
    assert own[0]["completion_id"] == got.id
    assert len(set(engine.asked)) == 2  # each is a choice of its own
    for one, choice in zip(own, got.choices, strict=True):
        found = log.interaction(one["completion_id"])
        assert (found.completion.response, choice.message.content) == (TEXT, TEXT)
        assert found.decision is not None
        assert one["policy"].endswith(found.decision.chosen)
    assert got.usage is not None
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (3, 15, 18)


@pytest.mark.parametrize("stream", [False, True])
def test_those_of_several_answers_that_succeed_are_given(
    client: openai.OpenAI, log: EditLog, engine: Upstreamed, stream: bool
) -> None:
    engine.fails = {"base": 1}
    got: Any = client.chat.completions.create(model="email/base", messages=ASK, n=3, seed=7, stream=stream)
    said, names = {0: "", 1: ""}, dict[int, str]()
    for choice in [choice for chunk in got for choice in chunk.choices] if stream else got.choices:
        said[choice.index] += (choice.delta if stream else choice.message).content or ""
        names[choice.index] = choice.model_extra["completion_id"]
    assert said == {0: TEXT, 1: TEXT}
    assert [log.interaction(name).completion.response for name in names.values()] == [TEXT, TEXT]
    assert engine.seeds == [7, 8, 9]
    engine.fails = {"base": 2}
    with pytest.raises(openai.InternalServerError, match="out of order"):
        client.chat.completions.create(model="email/base", messages=ASK, n=2, stream=stream)


def test_several_streams_come_in_turns(client: openai.OpenAI, log: EditLog, engine: Upstreamed) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="email", messages=ASK, n=2, stream=True, stream_options=options))
    said, names = {0: "", 1: ""}, dict[int, str]()
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            names[choice.index] = (choice.model_extra or {})["completion_id"]
    assert said == {0: TEXT, 1: TEXT}
    assert {chunk.id for chunk in chunks} == {names[0]}
    assert [log.interaction(name).completion.response for name in names.values()] == [TEXT, TEXT]
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage is not None] == [10]
    engine.breaks_after, asked = {"base": 2}, {"model": "email", "messages": ASK, "n": 4, "stream": True}
    told = httpx.post(f"{client.base_url}chat/completions", json=asked).text
    assert told.endswith("\n\n")
    assert "base broke off" in told.split("\n\n")[-2]
    assert told.count('"finish_reason": "stop"') == engine.asked[-4:].count("email/sft@1") > 0  # the others go on


def test_what_an_upstream_adds_is_passed_on(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="email", messages=ASK)
    got = raw.parse()
    assert (got.system_fingerprint, (got.model_extra or {})["citations"], raw.headers["x-request-id"]) == (
        "fp", ["a"], "req-7",
    )  # fmt: skip
    assert (got.object, len(got.choices), got.id != "theirs") == ("chat.completion", 1, True)
    with client.chat.completions.with_streaming_response.create(model="email", messages=ASK, stream=True) as streamed:
        assert streamed.headers["x-request-id"] == "req-7"
        chunks = list(streamed.parse())
    assert {(chunk.object, chunk.system_fingerprint) for chunk in chunks} == {("chat.completion.chunk", "fp")}
    assert all(chunk.choices for chunk in chunks)  # nobody asked for usage


def test_embeddings_and_completions_are_passed_on(client: openai.OpenAI, url: str, engine: Upstreamed) -> None:
    got = client.embeddings.create(model="email/base", input="hi", encoding_format="float")
    assert got.data[0].embedding == [1.0]
    path, body, policy = engine.forwarded[-1]
    assert (path, body["input"], policy) == ("/embeddings", "hi", "base")
    streamed = httpx.post(f"{url}/v1/completions", json={"model": "email/base", "prompt": "hi", "stream": True})
    assert (streamed.text.count("data: "), streamed.headers["x-accel-buffering"]) == (2, "no")
    broken = {"model": "email/base", "prompt": "hi", "breaks": True}
    assert httpx.post(f"{url}/v1/completions", json=broken).status_code == 502
    assert "broke off" in httpx.post(f"{url}/v1/completions", json=broken | {"stream": True}).text
    engine.refuses = EngineError("no such route", status=404, code="not_found")
    with pytest.raises(openai.NotFoundError, match="no such route"):
        client.embeddings.create(model="email/base", input="hi")


@pytest.mark.parametrize(
    ("model", "status", "why"),
    [
        ("email", 400, "is a task, and nothing chooses for embeddings: use one of email/base, email/sft@1"),
        ("plain/base", 400, "the embedded model has no embeddings: use one of email/base"),
        ("none", 404, "does not exist: use one of email/base"),
    ],
)
def test_what_is_not_passed_on_is_refused(url: str, model: str, status: int, why: str) -> None:
    told = httpx.post(f"{url}/v1/embeddings", json={"model": model, "input": "hi"})
    assert (told.status_code, why in told.json()["error"]["message"]) == (status, True)


def test_one_model(client: openai.OpenAI) -> None:
    assert client.models.retrieve("email").id == "email"
    assert client.models.retrieve("email/sft@1").id == "email/sft@1"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("email/none")
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_heads(url: str, path: str) -> None:
    told = httpx.head(f"{url}{path}")
    assert (told.status_code, told.content) == (200, b"")


def test_a_page_of_a_configured_origin_may_call(url: str) -> None:
    def asked(origin: str) -> httpx.Headers:
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
        return httpx.options(f"{url}/v1/chat/completions", headers={"origin": origin, **ask}).headers

    assert asked("https://app.example")["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in asked("https://evil.example")
    body = {"model": "none", "messages": ASK}
    told = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"origin": "https://app.example"})
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (404, "https://app.example")
    assert "x-redraft-policy" in told.headers["access-control-expose-headers"]


def test_without_origins_no_page_may_call(log: EditLog, tmp_path: Path) -> None:
    with served(application(ServeSettings(), Gateway(log, [task(Scripted())]), Authority(log.key, "default"))) as url:
        told = httpx.get(f"{url}/v1/models", headers={"origin": "https://app.example"})
        assert "access-control-allow-origin" not in told.headers


OWN, APP, EVIL = "http://127.0.0.1:7", "https://app.example", "https://evil"


def test_without_keys_no_other_page_may_call(log: EditLog) -> None:
    local, app = ServeSettings(host="gateway.local"), ServeSettings(cors_origins=(APP,))
    body, keyless = {"model": "email", "messages": ASK}, Authority(log.key, "default")

    async def asked(gateway: Gateway) -> None:
        apps: dict[tuple[str, Authority], Any] = {}

        async def told(serve: ServeSettings, host: str, origin: str | None, authority: Authority = keyless) -> int:
            key = repr(serve), authority
            apps[key] = apps.get(key) or application(serve, gateway, authority)
            found = httpx.ASGITransport(apps[key])
            headers = {"host": host} | ({} if origin is None else {"origin": origin})
            async with httpx.AsyncClient(transport=found, base_url="http://x", headers=headers) as http:
                answers = [await http.get("/v1/models"), await http.post("/v1/chat/completions", json=body)]
            for error in [answer.json()["error"] for answer in answers if answer.status_code == 403]:
                assert (error["type"], "serve.cors_origins" in error["message"]) == ("permission_error", True)
            (status,) = {answer.status_code for answer in answers}
            return status

        for host in ("127.0.0.1:7", "localhost", "LOCALHOST:7", "[::1]:7", "gateway.local:7"):
            assert [await told(local, host, origin) for origin in (None, f"http://{host}")] == [200, 200]
            assert [await told(local, host, origin) for origin in (APP, EVIL, "null", "")] == [403] * 4
            assert [await told(app, host.replace("gateway.local", "localhost"), origin) for origin in (APP, EVIL)] == [
                200,
                403,
            ]
        for host in ("evil", "127.0.0.1.evil:7", "localhost:7:7", ""):
            assert [await told(local, host, origin) for origin in (None, EVIL, OWN, f"http://{host}")] == [403] * 4
        assert [await told(app, "app.example", origin) for origin in (None, APP, EVIL)] == [200, 200, 403]
        assert [await told(ServeSettings(socket=Path("x")), "any", origin) for origin in (None, EVIL)] == [200, 403]
        assert await told(ServeSettings(cors_origins=("*",)), "evil", EVIL) == 200
        assert await told(local, "evil", EVIL, Authority(log.key)) == 401  # keys are what counts then

    with_gateway(log, [task(Scripted())], asked)
