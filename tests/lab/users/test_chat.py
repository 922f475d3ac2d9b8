"""Against a real HTTP server that speaks the protocol, well and badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from chat_server import ChatServer, completion, serving

from redraft.errors import ConfigError, ModelError
from redraft.lab.users.chat import Chat
from redraft.types import Decoding, Message

KEY = "sk-very-secret"
HI = [Message("user", "Hi")]
DECODING = Decoding(max_new_tokens=7, temperature=0.5, seed=3)


@pytest.fixture
def upstream() -> Generator[ChatServer]:
    with serving(ChatServer()) as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def policy(upstream: ChatServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    return Chat("policy 'cloud'", upstream.url, "email/sft@1", "UPSTREAM_KEY", sleep=pauses.append)


def ask(chat: Chat, messages: Sequence[Message] = HI) -> str:
    with chat.connect() as answer:
        return answer(messages, DECODING)


def test_asks_as_the_protocol_says(upstream: ChatServer, policy: Chat) -> None:
    context = [Message("system", "Be brief."), Message("user", "Grüße 😀")]
    assert ask(policy, context) == "re: Grüße 😀"
    [(path, headers, request)] = upstream.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert request == {
        "model": "email/sft@1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße 😀"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
    }


def test_needs_no_key(upstream: ChatServer) -> None:
    assert ask(Chat("policy 'local'", upstream.url, "m")) == "re: Hi"
    assert "Authorization" not in upstream.requests[0][1]


def test_a_busy_or_failing_server_is_asked_again(upstream: ChatServer, policy: Chat, pauses: list[float]) -> None:
    upstream.script = [(429, "{}", {"Retry-After": "3"}), (500, "oops", {}), (503, "", {"Retry-After": "soon"})]
    assert ask(policy) == "re: Hi"
    assert pauses == [3.0, 1.0, 2.0]


def test_a_date_to_retry_after_is_honoured(upstream: ChatServer, policy: Chat, pauses: list[float]) -> None:
    at = datetime.now(UTC) + timedelta(seconds=30)
    upstream.script = [(429, "", {"Retry-After": format_datetime(at, usegmt=True)})]
    assert ask(policy) == "re: Hi"
    assert 20 < pauses[0] <= 30


def test_retries_are_bounded(upstream: ChatServer, policy: Chat, pauses: list[float]) -> None:
    upstream.script = [(500, "still\nbroken", {})] * 9
    with pytest.raises(ModelError, match=r"'cloud': .* answered 500 \(still broken\), 5 times"):
        ask(policy)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_pause_too_long_is_not_waited_for(upstream: ChatServer, policy: Chat, pauses: list[float]) -> None:
    upstream.script = [(429, "", {"Retry-After": "3600"})]
    with pytest.raises(ModelError, match="answered 429"):
        ask(policy)
    assert pauses == []


def test_a_refusal_is_final_and_does_not_leak_the_key(upstream: ChatServer, policy: Chat, pauses: list[float]) -> None:
    upstream.script = [(401, json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}, indent=1), {})]
    with pytest.raises(ModelError, match=r"answered 401 .*Incorrect API key: \*\*\*") as caught:
        ask(policy)
    assert KEY not in f"{caught.value!r}{policy!r}"
    assert "\n" not in str(caught.value)
    assert pauses == []


@pytest.mark.parametrize(
    "body",
    ["not json", "[]", "{}", '{"choices": []}', '{"choices": [{"message": null}]}', completion(None), completion(3)],
)
def test_an_answer_without_a_completion_is_an_error(upstream: ChatServer, policy: Chat, body: str) -> None:
    upstream.script = [(200, body, {})]
    with pytest.raises(ModelError, match="answered without a completion") as caught:
        ask(policy)
    assert "\n" not in str(caught.value)


def test_garbled_encoding_is_an_error(upstream: ChatServer, policy: Chat) -> None:
    upstream.script = [(200, "no gzip", {"Content-Encoding": "gzip"})]
    with pytest.raises(ModelError, match="cannot be read"):
        ask(policy)


def test_a_server_that_never_answers_times_out(upstream: ChatServer, pauses: list[float]) -> None:
    upstream.stall = threading.Event()
    policy = Chat("policy 'slow'", upstream.url, "m", timeout=0.05, retries=1, sleep=pauses.append)
    with pytest.raises(ModelError, match=r"cannot be reached \(ReadTimeout\), 2 times"):
        ask(policy)
    assert pauses == [0.5]


def test_a_server_that_is_not_there(upstream: ChatServer) -> None:
    nowhere = upstream.url.replace("127.0.0.1", "127.0.0.2")
    policy = Chat("policy 'gone'", nowhere, "m", retries=0)
    with pytest.raises(ModelError, match="ConnectError"):
        ask(policy)


def test_invalid_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="set NO_SUCH_KEY"):
        ask(Chat("policy 'cloud'", "http://127.0.0.1:9/v1", "m", "NO_SUCH_KEY"))
    monkeypatch.setenv("NO_SUCH_KEY", "schlüssel\n")
    for url in ("http://127.0.0.1:9/v1", "http://[::"):
        with pytest.raises(ConfigError, match="cannot be sent") as caught:
            ask(Chat("policy 'cloud'", url, "m", "NO_SUCH_KEY"))
        assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "no-scheme", "ftp://127.0.0.1/v1"])
def test_invalid_urls(url: str) -> None:
    with pytest.raises((ModelError, ConfigError)):
        ask(Chat("policy 'cloud'", url, "m", retries=0))
