"""Values in a sentence: what can be right or wrong by itself (days, times, dates, numbers, names).

Two spellings of one value are equal (3 pm, 3:00 p.m., 15:00). A name is a capitalised word that is neither first in
its sentence nor known from the notes; unlike the other kinds it can be seen only where it is foreign.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from redraft.lab.users.notes import Kind, Slot

__all__ = ["Value", "holds", "values", "words"]

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_VALUE = re.compile(
    rf"(?P<date>\b(?P<day1>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month1>{_MONTH})\b"
    rf"|\b(?P<month2>{_MONTH})\s+(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b)"
    r"|(?P<time>\b(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?\s*(?P<half>[ap])\.?m\b|\b(?P<hour24>\d{1,2}):(?P<minute24>\d\d)\b)"
    r"|(?P<day>\b(?:mon|tues|wednes|thurs|fri|satur|sun)day)"
    r"|(?P<number>\d+(?:,\d{3})*(?:\.\d+)?)"
    r"|(?P<name>(?<=[a-z,] )(?-i:[A-Z])[a-z]+)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it stands: its kind, its normal form, and its place in the sentence."""

    kind: Kind
    normal: str
    start: int
    end: int


def values(sentence: str) -> list[Value]:
    """Find the values of a sentence, in order.

    >>> [value.normal for value in values("On Friday, May 3rd at 15:00 we owe 1,200 euros to Mara")]
    ['friday', '3 may', '3:00 pm', '1200', 'mara']
    """
    return [_value(match) for match in _VALUE.finditer(sentence)]


def _value(match: re.Match[str]) -> Value:
    kind: Kind = next(kind for kind in ("date", "time", "day", "number", "name") if match[kind] is not None)
    return Value(kind, _normal(kind, match), match.start(), match.end())


def _normal(kind: Kind, match: re.Match[str]) -> str:
    if kind == "date":
        return f"{int(match['day1'] or match['day2'])} {(match['month1'] or match['month2'])[:3].lower()}"
    if kind == "time":
        return _clock(match)
    return match[0].replace(",", "").lower()


def _clock(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"] or match["hour24"]), match["minute"] or match["minute24"] or "00"
    afternoon = match["half"] in ("p", "P") if match["half"] else hour >= 12
    return f"{hour % 12 or 12}:{minute} {'pm' if afternoon else 'am'}"


def words(text: str) -> frozenset[str]:
    """Return the words of a text without case and plural s."""
    return frozenset(word.removesuffix("s") for word in _WORD.findall(text.lower()))


def holds(slot: Slot, found: frozenset[str], said: frozenset[str]) -> bool:
    """Whether a sentence with these normal values and these words holds a slot, in any order of its words."""
    if slot.kind in ("name", "word"):
        return words(slot.value) <= said
    return values(slot.value)[0].normal in found
