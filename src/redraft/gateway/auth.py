"""Who is asking: an API key from the log, cached for seconds so that not every request asks the database."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request

from redraft.errors import RedraftError
from redraft.log.keys import SCOPES, Key

__all__ = ["AuthError", "Authority", "Caller", "asked"]

REMEMBERED, SECONDS = 10_000, 5.0


class AuthError(RedraftError):
    """No key or an unknown one (401), or one without the scope (403)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Caller:
    """The project that asks and what it may do."""

    project: str
    scopes: tuple[str, ...]

    def require(self, scope: str) -> None:
        """Raise ``AuthError`` (403) without this scope; ``admin`` includes all."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise AuthError(f"this key lacks scope {scope!r}: make one with redraft keys add --scope {scope}", 403)


class Authority:
    """Knows callers by their keys; ``find`` asks the log. A revoked key works for at most another ``SECONDS``.

    With ``open_to`` no key is needed: every caller is an administrator of that project.
    """

    def __init__(self, find: Callable[[str], Key | None], open_to: str | None = None) -> None:
        self._find, self.open_to = find, open_to
        self._known: OrderedDict[bytes, tuple[float, Key | None]] = OrderedDict()

    async def caller(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header; raises ``AuthError`` (401)."""
        if self.open_to is not None:
            return Caller(self.open_to, SCOPES)
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise AuthError("no API key: send it as Authorization: Bearer rd-…", 401)
        key = await self._key(text.strip())
        if key is None:
            raise AuthError("this API key is unknown or was revoked", 401)
        return Caller(key.project, key.scopes)

    async def _key(self, text: str) -> Key | None:
        digest, now = hashlib.sha256(text.encode(errors="replace")).digest(), time.monotonic()
        found = self._known.get(digest)
        if found is None or found[0] < now:
            found = (now + SECONDS, await asyncio.to_thread(self._find, text))
            self._known[digest] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found[1]


def asked(authority: Authority, scope: str) -> Any:
    """A route's dependency: the caller of its request, whose key must have this scope."""

    async def caller(request: Request) -> Caller:
        found = await authority.caller(request.headers.get("authorization"))
        found.require(scope)
        return found

    return Depends(caller)
