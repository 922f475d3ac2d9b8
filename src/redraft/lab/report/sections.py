"""A page's parts as data: what is said, the tables, the figures and the examples under one heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redraft.lab.bench.matrix import MatrixRow
from redraft.lab.report.diff import diff_html
from redraft.lab.report.figures import colour
from redraft.lab.report.grid import Grid, markdown

__all__ = ["Drawing", "Example", "Section", "example", "sections_markdown"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: ``name`` is that of its file, ``wide`` asks for the page's whole width."""

    name: str
    title: str
    svg: str
    caption: str
    wide: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """Answers to one context, each with what the user made of it (HTML)."""

    title: str
    answers: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of a page. ``text`` has a paragraph an item."""

    title: str
    text: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    examples: tuple[Example, ...] = ()


def example(title: str, rows: Sequence[MatrixRow]) -> Example:
    """Show rows as answers with their diffs."""
    from markupsafe import Markup

    return Example(
        title,
        tuple(
            {
                "policy": row.policy,
                "colour": colour(row.policy),
                "cost": row.cost,
                "diff": Markup(diff_html(row.response, row.edited)),
            }
            for row in rows
        ),
    )


def sections_markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The tables of a page with what is said about them; figures are named by their files, examples left out."""
    parts = [f"# {title}", lead]
    for section in sections:
        if section.examples and not (section.grids or section.drawings):
            continue
        parts += [f"## {section.title}", *section.text, *map(markdown, section.grids)]
        parts += [f"![{d.title}](figures/{d.name}.svg)\n\n{d.title}. {d.caption}" for d in section.drawings]
    return "\n\n".join(part for part in parts if part) + "\n"
