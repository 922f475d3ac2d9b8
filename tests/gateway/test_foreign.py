"""What other servers say: chunks, answers and errors of every make, and what a client gets of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from redraft.gateway.engine import EngineError, Piece
from redraft.gateway.foreign import Chunks, answer_of, failure, parsed, problem_in, retry_after
from redraft.gateway.redact import redacted
from redraft.gateway.response_events import output_of
from redraft.messages import Draft

HI: dict[str, Any] = {
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi "}, "finish_reason": None}]
}
ANN: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": "Ann."}, "finish_reason": None}]}
END: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def delta(given: Any, reason: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": given, "finish_reason": reason}], **more}


def read(*said: Any, done: bool = True) -> list[Piece]:
    chunks = Chunks("up", "req-1", redacted)
    raw = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in said]
    pieces = [piece for data in raw for piece in chunks.read("message", data)]
    last = chunks.end(done)
    return pieces + ([last] if last else [])


def text(pieces: list[Piece]) -> str:
    draft = Draft()
    for piece in pieces:
        for choice in piece.choices:
            draft.add(choice)
    return f"{draft.text}|{draft.finish_reason}"


@pytest.mark.parametrize(
    "said",
    [
        [HI, ANN, END],
        ["keepalive", None, 7, [], {}, b"{", b"<p>", HI, ANN, END],
        [HI, {"choices": None, "usage": {"total_tokens": 3}}, ANN, {"usage": {"total_tokens": 3}}, END],
        [HI | {"error": None}, ANN | {"error": {}}, END],
        [HI, ANN, {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}],
        [HI, ANN, {"choices": [{"finish_reason": "stop"}]}],
        [HI, ANN, {"choices": [None, 3, "x", {"index": 0, "finish_reason": "stop"}]}],
        [HI, ANN, {"choices": [{"index": 1, "delta": {"content": "?"}, "finish_reason": "length"}]}, END],
        [
            {"choices": [], "prompt_filter_results": [{}]},
            HI,
            delta({"content": 5, "tool_calls": "x", "refusal": []}),
            ANN,
            END,
        ],
        [HI, delta({"tool_calls": [None, 3, {"index": "a"}, {"index": -1, "id": "c"}, {}]}, 12), ANN, END],
        [HI, ANN],  # it said that it was done
        [{"choices": [{"message": {"content": "Hi Ann."}, "finish_reason": "stop"}]}],
        [HI, ANN, {"choices": [{"message": {"content": "Hi Ann."}, "finish_reason": "stop"}]}],  # repeated at the end
        [HI, ANN, END, {"error": {"message": "no usage today"}}],  # the answer was whole
        [HI, b'{"choices": [{"delta": {"content": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}", ANN, END],
    ],
)
def test_a_stream_of_any_make_is_read(said: list[Any]) -> None:
    pieces = read(*said)
    assert text(pieces) == "Hi Ann.|stop"
    assert [piece.request_id for piece in pieces] == ["req-1"] + [""] * (len(pieces) - 1)
    assert all(piece.choices or piece.usage or piece.more for piece in pieces)


def test_what_says_something_is_passed_on_at_once() -> None:
    chunks = Chunks("up", "", str)
    assert not list(chunks.read("message", json.dumps(delta({"role": "assistant", "content": ""})).encode()))
    assert len(list(chunks.read("message", json.dumps(ANN).encode()))) == 2
    for said in (HI, END, {"choices": [], "usage": {"total_tokens": 3}}):
        assert len(list(chunks.read("message", json.dumps(said).encode()))) == 1


def test_tool_calls_of_servers_that_name_no_index_and_send_objects() -> None:
    calls = [{"id": name, "function": {"name": name, "arguments": {"to": "Ann"}}} for name in ("a", "b")]
    pieces = read(delta({"tool_calls": calls}))
    draft = Draft()
    draft.add(pieces[0].choices[0])
    assert [call["function"]["arguments"] for call in draft.message["tool_calls"]] == ['{"to": "Ann"}'] * 2
    assert text(pieces).endswith("|tool_calls")


def test_other_fields_and_numbers_that_json_lacks() -> None:
    raw = b'{"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [-Infinity, 1e999]}}], '
    raw += b'"system_fingerprint": "fp", "citations": [NaN], "usage": {"total_tokens": NaN, "cost": 0.5, "x": "y"}}'
    (piece, _) = read(raw)
    assert piece.choices[0]["logprobs"] == {"content": [None, None]}
    assert (piece.more, piece.usage) == (
        {"system_fingerprint": "fp", "citations": [None]},
        {"cost": 0.5},
    )


@pytest.mark.parametrize("odd", [0.5, "7", -1, True, None, [], {}, {"n": 1}, [7], 2**60, 1e300])
def test_odd_numbers_in_usage_are_left_out(odd: Any) -> None:
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    details = ("prompt_tokens_details", "completion_tokens_details")
    message = {"choices": [{"message": {"role": "assistant", "content": "Hi"}}]}
    given = dict.fromkeys((*counts, *details), odd) | {"x_details": {"cached_tokens": odd, "audio_tokens": 2}}
    body = json.dumps(message | {"usage": given | {"cost": 0.5}}).encode()
    usage = answer_of("large", body, "", str).usage
    kept = {"x_details": {"audio_tokens": 2}, "cost": 0.5}
    assert {name: value for name, value in (usage or {}).items() if value != {"n": 1}} == kept
    answer = output_of({"id": "a"}, {"content": "Hi"}, "stop", usage)
    assert (answer["usage"]["total_tokens"], answer["usage"]["input_tokens_details"]["cached_tokens"]) == (0, 0)


@pytest.mark.parametrize(
    ("said", "pieces", "told"),
    [
        ([], 0, ("ended without an answer", 502, None)),
        ([delta({"role": "assistant", "content": ""})], 0, ("ended without an answer", 502, None)),
        ([delta({"role": "assistant"}), {"error": {"message": "busy", "code": 503}}], 0, ("busy", 503, None)),
        ([{"error": {"message": "too long", "code": 400}}], 0, ("too long", 400, None)),
        ([HI], 1, ("broke off before the end", 502, "stream_cut")),
        ([HI, {"error": {"message": "quota of sk-12345678", "code": "quota"}}], 1, ("quota of ", 502, "quota")),
        ([HI, {"choices": [{"error": {"message": "it died"}, "finish_reason": "error"}]}], 1, ("it died", 502, None)),
        ([HI, {"error": {"message": "\ud83d no\0"}}], 1, (r"^\ufffd no\ufffd$", 502, None)),
        ([HI, {"error": True}], 1, ("up broke off", 502, None)),
        ([HI, {"error": {"message": "bad key", "code": 401}}], 1, ("up refused", 502, None)),
    ],
)
def test_a_stream_that_fails(said: list[Any], pieces: int, told: tuple[str, int, str | None]) -> None:
    chunks, seen = Chunks("up", "", redacted), list[Piece]()

    def read_all() -> None:
        for one in said:
            seen.extend(chunks.read("message", json.dumps(one).encode()))
        chunks.end(done=False)

    with pytest.raises(EngineError, match=told[0]) as caught:
        read_all()
    assert (len(seen), caught.value.status, caught.value.code) == (pieces, *told[1:])
    assert caught.value.retry is (told[1] != 400)
    assert "sk-" not in str(caught.value)


def test_what_is_too_deep_to_be_written_again_is_nothing() -> None:
    for levels, kept in ((20, True), (100, False), (100_000, False)):
        assert bool(parsed(b'{"a": ' + b"[" * levels + b"]" * levels + b"}")) is kept
    assert parsed(b'{"a": [' + b"[], " * 1000 + b"[]]}")  # many, not deep


def test_an_error_event_is_one_whatever_it_says() -> None:
    for said in (b'{"message": "no"}', b"no"):
        with pytest.raises(EngineError, match=r"^no$"):
            list(Chunks("up", "", str).read("error", said))


def test_a_whole_answer_is_read_as_leniently() -> None:
    message = {
        "role": 7,
        "content": [{"type": "text", "text": "Hi"}, 3],
        "refusal": [],
        "tool_calls": None,
        "audio": None,
    }
    choice = {"index": 0, "message": message, "logprobs": {"content": [{"logprob": -0.1}]}, "stop_reason": 2}
    found = {"choices": [{"index": 1}, choice], "citations": ["a"], "usage": [], "error": None}
    answer = answer_of("up", b"\xef\xbb\xbf" + json.dumps(found).encode(), "req-1", str)
    assert (answer.text, answer.usage, answer.more, answer.request_id) == ("Hi", None, {"citations": ["a"]}, "req-1")
    assert answer.choice["message"] == {"content": [{"type": "text", "text": "Hi"}], "audio": None}
    assert (answer.choice["finish_reason"], answer.choice["stop_reason"]) == ("stop", 2)
    assert answer.choice["logprobs"] == {"content": [{"logprob": -0.1}]}


def test_a_body_that_is_no_answer() -> None:
    odd = ("", "<html>", "null", "[1]", "{}", '{"choices": {}}', '{"choices": [{"message": "x"}]}', '{"choices": [3]}')
    for body in (*odd, "{" * 9999, '{"a":' * 9999):
        with pytest.raises(EngineError, match="up answered without a completion") as caught:
            answer_of("up", body.encode(), "", str)
        assert (caught.value.status, caught.value.retry) == (502, True)


def openai(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


KEY = "up refused the gateway's key "
LONG = openai("4096 at most", param="messages", code="context_length_exceeded")
FASTAPI = '{"detail": [{"loc": ["body", "n"], "msg": "too many", "input": "private"}]}'


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, LONG, (400, False, "4096 at most", "context_length_exceeded")),
        (422, FASTAPI, (422, False, "body.n: too many", None)),
        (400, '{"object": "error", "message": "no", "code": 400}', (400, False, "no", None)),
        (400, f"[{LONG}]", (400, False, "4096 at most", "context_length_exceeded")),
        (401, openai("Wrong API key", code="invalid_api_key"), (502, True, f"{KEY}(401)", None)),
        (403, openai("no", code="unsupported_country"), (502, True, f"{KEY}(403)", "unsupported_country")),
        (404, openai("no", code="model_not_found"), (502, True, "up does not know the model (404)", None)),
        (402, openai("Insufficient credits", code=402), (402, True, "Insufficient credits", None)),
        (413, "too large", (413, True, "too large", None)),
        (429, openai("slow down", code="rate_limit_exceeded"), (429, True, "slow down", "rate_limit_exceeded")),
        (429, "", (429, True, "up answered 429", None)),
        (409, openai("raw"), (409, True, "up answered 409", None)),
        (500, openai("Traceback", code="internal"), (500, True, "up answered 500", "internal")),
        (529, "overloaded", (503, True, "up answered 529", None)),
        (301, "", (502, True, "up answered 301", None)),
        (418, openai("teapot"), (502, True, "up answered 418", None)),
        (999, "", (502, True, "up answered 999", None)),
    ],
)
def test_statuses(status: int, body: str, told: tuple[int, bool, str, str | None]) -> None:
    error = failure("up", status, problem_in(parsed(body.encode()) or {"message": body}, redacted))
    assert (error.status, error.retry, str(error), error.code) == told


def test_an_errors_other_fields() -> None:
    said = problem_in(
        {"error": {"message": "m", "type": "insufficient_quota", "param": "a.b", "code": "sk-12345 x"}}, str
    )
    assert said == {"message": "m", "type": "insufficient_quota", "param": "a.b"}
    error = failure("up", 429, said)
    assert (error.kind, error.param, error.final) == ("insufficient_quota", None, True)
    assert failure("up", 400, said).param == "a.b"


def test_seconds_to_wait() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    told = ["7", "0.5", soon, "-3", "soon", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", ""]
    seconds = [retry_after({"Retry-After": one}) for one in told]
    assert seconds[2] == pytest.approx(30, abs=3)
    assert [*seconds[:2], *seconds[3:]] == [7.0, 0.5, None, None, None, None, 0.0, None]
    assert retry_after({"retry-after-ms": "1500", "Retry-After": "9"}) == 1.5


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-upst*****cret.",
        "key sk-upstream-secret, rd-1-secret of gsk_secret_secret",
        "Authorization: bearer secret-token",
        "postgresql+psycopg://me:secret@db/log and http://a:b@secret@host/x",
        "?password=secret&user=me&api_key=secret; token=secret",
        "our own s3cret! here",
        "abcd****secret",
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    found = redacted(text, ["s3cret!", ""])
    assert "***" in found
    assert not [part for part in ("secret", "cret", "upst", "pw") if part in found]


def test_what_is_no_secret_stays() -> None:
    text = "upstream up: a risk-averse 3rd-party task at http://host:80/v1 says 2 ** 3; user=me, max_tokens=5"
    assert redacted(text, [""]) == text
