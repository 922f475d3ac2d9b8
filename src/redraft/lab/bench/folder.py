"""The folder of a run, readable at any moment: the experiment, its rows, what was trained, and a place to work in.

    experiment.json    what was run, on which model, with which versions
    matrix.jsonl       who would have paid what; compressed to matrix.jsonl.gz while nothing is running
    training.jsonl     every trained run, trials included
    cost_models.jsonl  how every cost model does on what was held out; predictions.jsonl, what they think of answers
    work/              edit logs, policies, answers: what may be deleted, and is never committed

Rows are on disk when an append returns. Whatever a kill leaves behind is taken up again.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from redraft.errors import ConfigError, DataError
from redraft.files import whole, write_json, write_text
from redraft.lab.bench.cell import Setting
from redraft.lab.bench.experiment import KINDS
from redraft.lab.bench.matrix import MatrixRow, append_rows, read_rows

__all__ = ["CostModelRow", "Prediction", "RunFolder", "TrainedRun", "read_lines", "write_lines"]

T = TypeVar("T")

FREE = {"name", "tasks", "train_users", "test_users", "seeds", "methods", "arms", "threads", "keep_epochs"}
"""What may change from one start to the next: it adds rows and leaves those that are there right."""


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A row of ``training.jsonl``: one training run of ``arm``; ``chosen`` where it became the arm's policy."""

    seed: int
    task: str
    train_user: str
    arm: str = ""
    method: str
    chosen: bool
    status: str = ""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    history: Sequence[Mapping[str, float]] = ()
    seconds: float = 0.0
    data: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class CostModelRow:
    """A row of ``cost_models.jsonl``: how the model of one log does on held-out responses, and how it was chosen.

    Rows of early versions lack ``seconds`` or have ``by_domain``.
    """

    seed: int
    task: str
    train_user: str
    writer: str
    kappa: float
    choice: Mapping[str, float]
    heldout: Mapping[str, float | None]
    seconds: float | None = None
    by_domain: Mapping[str, Mapping[str, float | None]] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A row of ``predictions.jsonl``: f̂ and its bonus for a policy's answer in round t, by the arm's cost model."""

    seed: int
    task: str
    train_user: str
    arm: str
    policy: str
    t: int
    mean: float
    bonus: float
    pessimism: float


class RunFolder:
    """A run's folder, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self._matrix, self._packed = path / "matrix.jsonl", path / "matrix.jsonl.gz"
        self._training = path / "training.jsonl"
        self._cost_models, self._predictions = path / "cost_models.jsonl", path / "predictions.jsonl"

    def claim(self, experiment: Mapping[str, object], about: Mapping[str, object]) -> None:
        """Make the folder this experiment's. ``about`` is recorded beside it.

        Raises ``ConfigError`` when it cannot be written, or holds a run that differs in more than ``FREE``.
        """
        before = self._read()
        if before is not None and (differing := _differing(before, experiment)):
            raise ConfigError(
                f"{self.path}: holds a run with other {', '.join(differing)}: choose another --out or delete it"
            )
        identity = {"identity": (before or {}).get("identity")}
        try:
            self.make_work()
            self._write({**experiment, **identity, **about})
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}): choose another --out") from error

    def make_work(self) -> Path:
        """The folder of what can be made again, which git is told to leave alone."""
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / ".gitignore").write_text("*\n", "utf-8")
        return self.work

    def identify(self, identity: str) -> None:
        """Record the base model's identity; raises ``ConfigError`` when rows were made with another one."""
        found = self._read() or {}
        if found.get("identity") not in (None, identity):
            raise ConfigError(
                f"{self.path}: was begun with {found['identity']}, this is {identity}: choose another --out"
            )
        self._write({**found, "identity": identity})

    @contextmanager
    def appending(self) -> Generator[None]:
        """Unpack the matrix, and pack it again however this ends, short of a kill."""
        packed = read_rows(self._packed)
        known = {row.cell for row in read_rows(self._matrix)}
        append_rows(self._matrix, [row for row in packed if row.cell not in known])
        self._packed.unlink(missing_ok=True)
        try:
            yield
        finally:
            with (
                whole(self._packed) as scratch,
                self._matrix.open("rb") as plain,
                scratch.open("wb") as file,
                gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,  # same rows, same bytes
            ):
                shutil.copyfileobj(plain, stream)
            self._matrix.unlink()

    def rows(self) -> list[MatrixRow]:
        """Read the rows there are."""
        return read_rows(self._matrix if self._matrix.exists() else self._packed)

    def append(self, rows: Iterable[MatrixRow]) -> None:
        """Append rows, within ``appending``."""
        append_rows(self._matrix, rows)

    def training(self) -> list[TrainedRun]:
        """Read what was trained; in rows of early versions a method's arm has no name of its own."""
        return _typed(TrainedRun, self._training)

    def add_training(self, rows: Sequence[TrainedRun]) -> None:
        """Add what was trained; a row that is there already is not added again."""
        _add(self._training, rows, ("seed", "task", "train_user", "method", "options"))

    def cost_models(self) -> list[CostModelRow]:
        """Read the rows of cost models, one for each log that one was learnt from."""
        return _typed(CostModelRow, self._cost_models)

    def add_cost_models(self, rows: Sequence[CostModelRow]) -> None:
        """Add rows of cost models as ``add_training`` does."""
        _add(self._cost_models, rows, ("seed", "task", "train_user", "writer"))

    def predictions(self) -> list[Prediction]:
        """Read what cost models predicted of answers in the matrix."""
        return _typed(Prediction, self._predictions)

    def add_predictions(self, rows: Sequence[Prediction]) -> None:
        """Add predictions as ``add_training`` does."""
        _add(self._predictions, rows, ("seed", "task", "train_user", "arm", "policy", "t"))

    def workplace(self, setting: Setting) -> Path:
        """Where a cell keeps what it makes."""
        return self.shared(setting) / setting.train_user.replace(":", "-")

    def shared(self, setting: Setting) -> Path:
        """Where cells of one seed and task keep what they share."""
        return self.work / str(setting.seed) / setting.task

    def _read(self) -> dict[str, Any] | None:
        file = self.path / "experiment.json"
        try:
            return json.loads(file.read_text("utf-8")) if file.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: not a description of a run ({error}): choose another --out") from error

    def _write(self, described: Mapping[str, object]) -> None:
        write_json(self.path / "experiment.json", described, "choose another --out")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read JSON objects, one a line; a missing file has none. Raises ``DataError`` on anything else."""
    if not file.exists():
        return []
    try:
        return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
    except ValueError as error:
        raise DataError(f"{file}: not JSON, one object a line ({error}): delete it") from error


def write_lines(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write JSON objects, one a line; the old file or the new one is there, never half of it."""
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _typed(kind: type[T], file: Path) -> list[T]:
    """The rows of a file; what this version does not know of is left out."""
    names = {one.name for one in fields(cast("Any", kind))}
    try:
        return [kind(**{k: v for k, v in row.items() if k in names}) for row in read_lines(file)]
    except TypeError as error:
        raise DataError(f"{file}: a row is incomplete ({error}): delete it") from error


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What makes rows of before wrong; an arm may come or go, and keeps its meaning."""
    before = _in_full(before)
    keys = [key for key in now if key not in FREE and _essence(key, before.get(key)) != _essence(key, now[key])]
    had, has = (cast("Any", found.get("arms")) for found in (before, now))
    if not isinstance(had, dict) or not isinstance(has, dict):  # an ablation has a list of subsets
        return keys
    others = [name for name, arm in has.items() if had.get(name, arm) != arm]
    return [*keys, *(f"arms.{name}" for name in others)]


def _in_full(described: Mapping[str, object]) -> Mapping[str, object]:
    """With the options that are younger than the file: they had their defaults when its rows were made."""
    kind = KINDS.get(str(described.get("kind")))
    if kind is None:
        return described
    try:
        given = {name: value for name, value in described.items() if name in kind.model_fields}
        return kind.model_validate(given).model_dump(mode="json")
    except ValidationError:  # of another version, and so of another meaning
        return described


def _essence(key: str, value: object) -> object:
    """Who answers matters, not where."""
    if key == "endpoints" and isinstance(value, dict):
        servers = cast(dict[str, dict[str, str]], value)
        return {name: server.get("model") for name, server in servers.items()}
    return value


def _add(file: Path, rows: Sequence[TrainedRun | CostModelRow | Prediction], key: Sequence[str]) -> None:
    if not rows:
        return
    found = read_lines(file)
    known = {json.dumps([row[name] for name in key]) for row in found}
    added = (row for row in map(asdict, rows) if json.dumps([row[name] for name in key]) not in known)
    write_lines(file, [*found, *added])
