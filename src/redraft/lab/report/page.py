"""What all pages share: what is on a page, and how it is written.

A page can be read in five seconds (its message), in a minute (a diff and the figures), or whole. Nothing in it is
fetched and nothing runs: styles, figures and texts stand inside, and every text that a model or a person wrote is
escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redraft.files import write_json, write_text
from redraft.lab.report.figures import COLOURS, colour
from redraft.lab.report.sections import Example, Section, sections_markdown

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Page", "opening", "write_page"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page from top to bottom. ``message`` is one sentence; ``steps`` are what to do next, each with its command."""

    title: str
    message: str
    sections: Sequence[Section]
    made: Mapping[str, str]
    lead: str = ""
    opening: Example | None = None
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()
    steps: Sequence[tuple[str, str]] = ()


def opening(sections: Sequence[Section], policies: Sequence[str]) -> Example | None:
    """The first example on a page, with the answers of these policies alone."""
    for found in (example for section in sections for example in section.examples):
        return replace(found, answers=tuple(answer for answer in found.answers if answer.policy in policies))
    return None


def write_page(folder: Path, page: Page, summary: Mapping[str, Any], *, tables: bool = True) -> Path:
    """Write ``report.html`` and ``summary.json``, and with ``tables`` also ``tables.md`` and ``figures/*.svg``.

    Each file is replaced whole or not at all. Returns the page's path; raises ``ConfigError`` if one cannot be written.
    """
    text = _html(page, tables=tables)
    if tables:
        for drawing in (drawing for section in page.sections for drawing in section.drawings):
            write_text(folder / "figures" / f"{drawing.name}.svg", drawing.picture.file)
        said = [page.message, page.lead, *page.notes, *(f"Missing: {line}." for line in page.missing)]
        write_text(folder / "tables.md", sections_markdown(page.title, said, page.sections))
    write_json(folder / "summary.json", summary)
    write_text(folder / "report.html", text)
    return folder / "report.html"


def _html(page: Page, *, tables: bool) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = files("redraft.lab.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["slug"] = _slug
    css = Markup(here.joinpath("page.css").read_text("utf-8"))
    template = environment.from_string(here.joinpath("page.html").read_text("utf-8"))
    return template.render(css=css, page=page, tables=tables, policies=COLOURS, dot=_dot)


def _dot(policy: str) -> Markup:
    from markupsafe import Markup

    return Markup(f'<span class="dot" style="background:{colour(policy)}"></span>')


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title).strip("-").lower()
