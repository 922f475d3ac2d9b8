"""What was struck and what was added between y and y', word by word, for a page.

Words are pieces between blanks, aligned as the default cost aligns them (Levenshtein). A run of changes is shown as
what was struck, then what was added, as a person marks a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal

__all__ = ["Piece", "diff_html", "word_diff"]

Kind = Literal["same", "struck", "added"]

_WORD = re.compile(r"\S+\s*|\s+")
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
_TAGS: dict[Kind, tuple[str, str]] = {"same": ("", ""), "struck": ("<del>", "</del>"), "added": ("<ins>", "</ins>")}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text with its blanks, and what became of it."""

    kind: Kind
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """Align two texts.

    ``same`` and ``added`` pieces joined are ``after``; ``same`` and ``struck`` ones are ``before`` but for blanks.

    >>> [(piece.kind, piece.text) for piece in word_diff("Dear Tom", "Hi Tom")]
    [('struck', 'Dear '), ('added', 'Hi '), ('same', 'Tom')]
    """
    from rapidfuzz.distance import Levenshtein

    old, new = _WORD.findall(before), _WORD.findall(after)
    steps = Levenshtein.opcodes([word.strip() for word in old], [word.strip() for word in new])
    pieces: list[Piece] = []
    for same, run in groupby(steps, lambda step: step.tag == "equal"):
        spans = list(run)
        struck = "".join(old[spans[0].src_start : spans[-1].src_end])
        added = "".join(new[spans[0].dest_start : spans[-1].dest_end])
        pieces += [Piece("same", added)] if same else [Piece("struck", struck), Piece("added", added)]
    return [piece for piece in pieces if piece.text]


def diff_html(before: str, after: str) -> str:
    """Return the diff as HTML with ``<del>`` and ``<ins>``; everything else in it is escaped text."""
    return "".join(_tagged(piece) for piece in word_diff(before, after))


def _tagged(piece: Piece) -> str:
    opening, closing = _TAGS[piece.kind]
    return f"{opening}{escape(_shown(piece.text))}{closing}"


def _shown(text: str) -> str:
    """Control characters and lone surrogates cannot stand in a page: show that something was there."""
    return _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", text)
