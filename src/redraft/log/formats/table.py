"""CSV with a header: any table that has a context, a response and its edit in columns of their own.

The columns are named by field: ``context=question,response=draft,edited=final``, and optionally ``id``, ``user_id``,
``policy`` and ``model``. An empty ``edited`` says nothing, so that such a row has no feedback yet: a CSV cannot tell
an edit that struck everything from one that never came (the native format can).

A row that spans lines is named by its first; where it cannot be read, all the lines that went with it are named, since
a quote that is never closed takes good rows with it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from redraft.errors import ConfigError, DataError
from redraft.log.formats.rows import BadRow, Options, Row, Rows, TooLong, lines
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
    skipped: list[int] = []
    table = csv.reader(_text(file, options, skipped), strict=True)
    header = _header(file, table, fields)
    rows, parse = Rows(file, options), partial(_interaction, options.task, fields, header)
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(file, line, _invalid(error, line, table.line_num, options))
            continue
        if skipped and skipped[-1] >= line:
            yield BadRow(file, line, f"line {skipped[-1]} is far too long: shorten it, or raise [log] max_text_chars")
        elif cells:
            row = rows.row(line, parse, cells)
            yield row if isinstance(row, Row) else BadRow(file, line, _within(line, table.line_num) + row.reason)


def _text(file: Path, options: Options, skipped: list[int]) -> Iterator[str]:
    """Lines as text; bytes that are not UTF-8 become surrogates, which the row's own check then refuses.

    Of a line too long to hold the quotes are kept, so that what follows is read right, and its number in ``skipped``.
    """
    for number, line in lines(file, options.max_text_chars):
        if isinstance(line, TooLong):
            skipped.append(number)
            yield '"\n' if line.odd_quotes else "\n"
        else:
            yield line.decode(errors="surrogateescape")


def _invalid(error: csv.Error, first: int, last: int, options: Options) -> str:
    if "field limit" in str(error):
        limits = f"{csv.field_size_limit():,} characters, and a text may have {options.max_text_chars:,}"
        reason = f"a cell has more than {limits}"
        remedy = "shorten it, or raise [log] max_text_chars"
    else:
        reason, remedy = f"not valid CSV ({error})", "double each quote inside quotes"
    return f"{_within(first, last)}{reason}: {remedy}" + (", and close every quote" if last > first else "")


def _within(first: int, last: int) -> str:
    return f"lines {first} to {last} were read as one row: " if last > first else ""


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
