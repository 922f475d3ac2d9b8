"""``/v1/completions`` and ``/v1/embeddings``: passed on to the upstream of the policy that a request names.

Nothing of them is logged, no selector chooses and no edit can refer to one: the log is about chats.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from redraft.errors import DataError, NotFoundError
from redraft.gateway.auth import Authority
from redraft.gateway.chat import closing, parsed
from redraft.gateway.engine import Forwarding
from redraft.gateway.failures import failure
from redraft.gateway.service import Gateway
from redraft.gateway.streams import EventStream, event

__all__ = ["Passed", "PassedRequest"]


class PassedRequest(BaseModel):
    """A request that is passed on; ``model`` names a policy in full."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1, max_length=200)]


class Passed:
    """The route of one ``path`` below an upstream's base URL."""

    def __init__(self, gateway: Gateway, authority: Authority, path: str) -> None:
        self._gateway, self._authority, self._path = gateway, authority, path

    async def __call__(self, request: Request) -> Response:
        """Pass a request on to the upstream of a policy, ``email/large``. It is not logged."""
        caller = await self._authority.caller(request.headers.get("authorization"))
        caller.require("client")
        asked = parsed(PassedRequest, await request.body())
        policy, engine = self._found(asked.model, caller.project)
        status, headers, parts = await engine.forward(self._path, asked.model_dump(exclude_unset=True), policy)
        if headers.get("content-type", "").startswith("text/event-stream"):
            return EventStream(_events(parts), _kept(headers))
        async with closing(parts):
            return Response(b"".join([part async for part in parts]), status, headers)

    def _found(self, model: str, project: str) -> tuple[str, Forwarding]:
        """The policy that ``model`` names, and the engine that passes such requests on."""
        tasks = self._gateway.of(project)
        engines = {full: (of, task.engines[of]) for task in tasks.values() for full, of in task.pins.items()}
        able = {name: (of, engine) for name, (of, engine) in engines.items() if isinstance(engine, Forwarding)}
        remedy = f"use one of {', '.join(able)}" if able else f"no policy of an upstream serves {self._path[1:]}"
        if model in able:
            return able[model]
        if model in tasks:
            raise DataError(f"model {model!r} is a task, and nothing chooses for {self._path[1:]}: {remedy}")
        if model in engines:
            raise DataError(f"model {model!r}: the embedded model has no {self._path[1:]}: {remedy}")
        raise NotFoundError(f"model {model!r} does not exist: {remedy}")


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "content-type"}


async def _events(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async with closing(parts):
            async for part in parts:
                yield part
    except Exception as error:
        yield event({"error": failure(error).error})
