"""Requests with one odd value in them, sent beside innocent ones, of which none may fail.

Every field of every route's body gets values of the wrong type, half surrogate pairs, NUL, nesting, numbers that JSON
does not have, long texts and odd Unicode; paths get odd ids. ``tools/fuzz_routes.py`` runs many.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from test_crash import answer

__all__ = ["MARK", "UPSTREAM", "Findings", "fuzzed"]

MARK = "XMARKX"
"""Stands in every odd text: it must appear in no line of a gateway's log."""
SAID = "All is well."

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT: dict[str, Any] = {
    "model": "email",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Notes."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "sent", "name": "f"},
    ],
    "n": 1,
    "stream": False,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "max_tokens": 9,
    "max_completion_tokens": 9,
    "stop": ["\n"],
    "seed": 1,
    "user": "ann",
    "metadata": {"conversation_id": "c-1", "tags": {"a": ["b"]}},
    "tools": [TOOL],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "top_p": 1,
    "logit_bias": {"1": 1},
}
RESPONSES: dict[str, Any] = {
    "model": "email",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Notes."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sent"},
    ],
    "stream": False,
    "max_output_tokens": 20,
    "temperature": 0.5,
    "metadata": {"conversation_id": "c-2"},
    "user": "ann",
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low"},
}
EDIT: dict[str, Any] = {
    "completion_id": "?",
    "edited": "All is very well.",
    "revision": 0,
    "user_id": "ann",
    "metadata": {"a": {"b": [1]}},
    "idempotency_key": "?",
}
FEEDBACK: dict[str, Any] = {
    "metric_name": "demonstration",
    "inference_id": "?",
    "value": [{"type": "text", "text": "All is very well."}],
    "tags": {"a": "b"},
}
EMBEDDINGS: dict[str, Any] = {"model": "email/plain", "input": ["x"], "encoding_format": "float"}


def _nested(depth: int) -> Any:
    value: Any = MARK
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


ODD: list[Any] = [
    None, True, False, 0, -1, 2**31, 2**63, 2**70, -(2**70), 1e308, 1e-320, float("nan"), float("inf"),
    "", " ", "null", f"{MARK}\x00", "\ud83d" + MARK, MARK + "\udc00", f"{MARK}\uffff\u202e\ufeff\x7f\x1b", MARK * 40,
    f"../{MARK}/..", f"{MARK}'\";--", "a" * 70_000, list(range(2000)),
    [], {}, [None], [[]], {"": None}, {MARK: MARK}, {"\ud83d": MARK}, {"a\x00": 1}, [MARK, 1], {"type": MARK},
    {"role": MARK}, [{"type": "image_url", "image_url": {"url": MARK}}], [{"type": "text", "text": None}],
    [{"type": "text", "text": {"a": MARK}}],
]  # fmt: skip


