"""``redraft demo``: the loop from end to end, on the embedded model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.output import AsJson, emit, note

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.lab.report.demo import Summary

__all__ = ["demo"]


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything it makes. Run it again to go on after a stop.")] = (
        Path("demo")
    ),
    seed: Annotated[int, typer.Option(help="Seed of notes, sampling, training and selectors.")] = 1,
    model: Annotated[str | None, typer.Option(help="Base model, instead of model.name in the settings.")] = None,
    train: Annotated[int, typer.Option(min=2, help="Number of edits to train on.")] = 64,
    online: Annotated[int, typer.Option(min=5, help="Number of online rounds.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Log a simulated user's edits, train on them, let a bandit choose among the policies, and report."""
    from redraft.cli.session import bars
    from redraft.config import load_settings
    from redraft.files import plain
    from redraft.lab.demo import DemoOptions, run_demo

    settings = load_settings()
    options = DemoOptions(seed=seed, train=train, validation=max(2, train // 4), online=online)
    command = f"redraft demo --out {out} --seed {seed} --train {train} --online {online}"
    if model is not None:
        command += f" --model {model}"
    with bars() as progress:
        summary = run_demo(
            out, options, model=model or settings.model.name, cache=settings.cache, progress=progress, command=command
        )
    note(f"report: {out / 'report.html'}")
    emit(plain(asdict(summary)), as_json, lambda console: _render(console, summary))


def _render(console: Console, summary: Summary) -> None:
    from rich.table import Table

    from redraft.lab.report.demo import NEXT, verdict

    base, pulls = summary.mean_cost["base"], summary.pulls["late"]
    table = Table("policy", "held out", "edit cost", "95 % interval", "against base", "chosen by late")
    for name, mean in summary.mean_cost.items():
        low, high = summary.interval[name]
        known = f"{summary.heldout[name]:.3f}" if name in summary.heldout else ""
        table.add_row(
            name, known, f"{mean:.3f}", f"{low:.3f} – {high:.3f}", f"{mean / base:.2f} ×", str(pulls.get(name, ""))
        )
    console.print(table)
    for text in (*summary.notes, verdict(summary)):
        console.print(text, markup=False)
    console.print(f"Next, with your own edits: {NEXT[0][1]}", markup=False)
