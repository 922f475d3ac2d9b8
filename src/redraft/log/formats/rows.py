"""What every reader shares: a row or a reason, lines from a file of any size, and ids for rows without one.

A reader is a generator over a file. It holds one line at a time (and a number for each row seen, to tell repeats
apart), so that a gigabyte needs no gigabyte. What is wrong with one row becomes a ``BadRow``; what is wrong with the
whole file is a ``DataError``.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import to_json

from redraft.errors import DataError
from redraft.log.canonical import Named, canonical, renamed
from redraft.types import Completion, Edit, Interaction, Message

__all__ = ["BadRow", "Options", "Reader", "Row", "Rows", "TooLong", "describe", "lines", "moment"]

BYTES_PER_CHAR = 32  # a character takes at most 6 bytes in JSON ("\u00e9"), and a row has several texts
SECONDS = 1e11  # a moment above this is in milli-, micro- or nanoseconds: seconds would be after the year 5138
LONGEST = 60  # characters of a value in a message
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # spreadsheets write one

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be logged, and the line (from 1) on which it starts."""

    line: int
    interaction: Interaction


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be logged, and why."""

    file: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class TooLong:
    """What is kept of a line that is far too long to hold: whether a quote that it opens or closes is left unpaired."""

    odd_quotes: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What a reader needs to know: the task of rows that name none, the longest text, CSV's column names by field."""

    task: str = ""
    max_text_chars: int = 1_000_000
    columns: Mapping[str, str] = field(default_factory=dict[str, str])


Reader = Callable[[Path, Options], Iterator[Row | BadRow]]


class Rows:
    """Turns the records of one file into rows: checks them, and gives an id to those without one.

    The name is a hash of task, content and how many identical rows came before, so that importing a file twice adds
    nothing and identical rows within it are all kept.
    """

    def __init__(self, file: Path, options: Options) -> None:
        self._file = file
        self._options = options
        self._seen = defaultdict[int, "array[int]"](
            partial(array, "Q")
        )  # by their last bits: 9 bytes a row, a set takes 64
        self._repeats = Counter[int]()

    def row(self, line: int, parse: Callable[[T], Interaction], record: T) -> Row | BadRow:
        """Parse a record that gives one row."""
        return next(self.rows(line, lambda one: (parse(one),), record))

    def rows(self, line: int, parse: Callable[[T], Iterable[Interaction]], record: T) -> Iterator[Row | BadRow]:
        """Parse a record; whatever goes wrong on the way makes it a bad row and costs no other one."""
        try:
            for interaction in parse(record):
                named = interaction if interaction.completion.id else self._name(interaction)
                yield Row(line, canonical(named, self._options.max_text_chars))
        except DataError as error:
            yield BadRow(self._file, line, str(error))
        except Exception as error:  # a reader meets what nobody thought of
            said = f"{type(error).__name__}: {error}".partition("\n")[0][:LONGEST]
            yield BadRow(self._file, line, f"cannot be read ({said}): correct this row, or leave it out")

    def _name(self, interaction: Interaction) -> Interaction:
        """Accepted and an edit equal to the draft are one row, named as the first of them always was."""
        edit = interaction.edit
        if edit is None or not interaction.unchanged:
            return renamed(interaction, self._number(interaction))
        accepted, equal = (
            self._number(replace(interaction, edit=replace(edit, edited=edited)))
            for edited in (None, interaction.edited)
        )
        named = renamed(interaction, accepted)
        return Named(named.completion, named.edit, named.decision, before=equal)

    def _number(self, interaction: Interaction) -> str:
        content = hashlib.blake2b(_content(interaction).encode(), digest_size=16).digest()
        number = int.from_bytes(content[:8])
        alike = self._seen[number & 0xFFFF]
        if number in alike:
            self._repeats[number] += 1
        else:
            alike.append(number)
        return hashlib.blake2b(content + str(self._repeats[number]).encode(), digest_size=12).hexdigest()


def _content(row: Interaction) -> str:
    """What a name is made of: JSON with sorted keys, in a third of the time that an encoder takes for all of it.

    Fields that came later (``more``, ``answer``, ``untaught``) count only where they say something, so that old names
    hold. A new field must do the same.
    """
    completion, edit, decision = row.completion, row.edit, row.decision
    logged = "null" if decision is None else _json(asdict(decision))
    made = "null" if edit is None else _edit(edit)
    return f'{{"completion": {_completion(completion)}, "decision": {logged}, "edit": {made}}}'


