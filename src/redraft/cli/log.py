"""``redraft import``, ``redraft log stats`` and ``redraft log verify``."""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.export import export_app
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, Task, open_log, progress, require_task, table
from redraft.errors import ConfigError, DataError, RedraftError

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.log import EditLog
    from redraft.log.formats import BadRow, Row
    from redraft.types import Interaction

__all__ = ["Format", "columns_of", "export_app", "import_file", "log_app"]

PROBLEMS_IN_JSON = 100

log_app = typer.Typer(help="Look at the log and check it.", no_args_is_help=True)


class Format(StrEnum):
    """What can be imported; the readers stand in ``redraft.log.formats``."""

    NATIVE = "native"
    CSV = "csv"
    TRL = "trl"
    DEFACTO = "defacto"
    MLQE = "mlqe"


def import_file(
    file: Annotated[Path, typer.Argument(help="File to read; for mlqe any of its three, or their prefix.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="What the file is.")] = Format.NATIVE,
    task: Annotated[str, typer.Option(help="Task of the rows; native rows may name their own.")] = "",
    columns: Annotated[
        str, typer.Option(help="CSV columns by field: context=…,response=…,edited=… and id, user_id, policy, model.")
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing unless every row is good.")] = False,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Read completions and their edits into the log; what it knows already is left as it is."""
    from redraft.config import load_settings
    from redraft.log import Added
    from redraft.log.canonical import check_task
    from redraft.log.formats import READERS, Options

    if task:
        check_task(task)
    elif form is not Format.NATIVE:
        raise ConfigError(f"--task is missing: rows of format {form} do not say which task they are of")
    options = Options(task, load_settings().log.max_text_chars, columns_of(columns))
    reading, added = _Reading(file, strict=strict), Added()
    rows = reading.good(READERS[form](file, options))
    first = next(rows, None)
    if first is not None:  # only now: a file without a row to log makes no log
        with _filling(log, strict=strict) as edit_log:
            added = edit_log.add_many(chain([first], rows), strict=strict, refused=reading.refused)
    result = {"new": added.new, "known": added.known, "bad": reading.bad, "problems": reading.problems}
    emit(result, as_json, table({key: [result[key]] for key in ("new", "known", "bad")}))


def columns_of(text: str) -> dict[str, str]:
    """Read ``field=column,…`` as ``--columns`` takes it."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if wrong := [field for field, _, column in pairs if not (field and column)]:
        raise ConfigError(f"--columns {text!r}: {wrong[0]!r} names no column: write context=…,response=…,edited=…")
    return {field.strip(): column.strip() for field, _, column in pairs}


@contextmanager
def _filling(url: str | None, *, strict: bool) -> Generator[EditLog]:
    """Open the log to import into. A new one that is to hold every row or none appears when it is complete."""
    from redraft.config import load_settings
    from redraft.log.database import absent_file

    absent = absent_file(url or load_settings().log.url) if strict else None
    if absent is None:
        with open_log(url, create=True) as edit_log:
            yield edit_log
        return
    scratch = absent.with_name(f".{absent.name}.{os.getpid()}.partial")
    try:
        with open_log(f"sqlite:///{scratch}", create=True) as edit_log:
            yield edit_log
        absent.hardlink_to(scratch)  # unlike a rename it replaces no log that another process made meanwhile
    except OSError as error:
        raise ConfigError(f"log {absent}: cannot be made ({error.strerror}): repeat the import") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                scratch.with_name(scratch.name + suffix).unlink()


class _Reading:
    """Tells of bad rows as they come, and keeps what the result says about them."""

    def __init__(self, file: Path, *, strict: bool) -> None:
        self.bad = 0
        self.problems: list[dict[str, Any]] = []
        self._file, self._strict = file, strict
        self._lines = array("Q")
        self._taskless: array[int] | None = array("Q")  # lines that lack a task alone, while there was no other row

    def good(self, rows: Iterable[Row | BadRow]) -> Iterator[Interaction]:
        """Pass the good rows on; raises ``DataError`` for a file that has to be refused whole."""
        from redraft.log.formats import BadRow

        for row in progress(rows, f"reading {self._file.name}"):
            if isinstance(row, BadRow):
                self._judge(row)
            else:
                self._tell_taskless()
                self._lines.append(row.line)
                yield row.interaction
        if self._taskless:
            raise DataError(f"{self._file}: no row names its task ({len(self._taskless):,} rows): give --task")
        if self._strict and self.bad:
            raise DataError(f"{self._file}: {self.bad} bad rows, nothing imported: correct them, or leave out --strict")

    def refused(self, index: int, error: RedraftError) -> None:
        """Take a good row back that contradicts another one."""
        from redraft.log.formats import BadRow

        row = BadRow(self._file, self._lines[index], str(error))
        if self._strict:
            raise DataError(f"{row}; nothing imported")
        self._tell(row)

    def _judge(self, row: BadRow) -> None:
        from redraft.log.canonical import NO_TASK

        if self._taskless is not None and row.reason == NO_TASK:
            self._taskless.append(row.line)
        else:
            self._tell_taskless()
            self._tell(row)

    def _tell_taskless(self) -> None:
        from redraft.log.canonical import NO_TASK
        from redraft.log.formats import BadRow

        lines, self._taskless = self._taskless or (), None
        for line in lines:
            self._tell(BadRow(self._file, line, NO_TASK))

    def _tell(self, row: BadRow) -> None:
        self.bad += 1
        note(str(row))
        if len(self.problems) < PROBLEMS_IN_JSON:
            self.problems.append({"file": str(row.file), "line": row.line, "reason": row.reason})


@log_app.command("stats")
def stats(task: Task = None, as_json: AsJson = False, log: LogUrl = None) -> None:
    """What became of the completions: edited, unchanged, awaited, or silent past the horizon (censored)."""
    from redraft.log import Counts

    with open_log(log) as edit_log:
        require_task(edit_log, task)
        counts = {name: asdict(edit_log.counts(name)) for name in ([task] if task else edit_log.tasks())}
    columns = {field.name: [count[field.name] for count in counts.values()] for field in fields(Counts)}
    emit({"tasks": counts}, as_json, table({"task": list(counts), **columns}))


@log_app.command("verify")
def verify(as_json: AsJson = False, log: LogUrl = None) -> None:
    """Check the log against itself and recompute every cost; exit status 1 when something cannot be true."""
    with open_log(log) as edit_log:
        problems = edit_log.verify()
    emit({"ok": not problems, "problems": problems}, as_json, lambda console: _say(console, problems))
    if problems:
        raise typer.Exit(1)


def _say(console: Console, problems: Sequence[str]) -> None:
    for problem in problems:
        console.print(problem, markup=False, soft_wrap=True)
    console.print(f"{len(problems)} problems" if problems else "the log is sound")
