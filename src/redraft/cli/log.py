"""``redraft import``, ``redraft log stats`` and ``redraft log verify``."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
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
    from redraft.log.formats import READERS, Options

    if form is not Format.NATIVE and not task:
        raise ConfigError(f"--task is missing: rows of format {form} do not say which task they are of")
    with open_log(log, create=True) as edit_log:
        options = Options(task, edit_log.max_text_chars, columns_of(columns))
        result = _import(edit_log, file, READERS[form](file, options), strict=strict)
    emit(result, as_json, table({key: [result[key]] for key in ("new", "known", "bad")}))


def columns_of(text: str) -> dict[str, str]:
    """Read ``field=column,…`` as ``--columns`` takes it."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if wrong := [field for field, _, column in pairs if not (field and column)]:
        raise ConfigError(f"--columns {text!r}: {wrong[0]!r} names no column: write context=…,response=…,edited=…")
    return {field.strip(): column.strip() for field, _, column in pairs}


def _import(edit_log: EditLog, file: Path, rows: Iterable[Row | BadRow], *, strict: bool) -> dict[str, Any]:
    from redraft.log.formats import BadRow

    bad = 0
    problems: list[dict[str, Any]] = []
    lines = array("Q")

    def refuse(row: BadRow) -> None:
        nonlocal bad
        bad += 1
        note(str(row))
        if len(problems) < PROBLEMS_IN_JSON:
            problems.append({"file": str(row.file), "line": row.line, "reason": row.reason})

    def good() -> Iterator[Interaction]:
        for row in progress(rows, f"reading {file.name}"):
            if isinstance(row, BadRow):
                refuse(row)
            else:
                lines.append(row.line)
                yield row.interaction
        if strict and bad:
            raise DataError(f"{file}: {bad} bad rows, nothing imported: correct them, or leave out --strict")

    def refused(index: int, error: RedraftError) -> None:
        row = BadRow(file, lines[index], str(error))
        if strict:
            raise DataError(f"{row}; nothing imported")
        refuse(row)

    added = edit_log.add_many(good(), strict=strict, refused=refused)
    return {"new": added.new, "known": added.known, "bad": bad, "problems": problems}


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