def _completion(given: Completion) -> str:
    answer = f'"answer": {_json(given.answer)}, ' if given.answer else ""
    untaught = f'"untaught": {_quoted(given.untaught)}, ' if given.untaught else ""
    return (
        f'{{{answer}"created_at": {_optional(given.created_at)}, "decoding": {_mapping(given.decoding)}, '
        f'"id": {_quoted(given.id)}, "messages": [{", ".join(map(_message, given.messages))}], '
        f'"metadata": {_mapping(given.metadata)}, "model": {_quoted(given.model)}, "policy": {_quoted(given.policy)}, '
        f'"response": {_quoted(given.response)}, "task": {_quoted(given.task)}, {untaught}'
        f'"user_id": {_optional(given.user_id)}}}'
    )


def _message(given: Message) -> str:
    more = f'"more": {_json(given.more)}, ' if given.more else ""
    return f'{{"content": {_quoted(given.content)}, {more}"role": {_quoted(given.role)}}}'


def _edit(given: Edit) -> str:
    edited = "null" if given.edited is None else _quoted(given.edited)
    return (
        f'{{"completion_id": {_quoted(given.completion_id)}, "created_at": {_optional(given.created_at)}, '
        f'"edited": {edited}, "metadata": {_mapping(given.metadata)}, "revision": {given.revision}, '
        f'"user_id": {_optional(given.user_id)}}}'
    )


def _quoted(text: str) -> str:
    """As the standard encoder writes a text, which for plain ones takes three times as long."""
    return to_json(text).decode() if text.isascii() and "\x7f" not in text else encode_basestring_ascii(text)


def _mapping(value: Mapping[str, Any]) -> str:
    return _json(value) if value else "{}"


def _optional(value: object) -> str:
    return "null" if value is None else _json(value)


_json = json.JSONEncoder(default=str, sort_keys=True).encode


def lines(file: Path, max_text_chars: int) -> Iterator[tuple[int, bytes | TooLong]]:
    """Number and content of each line, without a leading byte order mark; ``TooLong`` for one that is far too long.

    Raises ``DataError`` when the file cannot be read.
    """
    longest = BYTES_PER_CHAR * max_text_chars
    number = 0
    try:
        with file.open("rb") as stream:
            while line := stream.readline(longest):
                number += 1
                if len(line) < longest or line.endswith(b"\n"):
                    yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
                else:
                    yield number, _skip(line, stream, longest)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}): check the path") from error


def _skip(line: bytes, stream: BinaryIO, longest: int) -> TooLong:
    quotes = line.count(b'"')
    while rest := stream.readline(longest):
        quotes += rest.count(b'"')
        if rest.endswith(b"\n"):
            break
    return TooLong(quotes % 2 == 1)


def moment(name: str, value: object) -> datetime | None:
    """A time in ISO 8601 (eight digits are a date), or in seconds to nanoseconds since 1970; ``None`` for nothing.

    Raises ``DataError`` for anything else.
    """
    try:
        if value is None or value == "":
            return None
        if isinstance(value, str) and (len(value) == 8 or not value.replace(".", "", 1).isdigit()):
            text = value.strip()
            return datetime.fromisoformat(text[:-3].rstrip() + "Z" if text.endswith("UTC") else text)
        number = float(cast("str | float", value))
        while SECONDS < number < 1e20:
            number /= 1000
        return datetime.fromtimestamp(number, UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise DataError(f"{name} = {value!r:.60}: write it as 2026-03-01T09:30:00Z") from error


def describe(error: ValidationError) -> str:
    """Say all that is wrong with a row in one line."""
    return "; ".join(_problem(problem) for problem in error.errors(include_url=False))


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "json_invalid":
        reason = problem["ctx"]["error"].replace(" at line 1 column", " at column")
        return f"not valid JSON in UTF-8 ({reason}): write one whole JSON object on each line"
    if problem["type"] == "missing":
        return f"{where} is missing: give it, or correct the name of its key"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {where!r}: remove or correct it"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    return f"{where or 'the row'} = {_shortened(problem['input'])}: {message}"


def _shortened(value: object) -> str:
    text = repr(value[:LONGEST] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
