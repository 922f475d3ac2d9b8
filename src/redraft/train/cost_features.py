"""What can be seen of a response without a model: its length, its form, and what it shares with its context.

Costs are a distance divided by the length of y, so length speaks first, as log n and as 1/n, n being what stands
between spaces: an address on the web is short to a cost, too, however many words it is made of. Form is counted in
marks, not in meanings: lines, bullets, questions, exclamations, digits, characters beyond ASCII. Overlap is of content
words (four letters and more), in both directions: facts that are missing, and words that nobody gave.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redraft.types import Message

__all__ = ["TEXT_FEATURES", "text_features"]

TEXT_FEATURES = (
    "log words",
    "1 / words",
    "log lines",
    "bullet lines",
    "questions",
    "exclamations",
    "colons",
    "digits",
    "beyond ASCII",
    "words a sentence",
    "repetition",
    "context in response",
    "response in context",
    "short first line",
    "short last line",
    "ends a sentence",
)

_WORD = re.compile(r"[^\W_]+")
_BULLET = re.compile(r"^\s*([-*•]|\d+[.)])\s", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?]+")


def text_features(messages: Sequence[Sequence[Message]], responses: Sequence[str]) -> NDArray[np.float64]:
    """One row of ``TEXT_FEATURES`` for each response to its messages: [n, 16]."""
    found = [_row(" ".join(m.content for m in x), y) for x, y in zip(messages, responses, strict=True)]
    return np.array(found, dtype=np.float64).reshape(len(found), len(TEXT_FEATURES))


def _row(context: str, response: str) -> list[float]:
    words = [word.lower() for word in _WORD.findall(response)]
    lines = [line for line in response.splitlines() if line.strip()] or [""]
    count, size = max(1, len(words)), max(1, len(response.split()))
    given, said = _content(context), _content(response)
    return [
        math.log(size),
        1 / size,
        math.log(len(lines)),
        math.log1p(len(_BULLET.findall(response))),
        math.log1p(response.count("?")),
        math.log1p(response.count("!")),
        math.log1p(response.count(":")),
        sum(word.isdigit() for word in words) / count,
        math.log1p(sum(ord(character) > 0x7F for character in response)),
        math.log1p(count / max(1, len(_SENTENCE.findall(response)))),
        1 - len(set(words)) / count,
        len(given & said) / max(1, len(given)),
        len(given & said) / max(1, len(said)),
        float(len(_WORD.findall(lines[0])) <= 4),
        float(len(_WORD.findall(lines[-1])) <= 4),
        float(response.rstrip().endswith((".", "!", "?"))),
    ]


def _content(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text) if len(word) >= 4}
