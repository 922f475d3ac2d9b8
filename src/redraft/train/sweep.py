"""Choose hyperparameters as the paper does: learning rate, epochs, β and λ by held-out likelihood.

Epochs need no trials of their own: the learning rate is constant after its warm-up, so that every run shows all
shorter ones, and the best epoch is kept. The table of trials is a JSONL file that grows as they finish; a sweep that
was interrupted skips those it has, and continues the one it was in.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from redraft.errors import ConfigError
from redraft.train.fit import Run, fit
from redraft.train.options import TrainOptions

__all__ = ["GRIDS", "grid", "read_trials", "sweep"]

GRIDS: dict[str, dict[str, Sequence[float]]] = {
    "sft": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "dpo": {"learning_rate": (5e-5, 2e-4, 5e-4), "beta": (0.05, 0.1)},
    "early": {"learning_rate": (2e-4, 5e-4), "beta": (0.05, 0.1), "nll_weight": (0.3, 1.0)},
}
"""Default values to try: at most eight trials a method."""


def grid(options: TrainOptions, values: Mapping[str, Sequence[float]]) -> list[TrainOptions]:
    """Every combination of ``values`` on top of ``options``; raises ``ConfigError`` on an unknown option."""
    unknown = set(values) - set(TrainOptions.help())
    if unknown:
        raise ConfigError(f"sweep over {', '.join(sorted(unknown))}: not an option of training")
    typed = {name: [type(getattr(options, name))(v) for v in tried] for name, tried in values.items()}
    return [replace(options, **dict(zip(typed, point, strict=True))) for point in product(*typed.values())]


def sweep(run: Run, trials: Sequence[TrainOptions]) -> list[dict[str, Any]]:
    """Run the trials that ``trials.jsonl`` in ``run.folder`` lacks, and keep the best one's adapter in ``best``.

    ``run.options`` are replaced by each trial's. Returns every row of these trials, best first: ``options``,
    ``metrics``, ``score`` (the method's held-out criterion, lower is better), ``seconds``.
    """
    folder, identity = run.folder, run.data.counts["fingerprint"]
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "trials.jsonl"
    for number, options in enumerate(trials, 1):
        done = _of(read_trials(table), trials, identity)
        if any(row["options"] == options.as_dict() for row in done):
            continue
        run.progress(f"trial {number}", number - 1, len(trials))
        manifest = fit(replace(run, options=options, folder=folder / "trial"), resume=_begun(folder, options))
        score = manifest.metrics[options.criterion]
        if score < min((row["score"] for row in done), default=float("inf")):
            shutil.rmtree(folder / "best", ignore_errors=True)
            (folder / "trial").rename(folder / "best")
        row = {"data": identity, "options": options.as_dict(), "metrics": manifest.metrics, "score": score}
        with table.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"seconds": manifest.seconds}) + "\n")
    shutil.rmtree(folder / "trial", ignore_errors=True)
    return sorted(_of(read_trials(table), trials, identity), key=lambda row: row["score"])


def read_trials(table: Path) -> list[dict[str, Any]]:
    """The rows of a table of trials; a last line cut off by a crash is left out."""
    if not table.exists():
        return []
    lines = table.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _of(rows: list[dict[str, Any]], trials: Sequence[TrainOptions], identity: str) -> list[dict[str, Any]]:
    wanted = [options.as_dict() for options in trials]
    return [row for row in rows if row["data"] == identity and row["options"] in wanted]


def _begun(folder: Path, options: TrainOptions) -> bool:
    """Whether the trial that was interrupted is this one."""
    file = folder / "trial" / "redraft.json"
    return file.exists() and json.loads(file.read_text("utf-8"))["options"] == options.as_dict()
