"""Write the annotated tree of docs/architecture.md from the code itself: ``python docs/gen_tree.py``.

Each line is the first sentence of a module's docstring. Files stand in the order of their imports: each builds on those
above it. A test compares the page with what this writes.
"""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).parents[1]
PAGE, BEGIN, END = ROOT / "docs" / "architecture.md", "<!-- tree begins -->\n", "<!-- tree ends -->\n"
COLUMN, WIDTH = 25, 82


def summary(file: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def ordered(names: Mapping[str, set[str]]) -> list[str]:
    """Names so that each comes after those it needs; among equals by the alphabet."""
    sorter, found = TopologicalSorter(names), list[str]()
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += ready
        sorter.done(*ready)
    return found


def lines(package: str, graph: Mapping[str, set[str]], files: Mapping[str, Path], depth: int = 1) -> Iterator[str]:
    """The lines of a package's parts, those of folders with their own below them."""
    inside = [name for name in graph if name.startswith(f"{package}.")]
    part = {name: package + "." + name[len(package) + 1 :].partition(".")[0] for name in inside}
    needs: dict[str, set[str]] = {child: set() for child in part.values()}
    for name in inside:
        needs[part[name]] |= {part[other] for other in graph[name] if other in part and part[other] != part[name]}
    for child in ordered(needs):
        folder = child in files and files[child].name == "__init__.py"
        label = "  " * depth + child.rpartition(".")[2] + ("/" if folder else ".py")
        yield from wrap(
            summary(files[child]), WIDTH, initial_indent=f"{label:<{COLUMN}}", subsequent_indent=" " * COLUMN
        )
        if folder:
            yield from lines(child, graph, files, depth + 1)


def tree() -> str:
    """The block between the markers."""
    house = runpy.run_path(str(ROOT / "tools" / "house.py"))
    files = {name: file for name, file in house["modules"]().items() if "migrations.versions." not in name}
    graph = {name: {o for o in house["imports"](name, file, files) if o != name} for name, file in files.items()}
    return "```text\nsrc/redraft/\n" + "\n".join(lines("redraft", graph, files)) + "\n```\n"


def page() -> str:
    """The page with its tree as it is now."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + BEGIN + tree() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
