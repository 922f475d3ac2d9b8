"""``redraft export``: training sets and the log itself as files that appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from redraft.cli.output import AsJson, emit, note
from redraft.cli.session import LogUrl, Task, open_log, progress, require_task, table
from redraft.errors import ConfigError

if TYPE_CHECKING:
    from redraft.data import LeftOut
    from redraft.log import EditLog

__all__ = ["export_app"]

ROW_GROUP = 1000
FileFormat = Literal["jsonl", "parquet"]
KINDS = {
    "sft": "Supervision: prompt and completion, the completion being what the person left (TRL's SFT).",
    "preference": "Preferences: prompt, chosen (the edit), rejected (the response) where they differ (TRL's DPO).",
    "unpaired": "Labels: prompt, completion and whether it was left standing (TRL's KTO).",
    "cost": "Costs: prompt, the response, and what it cost to edit, in the task's cost and as a raw count.",
    "native": "The log itself: every text with the edit that holds, in JSONL that `redraft import` reads back.",
}
"""What can be exported, and the help text of its command."""

export_app = typer.Typer(help="Write training sets, or the log itself, to a file.", no_args_is_help=True)


def _command(kind: str) -> None:
    def export(
        out: Annotated[Path, typer.Argument(help="File to write; it appears when it is complete.")],
        *,
        task: Task = None,
        form: Annotated[
            FileFormat | None, typer.Option("--format", help="Default: what the file's suffix says.")
        ] = None,
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
        as_json: AsJson = False,
        log: LogUrl = None,
    ) -> None:
        from redraft.data import LeftOut
        from redraft.files import whole

        chosen = form or out.suffix.removeprefix(".")
        if chosen not in get_args(FileFormat):
            raise ConfigError(f"{out}: name it .jsonl or .parquet, or give --format")
        if kind == "native" and chosen != "jsonl":
            raise ConfigError(f"{out}: the log itself is written as JSONL: name it .jsonl")
        if out.exists() and not force:
            raise ConfigError(f"{out} exists already: add --force to replace it, or name another file")
        write = _write_jsonl if chosen == "jsonl" else _write_parquet
        with open_log(log) as edit_log:
            require_task(edit_log, task)
            left = LeftOut(edit_log.cost_of)
            with whole(out) as scratch:
                count = write(kind, scratch, progress(_rows(kind, edit_log, task, left), f"writing {out.name}"))
        if left.counts:
            note(str(left))
        result = {"out": str(out), "kind": kind, "format": chosen, "rows": count}
        emit(result, as_json, table({key: [value] for key, value in result.items()}))

    export_app.command(kind, help=KINDS[kind])(export)


for _kind in KINDS:
    _command(_kind)


def _rows(kind: str, edit_log: EditLog, task: str | None, left: LeftOut) -> Iterator[dict[str, Any]]:
    from redraft import data
    from redraft.log.formats import native

    given = edit_log.interactions(task, edited_only=kind != "native")
    if kind == "native":
        return map(native.write, given)
    given = left.of(given)
    rows = {"sft": data.sft_rows, "preference": data.preference_rows, "unpaired": data.unpaired_rows}
    return {**rows, "cost": data.cost_rows}[kind](given, edit_log.cost_of)


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
