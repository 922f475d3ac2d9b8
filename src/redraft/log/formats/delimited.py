"""Tables as text: CSV and TSV as spreadsheets, data frames and databases write them, with one row of names.

The delimiter, the way a quote is escaped and what a producer adds of its own accord (a ``sep=`` line, a column of row
numbers, empty columns at the end, rows of commas) are told from the first rows. A row that spans lines is named by its
first; where it cannot be read, all the lines that went with it are named, since a quote that is never closed takes good
rows with it.

An empty cell says nothing. A word such as ``None`` is a text, as a person may have typed it, unless the file shows that
it is its producer's word for nothing: ``NaN`` and the like where no cell is empty, ``NA`` and ``NULL`` where they stand
bare among quoted texts.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow, TooLong
from redraft.log.formats.unpacked import Raw, Records, Text, readable

__all__ = ["recognise"]

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SUFFIXES = (".csv", ".tsv", ".tab", ".psv")
SAMPLE = 200  # rows
ALWAYS = frozenset({"\\N", "#N/A"})  # what databases and spreadsheets write for nothing
NOTHING = {"NaN", "nan", "NaT", "<NA>"}  # nobody's text, where a file has no other way to say nothing
BARE = {"NA", "NULL", "null", "None", "N/A"}  # may be a text
NUMBER = re.compile(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?|TRUE|FALSE|True|False|true|false")
DRAWN = re.compile(r"(?=.*---)(?=.*[|+])[|+:\s-]+")  # the line around the names
QUOTED = re.compile(r'(?:^|\t)"[^\t\n]*"(?:\t|\r?$)', re.MULTILINE)
ESCAPE, ESCAPES = re.compile(r"\\(.)"), {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|")


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is written: csv's options, names by position (``None``: dropped), words for nothing."""

    text: Text
    dialect: dict[str, Any]
    names: tuple[str | None, ...]
    nothing: frozenset[str] = frozenset()
    escaped: bool = False


