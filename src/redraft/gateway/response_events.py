"""OpenAI's response object, whole or told event by event while an answer is being written."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from redraft.gateway.chat import closing, passed_on
from redraft.gateway.engine import Piece
from redraft.gateway.failures import failure
from redraft.gateway.streams import event
from redraft.messages import Draft, content_text

__all__ = ["Form", "output_of", "response_events"]

Form = dict[str, Any]
"""The fields of a response that are known before its answer."""

_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_FIELD = {"output_text": "text", "refusal": "refusal"}
_TEXT = "message"


def output_of(
    form: Form,
    message: Mapping[str, Any],
    reason: str | None,
    usage: Mapping[str, Any] | None,
    places: Mapping[Any, int] | None = None,
) -> Form:
    """The response whose answer is this message of chat; incomplete where ``reason`` says that it was cut.

    ``places`` are those of a stream's items, in whose order they then stand.
    """
    cut = _CUT.get(reason or "")
    status = "incomplete" if cut else "completed"
    calls = message.get("tool_calls") or ()
    said = {"output_text": content_text(message.get("content")), "refusal": message.get("refusal") or ""}
    parts = [_part(kind, text) for kind, text in said.items() if text]
    if not parts and not calls:
        parts = [_part("output_text", "")]
    indices = sorted(key for key in places or () if key != _TEXT) or range(len(calls))
    items: dict[Any, Form] = {_TEXT: _message(form, status, parts)} if parts else {}
    items |= {index: _call(form, index, call, status) for index, call in zip(indices, calls, strict=False)}
    output = [items[key] for key in sorted(items, key=lambda key: (places or {}).get(key, len(items)))]
    more = {"completed_at": None if cut else int(time.time()), "incomplete_details": {"reason": cut} if cut else None}
    return _response(form, status, output=output, usage=_usage(usage), **more)


async def response_events(form: Form, first: Piece | None, rest: AsyncIterator[Piece]) -> AsyncGenerator[bytes]:
    """The events of a streamed response."""
    told = _Told(form)
    draft, usage, more = Draft(), None, {}
    yield told("response.created", response=_response(form, "in_progress"))
    yield told("response.in_progress", response=_response(form, "in_progress"))
    try:
        async with closing(rest):
            piece = first
            while piece is not None:
                usage, more = piece.usage or usage, {**more, **passed_on(piece.more)}
                for choice in piece.choices:
                    draft.add(choice)
                    for one in told.grown(choice.get("delta") or {}):
                        yield one
                piece = await anext(rest, None)
        body = more | output_of(form, draft.message, draft.finish_reason, usage, told.places)
        for one in told.ended(body["output"]):
            yield one
        yield told(f"response.{body['status']}", response=body)
    except Exception as error:
        found = failure(error)
        yield told("error", code=found.code or found.error["type"], message=found.message, param=found.param)
        code = "rate_limit_exceeded" if found.status == 429 else "server_error"  # the only ones it may have
        yield told(
            "response.failed", response=_response(form, "failed", error={"code": code, "message": found.message})
        )


class _Told:
    """What a client has been told: a call gives the next event, the other methods several."""

    def __init__(self, form: Form) -> None:
        self.form, self._number = form, -1
        self.places: dict[Any, int] = {}
        """Output index of the message (``_TEXT``) and of the calls, by their index in chat."""
        self._parts: list[str] = []

    def __call__(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **fields}, kind)

    def grown(self, delta: Mapping[str, Any]) -> Iterator[bytes]:
        """What a piece of chat's message adds."""
        for kind, text in (("output_text", content_text(delta.get("content"))), ("refusal", delta.get("refusal"))):
            if text:
                item = _message(self.form, "in_progress", [])
                yield from self._opened(_TEXT, item)
                if kind not in self._parts:
                    self._parts.append(kind)
                    at = self._at(_TEXT, item) | {"content_index": self._parts.index(kind)}
                    yield self("response.content_part.added", **at, part=_part(kind, ""))
                at = self._at(_TEXT, item) | {"content_index": self._parts.index(kind)}
                yield self(f"response.{kind}.delta", **at, delta=text, **_logprobs(kind))
        for call in delta.get("tool_calls") or ():
            index = call.get("index") or 0
            item = _call(self.form, index, call, "in_progress")
            yield from self._opened(index, item | {"arguments": ""})
            if item["arguments"]:
                at = self._at(index, item)
                yield self("response.function_call_arguments.delta", **at, delta=item["arguments"])

    def ended(self, output: Sequence[Form]) -> Iterator[bytes]:
        """The ends of all items."""
        for key, place in sorted(self.places.items(), key=lambda row: row[1]):
            item = output[place]
            at = self._at(key, item)
            if key != _TEXT:
                said = {"name": item["name"], "arguments": item["arguments"]}
                yield self("response.function_call_arguments.done", **at, **said)
            for number, part in enumerate(item.get("content", ())):
                here, kind = at | {"content_index": number}, part["type"]
                name = _FIELD[kind]
                yield self(f"response.{kind}.done", **here, **{name: part[name]}, **_logprobs(kind))
                yield self("response.content_part.done", **here, part=part)
            yield self("response.output_item.done", output_index=place, item=item)

    def _opened(self, key: Any, item: Form) -> Iterator[bytes]:
        if key not in self.places:
            self.places[key] = len(self.places)
            yield self("response.output_item.added", output_index=self.places[key], item=item)

    def _at(self, key: Any, item: Form) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self.places[key]}


def _response(form: Form, status: str, **fields: Any) -> Form:
    nothing = {"error": None, "incomplete_details": None, "usage": None, "output": []}
    return {"object": "response", **nothing, **form, "status": status, **fields}


def _message(form: Form, status: str, parts: list[Form]) -> Form:
    return {"id": f"msg_{form['id']}", "type": "message", "role": "assistant", "status": status, "content": parts}


def _call(form: Form, index: int, call: Mapping[str, Any], status: str) -> Form:
    function = call.get("function") or call.get("custom") or {}
    name = f"{index}_{form['id']}"
    given = function.get("arguments") or function.get("input") or ""
    said = {"name": function.get("name") or "", "arguments": given if isinstance(given, str) else json.dumps(given)}
    return {"id": f"fc_{name}", "type": "function_call", "status": status, "call_id": call.get("id") or name, **said}


def _part(kind: str, text: str) -> Form:
    more = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return {"type": kind, _FIELD[kind]: text, **more}


def _logprobs(kind: str) -> Form:
    return {"logprobs": []} if kind == "output_text" else {}


def _usage(usage: Mapping[str, Any] | None) -> Form | None:
    if usage is None:
        return None
    read, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.get("total_tokens") or read + written,
    }
