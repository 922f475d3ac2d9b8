"""RLOO on the tiny model: the objective of eq. 6 falls, on contexts that were held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redraft.lm.load import Base
from redraft.train.cost_run import Bound, Features
from redraft.train.fit import fit
from redraft.train.options import TrainOptions
from redraft.train.rl import Tracker, prepare_rl, priced_run
from redraft.train.run import Run
from redraft.train.start import as_begun, begin, trainable

from .test_cost_run import interactions

pytestmark = pytest.mark.slow
OPTIONS = TrainOptions(
    method="rl", solver="rloo", samples=8, epochs=6, batch_size=8, learning_rate=5e-3, rank=4, beta=0.02, max_prompt=64,
    max_response=13, holdout=0.3,
)  # fmt: skip


class Letters(Bound):
    """A known cost: the share of characters that are no small letter."""

    def __call__(self, messages: Any, responses: Any) -> Any:
        return np.array([1 - sum("a" <= c <= "z" for c in text) / max(1, len(text)) for text in responses])


@pytest.fixture
def run(tiny_base: Base, tmp_path: Path) -> Run:
    bound = Letters(None, Features(tiny_base, tmp_path / "cache", 64, 12))  # pyright: ignore[reportArgumentType]
    rows = interactions(24)
    data = prepare_rl(rows, bound, OPTIONS, tmp_path / "cache")
    return priced_run(Run(tiny_base, data, OPTIONS, tmp_path / "rl@1", "email/rl@1", tmp_path / "cache"), rows, bound)


def objective(run: Run, folder: Path | None) -> float:
    """f̄ + β·KL over many answers to the held-out contexts, of a policy from its folder or of the base model."""
    assert isinstance(run.track, Tracker)
    many = replace(run.track, contexts=list(run.track.contexts) * 8)
    found: list[float] = []
    fresh = begin(run.base, OPTIONS, None)
    plain = trainable(fresh)
    fresh.unload()
    model = begin(run.base, OPTIONS, folder)
    try:
        for seed in range(4):
            told = replace(many, options=replace(OPTIONS, seed=100 + seed))(model, lambda: as_begun(model, plain))
            found.append(told["own_cost"] + OPTIONS.beta * told["own_kl"])
    finally:
        model.unload()
    return float(np.mean(found))


def test_the_objective_falls_and_the_base_model_is_as_it_was(run: Run, tmp_path: Path) -> None:
    before = run.base.model.state_dict()
    before = {name: part.clone() for name, part in before.items()}
    manifest = fit(run)
    assert manifest.status == "complete"
    begun = next(line for line in manifest.history if line["step"] == 0)
    assert begun["eval_own_kl"] == 0
    assert manifest.metrics["objective"] < begun["eval_objective"] - 0.03
    assert manifest.metrics["own_kl"] > 0
    assert objective(run, run.folder) < objective(run, None) - 0.03
    steps = [line for line in manifest.history if "reward" in line]
    assert all({"reward", "kl"} <= line.keys() for line in steps)  # tracked at each step
    assert steps[-1]["reward"] > steps[0]["reward"]
    assert all((run.base.model.state_dict()[name] == part).all() for name, part in before.items())
    assert "forward" not in vars(run.base.model)


def test_a_run_may_go_on_from_a_policy(run: Run, tmp_path: Path) -> None:
    fit(run)
    options = replace(OPTIONS, epochs=1, start="email/rl@1")
    again = replace(run, options=options, folder=tmp_path / "rl@2", policy="email/rl@2", start=run.folder)
    manifest = fit(again)
    begun = next(line for line in manifest.history if line["step"] == 0)
    assert begun["eval_own_kl"] == 0  # π_ref is the first run's policy
    assert begun["eval_own_cost"] < 0.9
