"""What commands over the log share: opening it, naming a task, showing progress and a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.output import progress_console
from redraft.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.log import EditLog

__all__ = ["LogUrl", "Task", "bars", "open_log", "progress", "require_task", "table"]

LogUrl = Annotated[str | None, typer.Option("--log", help="URL of the log, instead of log.url in the settings.")]
Task = Annotated[str | None, typer.Option(help="Only this task; all of them when not given.")]


def open_log(url: str | None = None, *, create: bool = False) -> EditLog:
    """Open the log of the settings, or the one at ``url``; raises ``NotFoundError`` unless it exists or is created."""
    from redraft.config import load_settings
    from redraft.log import EditLog

    return EditLog.from_settings(load_settings(), url=url, create=create)


def require_task(edit_log: EditLog, task: str | None) -> None:
    """Raise ``NotFoundError`` when a task was asked for that the log does not have."""
    if task is not None and task not in (tasks := edit_log.tasks()):
        raise NotFoundError(f"--task {task!r}: the log has no such task, but: {', '.join(tasks) or 'none at all'}")


def progress(rows: Iterable[Any], what: str) -> Iterator[Any]:
    """Pass rows on while a person at the terminal sees how many there were."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = progress_console()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}: {task.completed:,.0f} rows", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        yield from display.track(rows, description=what)


@contextmanager
def bars() -> Generator[Callable[[str, int, int], None]]:
    """Show one bar for each kind of work, as ``advance(what, done, total)`` is called."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    display = Progress(*columns, console=progress_console())
    tasks: dict[str, Any] = {}

    def advance(what: str, done: int, total: int) -> None:
        display.start()  # only now: an error before any work stays one line
        if what not in tasks:
            tasks[what] = display.add_task(what)
        display.update(tasks[what], completed=done, total=total)

    try:
        yield advance
    finally:
        if tasks:
            display.stop()


def table(rows: Mapping[str, Sequence[object]]) -> Callable[[Console], None]:
    """Draw a table, given column title → cells below it."""

    def render(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        drawn = Table(*rows)
        for cells in zip(*rows.values(), strict=True):
            drawn.add_row(*(Text(str(cell)) for cell in cells))
        console.print(drawn)

    return render
