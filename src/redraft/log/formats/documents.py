"""JSON as people keep it: one object a line, one list, one object around a list, or objects one after another.

What does not stand one to a line is decoded from a window of the text that holds one record, so that a list of a
gigabyte needs no gigabyte.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast

from pydantic_core import from_json

from redraft.errors import DataError
from redraft.log.formats.rows import BYTES_PER_CHAR, BadRow, TooLong
from redraft.log.formats.unpacked import Raw, Records, Text, readable

__all__ = ["lines", "named", "recognise"]

SUFFIXES = (".json", ".jsonl", ".ndjson")
AROUND = ("data", "rows", "records", "items", "examples", "instances", "samples", "results", "interactions", "train")
AS_RECORDS = "write it with to_json(orient='records', lines=True)"
CHUNK = 1 << 16
BLANK, BETWEEN = re.compile(r"\s*"), re.compile(r"[\s,]*")
LIST_OF_LISTS = re.compile(r"\[\s*\[")
BY_COLUMN = re.compile(r'\{\s*"[^"]*"\s*:\s*\{\s*"0"\s*:|\{\s*"columns"\s*:\s*\[|\{\s*"0"\s*:\s*\{')


def recognise(text: Text) -> tuple[str, Records] | None:
    """Say which kind of JSON a text is and how to read it; ``None`` where it is none."""
    start = text.head.lstrip()
    if re.match(r"\[\s*(//.*\s*)*[{\]]", start):
        return "one JSON list", lambda: _Window(text).records()
    if start.startswith("[") and _rest(start) == "" and LIST_OF_LISTS.match(start):
        raise DataError(f"{text.file}: is a list of lists, without names: {AS_RECORDS}")
    held = [line for line in text.head.split(text.line_end) if line.strip()]
    objects = sum(line.startswith("{") and isinstance(_parsed(line), dict) for line in held[:100])
    rest = _rest(held[0])
    on_lines: tuple[str, Records] = ("JSON Lines", lambda: lines(text))
    if objects and len(held) > 1 and (start.startswith("{") or named(text.file)) and not (rest and rest[0] in ",{"):
        return on_lines
    if start.startswith("[") and _rest(start) is not None:
        return on_lines  # of lists: each is a bad row
    if not re.match(r'\{\s*(["}]|$)', start):
        return None
    if found := _around(text.head, named(text.file, ".jsonl", ".ndjson")):
        return f"the list {found[0]!r} in one JSON object", lambda: _Window(text, found[1]).records()
    if BY_COLUMN.match(start) or (text.whole and not rest and _crossed(_parsed(start))):
        raise DataError(f"{text.file}: is a data frame by columns, not by rows: {AS_RECORDS}")
    broken = len(held) > 1 and held[0].strip() != "{" and _rest(start) is None
    return on_lines if (objects and not rest) or broken else ("JSON", lambda: _Window(text).records())


def _crossed(value: object) -> bool:
    """Whether an object is a data frame by columns or by row names: objects of scalars that all have the same keys."""
    parts = [*cast("Mapping[str, Any]", value).values()] if isinstance(value, dict) else []
    if len(parts) < 2 or not all(isinstance(part, dict) and len(part) > 1 for part in parts):
        return False
    scalars = (not isinstance(inner, dict | list) for part in parts for inner in part.values())
    return all(part.keys() == parts[0].keys() for part in parts) and all(scalars)


def named(file: Path, *suffixes: str) -> bool:
    """Whether a file's name says that it holds JSON, or has one of the suffixes."""
    return any(suffix.lower() in (suffixes or SUFFIXES) for suffix in file.suffixes)


def _rest(start: str) -> str | None:
    """Return what follows the value with which a text starts; ``None`` where it starts with none that is whole."""
    start = start.strip()
    try:
        return start[json.JSONDecoder().raw_decode(start)[1] :].strip()
    except (ValueError, RecursionError):
        return None


def _parsed(line: str) -> object:
    try:
        return cast("object", from_json(line))
    except (ValueError, TypeError):
        return None


def lines(text: Text) -> Iterator[Raw | BadRow]:
    """Read one object from each line; blank lines are skipped."""
    for number, line in text.lines():
        try:
            value = from_json(line.rstrip()) if isinstance(line, str) else line
        except (ValueError, TypeError) as error:  # a TypeError for lone surrogates
            if line and not cast("str", line).isspace():
                yield BadRow(text.file, number, _invalid(error))
            continue
        if type(value) is dict:
            yield Raw(number, _numbers(cast("Mapping[str, Any]", value), cast("str", line)))
        else:
            yield BadRow(text.file, number, _no_object(value))


def _numbers(value: Any, written: str) -> Any:
    """A value without NaN, which JSON has not, and Python writes for nothing."""
    if "NaN" not in written:
        return value
    if isinstance(value, dict):
        return {name: _numbers(part, written) for name, part in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_numbers(part, written) for part in cast("list[Any]", value)]
    return None if isinstance(value, float) and math.isnan(value) else value


def _invalid(error: Exception) -> str:
    detail = str(error).replace(" at line 1 column", " at column")
    if isinstance(error, TypeError):
        detail = "bytes that are no character"
    return f"not valid JSON in UTF-8 ({detail}): write one whole JSON object on each line"


