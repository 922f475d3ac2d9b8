"""The gateway as a process: uvicorn with the application, its limits and its log lines."""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import uvicorn

from redraft.config import Settings
from redraft.gateway.app import create_app
from redraft.gateway.auth import Authority
from redraft.gateway.limits import Limits, PatientProtocol, limited
from redraft.gateway.metrics import observed
from redraft.gateway.setup import make_gateway
from redraft.log import EditLog

__all__ = ["JsonLines", "run"]

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message and extra fields. Never texts or keys."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def run(settings: Settings, log: EditLog, *, without_keys: bool, started: Callable[[dict[str, Any]], None]) -> None:
    """Serve until interrupted; ``started`` is called with the address once requests can come."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    serve = settings.serve
    gateway = make_gateway(settings, log)
    project = next(task.project for task in settings.tasks.values())  # make_gateway refuses to serve no task
    app = create_app(gateway, Authority(log.key, open_to=project if without_keys else None))
    limits = Limits(serve.max_body_bytes, serve.body_seconds, serve.concurrency)
    protocol = type("Protocol", (PatientProtocol,), {"headers_within": serve.body_seconds})
    config = uvicorn.Config(
        observed(limited(app, limits), gateway.metrics),  # pyright: ignore[reportArgumentType]
        host=serve.host,
        port=serve.port,
        http=protocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    _Server(config, lambda port: started({"url": f"http://{serve.host}:{port}/v1", "tasks": list(gateway.tasks)})).run()


class _Server(uvicorn.Server):
    """Calls ``listens`` with the port as soon as it listens."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[int], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start, then call ``listens``."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what exists now stays: scanning it again took a third of a request's time
        if self.started:
            self._listens(self.servers[0].sockets[0].getsockname()[1])
