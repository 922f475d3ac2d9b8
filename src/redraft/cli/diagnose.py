"""``redraft diagnose``: what a log can teach, for a person, as JSON or as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, open_log, require_task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from redraft.diagnose import Diagnosis
    from redraft.diagnose.measure import Group, Summary

__all__ = ["diagnose"]

MOST = 10
"""Users and policies shown to a person; ``--json`` has them all."""


def diagnose(
    task: Annotated[str, typer.Argument(help="Task whose edits to read.")],
    log: LogUrl = None,
    cost: Annotated[str | None, typer.Option(help="Name of the cost Δ. Default: the task's.")] = None,
    as_json: AsJson = False,
    figure: Annotated[Path | None, typer.Option(help="Also draw the costs: a .png, .svg or .pdf file.")] = None,
) -> None:
    """Show what the edits of a task can teach, and which method to train first."""
    from datetime import UTC, datetime

    from redraft import diagnose as library
    from redraft.config import load_settings
    from redraft.costs import get_cost

    settings = load_settings()
    delta = get_cost(cost or settings.task(task).cost)
    with open_log(log) as edits:
        require_task(edits, task)
        found = library.diagnose(edits.interactions(task), delta, now=datetime.now(UTC), horizon=edits.horizon)
    if figure is not None:
        library.plot(found.measures, figure)
        note(f"figure: {figure}")
    emit({"task": task, **found.as_dict()}, as_json, lambda console: _render(console, task, found, log))


def _render(console: Console, task: str, found: Diagnosis, log: str | None) -> None:
    from rich.markup import escape

    measures = found.measures
    console.print(
        f"[bold]{escape(task)}[/]: {measures.completions:,} completions, {measures.edits:,} with an edit "
        f"({measures.changed:,} changed, {measures.unchanged:,} unchanged), "
        f"{measures.awaiting:,} awaited, {measures.censored:,} censored"
    )
    if measures.divided and measures.raw and measures.whitespace_distance:
        rows = {f"cost ({measures.cost})": measures.divided, "raw distance": measures.raw}
        console.print(_costs({**rows, "white-space words": measures.whitespace_distance}))
    for title, groups in (("user", measures.users), ("policy chosen", measures.policies)):
        if groups:
            console.print(_groups(title, groups))
    console.print(_advice(found))
    console.print(f"Prefer [bold]{found.prefer}[/]. {found.because}")
    for caution in found.cautions:
        console.print(f"[yellow]Caution:[/] {caution}")
    command = "import FILE --task" if found.prefer == "base" else f"train {found.prefer}"
    console.print(f"Next: redraft {command} {task}" + (f" --log {log}" if log else ""), markup=False, soft_wrap=True)


def _table(*columns: str, numbers: range) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        if index in numbers:
            table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
        else:
            table.add_column(column, overflow="fold")
    return table


def _costs(summaries: dict[str, Summary]) -> Table:
    table = _table("", "mean", "std", "q1", "median", "q3", "max", "0", "> 1", numbers=range(1, 9))
    for name, s in summaries.items():
        numbers = map(_number, (s.mean, s.std, s.q1, s.median, s.q3, s.max))
        table.add_row(name, *numbers, f"{s.share_0:.0%}", f"{s.share_above_1:.0%}")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _groups(title: str, groups: tuple[Group, ...]) -> Table:
    from rich.markup import escape

    table = _table(title, "edits", "mean cost", "std/mean", numbers=range(1, 4))
    for group in groups[:MOST]:
        variation = "" if group.variation is None else f"{group.variation:.2f}"
        table.add_row(escape(group.name), f"{group.edits:,}", _number(group.mean), variation)
    if len(groups) > MOST:
        table.add_row(f"and {len(groups) - MOST} more", "", "", "")
    return table


def _advice(found: Diagnosis) -> Table:
    from rich.markup import escape

    table = _table("method", "", "why", numbers=range(0))
    for advice in found.advice:
        table.add_row(advice.method, "[green]yes[/]" if advice.supported else "[red]no[/]", escape(advice.reason))
    return table
