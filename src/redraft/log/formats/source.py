"""From a file's bytes to its records, whatever it is packed in; what the records mean is for ``shapes`` to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.log.formats.rows import BadRow, Options, TooLong, lines

__all__ = ["Raw", "Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it was written: a JSON object, or a table's cells by column; ``line`` (from 1) is where it starts.

    In formats without lines, such as Parquet, ``line`` is the number of the record.
    """

    line: int
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was understood. ``records`` reads it from the start, each time, and holds one record at a time.

    ``said`` tells a person what it is taken for, such as ``JSON Lines, UTF-16, gzip``. The cells of a ``table`` are
    texts and an empty one says nothing; ``columns`` are its names, in order, and empty for what is no table.
    """

    file: Path
    said: str
    records: Callable[[], Iterator[Raw | BadRow]]
    columns: tuple[str, ...] = ()

    @property
    def table(self) -> bool:
        """Whether its records have one row of names."""
        return bool(self.columns)


def open_source(file: Path, options: Options) -> Source:
    """Find out what a file is, from its bytes and its name.

    Raises ``DataError`` when it cannot be read or is nothing that can be.
    """
    return Source(file, "JSON Lines", lambda: _json_lines(file, options))


def _json_lines(file: Path, options: Options) -> Iterator[Raw | BadRow]:
    for number, line in lines(file, options.max_text_chars):
        if isinstance(line, TooLong):
            yield BadRow(file, number, "the line is too long")
        elif line.strip():
            yield Raw(number, json.loads(line))
