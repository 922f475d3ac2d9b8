"""From an error to what a client is told: status, OpenAI's error object and headers, for every route and stream.

What is not meant for clients (a database's address, an exception of a library) becomes one neutral sentence with an id;
the server's log has the detail under that id. Even there no message of a foreign exception is printed: it may hold a
person's text.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from redraft.errors import ConflictError, DataError, ModelError, NotFoundError, RedraftError
from redraft.gateway.auth import AuthError
from redraft.gateway.engine import EngineError
from redraft.gateway.redact import redacted

__all__ = ["Failure", "failure"]

_log = logging.getLogger("redraft.gateway")

_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_HEADERS: dict[int, Mapping[str, str]] = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is told. ``kind`` (OpenAI's ``type``) follows from the status where it is not given."""

    status: int
    message: str
    kind: str | None = None
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def error(self) -> dict[str, str | None]:
        """OpenAI's error object."""
        usual = "api_error" if self.status >= 500 else _KINDS.get(self.status, "invalid_request_error")
        return {"message": self.message, "type": self.kind or usual, "param": self.param, "code": self.code}

    def response(self) -> JSONResponse:
        """A response that says so."""
        headers = {**_HEADERS.get(self.status, {}), **self.headers}
        return JSONResponse({"error": self.error}, self.status, headers)


def failure(error: Exception, *, missing: str | None = None) -> Failure:
    """The one place where an error becomes what a client is told; ``missing`` is the code of a name that is unknown."""
    match error:
        case EngineError():
            found = _engine(error)
        case AuthError():
            found = Failure(error.status, str(error))
        case NotFoundError():
            found = Failure(404, str(error), code=missing)
        case ConflictError():
            found = Failure(409, str(error))
        case DataError():
            found = Failure(400, str(error))
        case RequestValidationError():
            found = _invalid(error)
        case HTTPException():
            found = Failure(error.status_code, str(error.detail), headers=error.headers or {})
        case _:
            found = _neutral(error)
    return found


def _engine(error: EngineError) -> Failure:
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(math.ceil(error.retry_after), 0))
    if error.final:  # the official clients' word for it
        headers["x-should-retry"] = "false"
    return Failure(error.status, str(error), error.kind, error.code, error.param, headers)


def _invalid(error: RequestValidationError) -> Failure:
    first: Mapping[str, Any] = error.errors()[0]
    forms = re.compile(r"str|[A-Z]\w*|\w+\[.*" if first["type"] != "extra_forbidden" else r"(?!)")
    parts = [str(part) for part in first["loc"] if part not in ("body", "query")]
    place = ".".join(part for part in parts if not forms.fullmatch(part))  # without the form of several that was tried
    said = str(first["msg"]).removeprefix("Value error, ")
    return Failure(400, f"{place or 'body'}: {said}", param=place or None)


def _neutral(error: Exception) -> Failure:
    name = secrets.token_hex(3)
    about: dict[str, str] = {"error_id": name}
    if isinstance(error, RedraftError):  # its message is our own
        what = "this cannot be done" if isinstance(error, ModelError) else "the log cannot be reached"
        told = Failure(503, f"{what} at the moment (error {name}): try again later")
        _log.error("a request failed", extra=about | {"error": redacted(str(error))})
        return told
    _log.error("a request failed unexpectedly", extra=about, exc_info=error)
    return Failure(500, f"an internal error (error {name})")
