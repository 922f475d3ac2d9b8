"""Requests for a short email from office notes, all of our own making.

A seeded generator of facts fills the occasions of ``occasions.py``. The same seed gives the same sequence, and a
longer sequence begins with the shorter one; no two contexts of a seed hold the same facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from redraft.lab.bench.occasions import KINDS, OCCASIONS, PEOPLE, RECIPIENTS, VALUES, Occasion
from redraft.lab.users.notes import Fact, Notes, Slot
from redraft.types import Context, Message

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["email_request", "office_contexts", "office_stream"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_FACT_COUNTS = (2, 3, 3, 3, 3, 3, 3, 4)  # three facts as a rule


def office_contexts(n: int, seed: int) -> list[Context]:
    """The first ``n`` email requests of a seed.

    Examples
    --------
    >>> print(office_contexts(1, seed=1)[0].messages[0].content)
    Notes by Karen Doyle to Ms Larsson:
    - delivery of headsets delayed to 11 October
    - order number 5843
    <BLANKLINE>
    Write a short email based on these notes.
    """
    return list(islice(office_stream(seed), n))


def email_request(sender: str, recipient: str, material: str) -> str:
    """What is asked of a policy; neither domain nor style is named."""
    return f"Notes by {sender} to {recipient}:\n{material}\n\nWrite a short email based on these notes."


def office_stream(seed: int) -> Iterator[Context]:
    """The email requests of a seed, without end."""
    from numpy.random import default_rng

    rng = default_rng(seed)
    seen: set[frozenset[str]] = set()
    while True:
        for occasion in rng.permutation(sorted(OCCASIONS)):  # rounds, so that any stretch holds every occasion
            notes = _notes(OCCASIONS[occasion], rng)
            key = frozenset(fact.sentence for fact in notes.facts)
            if key not in seen:
                seen.add(key)
                yield _context(f"email-{seed}-{len(seen):04d}", notes)


def _context(identity: str, notes: Notes) -> Context:
    lines = "\n".join(f"- {fact.note}" for fact in notes.facts)
    request = email_request(notes.sender, notes.recipient, lines)
    return Context(identity, (Message("user", request),), "email", "office", notes.as_facts())


def _notes(occasion: Occasion, rng: Generator) -> Notes:
    sender = str(rng.choice(PEOPLE))
    address = occasion.addresses[rng.integers(len(occasion.addresses))]
    others = [name for name in RECIPIENTS[address] if name not in sender]
    count = int(rng.choice(_FACT_COUNTS))
    rest = sorted(rng.choice(range(1, len(occasion.lines)), count - 1, replace=False))
    return Notes(sender, str(rng.choice(others)), occasion.tone, _facts(occasion, [0, *rest], rng))


def _facts(occasion: Occasion, chosen: list[int], rng: Generator) -> tuple[Fact, ...]:
    used: set[str] = set()
    facts: list[Fact] = []
    for note, sentence in (occasion.lines[i] for i in chosen):
        names = _PLACEHOLDER.findall(sentence)
        values = {name: _draw(name, used, rng) for name in names}
        slots = tuple(Slot(KINDS.get(name, "word"), values[name]) for name in names)
        facts.append(Fact(note.format(**values), sentence.format(**values), slots))
    return tuple(facts)


def _draw(name: str, used: set[str], rng: Generator) -> str:
    values = VALUES[name]
    value = str(values[int(rng.integers(len(values)))])
    while value in used:  # a value that stood twice would not tell which fact a sentence states
        value = str(values[int(rng.integers(len(values)))])
    used.add(value)
    return value
