"""Policies behind an OpenAI-compatible server: vLLM with our adapters, llama.cpp, or a hosted model.

All requests share connections that are kept open. A server that is busy or broken is asked again a bounded number of
times, but never after the first byte of an answer. Keys come from the environment and appear in no message. vLLM caches
by name, so an adapter is loaded once, under its immutable name.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp

from redraft.errors import ConfigError, ModelError
from redraft.gateway.engine import Answer, EngineError, Piece
from redraft.gateway.openai import ChatRequest

__all__ = ["Upstream"]

_QUOTED = 300
_JSON = {"Content-Type": "application/json"}
_LOST = (aiohttp.ClientError, TimeoutError)
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Upstream:
    """A server at ``base_url`` (which ends in ``/v1``).

    Parameters
    ----------
    name
        What errors call it.
    base_url, api_key_env
        Where it is, and the environment variable that holds its key.
    models
        Policy → the model's name there. Other policies keep their own name.
    adapters
        Policy → its adapter's folder, loaded into vLLM by ``start``.
    timeout, retries
        Seconds for one answer (between two pieces when streamed), and attempts after the first.
    pause
        Seconds before the second attempt; each later one waits four times as long.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key_env: str | None = None,
        models: Mapping[str, str] | None = None,
        adapters: Mapping[str, Path] | None = None,
        timeout: float = 120.0,
        retries: int = 2,
        pause: float = 0.1,
    ) -> None:
        self.name, self.base_url, self.timeout = name, base_url.rstrip("/"), timeout
        self.retries, self.pause = retries, pause
        self._chat_url = f"{self.base_url}/chat/completions"
        self._key = _key(name, api_key_env)
        self._models, self._adapters = dict(models or {}), dict(adapters or {})
        self._session: aiohttp.ClientSession | None = None

    async def start(self, policies: list[str]) -> None:
        """Load the adapters of these policies where the server does not have them yet."""
        wanted = {policy: self._adapters[policy] for policy in policies if policy in self._adapters}
        if not wanted:
            return
        known = {row.get("id") for row in (await self._call("GET", "/models")).get("data", [])}
        for policy, folder in wanted.items():
            if policy not in known:
                body = {"lora_name": policy, "lora_path": str(folder.resolve())}
                await self._call("POST", "/load_lora_adapter", body)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """Ask for a whole answer."""
        body = request.forwarded(self._models.get(policy, policy))
        body.pop("stream", None)
        body.pop("stream_options", None)
        async with self._post(body) as response:
            try:
                found = json.loads(await response.read())
                choice = {key: found["choices"][0].get(key) for key in ("message", "finish_reason", "logprobs")}
                return Answer(choice | {"message": dict(choice["message"])}, found.get("usage"))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise EngineError(f"{self.name} answered without a completion") from error

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """Ask for an answer piece by piece, its usage at the end."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with self._post({**request.forwarded(self._models.get(policy, policy)), **options}) as response:
            async for line in response.content:
                data = line.strip().removeprefix(b"data:").strip()
                if not line.startswith(b"data:") or data == b"[DONE]":
                    continue
                yield self._piece(data)

    def _piece(self, data: bytes) -> Piece:
        try:
            found = json.loads(data)
            if "error" in found:
                raise EngineError(f"{self.name} broke off: {str(found['error'])[:_QUOTED]}")
            choices = cast(Sequence[Mapping[str, Any]], found["choices"])
            found_choices = tuple({**choice, "delta": choice.get("delta") or {}} for choice in choices)
            return Piece(found_choices, found.get("usage"))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(f"{self.name} sent a malformed chunk") from error

    @asynccontextmanager
    async def _post(self, body: Mapping[str, Any]) -> AsyncGenerator[aiohttp.ClientResponse]:
        """The response to a chat request, with status 200; retries until then."""
        async with await self._accepted(body) as response:
            try:
                yield response
            except _LOST as error:
                raise self._lost("broke off", error) from None

    async def _accepted(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        said = json.dumps(body).encode()
        problem = EngineError(f"{self.name} was not asked")
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(self.pause * 4 ** (attempt - 1))
            try:
                response = await self._open().post(self._chat_url, data=said, headers=_JSON)
            except _LOST as error:
                problem = self._lost("cannot be reached", error)
                continue
            if response.status == 200:
                return response
            problem = await self._refused(response)
            if response.status not in _BUSY:
                break
        raise problem

    def _lost(self, what: str, error: Exception) -> EngineError:
        status = 504 if isinstance(error, TimeoutError) else 502
        return EngineError(f"{self.name} {what} ({type(error).__name__})", status=status)

    async def _refused(self, response: aiohttp.ClientResponse) -> EngineError:
        """The error for a status other than 200. The client's own mistake is passed on."""
        async with response:
            text = (await response.text(errors="replace"))[:_QUOTED]
        # 401, 403 and 404 are about our key or our name for the model: not the client's mistake
        theirs = response.status not in _BUSY | {401, 403, 404}
        status = 400 if theirs else 429 if response.status == 429 else 502
        return EngineError(f"{self.name} answered {response.status}: {text}", status=status, retry=not theirs)

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask for something other than an answer; raises ``ModelError``."""
        try:
            async with self._open().request(method, f"{self.base_url}{path}", json=body) as response:
                text = await response.text(errors="replace")
                if response.status != 200:
                    raise ModelError(f"{self.name}: {path} answered {response.status} ({text[:_QUOTED]})")
                return json.loads(text) if text.startswith("{") else {}
        except (*_LOST, ValueError) as error:
            raise ModelError(f"{self.name} at {self.base_url} cannot be reached ({type(error).__name__})") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.timeout),
            )
        return self._session


def _key(name: str, variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"upstream {name}: its key is not in the environment: set {variable}")
    return key
