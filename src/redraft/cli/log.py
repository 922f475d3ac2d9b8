"""``redraft import``, ``redraft log stats`` and ``redraft log verify``."""

from __future__ import annotations

import gc
import os
import re
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
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

    from redraft.costs import Cost
    from redraft.log import EditLog
    from redraft.log.formats import BadRow, Options, Row, Understood
    from redraft.types import Interaction

__all__ = ["Columns", "Format", "Mapped", "columns_of", "export_app", "import_file", "log_app", "rows_of"]

PROBLEMS_IN_JSON = 100
KINDS = ("accepted", "changed", "silent")  # what became of a response
VARYING = re.compile(r"(?<= = ).+?(?=: )|(?<=completion )'.*?'|\d[\d,]*")  # in reasons of one kind: values, ids, sizes
MOST_REASONS = 1000  # kept apart: reasons that name an id differ from row to row
# fmt: off
Format = Literal[
    "auto", "native", "table", "trl", "kto", "openai", "chat", "responses", "sharegpt", "alpaca", "helpsteer3",
    "langfuse", "argilla", "labelstudio", "prodigy", "csv", "defacto", "mlqe",
]
# fmt: on
"""What can be imported; the readers are in ``redraft.log.formats``. ``csv`` is the older name of ``table``."""
Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", help="Read a field from a key or column: prompt=context, id=meta.id; repeatable."),
]
Columns = Annotated[str, typer.Option("--columns", help="Older name of --map.", hidden=True)]
DRY_ROWS, SHORT = 3, 60
GARBAGE = 20_000  # objects that come into being between two searches for cycles
SHOWN = ("completions", "edited", "unchanged", "awaiting", "censored")
"""Counts that add up, and fit on a terminal; ``--json`` has all."""

log_app = typer.Typer(help="Show what the log holds, and check it.", no_args_is_help=True)


