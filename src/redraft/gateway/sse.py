"""Server-sent events out of bytes as they arrive, by the WHATWG's rules and for servers that break them.

Beyond the rules: a line that is a JSON object is data (ndjson), and so is a whole JSON document where no event came; a
line ``error: {…}`` is an event of type ``error`` (llama.cpp); what stands before the end of the bytes is dispatched;
JSON objects in neighbouring ``data`` lines are several events, since together they are no JSON. Left out: ``id`` and
``retry``, because nobody reconnects to an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LIMIT", "EventReader"]

LIMIT = 32_000_000
"""Most bytes of one event."""

_ENDS = re.compile(rb"\r\n|\n|\r")


class EventReader:
    r"""Feed it bytes cut anywhere; it gives (type, data) of each event once its last line is there.

    Raises ``OverflowError`` for an event that is larger than ``limit`` bytes.

    >>> reader = EventReader()
    >>> list(reader.feed(b"data: a\r")), list(reader.feed(b"\ndata: b\n\n: ping\n")), list(reader.end())
    ([], [('message', b'a\nb')], [])
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit, self._size = limit, 0
        self._line, self._return, self._begun = bytearray(), False, False
        self._type, self._data = b"", list[bytes]()
        self._other: list[bytes] | None = []  # lines that are no fields, until there is an event

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Events that end in these bytes."""
        if not chunk:
            return
        if self._return and chunk.startswith(b"\n"):  # the second half of a CRLF
            chunk = chunk[1:]
        self._return = chunk.endswith(b"\r")
        first, *more = _ENDS.split(chunk)
        self._line += first
        for begun in more:
            yield from self._ended()
            self._line += begun
        if len(self._line) + self._size > self._limit:
            raise OverflowError(f"an event of more than {self._limit} bytes")

    def end(self) -> Iterator[tuple[str, bytes]]:
        """What is left at the end of the bytes."""
        if self._line:
            yield from self._ended()
        yield from self._dispatched()
        if self._other and (text := b"\n".join(self._other).strip()).startswith(b"{"):
            yield "message", text

    def _ended(self) -> Iterator[tuple[str, bytes]]:
        line, self._line = bytes(self._line), bytearray()
        if not self._begun:
            line, self._begun = line.removeprefix(b"\xef\xbb\xbf"), True
        if not line:
            yield from self._dispatched()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if self._data and self._data[-1].rstrip().endswith(b"}") and value.lstrip().startswith((b"{", b"[DONE]")):
                yield from self._dispatched()
            self._data.append(value)
            self._size += len(value) + 1
        elif name == b"event":
            self._type = value
        elif name == b"error" and value.lstrip().startswith(b"{"):
            self._type, self._data = b"error", [value]
            yield from self._dispatched()
        elif line.startswith(b"{") and line.rstrip().endswith(b"}"):
            yield from self._dispatched()
            self._other = None
            yield "message", line
        elif self._other is not None and name not in (b"", b"id", b"retry"):
            self._other.append(line)
            self._size += len(line) + 1

    def _dispatched(self) -> Iterator[tuple[str, bytes]]:
        """The event, if there is one; its fields are forgotten."""
        kind, data = self._type.decode(errors="replace") or "message", b"\n".join(self._data)
        if self._data:
            self._size, self._other = 0, None
        self._type, self._data = b"", []
        if data:
            yield kind, data
