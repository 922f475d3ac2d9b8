"""``redraft import``, ``redraft log stats`` and ``redraft log verify``."""

from __future__ import annotations

import gc
import os
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from redraft.cli.export import export_app
from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, Task, open_log, progress, require_task, table
from redraft.errors import ConfigError, DataError, RedraftError

if TYPE_CHECKING:
    from rich.console import Console

    from redraft.log import EditLog
    from redraft.log.formats import BadRow, Options, Row
    from redraft.types import Interaction

__all__ = ["Columns", "Format", "Mapped", "export_app", "import_file", "log_app", "mapping_of", "rows_of"]

PROBLEMS_IN_JSON = 100
MOST_REASONS = 1000  # kept apart: reasons that name an id differ from row to row
Format = Literal["auto", "native", "csv", "trl", "defacto", "mlqe"]
"""What can be imported; the readers are in ``redraft.log.formats``."""
SHORT = 60  # characters of a text in a dry run
Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", help="Where a field is read, e.g. prompt=question or edited=final.text; repeatable."),
]
Columns = Annotated[str, typer.Option(hidden=True, help="As --map.")]
SHOWN = ("completions", "edited", "unchanged", "awaiting", "censored")
"""Counts that add up, and fit on a terminal; ``--json`` has all."""

log_app = typer.Typer(help="Show what the log holds, and check it.", no_args_is_help=True)


