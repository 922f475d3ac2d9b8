"""What other servers say, made to fit OpenAI's shapes: answers, chunks and errors.

A field of the wrong type is left out, a chunk without anything is skipped, and what is left can be shown, put together
by ``Draft`` and written as JSON. No NaN, nothing deep, no choice but the first. Left out: how the bytes arrive.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.log.canonical import cleaned

__all__ = [
    "Chunks",
    "Problem",
    "answer_of",
    "failure",
    "model_ids",
    "parsed",
    "problem_in",
    "request_id_of",
    "retry_after",
]

Problem = Mapping[str, str | None]
"""An error's ``message``, ``type``, ``code`` and ``param``."""
Clean = Callable[[str], str]

_PLAIN = frozenset({"role", "content"})
_OWN = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})
_DEEPEST, _LONGEST, _HELD = 64, 2000, 8
_WORD = re.compile(r"[\w.\-]{1,64}", re.ASCII)
_BLAMES = frozenset({"invalid_api_key", "model_not_found"})  # a client would take it for its own key or model
_NEUTRAL = {
    401: "refused the gateway's key (401)",
    403: "refused the gateway's key (403)",
    404: "does not know the model (404)",
}
_QUOTED = frozenset({400, 402, 413, 422, 429})
_MOST = 2**53
"""Tokens above this are none: not every reader of JSON takes such a number."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def parsed(data: bytes) -> Mapping[str, Any]:
    """A JSON object without NaN and not deep, alone or in a list (Google's errors); empty for anything else."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    try:
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return {}
    if text.count("{") + text.count("[") > _DEEPEST and _deeper(found, _DEEPEST):
        return {}
    if "\\u0000" in text or "\x00" in text:  # what no log can hold, nobody gets to see
        found = cleaned(found)
    one = cast(list[Any], found)[0] if isinstance(found, list) and found else found
    return cast(Mapping[str, Any], one) if isinstance(one, dict) else {}


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else cast(Any, value) if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner if isinstance(one, dict | list))


def answer_of(name: str, data: bytes, request_id: str, clean: Clean) -> Answer:
    """The whole answer in a body; raises ``EngineError`` where there is none."""
    found = parsed(data)
    choice = _first(found.get("choices"))
    if problem := found.get("error") or choice.get("error"):
        raise failure(name, _status_in(problem), problem_in({"error": problem}, clean), late=True)
    if not isinstance(choice.get("message"), dict):
        raise EngineError(f"{name} answered without a completion")
    message = _message(choice["message"])
    reason = _reason(choice) or ("tool_calls" if message.get("tool_calls") else "stop")
    whole = {**choice, "message": message, "finish_reason": reason, "logprobs": _logprobs(choice)}
    return Answer(whole, _usage(found), _more(found), request_id)


def model_ids(data: bytes) -> set[str]:
    """The names in a body of ``/models``."""
    ids = [cast(Mapping[str, Any], row).get("id") for row in _list(parsed(data).get("data")) if isinstance(row, dict)]
    return {name for name in ids if isinstance(name, str)}


