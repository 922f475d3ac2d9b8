"""A page's parts as data: what is said, the tables, the figures and the examples under one heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.report.diff import diff_html
from redraft.lab.report.figures import Picture
from redraft.lab.report.grid import Grid, escaped, markdown

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Answer", "Drawing", "Example", "Section", "example", "sections_markdown"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: ``name`` is that of its file."""

    name: str
    title: str
    picture: Picture
    caption: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A policy's answer with what the user made of it, as HTML."""

    policy: str
    cost: float
    diff: Markup


@dataclass(frozen=True, slots=True)
class Example:
    """Answers to one context, and what was asked where that is shown."""

    title: str
    answers: tuple[Answer, ...]
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of a page. ``text`` has a paragraph an item."""

    title: str
    text: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    examples: tuple[Example, ...] = ()


def example(title: str, rows: Sequence[MatrixRow], prompt: str = "") -> Example:
    """Show rows as answers with their diffs."""
    from markupsafe import Markup

    answers = (Answer(row.policy, row.cost, Markup(diff_html(row.response, row.edited))) for row in rows)
    return Example(title, tuple(answers), prompt)


def sections_markdown(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The tables of a page with what is said about them; figures are named by their files, examples left out."""
    parts = [f"# {title}", *map(escaped, lead)]
    for section in sections:
        if section.examples and not (section.grids or section.drawings):
            continue
        parts += [f"## {escaped(section.title)}", *map(escaped, section.text), *map(markdown, section.grids)]
        parts += [
            f"![{d.title}](figures/{d.name}.svg)\n\n{escaped(f'{d.title}. {d.caption}')}" for d in section.drawings
        ]
    return "\n\n".join(part for part in parts if part) + "\n"