def _odd(rng: random.Random) -> Any:
    return _nested(rng.choice([5, 50, 120, 240, 900])) if rng.random() < 0.15 else deepcopy(rng.choice(ODD))


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values below, and of one new key in each mapping."""
    if isinstance(value, Mapping):
        yield (*path, "odd key")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield (*path, key)
        yield from _places(below, (*path, key))


def _mutated(rng: random.Random, body: Mapping[str, Any]) -> dict[str, Any]:
    changed = deepcopy(dict(body))
    for _ in range(rng.choice([1, 1, 1, 2])):
        *above, last = rng.choice(list(_places(changed)))
        target: Any = changed
        for key in above:
            target = target[key]
        if rng.random() < 0.1 and isinstance(target, dict) and last in target:
            del target[last]
        else:
            target[last] = _odd(rng)
    return changed


def _bytes(rng: random.Random, body: Any) -> bytes:
    try:
        said = json.dumps(body)
    except RecursionError:
        said = "[" * 5000
    if rng.random() < 0.03:
        return said.encode()[: rng.randrange(len(said) + 1)]
    return said.encode() + (b"\xff" if rng.random() < 0.01 else b"")


async def _passed(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": []})


UPSTREAM = Starlette(
    routes=[
        Route("/v1/chat/completions", answer, methods=["POST"]),
        Route("/v1/embeddings", _passed, methods=["POST"]),
        Route("/v1/completions", _passed, methods=["POST"]),
    ]
)


@dataclass
class Findings:
    """How requests ended: counts by route and status, and what must not have happened."""

    counts: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])


class _Fuzz:
    def __init__(self, url: str, seed: int) -> None:
        self.rng, self.findings, self.ids = random.Random(seed), Findings(), ["none"]
        self.http = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=64))

    async def innocent(self, number: int) -> None:
        ask = {"model": "email", "messages": [{"role": "user", "content": "Notes."}], "user": f"innocent {number}"}
        told = await self.http.post("/v1/chat/completions", json=ask)
        if told.status_code != 200:
            self.findings.wrong.append(f"innocent chat: {told.status_code} {told.text[:300]}")
            return
        edit = {"completion_id": told.json()["id"], "edited": "All is very well.", "user_id": f"innocent {number}"}
        edited = await self.http.post("/v1/edits", json=edit)
        if edited.status_code != 200 or edited.json()["raw"] != 1:
            self.findings.wrong.append(f"innocent edit: {edited.status_code} {edited.text[:300]}")
        self.ids[:] = [*self.ids[-40:], edit["completion_id"]]
        self.findings.counts["innocent"] += 1

    async def odd(self) -> None:
        rng = self.rng
        method, path, body = rng.choice(ROUTES)(self)
        content = None if body is None else _bytes(rng, body)
        headers = {} if rng.random() < 0.1 else {"content-type": "application/json"}
        try:
            told = await self.http.request(method, path, content=content, headers=headers)
        except httpx.InvalidURL:
            return
        except httpx.TransportError as error:
            self.findings.wrong.append(f"{method} {path}: {type(error).__name__}: {str(body)[:300]}")
            return
        self.findings.counts[f"{method} {path.split('?')[0][:22]} {told.status_code}"] += 1
        if told.status_code >= 500 or not _shaped(told):
            self.findings.wrong.append(f"{method} {path} {told.status_code} {told.text[:300]} <- {str(content)[:600]}")


def _shaped(told: httpx.Response) -> bool:
    """Whether an error has OpenAI's shape."""
    if told.status_code < 400:
        return True
    try:
        return isinstance(told.json()["error"]["message"], str)
    except (ValueError, LookupError, TypeError):
        return False


def _chat(fuzz: _Fuzz) -> tuple[str, str, Any]:
    return "POST", "/v1/chat/completions", _mutated(fuzz.rng, CHAT | {"stream": fuzz.rng.random() < 0.3})


def _responses(fuzz: _Fuzz) -> tuple[str, str, Any]:
    return "POST", "/v1/responses", _mutated(fuzz.rng, RESPONSES | {"stream": fuzz.rng.random() < 0.3})


def _edit(fuzz: _Fuzz) -> tuple[str, str, Any]:
    known = {"completion_id": fuzz.rng.choice(fuzz.ids), "idempotency_key": str(fuzz.rng.random())}
    return "POST", "/v1/edits", _mutated(fuzz.rng, EDIT | known)


def _feedback(fuzz: _Fuzz) -> tuple[str, str, Any]:
    return "POST", "/feedback", _mutated(fuzz.rng, FEEDBACK | {"inference_id": fuzz.rng.choice(fuzz.ids)})


def _embeddings(fuzz: _Fuzz) -> tuple[str, str, Any]:
    path = fuzz.rng.choice(["/v1/embeddings", "/v1/completions"])
    return "POST", path, _mutated(fuzz.rng, EMBEDDINGS)


def _path(fuzz: _Fuzz) -> tuple[str, str, Any]:
    texts = [odd for odd in ODD if isinstance(odd, str) and len(odd) < 500]
    odd = quote(fuzz.rng.choice(texts).encode("utf-8", "surrogatepass"), safe="")
    places = ["GET /v1/completions/{}", "GET /v1/models/{}", "GET /v1/tasks/{}/policies", "DELETE /v1/users/{}"]
    places += ["GET /v1/edits?completion_id={}", "GET /v1/edits?after={}", "GET /v1/edits?limit={}"]
    method, _, path = fuzz.rng.choice(places).partition(" ")
    return method, path.format(odd), None


ROUTES: list[Callable[[_Fuzz], tuple[str, str, Any]]] = [
    _chat,
    _chat,
    _responses,
    _edit,
    _edit,
    _feedback,
    _embeddings,
    _path,
]


async def fuzzed(url: str, examples: int, seed: int) -> Findings:
    """Send ``examples`` odd requests, eight at a time, each beside an innocent one."""
    fuzz, number = _Fuzz(url, seed), 0
    async with fuzz.http:
        while number < examples:
            more = range(number, min(number + 8, examples))
            await asyncio.gather(*(work for one in more for work in (fuzz.innocent(one), fuzz.odd())))
            number = more.stop
    return fuzz.findings