def import_file(
    file: Annotated[Path, typer.Argument(help="File or folder to read; for mlqe any of its three, or their prefix.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="What its records are. Default: found out.")] = "auto",
    task: Annotated[str, typer.Option(help="Task of the rows. Native rows may name their own.")] = "",
    mapped: Mapped = None,
    columns: Columns = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is understood, and write nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Import all rows or, if one is bad, none.")] = False,
    as_json: AsJson = False,
    log: LogUrl = None,
) -> None:
    """Read completions and their edits into the log. Rows that it already has change nothing."""
    from redraft.config import load_settings
    from redraft.log import Added
    from redraft.log.canonical import check_task
    from redraft.log.formats import Options

    fields = columns_of(mapped, columns)
    if task:
        check_task(task)
    elif form not in ("auto", "native") and "task" not in fields:
        raise ConfigError(f"--task is missing: rows of format {form} do not name their task")
    settings = load_settings()
    found = understood(file, form, Options(task, settings.log.max_text_chars, fields))
    reading, added = _Reading(file, cache(settings.cost_of), strict=strict), Added()
    rows = reading.good(found.rows())
    shown: list[Interaction] = []
    try:
        first = next(rows, None)
        if dry_run and first is not None:
            shown = [first, *islice(rows, DRY_ROWS - 1)]
            deque(rows, maxlen=0)
        elif first is not None:  # only now: a file without a row to log makes no log
            with _filling(log, strict=strict) as edit_log:
                _seldom_collected()
                every = chain([first], rows)
                cores = min(os.cpu_count() or 1, 8)  # more would wait for the one that reads and writes
                added = edit_log.add_many(every, strict=strict, refused=reading.refused, checked=True, processes=cores)
    finally:
        reading.report()
    reading.require_some(found.hint)
    counts = reading.counts | ({} if dry_run else {"new": added.new, "known": added.known}) | {"bad": reading.bad}

    def render(console: Console) -> None:
        read = ", ".join(f"{field} ← {key}" for field, key in found.fields.items())
        for said in (f"{file.name}: {found.file}; {found.shape}", read):
            console.print(said, markup=False, highlight=False)
        if shown:
            table(_shortened(shown))(console)
        table({key: [count] for key, count in counts.items()})(console)
        where = f" --log {log}" if log else ""
        said = f"redraft import {file} …, without --dry-run" if dry_run else f"redraft diagnose {reading.task}{where}"
        console.print(f"Next: {said}", markup=False, soft_wrap=True)

    about = {"file": found.file, "shape": found.shape, "fields": dict(found.fields)}
    rows_shown = {"rows": _shortened(shown)} if dry_run else {}
    emit({**about, **counts, **rows_shown, "problems": reading.problems}, as_json, render)


def _shortened(rows: Sequence[Interaction]) -> dict[str, list[str]]:
    """The texts of a few rows, by field, as far as they fit."""

    def short(text: str) -> str:
        text = " ".join(text.split())
        return text if len(text) <= SHORT else text[: SHORT - 1] + "…"

    def edited(row: Interaction) -> str:
        if row.edit is None:
            return "(no feedback)"
        return "(accepted)" if row.edit.edited is None else short(row.edit.edited)

    return {
        "prompt": [short(" ".join(message.content for message in row.completion.messages)) for row in rows],
        "response": [short(row.completion.response) for row in rows],
        "edited": [edited(row) for row in rows],
    }


def understood(file: Path, form: Format, options: Options) -> Understood:
    """What a file holds, and how to read its rows."""
    from redraft.lab.corpora import CORPORA
    from redraft.log.formats import Understood, understand

    if form not in CORPORA:
        return understand(file, form, options)
    if options.columns:
        raise ConfigError(f"--map: format {form} has the fields that it has, leave it out")
    return Understood("a published corpus", form, {}, lambda: CORPORA[form](file, options))


def rows_of(file: Path, form: Format, options: Options) -> Iterator[Row | BadRow]:
    """What a reader of this format makes of a file."""
    return understood(file, form, options).rows()


def columns_of(mapped: Sequence[str] | None, columns: str) -> dict[str, str]:
    """Read ``--map`` and the older ``--columns``."""
    from redraft.log.formats.fields import mapping_of

    return mapping_of([*(mapped or ()), columns])


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


def _seldom_collected() -> None:
    """Let Python look for reference cycles less often: rows have none, and looking took a fifth of an import."""
    gc.freeze()
    gc.set_threshold(GARBAGE)


class _Reading:
    """What became of a file's rows: passes the good ones on, and counts equal problems as one."""

    def __init__(self, file: Path, cost_of: Callable[[str], Cost], *, strict: bool) -> None:
        self.problems: list[dict[str, Any]] = []
        self._file, self._cost_of, self._strict = file, cost_of, strict
        self._lines, self._kinds = array("Q"), bytearray()  # of the good rows
        self._bad: dict[str, tuple[str, int, int]] = {}  # kind of reason → the first, its line, number of rows
        self.task = ""

    @property
    def bad(self) -> int:
        """Number of rows that cannot be logged."""
        return sum(count for *_, count in self._bad.values())

    @property
    def counts(self) -> dict[str, int]:
        """What people made of the good rows, in numbers."""
        return {name: self._kinds.count(kind) for kind, name in enumerate(KINDS)}

    def good(self, rows: Iterable[Row | BadRow]) -> Iterator[Interaction]:
        """Pass the good rows on; raises ``DataError`` for a file that has to be refused whole."""
        from redraft.log.canonical import NO_TASK
        from redraft.log.formats import Row

        for row in progress(rows, f"reading {self._file.name}"):
            if isinstance(row, Row):
                self._lines.append(row.line)
                self._kinds.append(self._kind(row.interaction))
                self.task = self.task or row.interaction.completion.task
                yield row.interaction
            else:
                self._note(row.line, row.reason)
        if not self._lines and list(self._bad) == [NO_TASK]:
            count = self._bad.pop(NO_TASK)[2]
            raise DataError(f"{self._file}: no row names its task ({count:,} rows): give --task")
        if self._strict and self._bad:
            raise DataError(f"{self._file}: {self.bad} bad rows, nothing imported: correct them, or leave out --strict")

    def refused(self, index: int, error: RedraftError) -> None:
        """Take a good row back that contradicts another one."""
        if self._strict:
            raise DataError(f"{self._file}:{self._lines[index]}: {error}; nothing imported")
        self._kinds[index] = len(KINDS)
        self._note(self._lines[index], str(error))

    def require_some(self, hint: str) -> None:
        """Raise ``DataError`` where no row was good; ``hint`` is what to try."""
        if any(self.counts.values()):
            if not self._kinds.strip(bytes([KINDS.index("silent"), len(KINDS)])):
                note(f"{self._file}: no row says what became of its response: name the edits with --map edited=…")
            return
        said = f"no row could be imported, {self.bad:,} are bad" if self.bad else "holds no rows"
        raise DataError(
            f"{self._file}: {said}" + (f": {hint}" if hint else ": correct what is named above" * bool(self.bad))
        )

    def _kind(self, interaction: Interaction) -> int:
        completion, edit = interaction.completion, interaction.edit
        if edit is None:
            return KINDS.index("silent")
        same = edit.edited is None or self._cost_of(completion.task).same(completion.response, edit.edited)
        return KINDS.index("accepted" if same else "changed")

    def _note(self, line: int, reason: str) -> None:
        kind = VARYING.sub("…", reason)
        if len(self._bad) >= MOST_REASONS and kind not in self._bad:
            kind = reason = "another problem: correct the rows named above and import again"
        first, at, count = self._bad.get(kind, (reason, line, 0))
        self._bad[kind] = first, at, count + 1
        if len(self.problems) < PROBLEMS_IN_JSON:
            self.problems.append({"file": str(self._file), "line": line, "reason": reason})

    def report(self) -> None:
        """Tell each problem once: the first row that has it, and how many more do."""
        for reason, line, count in self._bad.values():
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
    from redraft.log.verify import Remark

    with open_log(log) as edit_log:
        said = edit_log.verify()
    problems = [line for line in said if not isinstance(line, Remark)]

    def render(console: Console) -> None:
        for line in said:
            console.print(line, markup=False, soft_wrap=True)
        console.print(f"{len(problems)} problems" if problems else "the log is sound")

    remarks = [line for line in said if isinstance(line, Remark)]
    told = {"remarks": remarks} if remarks else {}
    emit({"ok": not problems, "problems": problems, **told}, as_json, render)
    if problems:
        raise typer.Exit(1)
