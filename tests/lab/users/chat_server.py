"""A small HTTP server that speaks the chat protocol as it is told to, well and badly. Data for tests, no test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["ChatServer", "completion", "serving"]


def completion(content: Any) -> str:
    message = {"role": "assistant", "content": content}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]})


def echo(request: dict[str, Any]) -> str:
    return f"re: {request['messages'][-1]['content']}"


class ChatServer(ThreadingHTTPServer):
    """Sends what ``script`` holds, one entry (status, body, headers) a request; after that completions by ``reply``.

    ``requests`` are those that came, as (path, headers, body). While ``stall`` is set, no request is answered until
    that event is.
    """

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], str] = echo) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.reply: Callable[[dict[str, Any]], str] = reply
        self.script: list[tuple[int, str, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.stall: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def say(self, *contents: str) -> None:
        """Put completions on the script."""
        self.script += [(200, completion(content), {}) for content in contents]


class _Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, ChatServer)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append((self.path, dict(self.headers), request))
        if server.stall is not None:
            server.stall.wait()
            return
        status, body, headers = (
            server.script.pop(0) if server.script else (200, completion(server.reply(request)), dict[str, str]())
        )
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def serving(server: ChatServer) -> Generator[ChatServer]:
    """Serve in a thread of its own, and end it."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        if server.stall is not None:
            server.stall.set()
        server.shutdown()
        thread.join()
        server.server_close()
