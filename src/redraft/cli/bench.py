"""``redraft bench``: run an experiment file, and report what its rows say."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.output import AsJson, emit, note

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.lab.bench.protocol import Outcome

__all__ = ["bench_app"]

bench_app = typer.Typer(help="Run experiments with simulated users, and report them.", no_args_is_help=True)


@bench_app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="The experiment, e.g. runs/cpu.toml.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, instead of results/NAME.")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Every step at a tiny size, in minutes.")] = False,
    override: Annotated[
        list[str] | None, typer.Option(help="KEY.PATH=VALUE in place of what the file says; repeatable.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no further cell after so many minutes; the rest is for later.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Log, train, serve and price every cell of an experiment, or what is left of it in its folder."""
    from redraft.cli.session import bars
    from redraft.config import load_settings
    from redraft.lab.bench.experiment import load_experiment
    from redraft.lab.bench.protocol import Place, run_experiment

    experiment = load_experiment(file, override or (), smoke=smoke)
    folder = out or Path("results") / (f"{experiment.name}-smoke" if smoke else experiment.name)
    data = os.environ.get("REDRAFT_DATA")
    place = Place(folder, load_settings().cache, Path(data) if data else None)
    try:
        with bars() as progress:
            command = f"redraft {' '.join(sys.argv[1:])}"
            found = run_experiment(experiment, place, progress=progress, command=command, minutes=minutes)
    except KeyboardInterrupt:
        note(f"stopped; what was done is kept in {folder}: repeat the command to go on")
        raise
    for said in found.left_out:
        note(said)
    emit({"out": str(folder), **asdict(found)}, as_json, lambda console: _render(console, found, folder))


@bench_app.command("report")
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, complete or not.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make tables, figures and a page of a run's rows, in its folder."""
    from redraft.lab.bench.summary import as_json as plain
    from redraft.lab.report.bench import write_bench_report

    summary = write_bench_report(folder)
    note(f"report: {folder / 'report.html'}")
    head = (folder / "tables.md").read_text("utf-8").partition("\n## ")[0].strip()
    said = f"{head}\n\nThe tables are in {folder / 'tables.md'}."
    emit(plain(summary), as_json, lambda console: console.print(said, markup=False))


@bench_app.command("choose")
def choose(
    folder: Annotated[Path, typer.Argument(help="Folder of a benchmark's run, complete or not.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say from a run's rows what choosing by held-out edits is worth; writes choice.json and choice.md."""
    from redraft.lab.report.choice import write_choice

    made = write_choice(folder)
    head = (folder / "choice.md").read_text("utf-8").partition("\n## ")[0].strip()
    said = f"{head}\n\nThe tables are in {folder / 'choice.md'}."
    emit(made, as_json, lambda console: console.print(said, markup=False))


@bench_app.command("selectors")
def selectors(
    folders: Annotated[list[Path], typer.Argument(help="Folders of benchmarks' runs, complete or not.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("results/selectors"),
    as_json: AsJson = False,
) -> None:
    """Replay every rule of selection on runs' rows: what it pays beside the best single policy."""
    from redraft.lab.report.selectors import write_selectors

    made = write_selectors(folders, out, progress=note)
    head = (out / "selectors.md").read_text("utf-8").partition("\n## ")[0].strip()
    said = f"{head}\n\nThe tables are in {out / 'selectors.md'}."
    emit(made, as_json, lambda console: console.print(said, markup=False))


def _render(console: Console, found: Outcome, folder: Path) -> None:
    from rich.table import Table

    if found.settings:
        table = Table("setting", "test user", "mean edit cost")
        for setting in found.settings:
            costs = ", ".join(f"{policy} {mean:.3f}" for policy, mean in setting.mean_cost.items())
            table.add_row(f"{setting.task} {setting.train_user}", setting.test_user, costs)
        console.print(table)
    if found.left:
        console.print(f"{len(found.left)} of {found.cells} cells left: {'; '.join(found.left)}", markup=False)
    console.print(f"next: redraft bench report {folder}", markup=False)
