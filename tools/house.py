"""Facts about the house, from the sources themselves: sizes, imports, long functions, untyped seams.

    python tools/house.py        # what is there; exit status 1 where a bar is missed

Imports inside functions and for type checkers count like any other. Lines are lines of files, as ``wc -l`` counts them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
LAB, CLI = "redraft.lab", "redraft.cli"
MOST_PRODUCT, MOST_ALL, MOST_FUNCTION, MOST_FILE, MOST_UNTYPED = 12_500, 22_848, 64, 500, 20
ONCE = {
    "the four integers of a policy": ("class Tally", "class Count:", "class Count("),
    "integer units of a cost": ("COST_UNIT = 10", "UNITS = 10"),
    "LateEnsemble over many runs": ("np.argmin(total", "def lowest_bound", "def _lowest"),
    "Metropolis-Hastings kernels": ("class MetropolisHastings", "def metropolis"),
    "scratch files put in place": ("scratch = place.with_name", "os.getpid()"),
}
"""What once stood several times, and code that tells: it may be found in one file only."""


def modules() -> dict[str, Path]:
    """Name of each module → its file."""
    found = {".".join(file.relative_to(SOURCE).with_suffix("").parts): file for file in SOURCE.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in sorted(found.items())}


def imports(name: str, file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of ours that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [module for module in below if module in known]
            yield from inner
            if len(inner) < len(below) and node.module != name:
                yield str(node.module)


def functions(file: Path) -> Iterator[tuple[int, str]]:
    """Lines and name of every function."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, node.name


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def main() -> int:
    known = modules()
    lines = {name: len(file.read_text("utf-8").splitlines()) for name, file in known.items()}
    graph = {name: {other for other in imports(name, file, known) if other != name} for name, file in known.items()}
    lab = sum(size for name, size in lines.items() if within(name, LAB))
    product = sum(lines.values()) - lab
    upward = sorted(
        f"{name} → {other}"
        for name, others in graph.items()
        for other in others
        if within(other, LAB) and not within(name, LAB) and not within(name, CLI)
    )
    sizes = sorted(size for file in known.values() for size, _ in functions(file))
    longest = max((size, f"{name}.{of}") for name, file in known.items() for size, of in functions(file))
    largest = max((size, name) for name, size in lines.items())
    untyped = [
        name
        for name, file in known.items()
        if within(name, f"{LAB}.bench") or within(name, f"{LAB}.report")
        for line in file.read_text("utf-8").splitlines()
        if "[str, Any]" in line
    ]
    ring = cycle(graph)
    middle, most = sizes[len(sizes) // 2], sizes[len(sizes) * 9 // 10]
    bars = [
        ("files", f"{len(known)}", True),
        ("lines of the product", f"{product:,} (at most {MOST_PRODUCT:,})", product <= MOST_PRODUCT),
        ("lines of the laboratory", f"{lab:,}", True),
        ("lines in all", f"{product + lab:,} (fewer than {MOST_ALL:,})", product + lab < MOST_ALL),
        ("import cycles", " → ".join(ring) or "0", not ring),
        ("product → lab imports", "; ".join(upward) or "0", not upward),
        (
            "longest function",
            f"{longest[0]} lines, {longest[1]} (at most {MOST_FUNCTION})",
            longest[0] <= MOST_FUNCTION,
        ),
        (
            "functions",
            f"{len(sizes)}: median {middle} lines, nine in ten at most {most}",
            True,
        ),
        ("largest file", f"{largest[0]} lines, {largest[1]} (at most {MOST_FILE})", largest[0] <= MOST_FILE),
        (
            "[str, Any] in bench and report",
            f"{len(untyped)} lines (at most {MOST_UNTYPED})",
            len(untyped) <= MOST_UNTYPED,
        ),
    ]
    texts = {name: file.read_text("utf-8") for name, file in known.items()}
    for what, forms in ONCE.items():
        places = [name for name, text in texts.items() if any(form in text for form in forms)]
        bars.append((f"once: {what}", ", ".join(places), len(places) == 1))
    for what, found, good in bars:
        print(f"{'✔' if good else '✘'} {what}: {found}")
    return 0 if all(good for _, _, good in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
