"""Wording that a user does not like, and what they write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["SHORT_FORMS", "SIMPLE", "STUFFY", "Wording"]


class Wording:
    """Replace phrases by plainer ones, in any case; what follows a deleted opening takes over its capital.

    ``plain`` maps a phrase to what to write instead, possibly nothing. No plain wording may contain a phrase, nor form
    one with its neighbours, or a second edit would change the first.

    Examples
    --------
    >>> Wording({"I am writing to say that": "", "utilize": "use"}).apply("I am writing to say that we utilize it.")
    'We use it.'
    """

    def __init__(self, plain: Mapping[str, str]) -> None:
        self.plain = dict(plain)
        self._plain = {phrase.lower(): wording for phrase, wording in plain.items()}
        self._phrase = re.compile(
            r"\b(?P<phrase>" + "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in plain) + r")\b"
            r"(?P<space>,?\s*)(?P<next>\w?)",
            re.IGNORECASE,
        )
        self._reach = max(map(len, plain))

    def apply(self, text: str) -> str:
        """Return the text, line by line, with plain wording; lines that need none stay as they are."""
        return "\n".join(map(self._line, text.split("\n")))

    def _line(self, line: str) -> str:
        match = self._phrase.search(line)
        if match is None:
            return line
        line = " ".join(line.split())
        match = self._phrase.search(line)
        while match is not None:
            line = line[: match.start()] + self._plainly(match) + line[match.end() :]
            match = self._phrase.search(line, max(0, match.start() - self._reach))  # what is struck can join others
        return line.strip()

    def _plainly(self, match: re.Match[str]) -> str:
        plain = self._plain[" ".join(match["phrase"].lower().split())]
        capital = match["phrase"][0].isupper()
        if not plain:
            return match["next"].upper() if capital else match["next"]
        return (plain.capitalize() if capital else plain) + match["space"] + match["next"]


STUFFY = Wording(
    {
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
)
"""Office letters: openings that say nothing, and long words for short ones."""

SIMPLE = Wording(
    {
        "a large number of": "many",
        "a wide range of": "many",
        "a variety of": "many",
        "additionally": "also",
        "approximately": "about",
        "as well as": "and",
        "assist": "help",
        "assistance": "help",
        "attempt to": "try to",
        "attempts to": "tries to",
        "commence": "start",
        "commenced": "started",
        "conduct": "do",
        "consequently": "so",
        "currently": "now",
        "demonstrate": "show",
        "demonstrated": "showed",
        "demonstrates": "shows",
        "demonstrating": "showing",
        "due to the fact that": "because",
        "furthermore": "also",
        "however": "but",
        "in order to": "to",
        "introduce": "show",
        "leverage": "use",
        "leverages": "uses",
        "leveraging": "using",
        "methodology": "method",
        "moreover": "also",
        "novel": "new",
        "numerous": "many",
        "obtain": "get",
        "obtains": "gets",
        "perform": "do",
        "prior to": "before",
        "propose": "suggest",
        "proposed": "suggested",
        "proposes": "suggests",
        "purchase": "buy",
        "purchased": "bought",
        "require": "need",
        "required": "needed",
        "requires": "needs",
        "significantly": "clearly",
        "state-of-the-art": "best",
        "sufficient": "enough",
        "therefore": "so",
        "utilize": "use",
        "utilized": "used",
        "utilizes": "uses",
        "utilizing": "using",
    }
)
"""Texts for everyone: short words for long ones, none of which would ask for another article before it."""

SHORT_FORMS = Wording(
    {
        "are not": "aren't",
        "cannot": "can't",
        "could not": "couldn't",
        "did not": "didn't",
        "do not": "don't",
        "does not": "doesn't",
        "had not": "hadn't",
        "has not": "hasn't",
        "have not": "haven't",
        "he is": "he's",
        "is not": "isn't",
        "it is": "it's",
        "she is": "she's",
        "was not": "wasn't",
        "were not": "weren't",
        "will not": "won't",
    }
)
"""Letters to a friend: as one speaks."""
