"""The paper's cut: a response ends where it starts to repeat itself. For whole texts, and for texts that arrive."""

from __future__ import annotations

__all__ = ["REPEATED", "Trim", "trim"]

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


class Trim:
    """``trim`` of a text that arrives piece by piece: what of it stays, whatever follows.

    Only the end of the text that has stood in it before can still be cut: as long as it grows into no repetition of
    ``length`` characters, it is held back. In prose these are a few characters, since nothing longer occurs twice.

    >>> arriving = Trim(length=9)
    >>> [arriving.grown(text) for text in ("One.", "One. Two.", "One. Two. Two. Two. ")], arriving.ended
    (['One.', 'One. Two', 'One. Two'], True)
    """

    def __init__(self, length: int = REPEATED) -> None:
        self.ended = False
        self._length, self._seen, self._start = length, 0, 0

    def grown(self, text: str) -> str:
        """What stays of a text that begins with the one before; ``ended`` once it repeats itself for so long."""
        while not self.ended and self._seen < len(text):
            self._seen += 1
            while text.find(text[self._start : self._seen], 0, self._seen - 1) < 0:  # it has not stood before
                self._start += 1
            self.ended = self._seen - self._start >= self._length
        return text[: self._start]
