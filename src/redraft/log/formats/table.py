"""CSV with a header: any table that has a context, a response and its edit in columns of their own.

The columns are named by field: ``context=question,response=draft,edited=final``, and optionally ``id``, ``user_id``,
``policy`` and ``model``. An empty ``edited`` says nothing, so that such a row has no feedback yet: a CSV cannot tell
an edit that struck everything from one that never came (the native format can).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from redraft.errors import ConfigError, DataError
from redraft.log.formats.rows import BadRow, Options, Row, Rows, lines
from redraft.types import Completion, Edit, Interaction, Message

__all__ = ["FIELDS", "read"]

REQUIRED = ("context", "response", "edited")
FIELDS = (*REQUIRED, "id", "user_id", "policy", "model")


def read(file: Path, options: Options) -> Iterator[Row | BadRow]:
    """Read a CSV file with the columns that ``options`` names by field.

    Raises ``ConfigError`` for a wrong mapping and ``DataError`` when the header lacks a column.
    """
    fields = {**dict(zip(REQUIRED, REQUIRED, strict=True)), **options.columns}
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise ConfigError(f"--columns: unknown field {', '.join(unknown)}: use {', '.join(FIELDS)}")
    # A quote that is never closed would otherwise swallow the rest of the file.
    csv.field_size_limit(max(csv.field_size_limit(), 4 * options.max_text_chars))
    table = csv.reader(_text(file, options), strict=True)
    header = _header(file, table, fields)
    rows, parse = Rows(file, options), partial(_interaction, options.task, fields, header)
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(file, line, f"not valid CSV ({error}): double each quote inside quotes and shorten long texts")
            continue
        if cells:
            yield rows.row(line, parse, cells)


def _text(file: Path, options: Options) -> Iterator[str]:
    """Lines as text; bytes that are not UTF-8 become surrogates, which the row's own check then refuses."""
    for number, line in lines(file, options.max_text_chars):
        if line is None:
            raise DataError(f"{file}:{number}: the line is too long for a table: check that the file is a CSV")
        yield line.decode(errors="surrogateescape")


def _header(file: Path, table: Iterator[list[str]], fields: dict[str, str]) -> list[str]:
    try:
        header = next(table, [])
    except csv.Error as error:
        raise DataError(f"{file}:1: the header is not valid CSV ({error})") from error
    missing = [column for column in fields.values() if column not in header]
    if missing:
        found = ", ".join(header) or "none"
        raise DataError(
            f"{file}:1: no column {', '.join(missing)}; found: {found}: name them with --columns context=…,response=…"
        )
    return header


def _interaction(task: str, fields: dict[str, str], header: list[str], cells: Sequence[str]) -> Interaction:
    if len(cells) != len(header):
        raise DataError(f"{len(cells)} cells under {len(header)} columns: quote cells that hold commas")
    by_column = dict(zip(header, cells, strict=True))
    value = {field: by_column[column] for field, column in fields.items()}
    completion = Completion(
        id=value.get("id", ""),
        task=task,
        messages=(Message("user", value["context"]),),
        response=value["response"],
        policy=value.get("policy", ""),
        model=value.get("model", ""),
        user_id=value.get("user_id") or None,
    )
    edited = value["edited"]
    return Interaction(completion, Edit(completion.id, edited, user_id=completion.user_id) if edited else None)
