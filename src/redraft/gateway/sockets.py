"""Where a gateway listens: taken once and before a model is loaded, so that of two that start together one is told."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redraft.config import ServeSettings
from redraft.errors import ConfigError

__all__ = ["bound"]

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A name can have an address that this machine lacks: localhost is ::1 too where IPv6 is switched off."""


@contextmanager
def bound(serve: ServeSettings) -> Generator[list[socket.socket]]:
    """Sockets that nobody else can have, closed at the end; raises ``ConfigError``.

    A port refuses connections until the gateway listens. A Unix socket lets them wait: one that does not listen looks
    like one that was left behind.
    """
    with ExitStack() as stack:
        if serve.socket is not None:
            found = [stack.enter_context(_at_path(serve.socket))]
            stack.callback(serve.socket.unlink, missing_ok=True)
        else:
            found = _at_port(stack, serve.host, serve.port)
        yield found


def _at_port(stack: ExitStack, host: str, port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            at = (address[0], found[0].getsockname()[1] if found else port, *address[2:])
            try:
                found.append(stack.enter_context(_at(family, at)))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
        if absent is not None and not found:
            raise absent
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use: stop what listens there or use --port") from error
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigError(f"{host}:{port}: {reason}: use another --host or --port") from error
    return found


def _at(family: int, address: tuple[Any, ...]) -> socket.socket:
    # by its protocol asyncio knows that it may send without Nagle's delay
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        try:
            found.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # connections of an earlier process may still fade there; two such sockets could be bound to one port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
    except OSError:
        found.close()
        raise
    return found


def _at_path(path: Path) -> socket.socket:
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            if other.connect_ex(str(path)) == 0:
                raise ConfigError(f"socket {path} is in use: stop what listens there or use another --socket")
        path.unlink()
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        found.bind(str(path))
        found.listen()
    except OSError as error:
        found.close()
        raise ConfigError(f"socket {path}: {error.strerror or error}: use another --socket") from error
    return found