class Chunks:
    """The pieces of one stream, out of its events. Pieces that say nothing wait for the first that does.

    So a stream that fails before it has said anything is no answer, and another policy may answer.
    """

    def __init__(self, name: str, request_id: str, clean: Clean) -> None:
        self._name, self._request_id, self._clean = name, request_id, clean
        self._held, self._said, self._calls, self._finished = list[Piece](), False, False, False

    def read(self, kind: str, data: bytes) -> Iterator[Piece]:
        """The pieces that are ready; raises ``EngineError`` for an error before the answer has finished."""
        found = parsed(data)
        choices = [one for one in _list(found.get("choices")) if _counts(one)]
        problem = found.get("error") or next((one["error"] for one in choices if one.get("error")), None)
        if (problem or kind == "error") and not self._finished:
            known = problem or found or data.decode(errors="replace")
            raise failure(self._name, _status_in(known), problem_in({"error": known}, self._clean), late=True)
        piece = Piece(tuple(map(self._choice, choices)), _usage(found), _more(found))
        if not self._said and not any(map(_says, piece.choices)):
            if (piece.choices or piece.usage or piece.more) and len(self._held) < _HELD:
                self._held.append(piece)
            return
        if not self._said:
            self._said, held = True, [*self._held, piece]
            yield replace(held[0], request_id=self._request_id)
            yield from held[1:]
        elif piece.choices or piece.usage or piece.more:
            yield piece

    def end(self, done: bool, problem: EngineError | None = None) -> Piece | None:
        """The finish that a stream did not name although it was done; raises ``EngineError`` where it was cut."""
        if self._finished:
            return None
        if not self._said:
            raise problem or EngineError(f"{self._name} ended without an answer")
        if problem is not None or not done:
            told = str(problem or f"{self._name} broke off before the end of its answer")
            raise EngineError(told, status=problem.status if problem else 502, code="stream_cut")
        return Piece.of({}, "tool_calls" if self._calls else "stop")

    def _choice(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        whole = given.get("message") if not self._said else None  # some repeat the whole answer at its end
        delta = _message(given.get("delta") or whole, streamed=True)
        reason = _reason(given)
        self._finished, self._calls = self._finished or reason is not None, self._calls or "tool_calls" in delta
        rest = {name: value for name, value in given.items() if name != "message"}
        return {**rest, "index": 0, "delta": delta, "finish_reason": reason, "logprobs": _logprobs(given)}


def problem_in(body: Mapping[str, Any], clean: Clean) -> Problem:
    """What an error body says: OpenAI's, vLLM's before it, FastAPI's."""
    given = body.get("error") or body
    error = cast(Mapping[str, Any], given if isinstance(given, dict) else {"message": given})
    message = error.get("message") or error.get("detail") or body.get("message")
    if isinstance(message, list):  # FastAPI: one entry a field
        parts = [one for one in cast(list[Any], message) if isinstance(one, dict)]
        message = "; ".join(f"{'.'.join(map(str, _list(one.get('loc'))))}: {one.get('msg')}" for one in parts)
    words = {name: error.get(name) for name in ("type", "code", "param")}
    known = {name: clean(word) for name, word in words.items() if isinstance(word, str) and _WORD.fullmatch(word)}
    if not isinstance(message, str):
        return {**known, "message": None}
    whole = message[: 2 * _LONGEST].encode("utf-8", "replace").decode()  # no half of a pair can be sent
    return {**known, "message": clean(whole)[:_LONGEST].strip("\0 \n")}


def failure(name: str, status: int | None, said: Problem, *, late: bool = False) -> EngineError:
    """The error for the client, from an upstream's status; ``late`` where that stood in an answer that had begun well.

    400 and 422 are about the client's request; everything else is not, and another policy may answer. What concerns
    the gateway's key, model or address is told in a neutral sentence, the rest as it was said.
    """
    code, kind, message = said.get("code"), said.get("type"), said.get("message")
    own = status in (402, 408, 409, 413, 429) or (status is not None and 500 <= status < 600)
    theirs = status in (400, 422)
    told = 503 if status == 529 else status if status is not None and (own or theirs) else 502
    if not message or not (status in _QUOTED or (late and status not in _NEUTRAL)):
        message = f"{name} {_NEUTRAL.get(status or 0, f'answered {status}' if status else 'broke off')}"
    foreign = not (own or theirs) and code in _BLAMES
    return EngineError(
        message,
        status=told,
        retry=not theirs,
        kind=kind if own or theirs else None,
        code=None if foreign else code,
        param=said.get("param") if theirs else None,
        final=not (own or theirs or late) or "insufficient_quota" in (code, kind),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date."""
    try:
        if said := headers.get("retry-after-ms"):
            seconds = float(said) / 1000
        elif said := headers.get("Retry-After"):
            plain = said.strip().replace(".", "", 1).isdecimal()
            seconds = float(said) if plain else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        else:
            return None
    except (ValueError, TypeError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def request_id_of(headers: Mapping[str, str]) -> str:
    """Its ``x-request-id``, fit for a header of ours."""
    return headers.get("x-request-id", "")[:200].encode("ascii", "replace").decode()


def _status_in(problem: Any) -> int | None:
    """The status that an error object names: llama.cpp and OpenRouter write it into ``code``."""
    found = cast(Mapping[str, Any], problem) if isinstance(problem, dict) else {}
    codes = (found.get("code"), found.get("status"))
    return next((code for code in codes if isinstance(code, int) and 400 <= code < 600), None)


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _counts(choice: Any) -> bool:
    """Whether a choice is the first one, the only one that was asked for."""
    return isinstance(choice, dict) and cast(Mapping[str, Any], choice).get("index") in (None, 0)


def _first(choices: Any) -> Mapping[str, Any]:
    return next((one for one in _list(choices) if _counts(one)), {})


def _says(choice: Mapping[str, Any]) -> bool:
    return choice["finish_reason"] is not None or any(v for name, v in choice["delta"].items() if name != "role")


def _reason(choice: Mapping[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) and _WORD.fullmatch(reason) else None


def _logprobs(choice: Mapping[str, Any]) -> Any:
    found = choice.get("logprobs")
    return found if isinstance(found, dict) else None


def _usage(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return _numbers(found.get("usage"), details=True) or None


def _numbers(given: Any, *, details: bool = False) -> dict[str, Any]:
    """What is a number, in ``*_tokens`` a count of tokens, or ``details`` of such: others add them up."""
    kept: dict[str, Any] = {}
    for name, value in cast(dict[str, Any], given).items() if isinstance(given, dict) else ():
        if details and name.endswith("_details"):
            kept |= {name: numbers} if (numbers := _numbers(value)) else {}
        elif type(value) in ((int,) if name.endswith("_tokens") else (int, float)) and 0 <= value < _MOST:
            kept[name] = value
    return kept


def _more(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in _OWN}


def _message(given: Any, *, streamed: bool = False) -> dict[str, Any]:
    """A message or delta without fields of the wrong type."""
    found: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    if found.keys() <= _PLAIN and all(isinstance(text, str) for text in found.values()):  # as nearly always
        return found
    for name in ("role", "refusal"):
        if not isinstance(found.get(name), str | None):
            del found[name]
    content = found.get("content")
    if not isinstance(content, str | None):
        found["content"] = [part for part in _list(content) if isinstance(part, dict)] or None
    calls = [_call(one, place, streamed) for place, one in enumerate(_list(found.pop("tool_calls", None)))]
    if calls := [one for one in calls if one]:
        found["tool_calls"] = calls
    if function := _function(found.pop("function_call", None)):
        found["function_call"] = function
    return found


def _call(given: Any, place: int, streamed: bool) -> dict[str, Any]:
    """A tool call, or its part in a stream; empty where it is none. Servers that send whole calls name no index."""
    if not isinstance(given, dict):
        return {}
    call = cast(dict[str, Any], given)
    found: dict[str, Any] = {name: value for name in ("id", "type") if isinstance(value := call.get(name), str)}
    if streamed:
        index = call.get("index")
        if index is not None and (type(index) is not int or not 0 <= index < 10_000):
            return {}
        found["index"] = place if index is None else index
    body = {name: _function(call[name]) for name in ("function", "custom") if isinstance(call.get(name), dict)}
    return {**found, **body} if body or "id" in found else {}


def _function(given: Any) -> dict[str, Any]:
    """Name and arguments as texts; some servers send the arguments as an object."""
    found: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    for name in ("arguments", "input"):
        if isinstance(found.get(name), dict):
            found[name] = json.dumps(found[name], ensure_ascii=False)
    return {name: value for name, value in found.items() if isinstance(value, str)}
