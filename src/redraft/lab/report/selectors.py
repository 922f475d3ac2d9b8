"""What rules of selection pay on benchmarks' rows, as files: ``paid.csv``, ``summary.json`` and ``selectors.md``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from redraft.costs import DEFAULT_COST, get_cost
from redraft.errors import DataError
from redraft.files import write_json, write_text
from redraft.lab.bench.choosing import EDITS
from redraft.lab.bench.matrix import grouped
from redraft.lab.bench.selectors import BEST, DEFAULT, ORDERS, Paid, Summed, paid, summed
from redraft.lab.bench.summary import as_json
from redraft.lab.bench.tables import complete_cells
from redraft.lab.report.bench import read_source
from redraft.lab.report.grid import Grid, between, entries, grid, number
from redraft.lab.report.sections import Section, sections_markdown

__all__ = ["write_selectors"]


def write_selectors(folders: Sequence[Path], out: Path, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Replay every rule on the rows of these runs, write what they pay into ``out``, and return the summary.

    Raises ``DataError`` when no run has a complete cell with base and rounds to serve.
    """
    found: list[Paid] = []
    for folder in folders:
        source = read_source(folder)
        if source.experiment.kind != "benchmark":
            raise DataError(f"{folder}: reads the rows of another run: give the folder of that one")
        cells = complete_cells(source.rows, source.plan)[0]
        progress(f"{folder.name}: {len(cells)} cells")
        found += paid(folder.name, cells, source.rows, get_cost(source.experiment.cost or DEFAULT_COST))
    if not found:
        raise DataError(f"{', '.join(map(str, folders))}: no complete cell has base and more than {EDITS} rounds")
    by_run = {run: _by_rounds(some) for run, some in grouped(found, lambda one: one.run).items()}
    every = _by_rounds(found)
    first = every[min(ORDERS)]
    made = {
        **{name: as_json(first[rule]) for name, rule in (("default", DEFAULT), ("late", "late"), ("best", BEST))},
        "rounds": min(ORDERS),
        "by_rounds": as_json(every),
        "by_run": as_json(by_run),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "paid.csv", _csv(found))
    write_json(out / "summary.json", made)
    shown = {"all": every, **by_run} if len(by_run) > 1 else by_run
    sections = [_section(run, sums) for run, sums in shown.items()]
    ours, best = first[DEFAULT], first[BEST]
    said = (
        f"{ours.cells} cells of {', '.join(by_run)}, {min(ORDERS)} rounds: {DEFAULT} costs {ours.mean_cost:.3f} a "
        f"round, {_times(ours, best)} × the best single policy ({best.mean_cost:.3f}); late "
        f"{_times(first['late'], best)} ×."
    )
    write_text(out / "selectors.md", sections_markdown("rules of selection", [said], sections))
    return made


def _by_rounds(found: Sequence[Paid]) -> dict[int, dict[str, Summed]]:
    return {rounds: summed(some) for rounds, some in grouped(found, lambda one: one.rounds).items()}


def _csv(found: Sequence[Paid]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Paid)])
    writer.writerows(asdict(one).values() for one in found)
    return text.getvalue()


def _section(run: str, sums: Mapping[int, Mapping[str, Summed]]) -> Section:
    return Section(run, (), tuple(_grid(rounds, rules) for rounds, rules in sums.items()))


def _grid(rounds: int, rules: Mapping[str, Summed]) -> Grid:
    caption = (
        f"{rounds} rounds after {EDITS} held-out edits of base's drafts, {rules[BEST].cells} cells, orders of each: "
        f"{ORDERS[rounds]}. Beyond a cell's rounds the same contexts come again; users who change serve theirs once. "
        "Regret is over all rounds."
    )
    head = ("rule", "mean cost", "× best", "more than the best", "Max SubOpt", "regret")
    lines = (
        (
            name,
            entries(
                number(one.mean_cost),
                _times(one, rules[BEST]),
                between(one.more.mean, one.more.low, one.more.high).text,
                number(one.max_subopt),
                f"{one.regret:.1f}",
            ),
        )
        for name, one in rules.items()
    )
    return grid(caption, head, lines)


def _times(one: Summed, best: Summed) -> str:
    return f"{one.mean_cost / best.mean_cost:.2f}" if best.mean_cost else "–"
