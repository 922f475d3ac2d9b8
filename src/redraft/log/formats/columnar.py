"""Parquet, Arrow and Feather files, and folders of them, as ``datasets`` and the Hub keep them.

These formats write every key in every record; one whose value is null says nothing and is left out. Dates are said in
ISO 8601, as JSON would.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from redraft.errors import DataError
from redraft.log.formats.rows import BadRow
from redraft.log.formats.unpacked import Raw, Records, reading

__all__ = ["in_folder", "recognise"]

BATCH = 256  # records held at once
STREAM = b"\xff\xff\xff\xff"
KINDS = {b"PAR1": "Parquet", b"ARROW1": "Arrow", STREAM: "Arrow", b"FEA1": "Feather"}


def recognise(file: Path) -> tuple[str, Records] | None:
    """Say which columnar format a file has and how to read it; ``None`` where it has none."""
    with reading(file), file.open("rb") as stream:
        magic = stream.read(6)
    kind = next((name for start, name in KINDS.items() if magic.startswith(start)), None)
    return None if kind is None else (kind, lambda: _records([file]))


def in_folder(folder: Path) -> tuple[str, Records]:
    """Find what a folder holds: a saved dataset, or files of one columnar format.

    Raises ``DataError`` for several splits, of which one has to be named, and for anything else.
    """
    if (splits := folder / "dataset_dict.json").is_file():
        names = _listed(splits, "splits")
        if len(names) != 1:
            one = f"{folder}/{names[0]}" if names else "a folder"
            raise DataError(f"{folder}: has the splits {', '.join(names)}: name one, such as {one}")
        folder = folder / str(names[0])
    if (state := folder / "state.json").is_file():
        files = [folder / str(cast("dict[str, Any]", part)["filename"]) for part in _listed(state, "_data_files")]
        return f"a saved dataset, {len(files)} file{'s' * (len(files) != 1)}", lambda: _records(files)
    for suffix in (".parquet", ".arrow", ".feather"):
        if files := sorted(folder.rglob(f"*{suffix}")):
            return f"{len(files)} {suffix} file{'s' * (len(files) != 1)}", lambda: _records(files)
    held = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise DataError(f"{folder}: is a folder that holds {held}, and no Parquet or Arrow file: name one file")


def _listed(file: Path, key: str) -> list[Any]:
    try:
        return cast("list[Any]", json.loads(file.read_bytes())[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is no {key} of a saved dataset ({error}): save it again") from error


def _records(files: Sequence[Path]) -> Iterator[Raw | BadRow]:
    number = 0
    for file in files:
        for batch in _batches(file):
            for record in _said(_microseconds(batch)):
                number += 1
                yield BadRow(file, number, record) if isinstance(record, str) else Raw(number, _object(record))


def _microseconds(batch: Any) -> Any:
    """Cut moments to microseconds, which is what Python's have."""
    import pyarrow as pa

    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if str(field.type).startswith("timestamp[ns") else field
        for field in batch.schema
    ]
    return batch if fields == list(batch.schema) else batch.cast(pa.schema(fields), safe=False)


def _said(batch: Any) -> list[dict[str, Any] | str]:
    """Records as Python says them, or why one cannot be said, such as a date after the year 9999."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [f"a value cannot be read ({error}): correct it"]
        return [record for i in range(batch.num_rows) for record in _said(batch.slice(i, 1))]


def _batches(file: Path) -> Iterator[Any]:
    """Batches of records; raises ``DataError`` when the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import ipc

    try:
        with reading(file), file.open("rb") as stream:
            magic = stream.read(6)
            stream.seek(0)
            if magic.startswith(b"PAR1"):
                yield from pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20).iter_batches(BATCH)
            elif magic.startswith(b"ARROW1"):
                arrow = ipc.open_file(stream)
                for i in range(arrow.num_record_batches):
                    yield from _cut(arrow.get_batch(i))
            elif magic.startswith(STREAM):
                for batch in ipc.open_stream(stream):
                    yield from _cut(batch)
            else:
                raise DataError(f"{file}: is no Parquet or Arrow file that is still written: convert it to Parquet")
    except pa.ArrowException as error:
        detail = str(error).splitlines()[0][:200]
        raise DataError(f"{file}: is damaged ({detail}): fetch or export it again") from error


def _cut(batch: Any) -> Iterator[Any]:
    return (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


def _object(record: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, but for a message's content, and data frames' own index."""
    said = ((name, _plain(value)) for name, value in record.items() if not name.startswith("__index_level_"))
    return {name: value for name, value in said if value is not None or name == "content"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _object(cast("dict[str, Any]", value))
    if isinstance(value, list | tuple):  # a tuple in maps
        return [_plain(part) for part in cast("list[Any]", value)]
    if isinstance(value, date | time):  # a moment is a date
        return value.isoformat()
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, Decimal):
        value = float(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(value: bytes) -> str:
    """Bytes as the text that they are, or in base64, such as a picture."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode()
