"""What a language model meant: a yes or a no, or a text without the talk around it.

Both readings are conservative: what could be read in two ways is read as neither, what the edited response had itself
(its quotes, its first line) is text, not talk, and remarks after a revision stay, since nothing tells them from its
end. PRELUDE looked for "yes" anywhere, in "yesterday" too.
"""

from __future__ import annotations

import re

__all__ = ["read_revision", "read_verdict"]

_MARKUP = re.compile(r"[*_`~#>]+")
_EITHER = re.compile(r"\b(?:yes\s*(?:/|\b(?:and|or)\b)\s*no|no\s*(?:/|\b(?:and|or)\b)\s*yes)\b")
# "no" before a noun ("no changes needed", "no bullets") judges nothing; before these words, or before none, it does.
_FIRST = re.compile(
    r"\W*(?:(yes)\b|(no)\b(?!-)(?=\s+(?:it|its|it's|this|that|the|i|i'm|because|but|not)\b|\s*[^\w\s]|\s*$))"
)
_ALONE = re.compile(r"(?<![\w'-])(yes|no)(?=\s*[^\w\s'-]|\s*$)", re.MULTILINE)


def read_verdict(answer: str) -> bool | None:
    """Read an answer to a yes-or-no question; ``None`` where it says neither, or both.

    The first word counts; else every "yes" and "no" that stands alone, where they agree.

    >>> [read_verdict(answer) for answer in ("**No**, but yes in parts", "I'd say yes.", "Not yesterday's eyes")]
    [False, True, None]
    """
    said = _EITHER.sub(" ", _MARKUP.sub("", answer).replace("’", "'").lower())
    first = _FIRST.match(said)
    verdicts = {first[1] or first[2]} if first else set(_ALONE.findall(said))
    return verdicts == {"yes"} if len(verdicts) == 1 else None


_NOUN = r"(?:email|e-mail|summary|text|message|version|draft|revision|rewrite)"
_MARKS = r"[*_#>\s]*"
_PREAMBLE = re.compile(
    rf"{_MARKS}(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n:]{{0,40}}?\W\s*)?(?:"
    rf"(?:here(?:['’]s| is)|below is|this is)\b[^\n:]{{0,80}}\b{_NOUN}\b[^\n:]{{0,80}}:[*_]*[ \t]*\n"
    rf"|(?:here(?:['’]s| is) (?:a|the|your) )?(?:revised|rewritten) {_NOUN}[*_]*:[*_]*)",
    re.IGNORECASE,
)
_LABEL = re.compile(rf"{_MARKS}{_NOUN}[*_]*:[*_]*[ \t]*\n", re.IGNORECASE)
_FENCE = re.compile(r"(```+)[^\n`]*\n(.*?)\n?\1", re.DOTALL)
_QUOTES = (('"""', '"""'), ('"', '"'), ("“", "”"), ("«", "»"))


def read_revision(answer: str, response: str) -> str:
    r"""Read a revised text out of an answer, without a preamble, a label, a code fence or quotes around the whole.

    What ``response``, the text that was to be revised, begins with itself is kept.

    >>> read_revision('Sure! Here is the revised email:\n\n"Hi Ann, see you."', "Hello Ann, see you.")
    'Hi Ann, see you.'
    """
    text, response = answer.strip(), response.strip()
    while (bare := _unwrapped(text, response)) != text:
        text = bare
    return text


def _unwrapped(text: str, response: str) -> str:
    """Take one layer off, if there is one."""
    for talk in (_PREAMBLE, _LABEL):
        if (found := talk.match(text)) and not talk.match(response):
            return text[found.end() :].strip()
    if (fenced := _FENCE.fullmatch(text)) and not response.startswith("```"):
        return fenced[2].strip()
    for opening, closing in _QUOTES:
        inner = text[len(opening) : -len(closing)]
        whole = len(text) >= len(opening + closing) and text == f"{opening}{inner}{closing}"
        if whole and not response.startswith(opening) and opening not in inner and closing not in inner:
            return inner.strip()
    return text
