"""A table as data, written once and shown as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "Entry",
    "Grid",
    "Line",
    "between",
    "entries",
    "escaped",
    "grid",
    "markdown",
    "number",
    "numbers",
    "signed",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in one place; ``strong`` where it is the best, or certain."""

    text: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row under its name."""

    name: str
    cells: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: ``head`` names the first column and then those of the lines."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def dense(self) -> bool:
        """Whether cells are so long that the table needs small print."""
        return any(len(cell.text) > 18 for line in self.lines for cell in line.cells)


def escaped(text: str) -> str:
    r"""Text in which Markdown sees no emphasis.

    >>> print(escaped("π* and C*"))
    π\* and C\*
    """
    return text.replace("*", r"\*")


def markdown(grid: Grid) -> str:
    r"""Return the caption and the table; a bar in a cell is escaped.

    >>> print(markdown(Grid("Costs.", ("policy", "a|b"), (Line("sft", (Entry("0.1", True),)),))))
    Costs.
    <BLANKLINE>
    | policy | a\|b |
    |---|--:|
    | sft | **0.1** |
    """
    rows = [[escaped(line.name), *map(_cell, line.cells)] for line in grid.lines]
    rule = "|---|" + "--:|" * (len(grid.head) - 1)
    return "\n".join([escaped(grid.caption), "", _row([*map(escaped, grid.head)]), rule, *map(_row, rows)])


def _cell(entry: Entry) -> str:
    text = escaped(entry.text)
    return f"**{text}**" if entry.strong and text else text


def number(value: float | None, std: float | None = None) -> str:
    """Three digits, with the standard deviation where there is one.

    >>> number(0.12345, 0.01), number(None)
    ('0.123 ± 0.010', '–')
    """
    if value is None:
        return "–"
    return f"{value:.3f}" if std is None else f"{value:.3f} ± {std:.3f}"


def signed(value: float | None) -> str:
    """A difference, with a true minus sign.

    >>> signed(-0.1), signed(None)
    ('−0.100', '–')
    """
    return "–" if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def between(value: float, low: float, high: float) -> Entry:
    """A difference with its interval; strong where the whole interval is below 0.

    >>> between(-0.2, -0.3, -0.1)
    Entry(text='−0.200 [−0.300, −0.100]', strong=True)
    """
    return Entry(f"{signed(value)} [{signed(low)}, {signed(high)}]", high < 0)


def entries(*texts: str) -> list[Entry]:
    """Cells of plain text."""
    return [Entry(text) for text in texts]


def numbers(*values: float | None) -> list[Entry]:
    """Cells of three digits each."""
    return entries(*map(number, values))


def grid(caption: str, head: Iterable[str], lines: Iterable[tuple[str, Iterable[Entry]]]) -> Grid:
    """A table from the name and the cells of each line."""
    return Grid(caption, tuple(head), tuple(Line(name, tuple(cells)) for name, cells in lines))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
