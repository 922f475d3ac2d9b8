"""What a client is told where something fails, and what the server's log says of it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_parts import Scripted, served, task

from redraft.errors import ConfigError, ModelError, RedraftError
from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.failures import failure
from redraft.gateway.limits import Limits, limited
from redraft.gateway.openai import ChatRequest
from redraft.gateway.server import JsonLines
from redraft.gateway.service import Gateway
from redraft.log import EditLog

ASK: Any = {"model": "email", "messages": [{"role": "user", "content": "hi"}]}
SECRET = "PATIENT-NAME"
AWAY = ConfigError("log postgresql://ann:hunter2@db.internal/x?password=p: cannot be reached")


class Failing(Scripted):
    """Raises ``error``, streamed after a first piece."""

    error: BaseException | None = None

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        if self.error is not None:
            raise self.error
        return await super().complete(policy, request)

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        async for piece in super().stream(policy, request):
            yield piece
            if self.error is not None:
                raise self.error


@pytest.fixture
def engine() -> Failing:
    return Failing()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path / 'log.db'}") as opened:
        yield opened


@pytest.fixture
def http(log: EditLog, engine: Failing) -> Iterator[httpx.Client]:
    app = limited(create_app(Gateway(log, [task(engine)]), Authority(log.key, "default")), Limits(10_000, 5, 8))
    with served(app) as url, httpx.Client(base_url=url) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(JsonLines().format(record) for record in caplog.records)


def test_what_is_not_for_clients_is_in_the_servers_log_only(
    http: httpx.Client, log: EditLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise AWAY

    for name in ("edit_events", "interaction", "statistics"):
        monkeypatch.setattr(log, name, away)
    for path in ("/v1/edits", "/v1/completions/x"):
        told = http.get(path)
        assert told.status_code == 503
        message = told.json()["error"]["message"]
        assert message.startswith("the log cannot be reached at the moment (error ")
        assert message[47:53] in lines(caplog)
    assert http.get("/readyz").json()["status"].startswith("the log cannot be reached")
    assert "hunter2" not in lines(caplog)
    assert "db.internal" in lines(caplog)  # whoever runs it must know where it was looked for
    assert "cannot be reached" in lines(caplog)


@pytest.mark.parametrize("error", [RuntimeError(SECRET), KeyError(SECRET), ModelError("gone"), RedraftError("new")])
def test_an_unexpected_error_is_told_in_openais_shape(
    http: httpx.Client, engine: Failing, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    engine.error = error
    expected = 503 if isinstance(error, RedraftError) else 500
    for path, body in (("/v1/chat/completions", ASK), ("/v1/responses", {"model": "email", "input": "hi"})):
        told = http.post(path, json=body)
        assert (told.status_code, told.json()["error"]["type"]) == (expected, "api_error")
        assert "(error " in told.json()["error"]["message"]
    streamed = http.post("/v1/chat/completions", json=ASK | {"stream": True})
    last = json.loads(streamed.text.strip().rpartition("data: ")[2])
    assert (last["error"]["type"], "(error " in last["error"]["message"]) == ("api_error", True)
    assert SECRET not in lines(caplog)
    if expected == 500:
        assert f"{type(error).__name__} < test_failures.py" in lines(caplog)


def test_an_unexpected_error_of_any_other_route(
    http: httpx.Client, log: EditLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(log, "edit_events", broken)
    told = http.get("/v1/edits")
    assert (told.status_code, told.json()["error"]["type"]) == (500, "api_error")
    assert SECRET not in lines(caplog)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "a request failed unexpectedly"
    ]


def test_an_upstreams_fields_are_passed_on(http: httpx.Client, engine: Failing) -> None:
    fields: Any = {"kind": "tokens", "code": "context_length_exceeded", "param": "messages"}
    engine.error = EngineError("too long", status=400, retry=False, retry_after=0.2, final=True, **fields)
    told = http.post("/v1/chat/completions", json=ASK)
    error = {"message": "too long", "type": "tokens", "param": "messages", "code": "context_length_exceeded"}
    assert (told.status_code, told.json()) == (400, {"error": error})
    assert (told.headers["retry-after"], told.headers["x-should-retry"]) == ("1", "false")
    streamed = http.post("/v1/chat/completions", json=ASK | {"stream": True})
    assert json.loads(streamed.text.strip().rpartition("data: ")[2])["error"] == error
    engine.error = EngineError("busy", status=429, retry=False)
    told = http.post("/v1/chat/completions", json=ASK)
    assert (told.headers["retry-after"], "x-should-retry" in told.headers) == ("1", False)


def test_a_line_of_the_log_holds_no_foreign_message() -> None:
    def broken() -> None:
        try:
            {}[SECRET]
        finally:
            int(SECRET)

    with pytest.raises(ValueError, match=SECRET) as raised:
        broken()
    about = (raised.type, raised.value, raised.tb)
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "never retrieved\nfuture: <%s>", (SECRET,), about)
    line = json.loads(JsonLines().format(record))
    assert SECRET not in str(line)
    assert line["message"] == "never retrieved"
    assert [place.split()[0] for place in line["exception"]] == ["ValueError", "KeyError"]


def test_unknown_names_have_their_code(http: httpx.Client) -> None:
    for path, body in (("/v1/chat/completions", ASK), ("/v1/responses", {"input": "hi"})):
        told = http.post(path, json={**body, "model": "base"})
        assert (told.status_code, told.json()["error"]["code"]) == (404, "model_not_found")
        for name in told.json()["error"]["message"].partition("use one of ")[2].split(", "):
            assert http.post(path, json={**body, "model": name}).status_code == 200
    assert failure(EngineError("x", status=503, retry_after=2.1)).headers == {"retry-after": "3"}
