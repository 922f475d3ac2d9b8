"""``redraft export``: training sets and the log itself as files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.output import AsJson, emit
from redraft.cli.session import LogUrl, Task, open_log, progress, require_task, table
from redraft.errors import ConfigError

if TYPE_CHECKING:
    from redraft.log import EditLog
    from redraft.types import Interaction

__all__ = ["export_app"]

ROW_GROUP = 1000

export_app = typer.Typer(help="Write training sets, or the log itself, to a file.", no_args_is_help=True)


class FileFormat(StrEnum):
    """What can be written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


Out = Annotated[Path, typer.Argument(help="File to write; it appears when it is complete.")]
Form = Annotated[FileFormat | None, typer.Option("--format", help="Instead of what the file's suffix says.")]


@export_app.command("sft")
def export_sft(out: Out, *, task: Task = None, form: Form = None, as_json: AsJson = False, log: LogUrl = None) -> None:
    """Supervision: prompt and completion, the completion being what the person left (TRL's SFTTrainer)."""
    from redraft.data import sft_rows

    _show(_export("sft", out, form, task, log, rows_of=lambda _, given: sft_rows(given)), as_json)


@export_app.command("preference")
def export_preference(
    out: Out, *, task: Task = None, form: Form = None, as_json: AsJson = False, log: LogUrl = None
) -> None:
    """Preferences: prompt, chosen (the edit) and rejected (the response), where they differ (TRL's DPOTrainer)."""
    from redraft.data import preference_rows

    _show(_export("preference", out, form, task, log, rows_of=lambda _, given: preference_rows(given)), as_json)


@export_app.command("unpaired")
def export_unpaired(
    out: Out, *, task: Task = None, form: Form = None, as_json: AsJson = False, log: LogUrl = None
) -> None:
    """Labels: prompt, completion and whether it was left standing (TRL's KTOTrainer)."""
    from redraft.data import unpaired_rows

    _show(_export("unpaired", out, form, task, log, rows_of=lambda _, given: unpaired_rows(given)), as_json)


@export_app.command("cost")
def export_cost(out: Out, *, task: Task = None, form: Form = None, as_json: AsJson = False, log: LogUrl = None) -> None:
    """Costs: prompt, the response, and what it cost to edit, in the task's cost and as a raw count."""
    from redraft.data import cost_rows

    _show(
        _export("cost", out, form, task, log, rows_of=lambda it, given: cost_rows(given, it.cost_of)),
        as_json,
    )


@export_app.command("native")
def export_native(out: Out, *, task: Task = None, as_json: AsJson = False, log: LogUrl = None) -> None:
    """All that has its texts, with the edits that hold, in JSONL that `redraft import` reads back exactly."""
    from redraft.log.formats import native

    if out.suffix != ".jsonl":
        raise ConfigError(f"{out}: the log itself is written as JSONL: name it .jsonl")
    _show(
        _export("native", out, FileFormat.JSONL, task, log, rows_of=lambda _, given: map(native.write, given)), as_json
    )


def _show(result: dict[str, Any], as_json: bool) -> None:
    emit(result, as_json, table({key: [value] for key, value in result.items()}))


def _export(
    kind: str,
    out: Path,
    form: FileFormat | None,
    task: str | None,
    url: str | None,
    *,
    rows_of: Callable[[EditLog, Iterator[Interaction]], Iterable[dict[str, Any]]],
) -> dict[str, Any]:
    chosen = form or _by_suffix(out)
    with open_log(url) as edit_log, _appearing(out) as partial:
        require_task(edit_log, task)
        rows = rows_of(edit_log, edit_log.interactions(task, edited_only=kind != "native"))
        write = _write_jsonl if chosen is FileFormat.JSONL else _write_parquet
        count = write(kind, partial, progress(rows, f"writing {out.name}"))
    return {"out": str(out), "kind": kind, "format": chosen.value, "rows": count}


def _by_suffix(out: Path) -> FileFormat:
    try:
        return FileFormat(out.suffix.removeprefix("."))
    except ValueError:
        raise ConfigError(f"{out}: name it .jsonl or .parquet, or give --format") from None


@contextmanager
def _appearing(out: Path) -> Generator[Path]:
    """Give a file to write beside ``out`` that takes its place only when all went well."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}): check the folder and its room") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _write_jsonl(_kind: str, file: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _write_parquet(kind: str, file: Path, rows: Iterable[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from redraft.log.formats.trl import parquet_schema

    count, stream, schema = 0, iter(rows), parquet_schema(kind)
    with file.open("wb") as sink, pq.ParquetWriter(sink, schema) as writer:
        while group := list(islice(stream, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count
