"""``POST /v1/chat/completions``: whole, streamed, or several answers at once.

A request for ``n`` answers is n requests that come back together: each is a completion of its own in the log, with a
decision of its own, and each choice says which. Those that fail are left out; a ``seed`` is one more for each.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, nullcontext, suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from redraft.errors import DataError
from redraft.gateway.auth import Authority
from redraft.gateway.engine import Piece
from redraft.gateway.failures import failure
from redraft.gateway.openai import ChatRequest, as_json, completion_body
from redraft.gateway.service import Gateway, Reply
from redraft.gateway.streams import EventStream, event

__all__ = ["Chat", "begun", "closing", "parsed", "passed_on", "reply_headers"]

M = TypeVar("M", bound=BaseModel)

_OURS = frozenset({"id", "object", "created", "created_at", "model", "choices", "usage", "error"})
_DONE = b"data: [DONE]\n\n"


class Chat:
    """The route, over a gateway."""

    def __init__(self, gateway: Gateway, authority: Authority) -> None:
        self._gateway, self._authority = gateway, authority

    async def __call__(self, request: Request) -> Response:
        """Answer messages, as in OpenAI's reference."""
        caller = await self._authority.caller(request.headers.get("authorization"))
        caller.require("client")
        asked = parsed(ChatRequest, await request.body())
        if asked.n is not None and asked.n > 1:
            return await self._several(asked, asked.n, caller.project)
        reply = await self._gateway.complete(asked, caller.project)
        if reply.pieces is not None:
            first = await begun(reply.pieces)
            return EventStream(_events([reply], _one(first, reply.pieces), asked), reply_headers(reply, first))
        assert reply.answer is not None
        choices = [{**reply.answer.choice, "index": 0}]
        body = completion_body(reply.completion_id, reply.model, choices, usage=reply.answer.usage)
        if reply.answer.more:
            body = passed_on(reply.answer.more) | body
        return Response(as_json(body), media_type="application/json", headers=reply_headers(reply, reply.answer))

    async def _several(self, asked: ChatRequest, n: int, project: str) -> Response:
        seeds = [{} if asked.seed is None else {"seed": asked.seed + number} for number in range(n)]
        ones = [asked.model_copy(update={"n": 1, **seed}) for seed in seeds]
        tasks = [asyncio.create_task(self._gateway.complete(one, project)) for one in ones]
        try:
            said = await asyncio.gather(*tasks, return_exceptions=True)
        except asyncio.CancelledError:  # raised when all have ended
            await _ended([task.result() for task in tasks if not task.cancelled() and task.exception() is None])
            raise
        replies = [one for one in said if isinstance(one, Reply)]
        errors = [one for one in said if isinstance(one, Exception)]
        if not replies:
            raise errors[0]
        for error in errors:
            failure(error)  # logs what is not meant for clients
        if asked.stream:
            return EventStream(_events(replies, _merged(replies), asked), reply_headers(replies[0], None))
        answers = [reply.answer for reply in replies if reply.answer is not None]
        choices = [
            {**answer.choice, "index": index, **_own(reply)}
            for index, (reply, answer) in enumerate(zip(replies, answers, strict=True))
        ]
        usage = _summed([answer.usage for answer in answers])
        body = completion_body(replies[0].completion_id, replies[0].model, choices, usage=usage)
        headers = reply_headers(replies[0], answers[0])
        return Response(as_json(passed_on(answers[0].more) | body), media_type="application/json", headers=headers)


def parsed(model: type[M], body: bytes) -> M:
    """A body as JSON, whatever its content type is; raises ``RequestValidationError``."""
    if b"NaN" in body or b"Infinity" in body:  # which pydantic takes; in a text they are fine
        with suppress(ValueError, RecursionError):  # what is no JSON at all is refused below
            json.loads(body, parse_constant=_refused)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def _refused(constant: str) -> NoReturn:
    raise DataError(f"body: {constant} is not JSON: send a finite number or null")


