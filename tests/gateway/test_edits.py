"""What is sent of edits, by whom and in which form: ours, OpenAI's messages, TensorZero's blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gateway_parts import Scripted, served, task

from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.service import Gateway
from redraft.log import EditLog

ASK: Any = {"model": "email", "messages": [{"role": "user", "content": "hi"}]}
CALL = {"type": "function", "id": "c1", "function": {"name": "send", "arguments": '{"to":"Ann"}'}}
SAID = '<tool_call>\n{"name": "send", "arguments": {"to": "Ann"}}\n</tool_call>'


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditLog]:
    with EditLog(f"sqlite:///{tmp_path_factory.mktemp('edits') / 'log.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def http(log: EditLog) -> Iterator[httpx.Client]:
    app = create_app(Gateway(log, [task(Scripted())]), Authority(log.key, "default"))
    with served(app) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def name(http: httpx.Client) -> str:
    return http.post("/v1/chat/completions", json=ASK).json()["id"]


TAKEN: list[tuple[dict[str, Any], str]] = [
    ({"edited": "Dear Ann.", "accepted": False}, "Dear Ann."),
    ({"edited": "", "metadata": None, "idempotency_key": None}, ""),
    ({"edited": {"role": "assistant", "content": "Dear Ann."}}, "Dear Ann."),
    ({"edited": {"role": "assistant", "content": [{"type": "text", "text": "Dear"}], "name": None}}, "Dear"),
    ({"edited": {"role": "assistant", "content": None, "tool_calls": [CALL]}}, SAID),
]


@pytest.mark.parametrize(("body", "text"), TAKEN)
def test_edits_that_are_taken(http: httpx.Client, log: EditLog, name: str, body: dict[str, Any], text: str) -> None:
    assert http.post("/v1/edits", json={"completion_id": name, **body}).status_code == 200
    assert log.interaction(name).edited == text


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "either edited"),
    ({"edited": None}, "either edited"),
    ({"edited": "x", "accepted": True}, "either edited"),
    ({"accepted": False}, "accepted: false does not say what was wrong: send edited"),
    ({"edited": {"role": "user", "content": "x"}}, "edited"),
    ({"edited": {"role": "assistant", "tool_calls": [{"function": "send"}]}}, "edited: not a message"),
    ({"edited": 5}, "edited: Input should"),
    ({"Edited": "x"}, "Edited: Extra"),
    ({"edited": "x", "completion_id": "i" * 1001}, "completion_id"),
]


@pytest.mark.parametrize(("body", "why"), REFUSED)
def test_edits_that_are_refused(http: httpx.Client, log: EditLog, name: str, body: dict[str, Any], why: str) -> None:
    told = http.post("/v1/edits", json={"completion_id": name, **body})
    assert (told.status_code, why in told.json()["error"]["message"]) == (400, True)
    assert log.interaction(name).edit is None


@pytest.mark.parametrize("path", ["/v1/edits", "/feedback"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_is_json_whatever_it_says(http: httpx.Client, name: str, path: str, kind: str | None) -> None:
    ours, theirs = ("completion_id", "edited"), ("metric_name", "inference_id", "value")
    fields = dict(zip(theirs, ("demonstration", name, "x"), strict=True)) if path == "/feedback" else {}
    fields = fields or dict(zip(ours, (name, "x"), strict=True))
    body = httpx.Request("POST", "http://x", json=fields).content
    headers = {} if kind is None else {"content-type": kind}
    assert http.post(path, content=body, headers=headers).status_code == 200
    told = http.post(path, content=b"completion_id=x", headers=headers)
    assert (told.status_code, "JSON" in told.json()["error"]["message"]) == (400, True)


def test_an_idempotency_key_may_be_a_header(http: httpx.Client, name: str) -> None:
    def sent(text: str, header: str, **more: Any) -> httpx.Response:
        body = {"completion_id": name, "edited": text, **more}
        return http.post("/v1/edits", json=body, headers={"Idempotency-Key": header})

    assert sent("a", "k1").json()["new"]
    assert not sent("a", "k1").json()["new"]
    assert sent("b", "k1").status_code == 409
    assert sent("b", "k1", idempotency_key="k2").json()["new"]
    assert sent("c", "k" * 1001).status_code == 400


DEMONSTRATIONS: list[tuple[Any, str | None]] = [
    ("Dear Ann.", "Dear Ann."),
    ([{"type": "text", "text": "Dear "}, {"type": "text", "text": "Ann."}], "Dear Ann."),
    ([{"type": "text", "text": "Sent:"}, {"type": "tool_call", "id": "c", "name": "send", "arguments": {"to": "Ann"}}],
     f"Sent:\n{SAID}"),
    ([{"type": "tool_call", "name": "send", "arguments": '{"to": "Ann"}'}], SAID),
    (None, None),
    (0.5, None),
    ({"type": "text", "text": "x"}, None),
    (["x"], None),
    ([{"type": "text"}], None),
    ([{"type": "tool_call", "arguments": {}}], None),
    ([{"type": "thought", "text": "x"}], None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), DEMONSTRATIONS)
def test_demonstrations(http: httpx.Client, log: EditLog, name: str, value: Any, text: str | None) -> None:
    body = {"metric_name": "demonstration", "inference_id": name, "value": value, "tags": {"editor": "vim"}}
    told = http.post("/feedback", json=body)
    edit = log.interaction(name).edit
    if text is None:
        assert (told.status_code, told.json()["error"]["message"].startswith("value: a ")) == (400, True)
        assert edit is None
    else:
        assert told.status_code == 200
        assert edit is not None
        assert (edit.edited, edit.metadata) == (text, {"editor": "vim"})


@pytest.mark.parametrize("user", ["ann/o'brien", "..", "a b", "é😀", "x%2Fy", "?q", "/", "u" * 1000])
def test_a_person_of_any_name_can_be_erased(http: httpx.Client, log: EditLog, user: str) -> None:
    def asked() -> str:
        return http.post("/v1/chat/completions", json=ASK | {"user": user}).json()["id"]

    asked()
    assert http.delete("/v1/users", params={"user_id": user}).json()["texts"] == 1
    if user != "..":  # which a client resolves before it sends it
        asked()
        assert http.delete(f"/v1/users/{quote(user, safe='')}").json()["texts"] == 1
    assert http.delete("/v1/users").status_code == 400
    assert http.delete("/v1/users/").status_code == 400


def test_a_completion_of_any_name_can_be_read(http: httpx.Client) -> None:
    for name in ("a/b", "a b", "?"):
        told = http.get(f"/v1/completions/{quote(name, safe='')}")
        assert (told.status_code, repr(name) in told.json()["error"]["message"]) == (404, True)
