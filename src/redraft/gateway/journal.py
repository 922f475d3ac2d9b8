"""What running streams said, in files: what a process that is killed had sent and not yet told the log.

A stream's text reaches the log a few times a second, and its file before each piece is sent. The kernel keeps what was
written when a process is killed, and lets go of its lock, by which the next gateway knows whose files are left. A file
goes when the end of its stream is in the log. Not for the loss of a machine: nothing here waits for a disk.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from redraft.messages import Draft

__all__ = ["Journal"]

_LOCK = ".lock"

_log = logging.getLogger("redraft.gateway")


class Journal:
    """The files of one process in a folder of its own below ``folder``, which processes over one log share.

    Keeps nothing without a folder. One that cannot be written costs a warning and what a kill would lose, no answer.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own = (folder or Path()) / f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock: BaseFileLock | None = None
        self._files: dict[str, FileIO] = {}

    def open(self) -> None:
        """Begin to keep."""
        if self._folder is None:
            return
        lock = FileLock(self._own / _LOCK)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own.mkdir(mode=0o700)
            lock.acquire()
        except OSError as error:
            _log.warning("streams are not kept in files (%s): what a killed process said last is lost", error)
        else:
            self._lock = lock

    def add(self, completion_id: str, choices: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a stream says next; a process that is killed from now on does not lose it."""
        if self._lock is None:
            return
        try:
            if completion_id not in self._files:
                self._files[completion_id] = FileIO(self._own / completion_id, "ab", opener=_private)
            self._files[completion_id].write(json.dumps(choices).encode() + b"\n")
        except OSError:
            _log.warning("a stream is not kept in its file", extra={"completion_id": completion_id})

    def drop(self, completion_id: str) -> None:
        """Forget a stream whose end is in the log."""
        if (file := self._files.pop(completion_id, None)) is not None:
            file.close()
            with suppress(OSError):
                (self._own / completion_id).unlink()

    def left(self) -> Iterator[tuple[str, Draft]]:
        """The streams of processes that are no more; each goes once its caller comes back for the next."""
        for place in sorted(self._own.parent.glob("*/")) if self._lock is not None else ():
            if place == self._own:
                continue
            lock = FileLock(place / _LOCK)
            with suppress(Timeout, OSError), lock.acquire(timeout=0):
                for file in sorted(place.iterdir()):
                    if file.name != _LOCK:
                        yield file.name, _draft(file)
                        file.unlink()
                _remove(place)

    def close(self) -> None:
        """Leave nothing behind but what the log has not got."""
        for file in self._files.values():
            file.close()
        if self._lock is not None:
            self._lock.release()
            if not self._files:
                _remove(self._own)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _draft(file: Path) -> Draft:
    draft = Draft()
    for line in file.read_bytes().splitlines():
        with suppress(ValueError):  # the disk was full in the middle of it
            for choice in json.loads(line):
                draft.add(choice)
    return draft


def _remove(place: Path) -> None:
    with suppress(OSError):
        (place / _LOCK).unlink(missing_ok=True)
        place.rmdir()
