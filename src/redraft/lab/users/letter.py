"""A text read as an email: subject, greeting, body, closing.

Reading goes line by line and never fails: any text has these four zones, some of them empty. Edits are idempotent
because reading is stable: ``Letter.read(str(letter)) == letter`` for every letter that was read, because subject and
greeting are all such lines at the top, and the closing begins at the first line that closes a letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Letter", "bullets", "exclaiming", "is_frame", "paragraph", "sentences"]

_SUBJECT = re.compile(r"[*\s]*(?:subject|re)\s*:", re.IGNORECASE)
_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|dear|greetings|good (?:morning|afternoon|evening))(?![\w-])"
    r"(?:\s+(?:mr|ms|mrs|dr)\.)?[^,:!.?]{0,40}(?:[,:!.?]+|$)",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"[*\s]*(?:(?:many )?thanks(?: again| in advance| so much)?|thank you(?: so much| very much| in advance)?"
    r"|(?:best|kind|warm|many|with (?:best|kind)) (?:regards|wishes)|regards|best|all the best|yours(?: \w+)?"
    r"|sincerely(?: yours)?|respectfully|cheers|sorry for the trouble)\s*(?:,.{0,40}|[.!*]*)",
    re.IGNORECASE,
)
_MARKERS = re.compile(r"(?:(?:[-*•–—]|\d{1,2}[.)])\s+(?=\S))+")
_BREAK = re.compile(r"(?<=[.!?])(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)\s+(?![a-z])")


@dataclass(frozen=True, slots=True)
class Letter:
    """The four zones, each without blank space around it."""

    subject: str
    greeting: str
    body: str
    closing: str

    @classmethod
    def read(cls, text: str) -> Letter:
        """Take a text apart."""
        lines = [line.strip() for line in text.splitlines()]
        subject, greeting, lines = _opening(lines)
        end = next((i for i, line in enumerate(lines) if _CLOSING.fullmatch(line)), len(lines))
        return cls(subject, greeting, _joined(lines[:end]), _joined(lines[end:]))

    def __str__(self) -> str:
        return "\n\n".join(zone for zone in (self.subject, self.greeting, self.body, self.closing) if zone)


def _joined(lines: list[str]) -> str:
    return "\n".join(lines).strip()


def _opening(lines: list[str]) -> tuple[str, str, list[str]]:
    subject: list[str] = []
    greeting: list[str] = []
    rest = lines[::-1]
    while rest:
        line = rest.pop()
        if _SUBJECT.match(line):
            subject.append(line)
        elif match := _GREETING.match(line):  # what follows it on its line is a line of its own
            greeting.append(match[0])
            rest.append(line[match.end() :].strip())
        elif line:
            rest.append(line)
            break
    return "\n".join(subject), "\n".join(greeting), rest[::-1]


def is_frame(sentence: str) -> bool:
    """Whether a sentence, alone on a line, would be read as subject, greeting or closing."""
    return any(part.match(sentence) for part in (_SUBJECT, _GREETING)) or _CLOSING.fullmatch(sentence) is not None


def sentences(body: str) -> list[str]:
    """Split a body into sentences without list markers, each with an end mark.

    Stable: a sentence on a line of its own, with or without a dash before it, is split into itself.

    >>> sentences("1. We meet at 3 p.m. in room 4. Bring the slides")
    ['We meet at 3 p.m. in room 4.', 'Bring the slides.']
    """
    lines = (_unmarked(line.strip()) for line in body.splitlines())
    found = (_unmarked(" ".join(piece.split())) for line in lines for piece in _pieces(line))
    return [f"{piece}." if piece[-1].isalnum() else piece for piece in found if piece]


def _pieces(line: str) -> list[str]:
    """Split a line where one sentence ends and another begins; marks stay as they are."""
    return _BREAK.split(line)


def _split_marker(line: str) -> tuple[str, str]:
    """Split a line into its list markers and what follows them."""
    marker = _MARKERS.match(line)
    end = marker.end() if marker else 0
    return line[:end], line[end:]


def _unmarked(line: str) -> str:
    return _split_marker(line)[1]


def bullets(body: str, mark: str = "-") -> str:
    """Every sentence on a line of its own, after a mark.

    >>> bullets("We meet at 3 pm. Bring the slides").splitlines()
    ['- We meet at 3 pm.', '- Bring the slides.']
    """
    return "\n".join(f"{mark} {sentence}" for sentence in sentences(body))


def paragraph(body: str) -> str:
    """All sentences on one line, which does not begin as an item of a list does."""
    return _unmarked(" ".join(sentences(body)))


def exclaiming(body: str) -> str:
    """Every sentence that ends with a full stop ends with an exclamation mark instead.

    >>> exclaiming("- We meet at 3 p.m. today. Bring the slides.")
    '- We meet at 3 p.m. today! Bring the slides!'
    """
    lines = (_split_marker(line) for line in body.split("\n"))
    return "\n".join(marker + " ".join(map(_loud, _pieces(rest))) for marker, rest in lines)


def _loud(piece: str) -> str:
    return f"{piece[:-1]}!" if piece.endswith(".") and not piece.endswith("..") else piece