def recognise(text: Text) -> tuple[str, Records, tuple[str, ...]] | None:
    """Say what kind of table a text is, how to read it, and its columns; ``None`` where it has no two columns."""
    # A quote that is never closed would otherwise swallow the rest of the file.
    csv.field_size_limit(max(csv.field_size_limit(), text.longest // 8))
    lines = _sample(text)
    declared = re.fullmatch(r"\ufeff?\"?sep=(.)\"?", lines[0].strip("\r\n")) if lines else None
    lines = lines[1:] if declared else lines
    share, dialect = _dialect(lines, declared[1] if declared else "", text.file.suffix.lower())
    if escaped := dialect["delimiter"] == "\t" and _copied(lines):
        dialect |= {"quoting": csv.QUOTE_NONE, "escapechar": None}
    rows = list(islice(_rows(lines, dialect), SAMPLE))
    named = any(suffix.lower() in SUFFIXES for suffix in text.file.suffixes)
    wide = bool(rows) and len(_trimmed(rows[0])) > 1
    if any(DRAWN.fullmatch(line) for line in lines[:2]):
        raise DataError(f"{text.file}: is a table drawn with lines, as Markdown and psql do: export it as CSV")
    if (
        named
        and not wide
        and any(len(_trimmed(row)) > 2 for one in DELIMITERS for row in _rows(lines, {"delimiter": one}))
    ):
        raise DataError(f"{text.file}: its first line is no row of names: delete the lines above the names")
    if not wide or (share < 0.5 and not named):  # prose has commas too
        return None
    header, *body = rows
    names = _names(header, body)
    table = _Table(
        text, dialect, names, _nothing(lines, [row[: len(names)] for row in body], dialect["delimiter"]), escaped
    )
    columns = tuple(name for name in names if name is not None)
    said = f"table with columns divided by {DELIMITERS.get(dialect['delimiter'], dialect['delimiter'])}"
    if None in names[: len(columns)]:
        said += ", row numbers dropped"
    if escaped:
        said += ", \\n and \\t read as breaks and tabs"
    if table.nothing:
        said += f", {' and '.join(sorted(table.nothing))} read as nothing"
    if typed := (BARE | NOTHING).intersection(cell for row in body for cell in row) - table.nothing:
        said += f", {' and '.join(sorted(typed))} read as text"
    return said, lambda: _records(table, bool(declared)), columns


def _sample(text: Text) -> list[str]:
    lines = io.StringIO(text.head, newline=text.line_end).readlines()
    return lines if text.whole or len(lines) < 2 else lines[:-1]


def _rows(lines: list[str], dialect: dict[str, Any]) -> Iterator[list[str]]:
    """Rows that say something; one that is not valid is left out."""
    reader = csv.reader(_null_kept(lines, dialect), strict=True, **dialect)
    while True:
        try:
            cells = next(reader)
            if any(cell.strip() for cell in cells):
                yield cells
        except StopIteration:
            return
        except csv.Error:
            yield []


def _dialect(lines: list[str], declared: str, suffix: str) -> tuple[float, dict[str, Any]]:
    """Take the dialect under which most of the first rows have the header's number of cells; return their share too."""
    order = sorted(DELIMITERS, key=lambda delimiter: (delimiter == "\t") != (suffix in (".tsv", ".tab")))
    found: list[tuple[float, int, dict[str, Any]]] = []
    for delimiter, escape, skip in product([declared] if declared else order, (None, "\\"), (False, True)):
        dialect = {"delimiter": delimiter, "escapechar": escape, "skipinitialspace": skip}
        rows = list(islice(_rows(lines, dialect), SAMPLE))
        width = len(_trimmed(rows[0])) if rows else 0
        bad = sum(len(_trimmed(row)) > width or len(row) < width or _quoted_late(row) for row in rows[1:])
        share = 1 - bad / (len(rows) - 1) if len(rows) > 1 else 1.0
        found.append((share if width > 1 else -1.0, width, dialect))
    best = max(share for share, _, _ in found)
    # Where rows fit as well, more columns are a better guess: a text may hold one delimiter in each row.
    return best, max((f for f in found if f[0] >= best - 1e-9), key=lambda f: f[1])[2]


def _null_kept(lines: Iterable[str], dialect: dict[str, Any]) -> Iterable[str]:
    r"""Lines in which a bare ``\N`` is no escaped N."""
    if dialect.get("escapechar") != "\\":
        return lines
    null = re.compile(rf"(^|{re.escape(dialect['delimiter'])})\\N(?=[{re.escape(dialect['delimiter'])}\r\n]|$)")
    return (null.sub(r"\1\\\\N", line) if "\\N" in line else line for line in lines)


def _copied(lines: list[str]) -> bool:
    r"""Whether a table is as PostgreSQL's ``COPY`` and MySQL write one: ``\N`` for nothing, no quotes around cells."""
    text = "".join(lines)
    return bool(re.search(r"(?:^|\t)\\N(?:\t|\r?$)", text, re.MULTILINE)) and not QUOTED.search(text)


def _unescaped(cell: str) -> str:
    r"""Say what ``\n``, ``\t`` and ``\\`` stand for.

    >>> _unescaped(r"a\tb\\n")
    'a\tb\\n'
    """
    return ESCAPE.sub(lambda found: ESCAPES.get(found[1], found[1]), cell)


def _quoted_late(row: list[str]) -> bool:
    return any(cell.startswith((' "', '  "')) for cell in row)


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cells at the end, which spreadsheets write for empty columns."""
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _names(header: list[str], body: list[list[str]]) -> tuple[str | None, ...]:
    """Names by position, ``None`` for columns of row numbers; a repeated name gets a number, as in data frames."""
    cells, header = len(header), [name.strip() for name in _trimmed(header)]
    body = [row for row in body if row]
    numbered = body and all(len(row) == cells + 1 and row[0].isdigit() for row in body)
    if numbered and any(row[-1].strip() for row in body):  # else the cell too many is an empty one at the end
        header = ["", *header]  # R names all columns but that of the row numbers
    names: list[str | None] = []
    for i, name in enumerate(header):
        numbers = body and all(len(row) > i and row[i].isdigit() for row in body)
        if INDEX.fullmatch(name) and all(kept is None for kept in names) and numbers:
            names.append(None)
        else:
            wanted = name or f"column {i + 1}"
            names.append(f"{wanted}.{header[:i].count(name)}" if wanted in names else wanted)
    return tuple(names)


def _nothing(lines: list[str], body: list[list[str]], delimiter: str) -> frozenset[str]:
    """Words that mean an empty cell in this file."""
    cells = [cell for row in body for cell in row]
    always = ALWAYS.intersection(cells)
    if "" in cells:
        return always
    cell = re.compile(rf'(?:^|{re.escape(delimiter)})("(?:[^"]|"")*"|[^{re.escape(delimiter)}\n"]*)', re.MULTILINE)
    written = [found.strip("\r") for found in cell.findall("".join(lines[1:]))]
    quoted = {found for found in written if found.startswith('"')}
    bare = {found for found in written if found and found not in quoted and not NUMBER.fullmatch(found)}
    words = {word for word in BARE if word in bare and f'"{word}"' not in quoted}
    return always | frozenset(NOTHING & set(cells) | (words if quoted and bare <= BARE | NOTHING | ALWAYS else set()))


def _records(table: _Table, declared: bool) -> Iterator[Raw | BadRow]:
    faults: dict[int, str] = {}
    lines = _text(table.text, faults)
    if declared:
        next(lines)
    reader = csv.reader(_null_kept(lines, table.dialect), strict=True, **table.dialect)
    headless, more = True, int(declared)
    while True:
        line = reader.line_num + 1 + more
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(table.text.file, line, _invalid(error, line, reader.line_num + more))
            headless = False
            continue
        last = reader.line_num + more
        if faults and (fault := _fault(faults, line, last)):
            yield BadRow(table.text.file, line, fault)
            headless = False
        elif any(cell and not cell.isspace() for cell in cells):
            if not headless:
                yield _record(table, cells, line, last)
            headless = False


def _fault(faults: dict[int, str], first: int, last: int) -> str:
    found = [faults.pop(number) for number in sorted(faults) if number <= last]
    return _within(first, last) + found[0] if found else ""


def _record(table: _Table, cells: list[str], line: int, last: int) -> Raw | BadRow:
    names = table.names
    if len(cells) > len(names):
        cells = cells[: len(names)] + _trimmed(cells[len(names) :])
    if len(cells) != len(names):
        reason = f"{len(cells)} cells under {len(names)} columns: quote cells that hold the delimiter"
        return BadRow(table.text.file, line, _within(line, last) + reason)
    if table.nothing:
        cells = ["" if cell in table.nothing else cell for cell in cells]
    if table.escaped:
        cells = [_unescaped(cell) if "\\" in cell else cell for cell in cells]
    return Raw(line, _by_column(names, cells))


def _by_column(names: Sequence[str | None], cells: list[str]) -> dict[str, Any]:
    return {name: cell for name, cell in zip(names, cells, strict=True) if name is not None}


def _text(text: Text, faults: dict[int, str]) -> Iterator[str]:
    """Lines; of one too long to hold the quotes are kept, so that what follows is read right. Faults by line."""
    for number, line in text.lines():
        if isinstance(line, TooLong):
            faults[number] = f"line {number} is far too long: shorten it, or raise [log] max_text_chars"
            yield '"\n' if line.odd_quotes else "\n"
        else:
            if not readable(line):
                faults[number] = f"line {number} holds bytes that are not valid Unicode: save the file as UTF-8"
            yield line


def _invalid(error: csv.Error, first: int, last: int) -> str:
    if "field limit" in str(error):
        limits = f"{csv.field_size_limit():,} characters"
        reason, remedy = f"a cell has more than {limits}", "shorten it, or raise [log] max_text_chars"
    else:
        reason, remedy = f"not valid CSV ({error})", "double each quote inside quotes"
    return f"{_within(first, last)}{reason}: {remedy}" + (", and close every quote" if last > first else "")


def _within(first: int, last: int) -> str:
    return f"lines {first} to {last} were read as one row: " if last > first else ""
