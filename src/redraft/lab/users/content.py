"""Content: every fact of the notes once, in order, correct and brief; nothing that supports none of them.

A fact that the response states keeps the response's wording, a wrong value in it is corrected, and a missing fact is
added as the notes' writer would say it. Why editing twice changes nothing: the first pass takes, for each fact
not yet stated, the first sentence that states it, so the second pass meets those very sentences in that very order.
"""

from __future__ import annotations

import re
from functools import lru_cache

from redraft.lab.users.letter import is_frame, sentences
from redraft.lab.users.notes import Notes, Slot
from redraft.lab.users.values import Value, holds, values, words

__all__ = ["SPARE_WORDS", "put_right", "stated"]

SPARE_WORDS = 3
"""How many words a kept sentence may have beyond the plain statement of its facts; fillers and excuses need more."""

_PLACEHOLDER = re.compile(r"[\[\]{}<>_]")
_DENIAL = re.compile(r"\b(?:not?|never|without)\b|n['’]t\b", re.IGNORECASE)
_SPELT = ("name", "word")
_FUNCTION_WORDS = frozenset(("from", "have", "that", "them", "there", "they", "this", "will", "with"))


def put_right(notes: Notes, drafted: list[str]) -> list[str]:
    """Return the sentences that remain of a drafted body, and those that it lacked.

    >>> from redraft.lab.users.notes import Fact
    >>> notes = Notes("Ann", "Bo", "news", (Fact("room 4", "We meet in room 4.", (Slot("number", "4"),)),))
    >>> put_right(notes, ["I hope you are well.", "The room is number 5."])
    ['The room is number 4.']
    """
    usable = [sentence for sentence in drafted if _usable(notes, sentence)]
    kept: list[str] = []
    done: frozenset[int] = frozenset()
    for index, fact in enumerate(notes.facts):
        if index not in done:
            kept.append(_stating(notes, index, usable) or _mended(notes, index, drafted) or fact.sentence)
            done |= stated(notes, kept[-1])
    return kept


@lru_cache(maxsize=4096)
def stated(notes: Notes, sentence: str) -> frozenset[int]:
    """Return which facts a sentence states: those all of whose slots it holds."""
    found, said = frozenset(value.normal for value in values(sentence)), words(sentence)
    return frozenset(i for i, fact in enumerate(notes.facts) if all(holds(slot, found, said) for slot in fact.slots))


def _stating(notes: Notes, index: int, usable: list[str]) -> str | None:
    return next((sentence for sentence in usable if index in stated(notes, sentence)), None)


def _usable(notes: Notes, sentence: str) -> bool:
    """Whether a sentence states something, briefly, on the notes' topic and with no value that is not theirs."""
    facts = stated(notes, sentence)
    room = sum(len(notes.facts[i].sentence.split()) for i in facts) + SPARE_WORDS
    if not facts or len(sentence.split()) > room or not words(sentence) & _topic(notes):
        return False
    if is_frame(sentence) or _PLACEHOLDER.search(sentence) or _DENIAL.search(sentence):
        return False
    return not _foreign(notes, sentence)


def _mended(notes: Notes, index: int, drafted: list[str]) -> str | None:
    mended = (_with_values(notes, sentence) for sentence in drafted)
    return _stating(notes, index, [text for text in mended if text is not None and _usable(notes, text)])


def _with_values(notes: Notes, sentence: str) -> str | None:
    """Replace each foreign value by the notes' next one of its kind that the sentence lacks, if there is one."""
    found, said = frozenset(value.normal for value in values(sentence)), words(sentence)
    lacking = [slot for fact in notes.facts for slot in fact.slots if not holds(slot, found, said)]
    foreign = _foreign(notes, sentence)
    pairs: list[tuple[Value, Slot]] = []
    for value in foreign:
        slot = next((slot for slot in lacking if slot.kind == value.kind), None)
        if slot is None:
            return None
        lacking.remove(slot)
        pairs.append((value, slot))
    for value, slot in reversed(pairs):
        sentence = sentence[: value.start] + slot.value + sentence[value.end :]
    return sentence if pairs and sentences(sentence) == [sentence] else None


@lru_cache(maxsize=4096)
def _topic(notes: Notes) -> frozenset[str]:
    """Words of which a statement holds one: days and numbers alone can stand in any sentence."""
    lines = words(" ".join(f"{fact.note} {fact.sentence}" for fact in notes.facts))
    typed = words(" ".join(slot.value for fact in notes.facts for slot in fact.slots if slot.kind not in _SPELT))
    return frozenset(word for word in lines - typed - _FUNCTION_WORDS if len(word) > 3)


@lru_cache(maxsize=4096)
def _known(notes: Notes) -> frozenset[str]:
    """Values and words that the notes support."""
    lines = [text for fact in notes.facts for text in (fact.note, fact.sentence)] + [notes.sender, notes.recipient]
    normals = {value.normal for line in lines for value in values(line)}
    return frozenset(normals.union(*(words(line) for line in lines), *(line.lower().split() for line in lines)))


def _foreign(notes: Notes, sentence: str) -> list[Value]:
    return [value for value in values(sentence) if not _supported(notes, value)]


def _supported(notes: Notes, value: Value) -> bool:
    known = _known(notes)
    return value.normal in known or (value.kind == "name" and words(value.normal) <= known)
