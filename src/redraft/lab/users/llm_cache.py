"""Answers of a language model kept on disk, so that a repeated run sends no request.

One SQLite file rather than a JSONL: an answer is looked up without reading the others, and its locks and journal make
every write whole, however many threads and processes share the file or are killed over it. The first answer to a
request stays: whoever asked at the same moment gets that one too. Requests are kept beside the answers, to be read by
people; neither URL nor key is in them. Left out: an age; delete the file to ask anew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redraft.errors import ConfigError
from redraft.types import Decoding, Message

__all__ = ["AnswerCache"]

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL)"
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class AnswerCache:
    """Answers in ``file``, by model, messages and decoding; made with its folder when first needed."""

    file: Path

    def answer(self, model: str, messages: Sequence[Message], decoding: Decoding, ask: Callable[[], str]) -> str:
        """Return the answer known for this request, else what ``ask`` returns, which is kept.

        Nothing is kept when ``ask`` raises. Raises ``ConfigError`` when the file cannot be used.
        """
        request = json.dumps(
            {"model": model, "messages": [message.plain for message in messages], "decoding": decoding.logged},
            sort_keys=True,
        )
        key = hashlib.sha256(request.encode()).hexdigest()
        known = self._find(key)
        if known is None:
            given = ask()
            with self._database() as database:
                database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (key, request, given))
            known = self._find(key)
            assert known is not None
        return known

    def _find(self, key: str) -> str | None:
        with self._database() as database:
            row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _database(self) -> Generator[sqlite3.Connection]:
        """A connection for one statement, so that threads share none and no lock is held while a server thinks."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=_PATIENCE, isolation_level=None)) as database:
                database.execute(_TABLE)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"cache {self.file}: {error}: make its folder writable, or delete the file") from error
