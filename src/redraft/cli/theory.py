"""``redraft theory``: the paper's analysis, computed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.output import AsJson, emit, note

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["theory_app"]

theory_app = typer.Typer(help="Check the paper's claims on instances small enough to compute.", no_args_is_help=True)


class What(StrEnum):
    """What can be run: an experiment of ``theory.lab``, or every one."""

    contraction = "contraction"
    rates = "rates"
    phase = "phase"
    violation = "violation"
    regret = "regret"
    all = "all"


@theory_app.callback()
def _root() -> None:  # pyright: ignore[reportUnusedFunction]  # else a sole command would stand in its group's place
    pass


@theory_app.command()
def run(
    what: Annotated[What, typer.Argument(help="The experiment.")] = What.all,
    *,
    out: Annotated[Path, typer.Option(help="Folder for rows, figures and the page; others in it stay.")] = Path(
        "theory"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of instances, logs and costs.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Compute experiments and explain them on one page: assumption, rates, phase diagram, violations, regret."""
    from redraft.files import write_text
    from redraft.lab.report.theory import write_theory_report
    from redraft.lab.theory.lab import Sizes, experiment_rows

    sizes = Sizes()
    for name in [member.value for member in What if member is not What.all] if what is What.all else [what.value]:
        started = time.perf_counter()
        rows = list(experiment_rows(name, seed, sizes))
        seconds = time.perf_counter() - started
        made = {"show": "made", "seed": seed, "sizes": asdict(sizes), "seconds": round(seconds, 2)}
        lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in (made, *rows)]
        write_text(out / "rows" / f"{name}.jsonl", "\n".join(lines) + "\n")
        note(f"{name}: {len(rows):,} rows in {seconds:.0f} s")
    summary = write_theory_report(out, f"redraft theory run {what.value} --out {out} --seed {seed}")
    note(f"report: {out / 'report.html'}")
    emit(summary, as_json, lambda console: _render(console, summary))


def _render(console: Console, summary: dict[str, Any]) -> None:
    console.print(summary["lead"], markup=False)
