"""The gateway as a process: uvicorn with the application, its limits, its signals and its log lines.

SIGTERM: nothing new is taken, running answers have ``serve.stop_seconds``, then they end with an error that says so and
what was sent of them is in the log. A second one cuts them at once, a third kills. SIGHUP reads the settings again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from redraft.config import ServeSettings, Settings
from redraft.errors import ConfigError, RedraftError
from redraft.gateway.app import create_app
from redraft.gateway.auth import AuthError, Authority
from redraft.gateway.failures import failure
from redraft.gateway.limits import Limits, PatientProtocol, limited
from redraft.gateway.metrics import observed
from redraft.gateway.redact import redacted
from redraft.gateway.service import Gateway
from redraft.gateway.setup import Engines, make_gateway, reload_gateway
from redraft.log import EditLog

__all__ = ["JsonLines", "Reload", "application", "run"]

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_SHOWN = ("x-redraft-completion", "x-redraft-policy", "x-redraft-decision", "x-request-id")

AFTER_CUT = 2.0
"""Seconds until all tasks are given up, once answers are cut; half of that until their connections are closed."""

Reload = Callable[[Gateway], Awaitable[None]]
"""Makes a gateway serve what the settings say by now; raises ``RedraftError`` and then leaves it as it was."""

_log = logging.getLogger("redraft.gateway")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message and extra fields. Never texts or keys.

    Of an exception only types and places are printed, of a message its first line: asyncio's goes on with the repr of
    an exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage().strip().partition("\n")[0],
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(_places(record.exc_info[1]))
        return json.dumps(line, default=str)


def _places(error: BaseException) -> Iterator[str]:
    """An exception and its causes, innermost last: type, and the places it came through."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        frames = traceback.extract_tb(found.__traceback__)
        came = [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
        yield " < ".join([type(found).__name__, *reversed(came)])
        found = found.__cause__ or found.__context__


def application(serve: ServeSettings, gateway: Gateway, authority: Authority) -> ASGIApp:
    """The application with its limits, as it is served."""
    proxies = "*" if serve.socket is not None else serve.trusted_proxies  # who opens the socket is on this machine
    limits = Limits(serve.max_body_bytes, serve.body_seconds, serve.concurrency)
    app: ASGIApp = create_app(gateway, authority, trusted_proxies=proxies)
    if authority.open_to is not None:
        app = _at_home(app, serve)
    app = observed(limited(app, limits), gateway.metrics)
    if not serve.cors_origins:
        return app
    return CORSMiddleware(
        app, allow_origins=serve.cors_origins, allow_methods=("*",), allow_headers=("*",), expose_headers=_SHOWN
    )


def _at_home(app: ASGIApp, serve: ServeSettings) -> ASGIApp:
    """Refuse what pages of other sites send, also under a name of theirs for this machine (DNS rebinding)."""
    origins, homes = set(serve.cors_origins), {"localhost", "127.0.0.1", "[::1]", serve.host, f"[{serve.host}]"}

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        host, origin = headers.get("host", ""), headers.get("origin")
        own = {f"http://{host}", f"https://{host}"}
        known = serve.socket is not None or re.sub(r":\d*$", "", host).lower() in homes or own & origins
        if scope["type"] != "http" or "*" in origins or (known and (origin is None or origin in own | origins)):
            return await app(scope, receive, send)
        site = origin if known else f"http://{host}"
        told = AuthError(f"without keys no page of {site} may call: add it to serve.cors_origins, or use keys", 403)
        return await failure(told).response()(scope, receive, send)

    return guarded


def run(
    settings: Settings,
    log: EditLog,
    *,
    without_keys: bool,
    started: Callable[[dict[str, Any]], None],
    sockets: Sequence[socket.socket] = (),
    read: Callable[[], Settings] | None = None,
) -> None:
    """Serve on ``sockets``, which are bound, until interrupted; ``started`` hears the address once it listens.

    ``read`` gives the settings as they are on SIGHUP.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    serve = settings.serve
    engines = Engines()
    gateway = make_gateway(settings, log, engines)
    project = next(task.project for task in settings.tasks.values())  # make_gateway refuses to serve no task
    app = application(serve, gateway, Authority(log.key, open_to=project if without_keys else None))
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]
        host=serve.host,
        port=serve.port,
        http=type("Protocol", (PatientProtocol,), {"headers_within": serve.body_seconds}),
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the application's own middleware reads them, where they matter
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=serve.stop_seconds + AFTER_CUT,  # pyright: ignore[reportArgumentType]
    )
    tasks = list(gateway.tasks)

    def listens(port: int | None) -> None:
        started({"url": f"unix:{serve.socket}" if port is None else f"http://{serve.host}:{port}/v1", "tasks": tasks})

    async def reload(running: Gateway) -> None:
        assert read is not None
        await reload_gateway(running, read(), engines)

    server = _Server(config, listens, gateway, serve.stop_seconds, None if read is None else reload)
    try:
        server.run(sockets=list(sockets) or None)
    except OSError as error:
        raise ConfigError(f"{serve.host}:{serve.port}: {error.strerror}: use another --host or --port") from error


class _Server(uvicorn.Server):
    """Calls ``listens`` with the port, if it has one, as soon as it listens; ends and reloads as told."""

    def __init__(
        self,
        config: uvicorn.Config,
        listens: Callable[[int | None], None],
        gateway: Gateway,
        patience: float,
        reload: Reload | None,
    ) -> None:
        super().__init__(config)
        self._listens, self._gateway, self._patience, self._reload = listens, gateway, patience, reload
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dropped, self._reloading = False, asyncio.Lock()
        self._works: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call ``listens``."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for bound in sockets or ():  # only now: two sockets that may be reused can be bound to one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        gc.collect()
        gc.freeze()  # what exists now stays: scanning it again took a third of a request's time
        if self._reload is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._told_to_reload, self._reload)
        if self.started:
            where = self.servers[0].sockets[0].getsockname()
            self._listens(where[1] if isinstance(where, tuple) else None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running answers end, for so long; then let them say that they were cut."""
        loop = asyncio.get_running_loop()
        ends = loop.call_later(self._patience, self._cut), loop.call_later(self._patience + AFTER_CUT / 2, self._drop)
        paths = [bound.getsockname() for bound in sockets or () if bound.family == socket.AF_UNIX]
        try:
            await super().shutdown(sockets)
        finally:
            for end in ends:
                end.cancel()
            for path in paths:  # here, as uvicorn ends with the signal that it was sent
                Path(path).unlink(missing_ok=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; told so again, at once; and a third time, whatever is lost."""
        if self._dropped:
            os._exit(128 + sig)
        self._dropped = self.should_exit and self._loop is not None
        if self._loop is not None and self._dropped:  # not uvicorn's way, which would not wait for the log
            self._loop.call_soon_threadsafe(self._drop)
        else:
            super().handle_exit(sig, frame)

    def _cut(self) -> None:
        self._gateway.cut()

    def _drop(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _told_to_reload(self, reload: Reload) -> None:
        work = asyncio.ensure_future(self._reloaded(reload))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _reloaded(self, reload: Reload) -> None:
        async with self._reloading:
            try:
                await reload(self._gateway)
            except RedraftError as error:
                _log.error("not reloaded: serving on as before", extra={"error": redacted(str(error))})
            except Exception:
                _log.exception("not reloaded: serving on as before")
            else:
                _log.info("reloaded", extra={"tasks": list(self._gateway.tasks)})
