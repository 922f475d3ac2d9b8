"""Content of a free text: its key points once each, in their order, brief; nothing that the text does not support.

The sibling of ``content.py`` for sources without slots (articles, abstracts, dialogues). A sentence of the response
that covers a point stays in the response's own words; a point that none covers is added as the user would put it.
Why editing twice changes nothing: as there, the second pass meets those very sentences in that very order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redraft.errors import DataError
from redraft.lab.users.letter import sentences
from redraft.lab.users.values import values, words
from redraft.types import Context

__all__ = ["COVERED", "SPARE_WORDS", "SUPPORTED", "Points", "content_words", "covered", "keep_points", "stands_alone"]

COVERED = 0.6
"""Share of a point's content words that a sentence must hold to cover it."""
SUPPORTED = 0.8
"""Share of a sentence's content words that the source must hold, but for one; names and numbers must all be its own."""
SPARE_WORDS = 5
"""How many words a kept sentence may have beyond the points that it covers."""

_FUNCTION_WORDS = words(
    "about above after again against also although among and another any are because been before being below between "
    "both but can could did does doing done down during each either else even ever every few for from further had has "
    "have having her here him his how however into its itself just like may might more most much must neither nor not "
    "off once only onto other our out over own per rather same several she should since some such than that the their "
    "them then there these they this those though through thus too toward under until upon very via was we were what "
    "when where whether which while who whom whose why will with within without would yet you your"
)


@dataclass(frozen=True, slots=True)
class Points:
    """What a user expects of a text about ``source``: sentences that stand alone, in order, at least one."""

    source: str
    points: tuple[str, ...]

    def as_facts(self) -> dict[str, Any]:
        """Return these points as (a part of) ``Context.facts``."""
        return {"source": self.source, "points": list(self.points)}

    @classmethod
    def of(cls, context: Context) -> Points:
        """Read the points of a context; raises ``DataError`` when it has none."""
        facts: Mapping[str, Any] = context.facts
        if not isinstance(facts.get("source"), str) or not facts.get("points"):
            raise DataError(
                f"context {context.id!r} has no source and points: this user edits contexts made by "
                "redraft.lab.bench.tasks"
            )
        return cls(facts["source"], tuple(facts["points"]))


def keep_points(points: Points, drafted: list[str], is_frame: Callable[[str], bool]) -> list[str]:
    """Return the sentences that remain of ``drafted``, and the points that it lacked.

    ``is_frame`` tells sentences that, on a line of their own, would be read as something else than body.

    >>> points = Points("Bees live in hives. They dance.", ("Bees live in hives.", "Bees dance for food."))
    >>> keep_points(points, ["Sure, I can help!", "In hives live the bees."], lambda sentence: False)
    ['In hives live the bees.', 'Bees dance for food.']
    """
    usable = [text for text in drafted if _usable(points, text) and stands_alone(text) and not is_frame(text)]
    kept: list[str] = []
    done: frozenset[int] = frozenset()
    for index, point in enumerate(points.points):
        if index not in done:
            kept.append(next((text for text in usable if index in covered(points, text)), point))
            done |= covered(points, kept[-1])
    return kept


@lru_cache(maxsize=4096)
def covered(points: Points, sentence: str) -> frozenset[int]:
    """Return which points a sentence covers: those of whose content words it holds ``COVERED``."""
    said = words(sentence)
    wanted = map(content_words, points.points)
    return frozenset(i for i, need in enumerate(wanted) if len(need & said) >= COVERED * len(need))


@lru_cache(maxsize=4096)
def content_words(text: str) -> frozenset[str]:
    """Words that say something: longer than two letters, no function words; numbers of any length.

    >>> sorted(content_words("The 2 bees are in their hives."))
    ['2', 'bee', 'hive']
    """
    return frozenset(w for w in words(text) - _FUNCTION_WORDS if len(w) > 2 or w.isdigit())


def stands_alone(sentence: str) -> bool:
    """Whether a sentence is still one of its own between two others, on one line or on several."""
    return sentences(f"X. {sentence} X.") == ["X.", sentence, "X."] and sentences(sentence) == [sentence]


@lru_cache(maxsize=4096)
def _usable(points: Points, sentence: str) -> bool:
    """Whether a sentence covers a point, briefly, and says next to nothing that the source does not."""
    found = covered(points, sentence)
    room = sum(len(points.points[i].split()) for i in found) + SPARE_WORDS
    if not found or len(sentence.split()) > room:
        return False
    source, known = _source(points)
    said = content_words(sentence)
    foreign = (v for v in values(sentence) if v.normal not in known and not words(v.normal) <= source)
    return len(said - source) <= max(1, (1 - SUPPORTED) * len(said)) and not any(foreign)


@lru_cache(maxsize=1024)
def _source(points: Points) -> tuple[frozenset[str], frozenset[str]]:
    """Return the words and the values that the source and its points hold."""
    texts = (points.source, *points.points)
    known = frozenset(value.normal for text in texts for value in values(text))
    return frozenset[str]().union(*map(words, texts)), known
