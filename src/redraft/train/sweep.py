"""Choose hyperparameters as epochs are chosen: learning rate, epochs, β and λ by held-out edit cost by default.

Epochs need no trials of their own while the learning rate is constant after its warm-up: every run then shows all
shorter ones, and the best epoch is kept. Every trial keeps its folder and a row in a JSONL table; a sweep that was
interrupted skips those it has, and continues the one it was in.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from redraft.errors import ConfigError
from redraft.train.fit import fit
from redraft.train.options import RL, SHARED, TrainOptions, metric_of
from redraft.train.run import Run
from redraft.train.runs import MANIFEST, RUNNING, Manifest, read_manifest

__all__ = ["GRIDS", "Trial", "grid", "sweep"]

GRIDS: dict[str, dict[str, Sequence[float]]] = {
    "sft": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "dpo": {"learning_rate": (5e-5, 2e-4, 5e-4), "beta": (0.05, 0.1)},
    "early": {"learning_rate": (2e-4, 5e-4), "beta": (0.05, 0.1), "nll_weight": (0.3, 1.0)},
    "rl": {"learning_rate": (2e-4, 5e-4, 1e-3)},  # its β is part of the question, and not to be chosen by the answer
}
"""Default values to try: at most eight trials a method."""


@dataclass(frozen=True)
class Trial:
    """A finished run of a sweep and the folder its adapter is in."""

    folder: Path
    manifest: Manifest

    @property
    def score(self) -> float:
        """What chose its epoch, lower is better; infinite for a run that diverged."""
        return self.manifest.metrics.get(metric_of(self.manifest.criterion), math.inf)


def grid(options: TrainOptions, values: Mapping[str, Sequence[float | str]]) -> list[TrainOptions]:
    """Every combination of ``values`` on top of ``options``; raises ``ConfigError`` on what trials cannot differ in.

    Trials share one split and one encoding, and for rl one pricing, so that their scores can be compared.
    """
    priced = {"solver", "samples", "pessimism"} if options.method == RL else set()
    unknown = set(values) - (set(options.as_dict()) - SHARED - priced)
    if unknown:
        raise ConfigError(f"sweep over {', '.join(sorted(unknown))}: not an option that trials can differ in")
    typed = {name: [type(getattr(options, name))(v) for v in tried] for name, tried in values.items()}
    return [replace(options, **dict(zip(typed, point, strict=True))) for point in product(*typed.values())]


def sweep(run: Run, trials: Sequence[TrainOptions]) -> list[Trial]:
    """Run what is not finished of ``trials``, each in a folder of its own under ``run.folder``; best first.

    ``run.options`` are replaced by each trial's. ``trials.jsonl`` gains a row for each trial that ends.
    """
    found: list[Trial] = []
    for number, options in enumerate(trials, 1):
        run.progress("trials", number - 1, len(trials))
        folder = run.folder / _key(run, options)
        manifest = read_manifest(folder) if (folder / MANIFEST).exists() else None
        if manifest is None or manifest.status == RUNNING:
            manifest = fit(replace(run, options=options, folder=folder), resume=True)
            _append(run.folder / "trials.jsonl", manifest)
        found.append(Trial(folder, manifest))
    run.progress("trials", len(trials), len(trials))
    return sorted(found, key=lambda trial: trial.score)


def _key(run: Run, options: TrainOptions) -> str:
    """Same model, same data, same options: same trial."""
    identity = [run.base.identity, run.data.counts["fingerprint"], options.as_dict()]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def _append(table: Path, manifest: Manifest) -> None:
    row = {"base": manifest.base, "data": manifest.data, "options": manifest.options, "metrics": manifest.metrics}
    with table.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | {"status": manifest.status, "seconds": manifest.seconds}) + "\n")
