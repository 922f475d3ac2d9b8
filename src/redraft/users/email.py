"""The email user: content first, then style, in six items.

What the greeting and the closing should be can be seen in the notes: a title asks for "Dear" and a full signature, a
team for "all", trouble for an apology, a request for thanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from redraft.types import Context
from redraft.users.content import put_right
from redraft.users.letter import Letter, sentences
from redraft.users.notes import Notes
from redraft.users.rules import Item, RuleUser

__all__ = ["EMAIL_ITEMS", "STUFFY", "strong_email_user", "weak_email_user"]

STUFFY = {
    "I am writing to inform you that": "",
    "I am writing to let you know that": "",
    "I am writing to notify you that": "",
    "I'm writing to inform you that": "",
    "I'm writing to let you know that": "",
    "I wanted to let you know that": "",
    "I wanted to inform you that": "",
    "I would like to inform you that": "",
    "I am pleased to inform you that": "",
    "I am pleased to announce that": "",
    "I regret to inform you that": "",
    "We regret to inform you that": "",
    "We are pleased to announce that": "",
    "This is to inform you that": "",
    "Please be advised that": "",
    "Please be informed that": "",
    "Please note that": "",
    "at your earliest convenience": "soon",
    "due to the fact that": "because",
    "in order to": "to",
    "in regards to": "about",
    "with regard to": "about",
    "prior to": "before",
    "subsequent to": "after",
    "is scheduled to take place": "is",
    "is scheduled for": "is on",
    "has been rescheduled": "is moved",
    "has been moved": "is moved",
    "has been delayed": "is delayed",
    "has been cancelled": "is cancelled",
    "will be held": "is",
    "approximately": "about",
    "commence": "start",
    "commences": "starts",
    "utilize": "use",
    "assistance": "help",
    "inquire": "ask",
}
"""Wording the user does not like, and what they write for it. No plain wording is itself stuffy."""

_PLAIN = {phrase.lower(): plain for phrase, plain in STUFFY.items()}
_STUFFY = re.compile(
    r"\b(?P<phrase>" + "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in STUFFY) + r")\b"
    r"(?P<space>,?\s*)(?P<next>\w?)",
    re.IGNORECASE,
)
_REACH = max(map(len, STUFFY))
_CLOSINGS = {"request": "Thanks,", "trouble": "Sorry for the trouble,", "news": "Best,"}
_TITLES = ("Mr ", "Ms ")


def _zones(change: Callable[[Notes, Letter], Letter]) -> Callable[[Context, str], str]:
    """Make a text operation of a change to zones; a text that needs none stays as it is, blank space and all."""

    def apply(context: Context, text: str) -> str:
        letter = Letter.read(text)
        changed = change(Notes.of(context), letter)
        return text if changed == letter else str(changed)

    return apply


def _plain(_: Notes, letter: Letter) -> Letter:
    return replace(letter, body="\n".join(map(_plain_line, letter.body.split("\n"))))


def _plain_line(line: str) -> str:
    match = _STUFFY.search(line)
    if match is None:
        return line
    line = " ".join(line.split())
    match = _STUFFY.search(line)
    while match is not None:
        line = line[: match.start()] + _plain_words(match) + line[match.end() :]
        match = _STUFFY.search(line, max(0, match.start() - _REACH))  # what is struck can bring others together
    return line.strip()


def _plain_words(match: re.Match[str]) -> str:
    plain = _PLAIN[match["phrase"].lower()]
    capital = match["phrase"][0].isupper()
    if not plain:
        return match["next"].upper() if capital else match["next"]
    return (plain.capitalize() if capital else plain) + match["space"] + match["next"]


def _facts(notes: Notes, letter: Letter) -> Letter:
    drafted = sentences(letter.body)
    right = put_right(notes, drafted)
    return letter if right == drafted else replace(letter, body="\n".join(right))


def _bullets(_: Notes, letter: Letter) -> Letter:
    return replace(letter, body="\n".join(f"- {sentence}" for sentence in sentences(letter.body)))


def _no_subject(_: Notes, letter: Letter) -> Letter:
    return replace(letter, subject="")


def _greeting(notes: Notes, letter: Letter) -> Letter:
    if notes.recipient.startswith(_TITLES):
        return replace(letter, greeting=f"Dear {notes.recipient},")
    return replace(letter, greeting="Hi all," if notes.recipient.startswith("the ") else f"Hi {notes.recipient},")


def _closing(notes: Notes, letter: Letter) -> Letter:
    signature = notes.sender if notes.recipient.startswith(_TITLES) else notes.sender.split()[0]
    return replace(letter, closing=f"{_CLOSINGS[notes.tone]}\n{signature}")


EMAIL_ITEMS = (
    Item("plain words", _zones(_plain)),
    Item("facts", _zones(_facts), optional=False),
    Item("bullets", _zones(_bullets)),
    Item("no subject", _zones(_no_subject)),
    Item("greeting", _zones(_greeting)),
    Item("closing", _zones(_closing)),
)


def strong_email_user() -> RuleUser:
    """Return the user who minds every item."""
    return RuleUser("email-strong", EMAIL_ITEMS)


def weak_email_user() -> RuleUser:
    """Return the user who minds the facts always and the style by chance."""
    return RuleUser("email-weak", EMAIL_ITEMS, weak=True)
