"""What software does to a text on its way, without a person: line ends, blanks, composition, quotes, entities.

An edit in which nothing else is left is none: it costs 0 and counts as unchanged, though the log keeps both texts byte
for byte. ``KINDS`` are what a task looks past unless its settings say otherwise. Those in ``CHARACTERS`` are no words:
where one text has them and the other has not, they are taken out before any other edit is priced. The others count as
soon as a person changed more, for they may then be the person's. ``SPACING``, how many blanks and lines stand between
words, is told and not looked past: e-mail wraps lines and browsers join blanks, but laying out a text is work.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable

__all__ = ["CHARACTERS", "KINDS", "SPACING", "alike", "differences", "same", "without"]

_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_LINE_END = re.compile(f"\r+\n|[{_ENDS}]")
_BLANK = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
_UNSEEN = re.compile(
    "[\x00\xad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe0e\ufe0f\ufeff]"
    r"|(?<=\S)\u200b|\u200b(?=\S)"  # alone between blanks it has always been a word
    # Joiners are spelling beyond Latin: in Persian, in Indic scripts, in emoji.
    "|(?<![^\x00-\u024f])[\u200c\u200d](?![^\x00-\u024f])"
)
_MARKS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile("[\u2018-\u201b\u2032\u2039\u203a\u02bc]"), "'"),
    (re.compile("[\u201c-\u201f\u2033]|\xab ?| ?\xbb|''"), '"'),
    (re.compile("--+|[\u2010-\u2015\u2212]"), "-"),
    (re.compile(r"\u2026|\. \. \."), "..."),
    (re.compile("[\uff01-\uff5e]"), lambda found: chr(ord(found[0]) - 0xFEE0)),  # full width, as input methods set it
    (re.compile("[\ufb00-\ufb06]"), lambda found: unicodedata.normalize("NFKC", found[0])),  # ligatures of a PDF
]


def _line_ends(text: str) -> str:
    return _LINE_END.sub("\n", text) if any(end in text for end in _ENDS) else text


def _blanks(text: str) -> str:
    plain = text if text.isascii() else _BLANK.sub(" ", text)
    if " \n" in plain or "\t\n" in plain:
        plain = _TRAILING.sub("", plain)
    return plain.strip()


def _composition(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _invisible(text: str) -> str:
    return text if text.isascii() and "\0" not in text else _UNSEEN.sub("", text)


def _tabs(text: str) -> str:
    return text.replace("\t", "    ")


def _punctuation(text: str) -> str:
    for pattern, plain in _MARKS:
        text = pattern.sub(plain, text)
    return text


def _entities(text: str) -> str:
    return html.unescape(text) if "&" in text else text


def _spacing(text: str) -> str:
    return " ".join(text.replace("\u200b", " ").split())


CHARACTERS: dict[str, Callable[[str], str]] = {
    "line ends": _line_ends,
    "invisible": _invisible,
    "blanks": _blanks,
    "composition": _composition,
}
"""Name → what makes texts equal that differ so: CRLF, CR and their like; BOM, zero width, soft hyphens and marks of
direction; no-break and other blanks, at the ends of lines and of the text any; accents in one code point or two."""

SPACING = "spacing"
_ALL = {"entities": _entities, **CHARACTERS, "tabs": _tabs, "punctuation": _punctuation, SPACING: _spacing}
KINDS = tuple(name for name in _ALL if name != SPACING)
"""What is looked past by default: also HTML's entities; four blanks for a tab; and quotes, dashes, ellipses,
full-width forms and ligatures, as keyboards, word processors and input methods set them."""


def without(text: str, kinds: Iterable[str] = KINDS) -> str:
    r"""The text in the form that all texts share which differ in these kinds only.

    >>> without("It\u2019s fine.\r\n") == without("It's fine.")
    True
    """
    wanted = frozenset(kinds)
    for name, step in _ALL.items():
        if name in wanted:
            text = step(text)
    return text


def same(response: str, edited: str, kinds: Iterable[str] = KINDS) -> bool:
    """Whether the two differ in these kinds only, or not at all."""
    if response == edited:
        return True
    if _differ(response, edited) or not (kinds := tuple(kinds)):
        return False
    return without(response, kinds) == without(edited, kinds)


def _differ(response: str, edited: str) -> bool:
    """Tell by what no kind touches in ASCII that two texts differ, as most edits do: that is quickly seen."""
    if not (response.isascii() and edited.isascii()) or "&" in response or "&" in edited:
        return False
    for letter in "eta":  # few edits leave as many of each: counting one takes a tenth of the whole comparison's time
        if response.count(letter) != edited.count(letter):
            return True
    return response.translate(_TOUCHED) != edited.translate(_TOUCHED)


_TOUCHED = dict.fromkeys(map(ord, "".join(map(chr, range(33))) + "'\"-"))


def alike(response: str, edited: str, kinds: Collection[str] = KINDS) -> tuple[str, str]:
    """Both texts without those kinds of ``CHARACTERS`` that one of them has and the other has not."""
    for kind, step in CHARACTERS.items():
        one, other = (step(response), step(edited)) if kind in kinds else (response, edited)
        if (one == response) != (other == edited):
            response, edited = one, other
    return response, edited


def differences(response: str, edited: str) -> tuple[str, ...]:
    """The kinds in which two texts differ, where they differ in nothing else; none where a person's work is left."""
    if response == edited or not same(response, edited, _ALL):
        return ()
    rest = tuple(_ALL)
    for name in reversed(_ALL):  # leave out what is not needed to make them equal
        if same(response, edited, fewer := tuple(kind for kind in rest if kind != name)):
            rest = fewer
    return rest
