"""Epochs are chosen by what a policy's answers would leave to edit, on edits that report nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from redraft.costs import COSTS
from redraft.errors import ConfigError, ModelError
from redraft.lm.load import Base
from redraft.policies.adapter import AdapterHost
from redraft.train import fit as fitting
from redraft.train.dataset import Dataset, prepare
from redraft.train.fit import fit
from redraft.train.heldout import choice, heldout_cost, some
from redraft.train.options import TrainOptions
from redraft.train.run import Answering, Run
from redraft.train.runs import read_manifest
from redraft.train.scoring import Scores
from redraft.train.start import begin
from redraft.types import Completion, Decoding, Edit, Interaction, Message

OPTIONS = TrainOptions("sft", learning_rate=5e-3, epochs=3, rank=4, lora_alpha=8, patience=9, max_prompt=64)


def edits(n: int) -> list[Interaction]:
    return [
        Interaction(
            Completion(f"{i}", "t", (Message("user", f"{i * 7919 % 97} {i} {i * i}"),), "y"), Edit(f"{i}", "z" * i)
        )
        for i in range(n)
    ]


@pytest.fixture
def run(tiny_base: Base, tmp_path: Path) -> Run:
    data = prepare(edits(24), tiny_base, replace(OPTIONS, holdout=0.4, max_response=16))
    answering = Answering(COSTS["character"], Decoding(6))
    return Run(tiny_base, data, OPTIONS, tmp_path / "sft@1", "t/sft@1", tmp_path / "cache", answering=answering)


def test_held_out_edits_choose_or_report_and_never_both(run: Run) -> None:
    choosing, reporting = ({i.completion.id for i in part} for part in (run.data.choosing, run.data.reporting))
    assert choosing
    assert reporting
    assert not choosing & reporting
    assert choosing | reporting == {triple.id for triple in run.data.heldout}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])  # of training, not of what is served
def test_the_kept_epoch_costs_least_on_what_chooses_and_its_answers_are_those_of_a_host(
    run: Run, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_PRECISION", precision)
    told = iter([0.9, 0.7, 0.3, 0.5])  # before the first step, then after each epoch
    real: list[float] = []

    def priced(run: Run, model: Any) -> float:
        real.append(heldout_cost(run, model))
        return next(told)

    monkeypatch.setattr(fitting, "heldout_cost", priced)
    manifest = fit(run)
    assert (manifest.criterion, manifest.metrics["edit_cost"], manifest.metrics["epoch"]) == ("edit_cost", 0.3, 2.0)
    assert [line["eval_edit_cost"] for line in manifest.history if "eval_edit_cost" in line] == [0.9, 0.7, 0.3, 0.5]
    assert read_manifest(run.folder).criterion == "edit_cost"
    host = AdapterHost(run.base, max_prompt=64)
    answers = host.load("own", run.folder).respond([i.completion.messages for i in run.data.choosing], Decoding(6))
    host.close()
    assert real[2] == pytest.approx(
        fmean(COSTS["character"](y, i.edited or "") for y, i in zip(answers, run.data.choosing, strict=True))
    )


def test_runs_that_share_how_answers_are_made_ask_their_start_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def priced(run: Run, model: Any) -> float:
        asked.append(all(not p.any() for name, p in model.named_parameters() if "lora_B" in name))
        return heldout_cost(run, model)

    monkeypatch.setattr(fitting, "heldout_cost", priced)
    once = replace(OPTIONS, epochs=1)
    first, second = (fit(replace(run, options=o, folder=run.folder / o.method)) for o in (once, replace(once, rank=2)))
    assert asked == [True, False, False]
    costs = [line["eval_edit_cost"] for line in (first.history[0], second.history[0])]
    assert costs[0] == costs[1]


def test_likelihood_counts_as_two_edits_beside_the_costs_and_reporting_edits_do_not(run: Run) -> None:
    """Each in units of the start: two edits at 0.3 of 0.6, and 0.8 of its nats per token of their texts."""
    chosen, told = run.data.choosing[:2], {i.completion.id for i in run.data.choosing[:2]}
    mine = torch.tensor([-16.0 if triple.id in told else -1000.0 for triple in run.data.heldout])
    start, ones = torch.full_like(mine, -20.0), torch.ones_like(mine)
    scores = Scores(mine, mine, 20 * ones, ones, start, start, ones)
    few = replace(run, data=replace(run.data, choosing=chosen))
    assert choice(few, 0.3, 0.6, scores) == pytest.approx((2 * 0.5 + 2 * 0.8) / 4)
    assert choice(few, 0.3, 0.0, scores) == pytest.approx((2 * 0.3 + 2 * 0.8) / 4), (
        "a start that leaves nothing to edit"
    )
    rl = replace(few, options=replace(OPTIONS, method="rl"))
    assert choice(rl, 0.3, 0.6, scores) == 0.3


def test_equal_costs_are_told_apart_by_likelihood(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def priced(*_: object) -> float:
        return 0.5

    monkeypatch.setattr(fitting, "heldout_cost", priced)
    manifest = fit(run)
    likeliest = min((line for line in manifest.history if "eval_choice" in line), key=lambda line: line["eval_nll"])
    assert manifest.metrics["epoch"] == likeliest["epoch"]
    assert manifest.metrics["choice"] == likeliest["eval_choice"]


@pytest.mark.parametrize(
    ("options", "edits", "passes", "steps"),
    [({}, 6, 20, 20), ({}, 17, 7, 21), ({}, 54, 3, 21), ({}, 800, 3, 300), ({"epochs": 2}, 6, 2, 2),
     ({"batch_size": 4, "accumulation": 2}, 17, 7, 21), ({"batch_size": 4}, 17, 4, 20)],
)  # fmt: skip
def test_a_handful_of_edits_gets_more_passes(options: dict[str, int], edits: int, passes: int, steps: int) -> None:
    assert replace(TrainOptions(), **options).steps_of(edits) == (passes, steps)


def test_pricing_leaves_a_model_in_training_as_it_was(run: Run) -> None:
    model: Any = begin(run.base, OPTIONS, None).train()
    state = torch.get_rng_state()
    assert heldout_cost(run, model) == heldout_cost(run, model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    model.unload()


@pytest.mark.parametrize(
    ("method", "criterion", "named"),
    [("sft", "nll", "nll"), ("sft", "paper", "nll"), ("early", "preference_loss", "preference_loss"),
     ("dpo", "paper", "preference_loss"), ("dpo", "edit_cost", "edit_cost")],
)  # fmt: skip
def test_other_criteria_on_request(run: Run, method: str, criterion: str, named: str) -> None:
    manifest = fit(replace(run, options=replace(OPTIONS, method=method, criterion=criterion, epochs=1)))
    assert manifest.criterion == named
    assert ("edit_cost" in manifest.metrics) == (named == "edit_cost")


def test_where_no_answer_can_be_priced_the_papers_criterion_chooses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(run, options=replace(OPTIONS, epochs=1))
    assert fit(replace(short, data=replace(run.data, choosing=[]))).criterion == "nll"
    assert fit(replace(short, answering=None)).criterion == "nll"

    def refuse(*_: object) -> float:
        raise ModelError("keeps no cache")

    monkeypatch.setattr(fitting, "heldout_cost", refuse)
    assert fit(short).criterion == "nll"


def test_what_is_kept_at_the_end_is_priced_once(run: Run) -> None:
    manifest = fit(replace(run, options=replace(OPTIONS, keep="last", epochs=2)))
    assert [line["epoch"] for line in manifest.history if "eval_edit_cost" in line] == [0.0, 2.0]
    assert 0 < manifest.scoring_seconds < manifest.seconds


def test_a_fixed_choice_of_edits_whatever_their_order() -> None:
    given = edits(40)
    assert some(given, 32) == some(given[::-1], 32)
    assert len(some(given, 32)) == 32
    with pytest.raises(ConfigError, match="criterion = 'bleu': use one of edit_cost, nll, preference_loss, paper"):
        TrainOptions(criterion="bleu")


def test_a_run_of_the_papers_criterion_is_not_another_one_now(run: Run) -> None:
    """Manifests without a criterion are of versions that had no other."""
    done = fit(replace(run, options=replace(OPTIONS, criterion="paper", epochs=1)))
    before = replace(done, options={k: v for k, v in done.options.items() if k != "criterion"})
    assert all(before.alike(done).values())
    assert not before.alike(replace(done, options={**done.options, "criterion": "edit_cost"}))["options"]


def test_an_unsplit_data_set_has_nothing_to_choose_by() -> None:
    assert Dataset([], []).choosing == []
