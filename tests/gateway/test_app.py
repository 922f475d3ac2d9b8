"""The gateway over real HTTP, spoken to by the official client of OpenAI and by ours."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_parts import WORDS, Scripted, served, task
from starlette.responses import PlainTextResponse

from redraft.client import Client
from redraft.errors import ConfigError, ConflictError, DataError, ModelError, NotFoundError
from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.engine import EngineError
from redraft.gateway.limits import Limits, limited
from redraft.gateway.metrics import observed
from redraft.gateway.service import Gateway
from redraft.log import EditLog
from redraft.log.keys import add_key, revoke_key

TEXT = "".join(WORDS)
ASK: Any = [{"role": "user", "content": "Notes: all well."}]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


@contextmanager
def gateway(log: EditLog, engine: Scripted, *, keys: bool = False, limits: Limits | None = None) -> Generator[str]:
    tasks = [task(engine), task(engine, name="notes", project="other")]
    gateway = Gateway(log, tasks)
    app = create_app(gateway, Authority(log.key, None if keys else "default"))
    with served(observed(limited(app, limits or Limits(1_000_000, 5, 64)), gateway.metrics)) as url:
        yield url


@pytest.fixture
def engine() -> Scripted:
    return Scripted()


@pytest.fixture
def url(log: EditLog, engine: Scripted) -> Iterator[str]:
    with gateway(log, engine) as found:
        yield found


@pytest.fixture
def theirs(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_gets_an_answer(theirs: openai.OpenAI, log: EditLog) -> None:
    raw = theirs.chat.completions.with_raw_response.create(model="email", messages=ASK, temperature=0, n=1)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 8
    assert raw.headers["x-redraft-policy"] == answer.model == "email/base"
    assert raw.headers["x-redraft-decision"] == "selector=late; t=1; chosen=email/base"
    assert theirs.chat.completions.create(model=answer.model, messages=ASK).model == answer.model  # it can be pinned
    assert log.interaction(answer.id).completion.response == TEXT


@pytest.mark.parametrize("usage", [True, False])
def test_openais_client_streams(theirs: openai.OpenAI, log: EditLog, usage: bool) -> None:
    options: Any = {"include_usage": True} if usage else openai.NOT_GIVEN
    stream = theirs.chat.completions.create(model="email", messages=ASK, stream=True, stream_options=options)
    chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == TEXT
    assert [chunk.usage is not None for chunk in chunks][-1] is usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert log.interaction(chunks[0].id).completion.response == TEXT


def test_openais_client_lists_models(theirs: openai.OpenAI) -> None:
    assert [model.id for model in theirs.models.list()] == ["email", "email/base", "email/sft@1"]


def test_openais_client_understands_errors(theirs: openai.OpenAI, engine: Scripted) -> None:
    with pytest.raises(openai.NotFoundError, match="use one of email, email/base, email/sft@1") as missing:
        theirs.chat.completions.create(model="none", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="messages"):
        theirs.chat.completions.create(model="email", messages=[])
    with pytest.raises(openai.BadRequestError, match="n: ") as two:
        theirs.chat.completions.create(model="email", messages=ASK, n=17)
    assert two.value.param == "n"
    engine.refuses = EngineError("too busy", status=429)
    with pytest.raises(openai.RateLimitError):
        theirs.chat.completions.create(model="email", messages=ASK)
    engine.refuses = EngineError("broken", status=502)
    with pytest.raises(openai.InternalServerError):
        theirs.chat.completions.create(model="email", messages=ASK, stream=True)


def test_openais_client_hears_of_a_stream_that_breaks(theirs: openai.OpenAI, engine: Scripted) -> None:
    engine.breaks_after = {"base": 2, "email/sft@1": 2}
    stream = theirs.chat.completions.create(model="email", messages=ASK, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["Dear", " Ann,"]
    with pytest.raises(openai.APIError, match="broke off"):
        next(stream)


def test_our_client_asks_edits_and_accepts(url: str, log: EditLog) -> None:
    with Client(url) as client:
        answer = client.complete("email", ASK, temperature=0)
        assert (answer.text, answer.policy) == (TEXT, "email/base")
        told = client.edit(answer.id, "Dear Ann, all is fine.", user_id="ann", metadata={"editor": "vim"})
        assert (told["revision"], told["new"], told["policy"]) == (0, True, "email/base")
        assert told["cost"] == pytest.approx(told["raw"] / 7)
        assert client.accept(answer.id)["revision"] == 1
        with pytest.raises(NotFoundError, match="404"):
            client.edit("unknown", "x")
        with pytest.raises(ConflictError, match="409"):
            client.edit(answer.id, "again", revision=0)
        with pytest.raises(DataError, match="400"):
            client.complete("email", [])
    with Client("http://127.0.0.1:9") as nobody, pytest.raises(ModelError, match="cannot be reached"):
        nobody.accept("x")
    assert log.interaction(answer.id).unchanged


def test_our_client_takes_any_form_of_the_address_and_says_what_it_cannot(url: str) -> None:
    for address in (f"{url}/", f"{url}/v1", f"{url}/v1/"):
        with Client(address) as client:
            assert client.complete("email", ASK).text == TEXT
            with pytest.raises(DataError, match="stream with an OpenAI client"):
                client.complete("email", ASK, stream=True)


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", "{}", '{"id": "x", "choices": []}'])
def test_our_client_is_not_answered_by_something_else(body: str) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(body)(scope, receive, send)

    with (
        served(other, lifespan="off") as url,
        Client(url) as client,
        pytest.raises(ModelError, match="is no gateway of redraft"),
    ):
        client.complete("email", ASK)


def test_edits_and_completions_can_be_read(url: str) -> None:
    with Client(url) as client:
        names = [client.complete("email", ASK).id for _ in range(3)]
        for name in names:
            client.edit(name, "Dear Ann.")
    with httpx.Client(base_url=url) as http:
        page = http.get("/v1/edits", params={"limit": 2}).json()["data"]
        rest = http.get("/v1/edits", params={"after": page[-1]["position"]}).json()["data"]
        assert [row["completion_id"] for row in (*page, *rest)] == names
        one = http.get("/v1/edits", params={"completion_id": names[1]}).json()["data"]
        assert [(row["edited"], row["revision"], row["task"]) for row in one] == [("Dear Ann.", 0, "email")]
        found = http.get(f"/v1/completions/{names[0]}").json()
        assert found["completion"]["response"] == TEXT
        assert found["decision"]["selector"] == "late"
        assert found["edit"]["edited"] == "Dear Ann."
        assert http.get("/v1/completions/none").status_code == 404


def test_tensorzeros_demonstrations_are_edits(url: str, log: EditLog) -> None:
    with Client(url) as client, httpx.Client(base_url=url) as http:
        name = client.complete("email", ASK).id
        said = {"metric_name": "demonstration", "inference_id": name, "value": "Dear Ann."}
        assert http.post("/feedback", json=said).json() == {"feedback_id": f"{name}:0"}
        assert http.post("/feedback", json=said | {"metric_name": "score"}).status_code == 400
    assert log.interaction(name).edited == "Dear Ann."


def test_standing_health_and_metrics(url: str) -> None:
    with Client(url) as client:
        client.accept(client.complete("email", ASK).id)
    with httpx.Client(base_url=url) as http:
        assert http.get("/healthz").json() == {"status": "ok"}
        assert http.get("/readyz").status_code == 200
        standing = http.get("/v1/tasks/email/policies").json()
        assert standing["selector"] == "late"
        assert [(row["policy"], row["edits"]) for row in standing["policies"]] == [
            ("email/base", 1),
            ("email/sft@1", 0),
        ]
        assert http.get("/v1/tasks/notes/policies").status_code == 404
        metrics = http.get("/metrics").text
    assert 'redraft_edit_cost_count{policy="base",task="email"} 1.0' in metrics
    assert 'redraft_decisions{policy="base",task="email"} 1.0' in metrics
    assert 'redraft_requests_total{route="/v1/chat/completions",status="200"} 1.0' in metrics
    assert 'redraft_requests_total{route="/v1/tasks/{task}/policies",status="404"} 1.0' in metrics


def test_the_front_door_says_what_this_is(shared_url: str) -> None:
    with httpx.Client(base_url=shared_url) as http:
        told = http.get("/").json()
        assert (told["name"], told["base_url"], told["tasks"]) == ("redraft", f"{shared_url}/v1", ["email"])
        assert http.get(told["openapi"]).json()["info"]["version"] == told["version"]
        assert (http.head("/").status_code, http.head("/").content) == (200, b"")


def test_not_ready_while_the_log_cannot_be_read(url: str, log: EditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: str) -> Any:
        raise ConfigError("log: disk on fire")

    with httpx.Client(base_url=url) as http:
        monkeypatch.setattr(log, "statistics", unreadable)
        assert http.get("/readyz").status_code == 503
        assert http.get("/healthz").status_code == 200
        monkeypatch.undo()
        assert http.get("/readyz").json() == {"status": "ready"}


def test_keys_projects_and_scopes(log: EditLog, engine: Scripted, tmp_path: Path) -> None:
    with log.keys() as connection:
        made = {
            name: add_key(connection, project, name, scopes)
            for name, project, scopes in (
                ("both", "default", ["client", "feedback"]),
                ("asks", "default", ["client"]),
                ("admin", "default", ["admin"]),
                ("other", "other", ["client", "feedback"]),
                ("gone", "default", ["client"]),
            )
        }
        revoke_key(connection, made["gone"][0].id)
    bearer = {name: {"authorization": f"Bearer {text}"} for name, (_, text) in made.items()}
    body = {"model": "email", "messages": ASK}
    with gateway(log, engine, keys=True) as url, httpx.Client(base_url=url) as http:

        def status(method: str, path: str, who: str, **more: Any) -> int:
            return http.request(method, path, headers=bearer.get(who, {}), **more).status_code

        asked = http.post("/v1/chat/completions", json=body, headers=bearer["both"])
        edit = {"completion_id": asked.json()["id"], "edited": "x"}
        assert status("POST", "/v1/chat/completions", "nobody", json=body) == 401
        assert status("POST", "/v1/chat/completions", "gone", json=body) == 401
        assert http.post("/v1/edits", json=edit, headers={"authorization": "Bearer rd-0-0"}).status_code == 401
        assert status("POST", "/v1/chat/completions", "other", json=body) == 404
        assert status("POST", "/v1/edits", "asks", json=edit) == 403
        assert status("POST", "/v1/edits", "other", json=edit) == 404
        assert status("GET", f"/v1/completions/{edit['completion_id']}", "other") == 404
        assert status("POST", "/v1/edits", "both", json=edit) == 200
        assert status("DELETE", "/v1/users/ann", "both") == 403
        assert status("DELETE", "/v1/users/ann", "admin") == 200
        assert http.get("/v1/edits", headers=bearer["other"]).json()["data"] == []
        assert http.get("/healthz").status_code == 200
        assert "tasks" not in http.get("/", headers=bearer["admin"]).json()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not [text for _, text in made.values() if text.encode() in kept]


BAD: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"{", "cut off"),
    (b"[]", "no object"),
    (b'{"model": "email"}', "no messages"),
    (b'{"model": "email", "messages": [{"role": "nobody", "content": ""}]}', "unknown role"),
    (b'{"model": "email", "messages": [{"role": "user", "content": "caf\xe9"}]}', "not UTF-8"),
    (b'{"model": "email", "messages": [{"role": "user", "content": "\\ud800"}]}', "half a character"),
    (b'{"model": "email", "temperature": NaN, "messages": [{"role": "user", "content": ""}]}', "NaN"),
    (b"[" * 100_000, "deep"),
]


@pytest.fixture(scope="module")
def shared_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for tests that leave nothing in its log."""
    with EditLog(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'log.db'}") as log, gateway(log, Scripted()) as found:
        yield found


@pytest.mark.parametrize(("body", "_why"), BAD, ids=[why for _, why in BAD])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/edits", "/feedback"])
def test_bad_bodies_are_400(shared_url: str, path: str, body: bytes, _why: str) -> None:
    answer = httpx.post(f"{shared_url}{path}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_a_body_is_413(log: EditLog, engine: Scripted, declared: bool) -> None:
    def parts() -> Iterator[bytes]:
        yield from (b"x" * 1000 for _ in range(20))

    with gateway(log, engine, limits=Limits(10_000, 5, 64)) as url:
        content: Any = b"x" * 20_000 if declared else parts()
        answer = httpx.post(f"{url}/v1/chat/completions", content=content)
        assert answer.status_code == 413
        assert json.loads(answer.text)["error"]["message"].startswith("the body has")


def test_more_requests_than_can_be_answered_are_told_to_come_back(log: EditLog, engine: Scripted) -> None:
    with gateway(log, engine, limits=Limits(10_000, 5, 0)) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "email", "messages": ASK})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert httpx.get(f"{url}/healthz").status_code == 200
