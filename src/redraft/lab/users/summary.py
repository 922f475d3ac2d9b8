"""The summary user: one preference for each kind of source, after PRELUDE's (arXiv 2404.15269).

| source | preference | items |
|---|---|---|
| news | for young children: storytelling, playful, interactive | simple words, points, opening, question, exclaiming |
| wikipedia | bullet points, brief, parallel | brief, points, no opening, bullets |
| abstract | a tweet: simple, inquisitive | simple words, points, opening, foreshadowing, emoji, paragraph |
| film | question answering | points, verdict, questions |

What the source is, no policy is told. Content (points, verdict) is never optional.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from redraft.lab.users.letter import bullets, exclaiming, paragraph, sentences
from redraft.lab.users.points import Points, keep_points
from redraft.lab.users.rules import Item, by_zones
from redraft.lab.users.wording import SIMPLE
from redraft.types import Context

__all__ = ["OTHER", "SUMMARY_DOMAINS", "USUAL", "Phrases", "Summary", "summary_items"]

SUMMARY_DOMAINS = ("news", "wikipedia", "abstract", "film")


@dataclass(frozen=True, slots=True)
class Phrases:
    """The very words in which a user carries out a preference; two users may share it and differ in these."""

    story: str = "Story time!"
    ask_children: str = "What would you do?"
    curious: str = "Did you know?"
    foreshadow: str = "And there is more to come!"
    emoji: str = "🔬"
    mark: str = "-"
    about: str = "What is it about?"
    worth: str = "Is it worth seeing?"


USUAL = Phrases()
OTHER = Phrases(
    story="Listen, children!",
    ask_children="Can you believe it?",
    curious="Have you ever wondered?",
    foreshadow="Wait until you see the rest!",
    emoji="🚀",
    mark="*",
    about="What happens in this film?",
    worth="Should I watch it?",
)
VERDICTS = {True: "Yes.", False: "No."}

_EVERY = (USUAL, OTHER)
_OPENINGS = frozenset(p for phrases in _EVERY for p in (phrases.story, phrases.curious))
_ENDINGS = "|".join(re.escape(p) for phrases in _EVERY for p in (phrases.ask_children, phrases.foreshadow))
_ENDING = re.compile(rf"(?P<ending>{_ENDINGS}|Yes\.|No\.)?\s*(?P<emoji>[🔬🚀✨📚💡]*)")
_QUESTION = re.compile(r"\s*(?:Q:.*|" + "|".join(re.escape(q) for p in _EVERY for q in (p.about, p.worth)) + r")\s*")
_ANSWER = re.compile(r"^\s*(?:A:\s*)+")
_ASIDE = re.compile(r"\s*\([^()]*\)")


@dataclass(frozen=True, slots=True)
class Summary:
    """A text read as a summary; any text has these zones, some of them empty. Questions are layout, not text."""

    opening: str
    body: str
    ending: str
    emoji: str

    @classmethod
    def read(cls, text: str) -> Summary:
        """Take a text apart."""
        lines = [_ANSWER.sub("", line).strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not _QUESTION.fullmatch(line)]
        opening: list[str] = []
        while lines and (lines[0] in _OPENINGS or lines[0].endswith(":")):
            opening.append(lines.pop(0))
        ending = emoji = ""
        while lines and (match := _ENDING.fullmatch(lines[-1])):
            lines.pop()
            ending, emoji = match["ending"] or ending, match["emoji"] or emoji
        return cls("\n".join(opening), "\n".join(lines), ending, emoji)

    def __str__(self) -> str:
        last = f"{self.ending} {self.emoji}".strip()
        return "\n".join(zone for zone in (self.opening, self.body, last) if zone)


def _item(name: str, change: Callable[[Context, Summary], Summary], *, optional: bool = True) -> Item:
    return Item(name, by_zones(Summary.read, change), optional)


def _body(name: str, change: Callable[[str], str]) -> Item:
    return _item(name, lambda _, summary: replace(summary, body=change(summary.body)))


def _points(context: Context, summary: Summary) -> Summary:
    drafted = sentences(summary.body)
    right = keep_points(Points.of(context), drafted, _is_frame)
    return summary if right == drafted else replace(summary, body="\n".join(right))


def _is_frame(sentence: str) -> bool:
    return Summary.read(sentence).body != sentence


def _verdict(context: Context, summary: Summary) -> Summary:
    return replace(summary, ending=VERDICTS[bool(context.facts["recommended"])], emoji="")


def _brief(body: str) -> str:
    while (shorter := _ASIDE.sub("", body)) != body:
        body = shorter
    return body


def _questions(phrases: Phrases) -> Callable[[Context, str], str]:
    def apply(_: Context, text: str) -> str:
        summary = Summary.read(text)
        asked = ((phrases.about, paragraph(summary.body)), (phrases.worth, f"{summary.ending} {summary.emoji}".strip()))
        return "\n".join(f"Q: {question}\nA: {answer}" for question, answer in asked if answer)

    return apply


def _opening(text: str) -> Item:
    return _item("opening" if text else "no opening", lambda _, summary: replace(summary, opening=text))


def _ending(name: str, text: str) -> Item:
    return _item(name, lambda _, summary: replace(summary, ending=text))


def summary_items(phrases: Phrases = USUAL) -> Mapping[str, tuple[Item, ...]]:
    """Return the preference of each domain, in these phrases."""
    points = _item("points", _points, optional=False)
    simple = _body("simple words", SIMPLE.apply)
    return {
        "news": (
            simple,
            points,
            _opening(phrases.story),
            _ending("question", phrases.ask_children),
            _body("exclaiming", exclaiming),
        ),
        "wikipedia": (
            _body("brief", _brief),
            points,
            _opening(""),
            _body("bullets", lambda body: bullets(body, phrases.mark)),
        ),
        "abstract": (
            simple,
            points,
            _opening(phrases.curious),
            _ending("foreshadowing", phrases.foreshadow),
            _item("emoji", lambda _, summary: replace(summary, emoji=phrases.emoji)),
            _body("paragraph", paragraph),
        ),
        "film": (
            points,
            _item("verdict", _verdict, optional=False),
            Item("questions", _questions(phrases)),
        ),
    }