def _no_object(value: object) -> str:
    if isinstance(value, TooLong):
        return f"the line is longer than {BYTES_PER_CHAR} × [log] max_text_chars: shorten its texts"
    shown = json.dumps(value)
    return f"the row = {shown[:60]}{'…' * (len(shown) > 60)}: Input should be an object"


def _around(head: str, by_line: bool) -> tuple[str, int] | None:
    """Find the list of records that one object is there for: its name, and where it starts."""
    decode, lists, others, at = json.JSONDecoder().raw_decode, dict[str, int](), list[object](), head.find("{") + 1
    try:
        while True:
            at = cast("re.Match[str]", BETWEEN.match(head, at)).end()
            if head[at : at + 1] != '"':
                break
            key, at = decode(head, at)
            at = cast("re.Match[str]", re.compile(r"\s*:\s*").match(head, at)).end()
            if (found := re.compile(r"\[\s*\{").match(head, at)) and not _turn(head, found.end() - 1):
                lists[cast("str", key)] = at
                if key in AROUND:
                    break
            value, at = decode(head, at)
            others += [value] if str(key) not in lists else []
    except (ValueError, RecursionError, AttributeError):
        pass  # the head ends here, or the text is broken: its reader will say where
    name = next((name for name in lists if name in AROUND), None)
    if name is None and not by_line and len(lists) == 1 and not any(isinstance(value, dict | list) for value in others):
        name = next(iter(lists))
    return None if name is None else (name, lists[name])


def _turn(head: str, at: int) -> bool:
    return re.compile(r'\{\s*"(role|from|content|value)"').match(head, at) is not None


class _Window:
    """A stretch of a text in which values are decoded one after another; ``start`` is where an inner list begins."""

    def __init__(self, text: Text, start: int = 0) -> None:
        self._text, self._start = text, start
        self._buffer, self._at, self._line, self._ended = "", 0, 1, False
        self._decode = json.JSONDecoder().raw_decode

    def records(self) -> Iterator[Raw | BadRow]:
        """Read from the start, once."""
        with self._text.stream() as stream:
            while self._start > len(self._buffer) and self._more(stream):
                pass
            self._advance(self._start)
            depth = 0
            while (indent := self._to_next(stream)) is not None:
                first = self._buffer[self._at]
                if first in "[]":
                    depth += 1 if first == "[" else -1
                    self._advance(self._at + 1)
                    if self._start and depth == 0:
                        return
                else:
                    yield self._record(stream, indent)
            if depth > 0:
                yield BadRow(self._text.file, self._line, "the file ends inside its list: it was cut, fetch it again")

    def _more(self, stream: TextIOWrapper) -> bool:
        held = len(self._buffer) - self._at
        if self._ended or held > self._text.longest:
            return False
        chunk = stream.read(max(CHUNK, held))
        self._buffer, self._at, self._ended = self._buffer[self._at :] + chunk, 0, not chunk
        return not self._ended

    def _advance(self, at: int) -> str:
        passed = self._buffer[self._at : at]
        self._line += passed.count(self._text.line_end)
        self._at = at
        return passed

    def _to_next(self, stream: TextIOWrapper) -> str | None:
        """Pass over what stands between values; return how far the next is indented if it begins a line."""
        passed = ""
        while True:
            passed += self._advance(cast("re.Match[str]", BETWEEN.match(self._buffer, self._at)).end())
            passed = passed[-1000:]
            if self._at < len(self._buffer):
                return passed[passed.rfind("\n") :] if "\n" in passed else ""
            if not self._more(stream):
                return None

    def _record(self, stream: TextIOWrapper, indent: str) -> Raw | BadRow:
        line = self._line
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except (ValueError, RecursionError) as error:
                at = error.pos if isinstance(error, json.JSONDecodeError) else 0
                cut = str(error).startswith("Unterminated") or at > len(self._buffer) - 12
                if cut and self._more(stream):
                    continue
                reason = f"not valid JSON ({getattr(error, 'msg', error)}): correct this record"
                if cut and not self._ended:
                    reason = f"the record is longer than {BYTES_PER_CHAR} × [log] max_text_chars: shorten its texts"
                self._resume(stream, indent)
                return BadRow(self._text.file, line, reason)
            if end < len(self._buffer) or isinstance(value, dict | str) or not self._more(stream):
                break
        passed = self._advance(end)
        if not isinstance(value, dict):
            return BadRow(self._text.file, line, _no_object(value))
        if not readable(passed) or ("\\u" in passed and not readable(json.dumps(value, ensure_ascii=False))):
            return BadRow(self._text.file, line, "not valid Unicode: correct this record")
        return Raw(line, _numbers(cast("Mapping[str, Any]", value), passed))

    def _resume(self, stream: TextIOWrapper, indent: str) -> None:
        """Go on where another record begins: a line indented like the last, or an object after an object."""
        next_one = re.compile(re.escape(indent) + r"(?=[{\]])" if indent else r"(?<=\})\s*,?\s*(?=\{)|\n(?=\{)")
        self._advance(self._at + 1)
        while not (found := next_one.search(self._buffer, self._at)):
            self._advance(max(self._at, len(self._buffer) - 1000))
            if not self._more(stream):
                self._advance(len(self._buffer))
                return
        self._advance(found.end())