def import_file(
    file: Annotated[Path, typer.Argument(help="File to read; for mlqe any of its three, or their prefix.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="Format of the file; auto finds out.")] = "auto",
    task: Annotated[str, typer.Option(help="Task of the rows. Native rows may name their own.")] = "",
    mapped: Mapped = None,
    columns: Columns = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what was understood, and import nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Import all rows or, if one is bad, none.")] = False,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Read completions and their edits into the log. Rows that it already has change nothing."""
    from redraft.config import load_settings
    from redraft.log import Added
    from redraft.log.canonical import check_task
    from redraft.log.formats import Options

    if task:
        check_task(task)
    elif form not in ("auto", "native"):
        raise ConfigError(f"--task is missing: rows of format {form} do not name their task")
    options = Options(task, load_settings().log.max_text_chars, mapping_of(mapped, columns))
    reading, added = _Reading(file, strict=strict), Added()
    rows = reading.good(rows_of(file, form, options))
    if dry_run:
        _emit_dry(_understood(file, form, options), rows, reading, as_json)
        return
    try:
        first = next(rows, None)
        if first is not None:  # only now: a file without a row to log makes no log
            with _filling(log, strict=strict) as edit_log:
                gc.freeze()  # what is loaded stays: looking through it again and again takes a tenth of an import
                every = chain([first], rows)
                cores = min(os.cpu_count() or 1, 8)  # more would wait for the one that reads and writes
                added = edit_log.add_many(every, strict=strict, refused=reading.refused, checked=True, processes=cores)
    finally:
        reading.report()
    if not reading.rows and reading.bad:
        raise DataError(
            f"{file}: none of its {reading.bad:,} rows could be read: see above, or try --dry-run and --map"
        )
    counts = {"new": added.new, "known": added.known, "bad": reading.bad, **reading.feedback}

    def render(console: Console) -> None:
        table({key: [count] for key, count in counts.items()})(console)
        if first is not None:
            where = f" --log {log}" if log else ""
            console.print(f"Next: redraft diagnose {first.completion.task}{where}", markup=False, soft_wrap=True)

    emit({**counts, "problems": reading.problems}, as_json, render)


def rows_of(file: Path, form: Format, options: Options) -> Iterator[Row | BadRow]:
    """What a reader of this format makes of a file."""
    from redraft.lab.corpora import CORPORA
    from redraft.log.formats import READERS

    return (READERS | CORPORA)[form](file, options)


def mapping_of(mapped: Sequence[str] | None, columns: str = "") -> dict[str, str]:
    """Read ``field=name`` as ``--map`` takes it: one a time, or several between commas where no name has one."""
    fields: dict[str, str] = {}
    for text in (*(mapped or ()), columns):
        parts = text.split(",")
        pairs = [part.partition("=") for part in (parts if all("=" in part for part in parts) else [text]) if part]
        if wrong := [field for field, _, name in pairs if not (field and name)]:
            raise ConfigError(f"--map {text!r}: {wrong[0]!r} names no column: write prompt=…,response=…,edited=…")
        fields |= {field.strip(): name.strip() for field, _, name in pairs}
    return fields


def _understood(file: Path, form: Format, options: Options) -> str:
    from redraft.log.formats.shapes import understand

    return understand(file, options).said if form in ("auto", "trl") else f"format {form}"


def _emit_dry(said: str, rows: Iterator[Interaction], reading: _Reading, as_json: bool) -> None:
    """Say what was understood and show three rows."""
    shown = list(islice(rows, 3))
    read = len(shown) + sum(1 for _ in rows)
    reading.report()
    columns: dict[str, list[object]] = {
        "prompt": [_short(row.completion.messages[-1].content) for row in shown],
        "response": [_short(row.completion.response) for row in shown],
        "edited": [
            "" if row.edited is None else "(accepted)" if row.unchanged else _short(row.edited) for row in shown
        ],
    }
    counts = {"rows": read, "bad": reading.bad, **reading.feedback}

    def render(console: Console) -> None:
        console.print(said, markup=False, soft_wrap=True)
        table(columns)(console)
        table({name: [count] for name, count in counts.items()})(console)

    emit({"understood": said, **counts, "shown": columns, "problems": reading.problems}, as_json, render)


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHORT else plain[: SHORT - 1] + "…"


@contextmanager
def _filling(url: str | None, *, strict: bool) -> Generator[EditLog]:
    """Open the log to import into. With ``strict``, a new log appears only once it is complete."""
    from redraft.config import load_settings
    from redraft.log.database import absent_file

    absent = absent_file(url or load_settings().log.url) if strict else None
    if absent is None:
        with open_log(url, create=True) as edit_log:
            yield edit_log
        return
    try:
        with TemporaryDirectory(dir=absent.parent, prefix=".redraft-") as folder:
            scratch = Path(folder, absent.name)
            with open_log(f"sqlite:///{scratch}", create=True) as edit_log:
                yield edit_log
            absent.hardlink_to(scratch)  # unlike a rename it replaces no log that another process made meanwhile
    except OSError as error:
        raise ConfigError(f"log {absent}: cannot be made ({error.strerror}): repeat the import") from error


class _Reading:
    """What became of a file's rows: passes the good ones on, and counts equal problems as one."""

    def __init__(self, file: Path, *, strict: bool) -> None:
        self.problems: list[dict[str, Any]] = []
        self._file, self._strict = file, strict
        self._lines = array("Q")  # of the good rows
        self.feedback = {"changed": 0, "unchanged": 0, "silent": 0}
        self._bad: dict[str, list[int]] = {}  # reason → first line, number of rows

    @property
    def rows(self) -> int:
        """Number of rows that were passed on."""
        return len(self._lines)

    @property
    def bad(self) -> int:
        """Number of rows that cannot be logged."""
        return sum(count for _, count in self._bad.values())

    def good(self, rows: Iterable[Row | BadRow]) -> Iterator[Interaction]:
        """Pass the good rows on; raises ``DataError`` for a file that has to be refused whole."""
        from redraft.log.canonical import NO_TASK
        from redraft.log.formats import Row

        for row in progress(rows, f"reading {self._file.name}"):
            if isinstance(row, Row):
                self._lines.append(row.line)
                given = row.interaction
                self.feedback["silent" if given.edit is None else "unchanged" if given.unchanged else "changed"] += 1
                yield given
            else:
                self._note(row.line, row.reason)
        if not self._lines and list(self._bad) == [NO_TASK]:
            count = self._bad.pop(NO_TASK)[1]
            raise DataError(f"{self._file}: no row names its task ({count:,} rows): give --task")
        if self._strict and self._bad:
            raise DataError(f"{self._file}: {self.bad} bad rows, nothing imported: correct them, or leave out --strict")

    def refused(self, index: int, error: RedraftError) -> None:
        """Take a good row back that contradicts another one."""
        if self._strict:
            raise DataError(f"{self._file}:{self._lines[index]}: {error}; nothing imported")
        self._note(self._lines[index], str(error))

    def _note(self, line: int, reason: str) -> None:
        if len(self._bad) >= MOST_REASONS and reason not in self._bad:
            reason = "another problem: correct the rows named above and import again"
        self._bad.setdefault(reason, [line, 0])[1] += 1
        if len(self.problems) < PROBLEMS_IN_JSON:
            self.problems.append({"file": str(self._file), "line": line, "reason": reason})

    def report(self) -> None:
        """Tell each problem once: the first row that has it, and how many more do."""
        for reason, (line, count) in self._bad.items():
            note(f"{self._file}:{line}: {reason}" + (f" (and {count - 1:,} more rows)" if count > 1 else ""))


@log_app.command("stats")
def stats(task: Task = None, as_json: AsJson = False, log: LogUrl = None) -> None:
    """What became of the completions: edited, unchanged, awaiting feedback, or silent past the horizon (censored)."""
    with open_log(log) as edit_log:
        require_task(edit_log, task)
        counts = {name: asdict(edit_log.counts(name)) for name in ([task] if task else edit_log.tasks())}
    columns = {name: [count[name] for count in counts.values()] for name in SHOWN}
    emit({"tasks": counts}, as_json, table({"task": list(counts), **columns}))


@log_app.command("verify")
def verify(as_json: AsJson = False, log: LogUrl = None) -> None:
    """Check the log against itself and recompute every cost. Exit status 1 means that something is wrong."""
    with open_log(log) as edit_log:
        problems = edit_log.verify()

    def render(console: Console) -> None:
        for problem in problems:
            console.print(problem, markup=False, soft_wrap=True)
        console.print(f"{len(problems)} problems" if problems else "the log is sound")

    emit({"ok": not problems, "problems": problems}, as_json, render)
    if problems:
        raise typer.Exit(1)
