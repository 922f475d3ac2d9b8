"""A run that never was: rows of which every mean is known, with texts for pages to show."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from redraft.lab.bench.experiment import Description
from redraft.lab.bench.folder import TrainedRun
from redraft.lab.bench.matrix import MatrixRow

ARMS = ("base", "sft", "dpo", "early")
SEEDS = (1, 2, 3)
ROUNDS = 60
MEANS = {
    "summary strong": {"base": 0.9, "sft": 0.5, "dpo": 1.0, "early": 0.2},
    "summary weak": {"base": 0.9, "sft": 0.8, "dpo": 0.7, "early": 0.3},
    "email strong": {"base": 0.5, "sft": 0.3, "dpo": 0.25, "early": 0.35},
    "email weak": {"base": 0.5, "sft": 0.4, "dpo": 0.2, "early": 0.45},
}
"""What each policy costs on average, in every seed."""
MAX_SUBOPT = {"base": 0.7, "sft": 0.5, "dpo": 0.8, "early": 0.25}
"""Of the arms alone, by hand: base .9 − .2, sft .8 − .3 (or .5 − .2 = .3), dpo 1 − .2, early .45 − .2."""

EXPERIMENT: dict[str, Any] = {
    "name": "synthetic",
    "kind": "benchmark",
    "tasks": ["summary", "email"],
    "train_users": ["strong", "weak"],
    "test_users": ["strong"],
    "seeds": list(SEEDS),
    "methods": ["sft", "dpo", "early"],
    "sizes": {"train": 64, "validation": 16, "online": ROUNDS},
    "cost": "word",
    "identity": "smollm2:b179c9523d0e",
    "versions": {"python": "3.11.7", "redraft": "0.1.0"},
    "command": "redraft bench run runs/synthetic.toml",
}


def costs_of(mean: float, rounds: int, rng: np.random.Generator) -> list[float]:
    """As edits have them, many small and a few large, and of exactly this mean (to 10⁻⁹)."""
    drawn = rng.exponential(mean, rounds)
    return [float(cost) for cost in drawn + (mean - drawn.mean()) * drawn / drawn.mean()]


def texts(policy: str, t: int) -> tuple[str, str]:
    edited = f"Dear all, the meeting on day {t} moved to noon. Please bring the <report>. Thanks"
    drafts = {
        "base": f"I hope this message finds you well. I am writing about day {t}. Please let me know of questions.",
        "sft": edited.replace("noon", "the afternoon"),
        "dpo": "" if t % 20 == 0 else "- the meeting the meeting the meeting " * 6,
        "early": edited if t % 3 else edited.replace("Dear all", "Hi"),
    }
    return drafts.get(policy, edited), edited


def make_rows(
    means: Mapping[str, Mapping[str, float]] = MEANS,
    seeds: Sequence[int] = SEEDS,
    rounds: int = ROUNDS,
    test_users: Sequence[str] = ("strong",),
) -> list[MatrixRow]:
    rows: list[MatrixRow] = []
    for test_user, seed, (setting, policies) in product(test_users, seeds, means.items()):
        rng = np.random.default_rng([seed, len(rows)])
        task, _, train_user = setting.partition(" ")
        columns = {policy: costs_of(mean, rounds, rng) for policy, mean in policies.items()}
        for policy, t in product(columns, range(1, rounds + 1)):
            response, edited = texts(policy, t)
            key = (seed, task, train_user, test_user, t, f"{task}-{seed}-{t:04}", policy)
            rows.append(MatrixRow(*key, response, edited, 3.0, columns[policy][t - 1], 0.1))
    return rows


def make_training(seeds: Sequence[int] = SEEDS) -> list[TrainedRun]:
    """Two trials each, of which one was chosen; dpo pushes everything down."""
    slopes = {"sft": (12.0, -8.0), "dpo": (-9.0, -48.0), "early": (11.0, -25.0)}
    return [
        training_row(setting, seed, method, slopes[method], chosen=chosen)
        for setting, seed, method, chosen in product(MEANS, seeds, slopes, (True, False))
    ]


def training_row(setting: str, seed: int, method: str, slope: tuple[float, float], *, chosen: bool) -> TrainedRun:
    task, _, train_user = setting.partition(" ")
    up, down = slope
    history = [
        {"step": 8.0 * epoch, "epoch": float(epoch), "eval_nll": 2.0 - 0.2 * epoch,
         "eval_chosen_above_reference": up * epoch + seed, "eval_rejected_above_reference": down * epoch + seed}
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    metrics = {name.removeprefix("eval_"): value for name, value in history[-1].items()}
    return TrainedRun(
        seed=seed, task=task, train_user=train_user, method=method, chosen=chosen, metrics=metrics, history=history
    )


def described(**changed: Any) -> Description:
    """``EXPERIMENT`` as a report reads it."""
    return Description.model_validate(EXPERIMENT | changed)


def write_run(
    folder: Path,
    rows: Sequence[MatrixRow],
    experiment: Mapping[str, Any] = EXPERIMENT,
    training: Sequence[TrainedRun] = (),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(dict(experiment)), "utf-8")
    with gzip.open(folder / "matrix.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    (folder / "training.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in training), "utf-8")
    return folder