def passed_on(more: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an upstream's body that have no meaning here, for the top level of ours."""
    return {name: value for name, value in more.items() if name not in _OURS}


async def begun(pieces: AsyncIterator[Piece]) -> Piece | None:
    """The first piece, awaited before the headers are sent: it has the upstream's request id."""
    return await anext(pieces, None)


def reply_headers(reply: Reply, said: Any) -> dict[str, str]:
    """Who answered and why, and the ``request_id`` of the answer or first piece that was ``said``."""
    headers = {"x-redraft-policy": reply.model, "x-redraft-completion": reply.completion_id}
    if (decision := reply.decision) is not None:
        chosen = reply.task.full(decision.chosen)
        headers["x-redraft-decision"] = f"selector={decision.selector}; t={decision.t}; chosen={chosen}"
    if said is not None and said.request_id:
        headers["x-request-id"] = "".join(filter(str.isprintable, said.request_id))
    if all(map(str.isascii, headers.values())):  # as nearly always
        return headers
    return {name: value.encode("ascii", "backslashreplace").decode() for name, value in headers.items()}


def _own(reply: Reply) -> dict[str, str]:
    """What a choice says where each has another completion."""
    return {"completion_id": reply.completion_id, "policy": reply.model}


def _summed(usages: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The usage of several answers to one prompt, which counts once."""
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    prompt = known[0].get("prompt_tokens") or 0
    completion = sum(usage.get("completion_tokens") or 0 for usage in known)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _one(first: Piece | None, rest: AsyncIterator[Piece]) -> AsyncGenerator[tuple[int, Piece]]:
    async with closing(rest):
        if first is not None:
            yield 0, first
        async for piece in rest:
            yield 0, piece


async def _merged(replies: Sequence[Reply]) -> AsyncGenerator[tuple[int, Piece]]:
    """The pieces of several answers as they come, each with its answer's index; a failure when all have ended."""
    queue: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(1)

    async def drain(index: int, reply: Reply) -> None:
        assert reply.pieces is not None
        try:
            async with closing(reply.pieces):
                async for piece in reply.pieces:
                    await queue.put((index, piece))
            await queue.put((index, None))
        except Exception as error:
            await queue.put((index, error))

    tasks = [asyncio.create_task(drain(index, reply)) for index, reply in enumerate(replies)]
    running, problem = len(tasks), None
    try:
        while running:
            index, said = await queue.get()
            if isinstance(said, Piece):
                yield index, said
            else:
                running, problem = running - 1, problem or said
        if problem is not None:
            raise problem
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _ended(replies)


async def _ended(replies: Sequence[Reply]) -> None:
    """Let the log know that these streams have ended. Closing one that nobody began would run none of it."""
    for pieces in (reply.pieces for reply in replies if reply.pieces is not None):
        with suppress(Exception):
            async with closing(pieces):
                await anext(pieces, None)


async def _events(
    replies: Sequence[Reply], pieces: AsyncGenerator[tuple[int, Piece]], asked: ChatRequest
) -> AsyncGenerator[bytes]:
    """Server-sent events. A failure after the first of them can only be reported in another one."""
    chunk = partial(completion_body, replies[0].completion_id, replies[0].model, created=int(time.time()))
    wanted = asked.stream_options is not None and asked.stream_options.include_usage
    usages: dict[int, Mapping[str, Any]] = {}
    last: Mapping[str, Any] = {}
    try:
        async with aclosing(pieces):
            async for index, piece in pieces:
                more = passed_on(piece.more) if piece.more else {}
                if piece.usage is not None:
                    usages[index], last = piece.usage, more
                if piece.choices:
                    choices: Sequence[Mapping[str, Any]] = piece.choices
                    if asked.n is not None and asked.n > 1:
                        choices = [{**choice, "index": index, **_own(replies[index])} for choice in choices]
                    yield event(more | chunk(choices))
        if wanted and usages:  # nobody else expects a chunk without choices
            usage = usages[0] if len(replies) == 1 else _summed(list(usages.values()))
            yield event({**last, **chunk((), usage=usage)})
    except Exception as error:
        yield event({"id": replies[0].completion_id, "error": failure(error).error})  # what was said can be edited
    else:
        yield _DONE


def closing(pieces: AsyncIterator[Any]) -> Any:
    """Close a generator at the end; an iterator of another kind has nothing to close."""
    return aclosing(pieces) if isinstance(pieces, AsyncGenerator) else nullcontext()
