"""Policies behind an OpenAI-compatible server: vLLM with our adapters, llama.cpp, or a hosted model.

All requests share connections that are kept open. A server that is busy or broken is asked again a bounded number of
times, but never after the first byte of an answer, nor before the time that it asks for: the client is told to wait.
Keys come from the environment and appear in no message. vLLM caches by name, so an adapter is loaded under its
immutable name: when it is first needed, and again when the server has forgotten it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from redraft.errors import ConfigError
from redraft.gateway.engine import Answer, Engine, EngineError, Piece
from redraft.gateway.foreign import (
    Chunks,
    answer_of,
    failure,
    model_ids,
    parsed,
    problem_in,
    request_id_of,
    retry_after,
)
from redraft.gateway.openai import ChatRequest, as_json
from redraft.gateway.redact import redacted
from redraft.gateway.sse import EventReader

if TYPE_CHECKING:
    from redraft.config import UpstreamSettings

__all__ = ["Upstream"]

_JSON = {"Content-Type": "application/json"}
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LOST = (aiohttp.ClientError, TimeoutError, OSError)
_PATIENCE = 1.0
"""Longest wait in seconds that a server may ask for and still be asked again by us."""
_LINGER = 0.05
"""Seconds that a connection may take to end after ``[DONE]`` and be used again."""

_log = logging.getLogger("redraft.gateway")


class Upstream(Engine):
    """A server at ``base_url`` (which ends in ``/v1``).

    Parameters
    ----------
    name
        What errors call it.
    base_url, api_key_env
        Where it is, and the environment variable that holds its key; or the URL has ``user:password@``.
    models
        Policy → the model's name there. Other policies keep their own name.
    adapters
        Policy → its adapter's folder, loaded into vLLM.
    timeout, retries
        Seconds for one answer (between two pieces when streamed), and attempts after the first.
    pause
        Seconds before the second attempt; each later one waits four times as long.
    drop
        Fields of requests that the server does not take.
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
        drop: Collection[str] = (),
    ) -> None:
        self.name, self.timeout, self.retries, self.pause = name, timeout, retries, pause
        self.base_url, self._login, secrets = _address(name, base_url, api_key_env)
        self._clean = partial(redacted, secrets=secrets)
        self._models, self._drop = dict(models or {}), tuple(drop)
        self._adapters = {} if adapters is None else adapters
        self._loaded, self._loading = dict[str, object](), asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, name: str, found: UpstreamSettings, adapters: Mapping[str, Path] | None = None) -> Upstream:
        """The server that the settings call ``name``."""
        return cls(
            f"upstream {name}", found.url, api_key_env=found.api_key_env, models=found.models, adapters=adapters,
            timeout=found.timeout_seconds, retries=found.retries, drop=found.drop,
        )  # fmt: skip

    async def start(self, policies: list[str]) -> None:
        """Load the adapters of these policies. Once that fails, the rest are loaded when a request needs them."""
        for policy in filter(self._adapted, policies):
            try:
                await self._load(policy)
            except EngineError as error:
                _log.warning("adapter not loaded yet", extra={"policy": policy, "error": str(error)})
                return

    def _adapted(self, policy: str) -> bool:
        return policy in self._adapters and policy not in self._models

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, policy: str, request: ChatRequest) -> Answer:
        """Ask for a whole answer."""
        body = self._body(policy, request)
        body.pop("stream", None)
        body.pop("stream_options", None)
        async with await self._accepted(policy, "/chat/completions", body) as response:
            try:
                data = await response.read()
            except _LOST as error:
                raise self._lost("broke off", error) from None
            return answer_of(self.name, data, request_id_of(response.headers), self._clean)

    async def stream(self, policy: str, request: ChatRequest) -> AsyncIterator[Piece]:
        """Ask for an answer piece by piece, its usage at the end."""
        body = {**self._body(policy, request), "stream": True, "stream_options": {"include_usage": True}}
        async with await self._accepted(policy, "/chat/completions", body) as response:
            chunks, done, problem = Chunks(self.name, request_id_of(response.headers), self._clean), False, None
            try:
                async with aclosing(_events(response.content)) as events:
                    async for kind, data in events:
                        done = data.strip() == b"[DONE]"
                        for piece in () if done else chunks.read(kind, data):
                            yield piece
            except _LOST as error:
                problem = self._lost("broke off", error)
            except OverflowError as error:
                problem = EngineError(f"{self.name} sent {error}")
            if (last := chunks.end(done, problem)) is not None:
                yield last
            with suppress(*_LOST):  # what follows [DONE] is of no use, but a connection that was read to its end is
                async with asyncio.timeout(_LINGER):
                    await response.read()

    async def forward(
        self, path: str, body: Mapping[str, Any], policy: str
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Pass on a request that is no chat, as ``Forwarding`` says."""
        asked = {name: value for name, value in body.items() if name not in ("user", "metadata")}
        response = await self._accepted(policy, path, {**asked, "model": self._models.get(policy, policy)})
        kept = {name: response.headers.get(name) for name in ("content-type", "x-request-id")}

        async def read() -> AsyncIterator[bytes]:
            async with response:
                try:
                    async for chunk in response.content.iter_any():
                        yield chunk
                except _LOST as error:
                    raise self._lost("broke off", error) from None

        headers = {name: value.encode("ascii", "replace").decode() for name, value in kept.items() if value}
        return response.status, headers, read()

    def _body(self, policy: str, request: ChatRequest) -> dict[str, Any]:
        body = request.forwarded(self._models.get(policy, policy))
        body.pop("n", None)  # the log has one answer a completion
        return body

    async def _accepted(self, policy: str, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        """The response to a request, with a status of success. An adapter is loaded where the server lacks it."""
        for name in self._drop:
            body.pop(name, None)
        said = as_json(body)
        loaded = await self._load(policy) if self._adapted(policy) else None
        response = await self._asked(path, said)
        if response.status == 404 and loaded is not None:
            response.close()
            if self._loaded.get(policy) is loaded:
                del self._loaded[policy]
            await self._load(policy)
            response = await self._asked(path, said)
        if not 200 <= response.status < 300:
            raise await self._refused(response)
        return response

    async def _asked(self, path: str, said: bytes) -> aiohttp.ClientResponse:
        """The response of a server that is not busy; asked again while it is, unless it wants more patience."""
        problem, attempt = EngineError(f"{self.name} was not asked"), 0
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(max(self.pause * 4 ** (attempt - 1), problem.retry_after or 0))
            try:
                response = await self._open().post(
                    f"{self.base_url}{path}", data=said, headers=_JSON, allow_redirects=False
                )
            except _LOST as error:
                problem = self._lost("cannot be reached", error)
                if isinstance(error, aiohttp.SocketTimeoutError):  # it may be busy with the answer still
                    break
                continue
            if response.status not in _BUSY:
                return response
            problem = await self._refused(response)
            if problem.final or (problem.retry_after or 0) > _PATIENCE:
                break
        problem.final = problem.final or attempt > 0  # whoever asks again now would multiply our attempts
        raise problem

    async def _refused(self, response: aiohttp.ClientResponse) -> EngineError:
        """The error for a response without success; what the client must not see goes to the server's log."""
        data = b""
        async with response:
            with suppress(*_LOST):
                data = await response.read()
        body = parsed(data)
        text = data.decode(errors="replace").strip()
        said = problem_in(body or {"message": "" if text.startswith(("<", "{}", "[]")) else text}, self._clean)
        error = failure(self.name, response.status, said)
        error.retry_after = retry_after(response.headers)
        error.final = error.final or response.headers.get("x-should-retry") == "false"
        if str(error) != said["message"]:
            words = [str(said[name]) for name in ("type", "code", "param") if said.get(name)]  # its message may quote
            detail = ", ".join([*words, f"{len(data)} bytes of {response.content_type}"])
            _log.warning("upstream refused", extra={"upstream": self.name, "status": response.status, "detail": detail})
        return error

    def _lost(self, what: str, error: Exception) -> EngineError:
        late = isinstance(error, TimeoutError)
        if not late:  # it may have started anew, without our adapters
            self._loaded.clear()
        _log.warning("upstream lost", extra={"upstream": self.name, "what": what, "error": type(error).__name__})
        told = "did not answer in time" if late else what
        return EngineError(f"{self.name} {told}", status=504 if late else 502)

    async def _load(self, policy: str) -> object:
        """Load an adapter once, whoever asks meanwhile. Returns what stands for this load of it."""
        async with self._loading:
            if policy not in self._loaded:
                _, data = await self._call("GET", "/models")
                if policy not in model_ids(data):
                    await self._load_now(policy)
                self._loaded[policy] = object()
            return self._loaded[policy]

    async def _load_now(self, policy: str) -> None:
        asked = {"lora_name": policy, "lora_path": str(self._adapters[policy].resolve())}
        status, data = await self._call("POST", "/load_lora_adapter", asked)
        detail = problem_in(parsed(data) or {"message": data.decode(errors="replace")}, self._clean)["message"]
        if not (200 <= status < 300 or "already" in (detail or "")):
            _log.warning("adapter refused", extra={"upstream": self.name, "policy": policy, "detail": detail})
            raise EngineError(f"{self.name} cannot load policy {policy} ({status})")

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of something other than an answer."""
        try:
            async with self._open().request(method, f"{self.base_url}{path}", json=body) as response:
                return response.status, await response.read()
        except _LOST as error:
            raise self._lost("cannot be reached", error) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": self._login} if self._login else {},
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),  # one client's session is none of the next one's
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.timeout),
            )
        return self._session


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[tuple[str, bytes]]:
    """The events of a stream, as soon as each is there; the last one is ``[DONE]`` where that comes."""
    reader = EventReader()
    async for chunk in content.iter_any():
        for event in reader.feed(chunk):
            yield event
            if event[1].strip() == b"[DONE]":
                return
    for event in reader.end():
        yield event


def _address(name: str, base_url: str, variable: str | None) -> tuple[str, str, tuple[str, ...]]:
    """A server's URL without its credentials, the ``Authorization`` for it, and what must not be shown."""
    found = _split(base_url.rstrip("/"))
    if found is None:
        raise ConfigError(f"{name}: its url is no address of a server: write it as http://HOST:PORT/v1")
    given, _, host = found.netloc.rpartition("@")
    key = _key(name, variable)
    if not given:
        return found.geturl(), f"Bearer {key}" if key else "", (key,)
    if key:
        raise ConfigError(f"{name}: its url has a user and api_key_env names a key: keep one of them")
    user, password = (unquote(part) for part in given.partition(":")[::2])
    login = b64encode(f"{user}:{password}".encode()).decode()
    return found._replace(netloc=host).geturl(), f"Basic {login}", (given, password, login)


def _split(url: str) -> SplitResult | None:
    with suppress(ValueError):  # a port or an IPv6 address that is none
        found = urlsplit(url)
        return found if found.scheme in ("http", "https") and found.hostname and found.port != 0 else None
    return None


def _key(name: str, variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"{name}: its key is not in the environment: set {variable}")
    return key
