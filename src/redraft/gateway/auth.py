"""Who is asking: an API key from the log, remembered for a moment so that not every request asks the database."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from redraft.errors import RedraftError
from redraft.log.keys import SCOPES, Key

__all__ = ["AuthError", "Authority", "Caller"]

REMEMBERED, SECONDS = 10_000, 5.0


class AuthError(RedraftError):
    """No key, no good one (401), or one that may not do this (403)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Caller:
    """The project that asks and what it may do."""

    def __init__(self, project: str, scopes: tuple[str, ...]) -> None:
        self.project, self.scopes = project, scopes

    def require(self, scope: str) -> None:
        """Raise ``AuthError`` (403) without this scope; ``admin`` has them all."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise AuthError(f"this key has no scope {scope!r}: make one that has it with redraft keys add", 403)


class Authority:
    """Knows callers by the text of their keys; ``find`` asks the log. A revoked key is of use for ``SECONDS`` at most.

    With ``open_to`` every caller is that project's administrator and no key is needed.
    """

    def __init__(self, find: Callable[[str], Key | None], open_to: str | None = None) -> None:
        self._find, self._open_to = find, open_to
        self._known: OrderedDict[bytes, tuple[float, Key | None]] = OrderedDict()

    async def caller(self, authorization: str | None) -> Caller:
        """Who sent this Authorization header; raises ``AuthError`` (401)."""
        if self._open_to is not None:
            return Caller(self._open_to, SCOPES)
        scheme, _, text = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise AuthError("no API key: send it as Authorization: Bearer rd-…", 401)
        key = await self._key(text.strip())
        if key is None:
            raise AuthError("this API key is not known, or was revoked", 401)
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
