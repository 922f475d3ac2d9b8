"""Words of a text: NLTK's tokens, and characters where a script sets no blanks between words.

Word tokens are NLTK's with ``preserve_line=True``, which needs no download at run time: a full stop is a token only
at the very end, and straight double quotes equal LaTeX's. Chinese, Japanese, Thai and their like are cut into
characters as a reader counts them (grapheme clusters), wherever they stand in a text; Korean has blanks. No dictionary
says where their words end: it would be a model of one language, and of one year.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from itertools import chain
from typing import Any

__all__ = ["UNSPACED", "learn", "nltk_words", "spaced", "unspaced", "words"]

UNSPACED = "Han Hiragana Katakana Bopomofo Thai Lao Khmer Myanmar Tibetan Tai_Le New_Tai_Lue Tai_Tham Tai_Viet"
FIRST_UNSPACED = "\u0e01"  # the first letter of them all, in Thai
CLOSING = "])}>\"'»”’"  # what NLTK lets stand between the last full stop and the end
SHORT, MOST = 32, 1 << 16
APART = "\ue000"  # for private use: no rule knows it
_CHUNK = re.compile(r"(?=(\s\S+\s))\s\S+")


@lru_cache(maxsize=64)  # a cost asks for y twice; texts that a user has erased must not linger
def words(text: str) -> tuple[str, ...]:
    """Tokens of a text.

    >>> words("The 猫 isn't here."), words("สวัสดี")
    (('The', '猫', 'is', "n't", 'here', '.'), ('ส', 'วั', 'ส', 'ดี'))
    """
    return tuple(_tokens(spaced(text)))


def spaced(text: str) -> str:
    """Set blanks around the characters of scripts that have none between words; any other text stays as it is."""
    if text.isascii() or max(text) < FIRST_UNSPACED:
        return text
    letter, run, character = _patterns()
    if not letter.search(text):
        return text

    def apart(found: re.Match[str]) -> str:
        return f" {' '.join(character.findall(found[0]))} "

    return run.sub(apart, text)


def unspaced(chunk: str) -> bool:
    """Whether this piece of a ``spaced`` text is a character of such a script."""
    return chunk >= FIRST_UNSPACED and chunk[0].isalnum() and _patterns()[1].match(chunk) is not None


@cache
def _patterns() -> tuple[Any, Any, Any]:
    """A letter of these scripts, runs of such letters and of punctuation as wide as they are, and one character."""
    import regex

    letters = "".join(rf"\p{{sc={name}}}" for name in UNSPACED.split())
    marks = r"\u3001-\u303f\u30fb\u30fc\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
    run = rf"[{letters}{marks}][{letters}{marks}\p{{M}}\u200c\u200d]*"
    return regex.compile(f"[{letters}]"), regex.compile(run), regex.compile(r"\X\p{M}*")


def _tokens(text: str) -> list[str]:
    """NLTK's tokens of a text, found piece by piece.

    Its rules look no further than one blank beyond a piece, except where they look for the end of the text. So a
    piece between blanks always gives the same tokens, which short ones keep. The two ends are asked for themselves,
    unless they are words alone, or one with the last full stop.
    """
    end = len(text)
    while end and (text[end - 1] in CLOSING or text[end - 1].isspace()):
        end -= 1
    while end and not text[end - 1].isspace():
        end -= 1
    if not end:
        return nltk_words(text)
    first, *pieces = text[:end].split(" ")
    last, before, after = text[end:].rstrip(), [], []
    if first.isalnum():
        pieces.insert(0, first)
    else:
        before = _asked(f"{first} a")[:-1]
    if last.rstrip(".").isalnum() and not last.endswith(".."):
        pieces.append(last.rstrip("."))
        after = ["."] * last.endswith(".")
    else:
        after = _asked(f"a{text[end - 1 :]}")[1:]
    return [*before, *_between(pieces), *after]


def _between(pieces: list[str]) -> list[str]:
    """Tokens of pieces that stand between spaces."""
    try:
        return list(chain.from_iterable(map(_KNOWN.__getitem__, pieces)))
    except KeyError:
        _learn(pieces)
        return list(chain.from_iterable(_KNOWN[piece] if piece in _KNOWN else _long(piece) for piece in pieces))


def learn(texts: Iterable[str]) -> int:
    """Find the words of many texts at once, which is faster than of each; returns how many were new."""
    pieces = set[str]()
    for text in texts:
        pieces.update(spaced(text).split(" "))
    return _learn(pieces.difference(_KNOWN))


def _learn(pieces: Iterable[str]) -> int:
    wanted = [piece for piece in dict.fromkeys(pieces) if len(piece) < SHORT and APART not in piece]
    if new := [piece for piece in wanted if piece not in _KNOWN]:
        if len(_KNOWN) + len(new) > MOST:
            _KNOWN.clear()
            new = wanted
        found = iter(nltk_words(f"a {f' {APART} '.join(new)} {APART}")[1:])
        _KNOWN.update((piece, list(iter(found.__next__, APART))) for piece in new)
    return len(new)


def _long(piece: str) -> list[str]:
    """Tokens of words with other blanks than spaces between them, or of one long word."""
    parts: list[str] = _CHUNK.findall(f" {piece} ")
    return list(chain.from_iterable(_asked(f"a{part}a")[1:-1] for part in parts))


_KNOWN: dict[str, list[str]] = {}
"""Single words, in no order: nobody's text."""


def _asked(text: str) -> list[str]:
    return _short(text) if len(text) < SHORT else nltk_words(text)


def nltk_words(text: str) -> list[str]:
    """NLTK's tokens themselves."""
    return _nltk()(text, preserve_line=True)


_short = lru_cache(maxsize=1 << 12)(nltk_words)


@cache
def _nltk() -> Callable[..., list[str]]:
    """NLTK's tokenizer without scikit-learn and SciPy, which it does not need here: 160 MB and two seconds.

    NLTK does without them where they are not installed, so they are hidden while it is imported.
    """
    unused = {name: None for name in ("sklearn", "scipy") if name not in sys.modules}
    sys.modules.update(unused)  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        from nltk.tokenize import word_tokenize
    finally:
        for name in unused:
            del sys.modules[name]
    return word_tokenize
