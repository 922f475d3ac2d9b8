"""Contexts to learn on: two tasks of several domains each, none of which a prompt names.

| task | domains |
|---|---|
| summary | news, wikipedia, abstract, film |
| email | office (notes of our own making), abstract, paper, dialogue |
| office | office alone, which needs no data |

The texts are public ones (``sources.py``), the office notes our own (``office.py``). The same seed gives the same
sequence, a longer sequence begins with the shorter one, and no context stands in it twice; every stretch of as many
contexts as there are domains holds each of them once. The prompts follow PRELUDE's (arXiv 2404.15269): the material
first, then the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from redraft.errors import ConfigError
from redraft.lab.bench.occasions import PEOPLE
from redraft.lab.bench.office import email_request, office_contexts, office_stream
from redraft.lab.bench.sources import DATA_SETS, Material, materials
from redraft.lab.users.email import EMAIL_DOMAINS
from redraft.lab.users.notes import Notes
from redraft.lab.users.summary import SUMMARY_DOMAINS
from redraft.lab.users.wording import SHORT_FORMS, SIMPLE, Wording
from redraft.types import Context, Message

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["TASKS", "Split", "contexts", "lacking", "split"]

TASKS: dict[str, tuple[str, ...]] = {"email": EMAIL_DOMAINS, "summary": SUMMARY_DOMAINS, "office": ("office",)}
"""The domains of each task."""

_PROFESSORS = ("Lindqvist", "Okoye", "Tanabe", "Moreau", "Castillo", "Whitfield", "Banerjee", "Kovacs")
_PLAIN: dict[tuple[str, str], Wording] = {
    ("summary", "news"): SIMPLE,
    ("summary", "abstract"): SIMPLE,
    ("email", "dialogue"): SHORT_FORMS,
}
"""Wording in which a domain's user would put the points."""


@dataclass(frozen=True, slots=True)
class Split:
    """Contexts to log and train on, to select hyperparameters on, to serve, and for a second log: none in two."""

    train: list[Context]
    validation: list[Context]
    online: list[Context]
    second: list[Context]


def split(
    task: str, train: int, validation: int, online: int, second: int = 0, *, seed: int, data: Path | None = None
) -> Split:
    """The first contexts of a seed, cut in four; raises ``ConfigError`` as ``contexts`` does."""
    sizes = (train, validation, online, second)
    found = iter(contexts(task, sum(sizes), seed=seed, data=data))
    return Split(*(list(islice(found, size)) for size in sizes))


def lacking(task: str, data: Path | None) -> str:
    """Which public data sets a task needs that are not in ``data``, in one sentence; empty where all are there."""
    files = {file: said for domain in TASKS[task] for file, said in DATA_SETS.get(domain, {}).items()}
    absent = [f"{file} ({said})" for file, said in files.items() if data is None or not (data / file).exists()]
    if not absent:
        return ""
    needed = ", ".join(absent)
    return f"task {task!r} needs public data: set REDRAFT_DATA to a folder with {needed}; task 'office' needs none"


def contexts(task: str, n: int, *, seed: int, data: Path | None = None) -> list[Context]:
    """The first ``n`` contexts of a task and seed; ``data`` is the folder that ``$REDRAFT_DATA`` names.

    Raises ``ConfigError`` for an unknown task, where data is needed and not given, or when there are fewer contexts.
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r}: use one of {', '.join(TASKS)}")
    if task == "office":
        return office_contexts(n, seed)
    if lacks := lacking(task, data):
        raise ConfigError(lacks)
    assert data is not None
    found = list(islice(_mixed(task, seed, data), n))
    if len(found) < n:
        raise ConfigError(f"task {task!r} has {len(found)} contexts, not {n}: ask for fewer in [sizes]")
    return found


def _mixed(task: str, seed: int, data: Path) -> Iterator[Context]:
    """Rounds of one context a domain, each round in an order of its own."""
    from numpy.random import default_rng

    domains = TASKS[task]
    streams = {domain: _domain(task, domain, seed, data) for domain in domains}
    rng = default_rng([seed, len(task)])
    while True:
        for index in rng.permutation(len(domains)):
            context = next(streams[domains[index]], None)
            if context is None:
                return
            yield context


def _domain(task: str, domain: str, seed: int, data: Path) -> Iterator[Context]:
    from numpy.random import default_rng

    if domain == "office":
        yield from office_stream(seed)
        return
    found, plain = materials(domain, data), _PLAIN.get((task, domain))
    rng = default_rng([seed, *domain.encode()])
    make = _summary if task == "summary" else _letter
    for number, index in enumerate(rng.permutation(len(found)), 1):
        material = found[index]
        if plain is not None:
            material = replace(material, points=tuple(map(plain.apply, material.points)))
        yield make(f"{task}-{domain}-{seed}-{number:04d}", domain, material, rng)


def _summary(identity: str, domain: str, material: Material, _: Generator) -> Context:
    request = f"{material.text}\n\nWrite a short summary of this text."
    return Context(identity, (Message("user", request),), "summary", domain, material.facts)


def _letter(identity: str, domain: str, material: Material, rng: Generator) -> Context:
    sender, friend = (str(name) for name in rng.choice(PEOPLE, 2, replace=False))
    recipient = f"Professor {rng.choice(_PROFESSORS)}" if domain == "abstract" else friend.split()[0]
    notes = Notes(sender, recipient, "news", ())
    message = Message("user", email_request(sender, recipient, material.text))
    return Context(identity, (message,), "email", domain, {**notes.as_facts(), **material.facts})
