"""The paper's cut: a response ends where it starts to repeat itself."""

from __future__ import annotations

__all__ = ["REPEATED", "trim"]

REPEATED = 200


def trim(text: str, length: int = REPEATED) -> str:
    """Cut ``text`` where its first repetition starts.

    That is the first character from which on ``length`` characters have stood in the text before. The two places may
    overlap: a loop is cut after its first turn, however short the turn is. What is left repeats nothing of that
    length, so trimming again changes nothing. Time and memory are linear in the text, times ``length``.

    >>> trim("One. Two. Two. Two. Two.", length=9)
    'One. Two'
    """
    seen: set[str] = set()
    for start in range(len(text) - length + 1):
        window = text[start : start + length]
        if window in seen:
            return text[:start]
        seen.add(window)
    return text
