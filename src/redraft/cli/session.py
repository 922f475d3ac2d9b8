"""What commands over the log share: opening it, naming a task, showing progress and a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.output import progress_console
from redraft.errors import NotFoundError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.log import EditLog

__all__ = ["LogUrl", "Task", "bars", "open_log", "progress", "require_task", "table"]

LogUrl = Annotated[str | None, typer.Option("--log", help="URL of the log, instead of log.url in the settings.")]
Task = Annotated[str | None, typer.Option(help="Only this task. Default: all tasks.")]


def open_log(url: str | None = None, *, create: bool = False) -> EditLog:
    """Open the log of the settings, or the one at ``url``; raises ``NotFoundError`` unless it exists or is created."""
    from redraft.config import load_settings
    from redraft.log import EditLog

    return EditLog.from_settings(load_settings(), url=url, create=create)


def require_task(edit_log: EditLog, task: str | None) -> None:
    """Raise ``NotFoundError`` when a task was asked for that the log does not have."""
    if task is not None and task not in (tasks := edit_log.tasks()):
        remedy = did_you_mean(task, tasks) or (f"use one of {', '.join(tasks)}" if tasks else "it is empty")
        raise NotFoundError(f"task {task!r} is not in the log: {remedy}")


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
    """Show a bar for each kind of work, as ``advance(what, done, total)`` is called: 2 of 4, time taken, time left."""
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description:>10}", markup=False),
        rich.BarColumn(20),
        rich.MofNCompleteColumn(separator=" of "),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("left"),
    )
    # One step may take minutes: the speed is that of the last hour, not of rich's last 30 seconds.
    display = rich.Progress(*columns, console=progress_console(), speed_estimate_period=3600)
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
    """Draw a table, given column title → cells below it, without ever cutting a word.

    One that is too wide for the terminal is turned, else its cells are wrapped, else it becomes a list.
    """
    columns = [[title, *map(str, cells)] for title, cells in rows.items()]
    lines = list(zip(*columns, strict=True))

    def render(console: Console) -> None:
        if len(lines) < 2:
            console.print("none yet")
            return
        for shape, wrapped in ((lines, False), (columns, False), (lines, True)):
            if widths := _widths(shape, console.width, wrapped=wrapped):
                _draw(console, shape, widths)
                return
        _list(console, lines)

    return render


def _widths(lines: Sequence[Sequence[str]], room: int, *, wrapped: bool) -> list[int]:
    """Widths of columns whose titles (``wrapped``: cells too) break between words; empty where they do not fit."""
    from rich.cells import cell_len

    columns = list(zip(*lines, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    parts = [" ".join(column).split() if wrapped else [*column[0].split(), *column[1:]] for column in columns]
    least = [max(map(cell_len, part), default=0) for part in parts]
    room -= 3 * len(columns) + 1  # the frame
    while sum(widths) > room >= sum(least):
        _, widest = max((width, index) for index, width in enumerate(widths) if width > least[index])
        widths[widest] -= 1
    return widths if sum(widths) <= room else []


def _draw(console: Console, lines: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table()
    for title, width in zip(lines[0], widths, strict=True):
        drawn.add_column(Text(title), width=width)
    for line in lines[1:]:
        drawn.add_row(*map(Text, line))
    console.print(drawn)


def _list(console: Console, lines: Sequence[Sequence[str]]) -> None:
    """A paragraph for each row, a line for each cell; only words longer than a line stick out."""
    indent = max(map(len, lines[0])) + 2
    space = " " * indent
    wrapper = TextWrapper(console.width, subsequent_indent=space, break_long_words=False, break_on_hyphens=False)
    for line in lines[1:]:
        for title, cell in zip(lines[0], line, strict=True):
            console.out(wrapper.fill(title.ljust(indent) + cell), highlight=False)
        console.out()
