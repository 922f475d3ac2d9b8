"""The cost matrix: every policy answers every online context once, the user edits every answer, one row each.

Rows are flat, appended as they are made and complete on disk after every batch, so an interrupted run goes on where
it stopped and everything after it (selectors, tables, figures) reads rows only. Field names never change.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from redraft.errors import DataError

__all__ = ["MatrixRow", "append_rows", "cost_table", "grouped", "read_rows"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Cell = tuple[int, str, str, str, int, str]


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One answer and its edit.

    ``t`` counts the online contexts from 1; ``raw`` is the distance in the cost's units and ``cost`` what is minimised;
    ``seconds`` is this row's share of the time its batch took.
    """

    seed: int
    task: str
    train_user: str
    test_user: str
    t: int
    context_id: str
    policy: str
    response: str
    edited: str
    raw: float
    cost: float
    seconds: float

    @property
    def cell(self) -> Cell:
        """Which answer this is; a run that goes on skips the cells it finds."""
        return (self.seed, self.task, self.train_user, self.test_user, self.t, self.policy)

    @property
    def setting(self) -> str:
        """Task and training user, as tables name them."""
        return f"{self.task} {self.train_user}"


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    field.name: {"int": int, "str": str, "float": (float, int)}[str(field.type)] for field in fields(MatrixRow)
}


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by key, both in the order in which they first come."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def append_rows(file: Path, rows: Iterable[MatrixRow]) -> None:
    """Append one batch, which is on disk when this returns; a line torn by an earlier interruption is cut off."""
    if file.suffix == ".gz":
        raise DataError(f"{file}: a compressed matrix is finished; append to its .jsonl and compress that")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        stream.truncate(_end_of_last_line(stream))
        stream.write("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _end_of_last_line(stream: BinaryIO) -> int:
    """Search backwards: batches are many and the file grows."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_rows(file: Path) -> list[MatrixRow]:
    """Read a matrix from ``.jsonl`` or ``.jsonl.gz``; a missing file is an empty one, a torn last line is left out.

    Raises ``DataError`` naming file, line and reason when a row cannot be used.
    """
    return [_row(file, number, line) for number, line in _lines(file)]


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    if not file.exists():
        return
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n"):
                yield number, line


def _row(file: Path, number: int, line: bytes) -> MatrixRow:
    try:
        data: Any = json.loads(line)
        wrong = [name for name, kind in _TYPES.items() if not isinstance(data.get(name), kind)]
        wrong += sorted(data.keys() - _TYPES.keys())
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}, line {number}: not a JSON object ({error}): remove the line") from error
    if wrong:
        raise DataError(f"{file}, line {number}: {', '.join(wrong)} missing, unknown or of another type: make it anew")
    return MatrixRow(**data)


def cost_table(rows: Sequence[MatrixRow]) -> dict[str, list[float]]:
    """Costs by policy in the order of t, for replays; every policy has one for each round.

    Raises ``DataError`` when rows come from several settings, or a cell is missing or there twice.
    """
    settings = {row.cell[:4] for row in rows}
    if len(settings) > 1:
        raise DataError(f"cost table of {len(settings)} settings at once ({sorted(settings)[:2]} …): select one")
    cells = {(row.policy, row.t): row.cost for row in rows}
    if len(cells) < len(rows):
        twice = sorted(row.cell for row in rows if sum(other.cell == row.cell for other in rows) > 1)
        raise DataError(f"cost table: {twice[0][-1]!r} has two rows for t = {twice[0][-2]}: keep one")
    rounds = range(1, max((row.t for row in rows), default=0) + 1)
    policies = list(dict.fromkeys(row.policy for row in rows))
    holes = [(policy, t) for policy in policies for t in rounds if (policy, t) not in cells]
    if holes or len(cells) > len(policies) * len(rounds):
        named = ", ".join(f"{policy} at t = {t}" for policy, t in holes[:3]) or "t below 1"
        raise DataError(f"cost table has {len(holes)} holes ({named}): let the run finish first")
    return {policy: [cells[policy, t] for t in rounds] for policy in policies}
