"""Eq. 6 off-line: the loss against the closed form, gaps by hand, a run of each solver on the tiny model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from redraft.costs import COSTS
from redraft.errors import ConfigError, DataError
from redraft.lm.encode import encode_prompt, encode_response
from redraft.lm.generate import generate_ids, stop_tokens
from redraft.lm.load import Base
from redraft.train.cost_run import Bound, Features, learn_cost, read_bound, write_cost
from redraft.train.dataset import Dataset
from redraft.train.fit import fit
from redraft.train.losses import regression_loss
from redraft.train.options import TrainOptions
from redraft.train.packing import Triple
from redraft.train.reference import reference_logprobs
from redraft.train.rl import SEEDS, Tracker, draw_samples, prepare_rl, priced_run
from redraft.train.run import Run
from redraft.train.runs import read_sources
from redraft.train.start import reference_model
from redraft.train.sweep import grid
from redraft.types import Decoding, Interaction

from .test_cost_run import interactions
from .test_packing import triples

COST, BETA = COSTS["word"], 0.3
OPTIONS = TrainOptions(
    method="rl", solver="contrast", epochs=1, batch_size=4, rank=2, samples=3, beta=BETA, max_prompt=64,
    max_response=12, holdout=0.3,
)  # fmt: skip


def optimum(reference: torch.Tensor, costs: torch.Tensor) -> torch.Tensor:
    return torch.softmax(reference.log() - costs / BETA, 0)


def objective(law: torch.Tensor, reference: torch.Tensor, costs: torch.Tensor) -> float:
    return float(law @ (costs + BETA * (law / reference).log()))


def solved(loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> torch.Tensor:
    """The tabular policy softmax(θ) at the minimum of a loss of its log-probabilities."""
    theta = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss(torch.log_softmax(theta, 0))
        value.backward()
        return value

    search.step(closure)
    return torch.softmax(theta.detach(), 0)


@pytest.mark.parametrize("seed", range(5))
def test_regression_reaches_the_closed_form_where_all_responses_are_enumerated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = torch.from_numpy(rng.dirichlet(np.full(12, 3.0)))
    costs = torch.from_numpy(rng.gamma(2, 0.4, 12))
    best = objective(optimum(reference, costs), reference, costs)
    chosen, rejected = torch.triu_indices(12, 12, 1)
    ref = reference.log()

    def regression(logp: torch.Tensor) -> torch.Tensor:
        gap = costs[rejected] - costs[chosen]
        return regression_loss(logp[chosen], logp[rejected], ref[chosen], ref[rejected], gap, beta=BETA).sum()

    assert objective(solved(regression, 12), reference, costs) == pytest.approx(best, abs=1e-6)
    assert objective(reference, reference, costs) > best + 0.01  # so that the lines above can fail


def test_regression_by_hand() -> None:
    # log-ratios: y' up by 2 nats, y down by 1: β·3 = 1.5 where 0.9 was asked for.
    values = (torch.tensor([v]) for v in (-3.0, -6.0, -5.0, -5.0))
    assert regression_loss(*values, gap=torch.tensor([0.9]), beta=0.5).item() == pytest.approx(0.36)


@pytest.fixture
def bound(tiny_base: Base, tmp_path: Path) -> Bound:
    features = Features(tiny_base, tmp_path / "cache", 64, 12)
    return Bound(learn_cost(interactions(40), features, COST, holdout=0.3, seed=0).model, features)


def test_samples_are_drawn_once(bound: Bound, tmp_path: Path) -> None:
    rows = interactions(20)
    counted: list[int] = []
    data = prepare_rl(rows, bound, OPTIONS, tmp_path / "cache", on_batch=counted.append)
    assert sum(counted) == 20 * 3
    assert sorted(t.id for t in (*data.train, *data.heldout)) == sorted(i.completion.id for i in rows)
    again = prepare_rl(rows, bound, OPTIONS, tmp_path / "cache", on_batch=counted.append)
    assert again == data
    assert sum(counted) == 20 * 3
    other = prepare_rl(rows, bound, replace(OPTIONS, seed=2, holdout=0.3), tmp_path / "cache", on_batch=counted.append)
    assert sum(counted) == 2 * 20 * 3
    assert other != data


def test_pessimism_weighs_the_bonus(bound: Bound) -> None:
    messages, texts = [i.completion.messages for i in interactions(4)], ["a", "b c", "d e f", ""]
    mean, bonus = bound.predict(messages, texts)
    assert (bonus > 0).all()
    assert replace(bound, pessimism=0.0)(messages, texts) == pytest.approx(mean)
    assert replace(bound, pessimism=2.0)(messages, texts) == pytest.approx(mean + 2 * bonus)


def test_pairs_get_their_gap(bound: Bound, tmp_path: Path) -> None:
    rows = interactions(20)
    data = prepare_rl(rows, bound, replace(OPTIONS, solver="regression"), tmp_path / "cache")
    by_id = {i.completion.id: i for i in rows}
    for triple in data.train:
        row = by_id[triple.id]
        (worse,) = bound([row.completion.messages], [row.completion.response])
        assert triple.gap == pytest.approx(worse)  # y' costs nothing


def test_a_contrast_is_between_the_cheapest_and_the_dearest_sample(bound: Bound, tmp_path: Path) -> None:
    rows = interactions(20)
    data = prepare_rl(rows, bound, OPTIONS, tmp_path / "cache")
    by_id = {i.completion.id: i for i in rows}
    messages = [by_id[t.id].completion.messages for t in data.train]
    drawn = draw_samples(bound.features.base, messages, OPTIONS, Decoding(11, 1.0), tmp_path / "cache")
    tokenizer = bound.features.base.tokenizer
    for triple, x, responses in zip(data.train, messages, drawn, strict=True):
        prices = bound([x] * 3, responses)
        assert triple.gap == pytest.approx(prices.max() - prices.min())
        assert triple.chosen == encode_response(tokenizer, responses[prices.argmin()])[:12]
        assert triple.rejected == encode_response(tokenizer, responses[prices.argmax()])[:12]


@pytest.mark.parametrize("solver", ["contrast", "regression"])
def test_a_run_of_each_solver(bound: Bound, tmp_path: Path, solver: str) -> None:
    options = replace(OPTIONS, solver=solver, nll_weight=0.0, epochs=6, learning_rate=1e-3, patience=9)
    rows = interactions(24)
    data = prepare_rl(rows, bound, options, tmp_path / "cache")
    run = Run(bound.features.base, data, options, tmp_path / "rl@1", "email/rl@1", tmp_path / "cache")
    manifest = fit(run)
    steps = [line for line in manifest.history if "loss" in line]
    first, last = (np.mean([line["loss"] for line in steps if math.ceil(line["epoch"]) == epoch]) for epoch in (1, 6))
    assert last < first
    gaps = [t.gap**2 for t in data.train if t.gap is not None]
    assert min(gaps) <= steps[0]["loss"] <= max(gaps)  # LoRA begins at the reference: the square of what is asked for
    assert "regression_loss" in steps[0]
    assert read_sources(run.folder) == {i.completion.id for i in rows}


def test_a_run_is_followed_on_its_own_answers(bound: Bound, tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=3, learning_rate=1e-2, patience=9)
    rows = interactions(24)
    data = prepare_rl(rows, bound, options, tmp_path / "cache")
    base = bound.features.base
    run = Run(base, data, options, tmp_path / "rl@1", "email/rl@1", tmp_path / "cache")
    run = priced_run(run, rows, bound)
    follow = run.track
    assert isinstance(follow, Tracker)
    begun, *lines = [line for line in fit(run).history if "eval_own_kl" in line]
    assert [line["epoch"] for line in (begun, *lines)] == [0, 1, 2, 3]
    assert begun["eval_own_kl"] == 0
    assert lines[-1]["eval_own_kl"] > 0.01
    held = [i.completion.messages for i in rows if i.completion.id in {t.id for t in data.heldout}]
    assert len(follow.contexts) == len(held)
    # The policy as it was left, asked from outside: its answers, their likelihood under it and under the base model.
    prompts = [encode_prompt(base.tokenizer, x, options.max_prompt) for x in follow.contexts]
    with reference_model(base, run.folder) as policy:
        ids = generate_ids(
            policy.model,
            prompts,
            replace(follow.decoding, seed=options.seed * SEEDS - 1),
            stop_tokens(policy.model, base.tokenizer),
        )
        made = [Triple(str(n), x, y, None) for n, (x, y) in enumerate(zip(prompts, ids, strict=True))]
        own = reference_logprobs(policy, made, tmp_path / "fresh")
    other = reference_logprobs(base, made, tmp_path / "fresh")
    best = min(lines, key=lambda line: line["eval_objective"])
    assert best["eval_own_kl"] == pytest.approx(np.mean([own[t.id][0] - other[t.id][0] for t in made]), abs=1e-3)
    texts = [str(base.tokenizer.decode(y, skip_special_tokens=True)) for y in ids]
    assert best["eval_own_cost"] == pytest.approx(bound(follow.contexts, texts).mean(), abs=1e-4)


def test_a_bound_is_read_back_or_refused(tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cost model in .*: redraft train cost email makes one"):
        read_bound(tmp_path, "email", tiny_base, tmp_path, COST)
    features = Features(tiny_base, tmp_path / "cache", 64, 12)
    logged: list[Interaction] = interactions(40)
    for version in (9, 10):  # the tenth is later than the ninth
        run = learn_cost(logged[: 4 * version], features, COST, holdout=0.3, seed=0)
        folder = tmp_path / "email" / f"cost@{version}"
        folder.parent.mkdir(exist_ok=True)
        write_cost(folder, run, features, COST)
    found = read_bound(tmp_path, "email", tiny_base, tmp_path / "cache", COST)
    assert np.array_equal(found.model.bound.weights, run.model.bound.weights)
    assert (found.features.max_prompt, found.features.max_response) == (64, 12)
    moved_on = replace(tiny_base, revision="0123456789ab", earlier=tiny_base.revision)  # as a later version reads it
    assert read_bound(tmp_path, "email", moved_on, tmp_path, COST).model.kappa == found.model.kappa
    with pytest.raises(DataError, match=r"learnt with base model .*, not .*0123456789ab"):
        read_bound(tmp_path, "email", replace(moved_on, earlier=None), tmp_path, COST)
    with pytest.raises(DataError, match="learnt with cost word, not character"):
        read_bound(tmp_path, "email", tiny_base, tmp_path, COSTS["character"])


@pytest.mark.parametrize("method", ["dpo", "rl"])
def test_a_run_that_no_held_out_pair_can_score_is_refused(tiny_base: Base, tmp_path: Path, method: str) -> None:
    data = Dataset(triples(4), [replace(t, rejected=None) for t in triples(2, seed=1)])
    options = replace(OPTIONS, method=method, solver="regression")
    with pytest.raises(DataError, match=r"no held-out edit changes a text.*raise --holdout"):
        fit(Run(tiny_base, data, options, tmp_path / "x@1", "email/x@1", tmp_path / "cache"))


def test_trials_cannot_differ_in_what_data_was_priced_with() -> None:
    for name in ("samples", "pessimism"):
        with pytest.raises(ConfigError, match=f"sweep over {name}"):
            grid(OPTIONS, {name: [1.0, 2.0]})
    assert len(grid(OPTIONS, {"beta": [0.1, 0.2]})) == 2


def test_a_bound_below_zero_counts_as_zero_where_a_cost_is_told(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(*_: object) -> tuple[np.ndarray, np.ndarray]:
        return np.array([-1.3, 0.2]), np.array([0.1, 0.1])

    monkeypatch.setattr(Bound, "predict", predict)
    assert bound([], []).tolist() == pytest.approx([-1.2, 0.3])  # which of them is lower stays known
    assert bound.at_most([], []).tolist() == pytest.approx([0.0, 0.3])
