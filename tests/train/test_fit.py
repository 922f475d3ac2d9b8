"""A run from triples to a policy folder: interrupted, resumed, accumulated, refused."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from redraft.errors import ConfigError, DataError
from redraft.lm.load import Base, load_base
from redraft.train.dataset import Dataset, foreign_policies, prepare
from redraft.train.fit import fit
from redraft.train.options import TrainOptions
from redraft.train.packing import Triple
from redraft.train.run import Progress, Run
from redraft.train.runs import Manifest, checkpoints, read_manifest, write_manifest
from redraft.train.sweep import grid, sweep
from redraft.train.trainer import EditTrainer
from redraft.types import Completion, Edit, Interaction, Message

from .test_packing import triples

OPTIONS = TrainOptions(learning_rate=5e-3, epochs=3, batch_size=4, rank=4, lora_alpha=8, patience=9)
DATA = Dataset(triples(10), triples(5, seed=1))


@pytest.fixture
def run(tiny_base: Base, tmp_path: Path) -> Run:
    return Run(tiny_base, DATA, OPTIONS, tmp_path / "early@1", "email/early@1", tmp_path / "cache")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same_weights(one: Path, other: Path, *, atol: float = 0.0) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0, atol=atol)


def test_a_run_leaves_a_policy_and_its_base_as_it_was(run: Run) -> None:
    before = {name: weight.clone() for name, weight in run.base.model.state_dict().items()}
    manifest = fit(run)
    after = run.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert read_manifest(run.folder) == manifest
    assert manifest.status == "complete"
    assert manifest.data["train_pairs"] == sum(t.rejected is not None for t in DATA.train)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md", "redraft.json"} <= {
        file.name for file in run.folder.iterdir()
    }
    assert not checkpoints(run.folder)
    assert json.loads((run.folder / "adapter_config.json").read_text())["base_model_name_or_path"] == run.base.source


def test_the_rate_rises_is_held_and_falls(run: Run) -> None:
    """10 triples by 2, two passes: 10 steps, of which 2 rise and the last 4 fall."""
    options = replace(OPTIONS, method="sft", epochs=2, batch_size=2, learning_rate=0.01, warmup=0.2, decay=0.4)
    rates = [line["learning_rate"] for line in fit(replace(run, options=options)).history if "loss" in line]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.0075, 0.005, 0.0025])


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_a_run_in_bfloat16_as_on_a_machine_that_has_it(
    run: Run, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, weights: torch.dtype
) -> None:
    """Processors with bfloat16 keep float32 weights, graphics cards do not; either learns what float32 learns."""
    exact = fit(run).metrics
    monkeypatch.setenv("REDRAFT_PRECISION", "bfloat16")
    base = load_base(str(tiny_model_folder), tiny_model_folder.parent)
    base.model.to(weights)  # pyright: ignore[reportArgumentType]
    begun = fit(replace(run, base=base, folder=run.folder.with_name("short"), options=replace(OPTIONS, epochs=1)))
    rough = fit(replace(run, base=base, folder=run.folder.with_name("rough"))).metrics
    assert rough["nll"] < begun.metrics["nll"]
    for name in ("nll", "preference_loss"):
        assert rough[name] != exact[name]  # bfloat16 it was
        assert rough[name] == pytest.approx(exact[name], rel=0.05)


def test_training_lowers_the_objective_and_reports_both_texts(run: Run) -> None:
    history = fit(replace(run, options=replace(OPTIONS, epochs=8))).history
    steps = [line for line in history if "loss" in line]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert {"nll", "preference_loss", "chosen_above_reference", "rejected_above_reference"} <= steps[0].keys()
    assert steps[0]["chosen_above_reference"] == pytest.approx(0.0, abs=1e-3)  # LoRA begins at the reference
    assert steps[0]["loss"] == pytest.approx(math.log(2) + OPTIONS.nll_weight * steps[0]["nll"], rel=1e-4)


def test_early_without_likelihood_is_dpo(run: Run, tmp_path: Path) -> None:
    pairs = Dataset([t for t in DATA.train if t.rejected], DATA.heldout)
    for name, options in {
        "dpo": replace(OPTIONS, method="dpo", epochs=1, batch_size=1),
        "early": replace(OPTIONS, method="early", nll_weight=0.0, epochs=1, batch_size=1),
    }.items():
        history = fit(replace(run, data=pairs, options=options, folder=tmp_path / name)).history
        steps = [line for line in history if "loss" in line]
        assert len(steps) == len(pairs.train)
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # LoRA begins at the reference
        for step in steps:  # eq. 4 by hand, from what was logged of its one pair
            margin = step["chosen_above_reference"] - step["rejected_above_reference"]
            assert step["loss"] == pytest.approx(math.log1p(math.exp(-OPTIONS.beta * margin)), abs=1e-4)
        assert max(abs(step["loss"] - math.log(2)) for step in steps) > 1e-3  # so that the line above can fail
    assert_same_weights(tmp_path / "dpo", tmp_path / "early", atol=1e-6)


@pytest.mark.parametrize("method", ["sft", "early"])
def test_accumulation_does_not_change_the_step(run: Run, tmp_path: Path, method: str) -> None:
    data = Dataset(triples(8), DATA.heldout)
    steps: dict[int, list[float]] = {}
    for batch, accumulation in ((8, 1), (1, 8), (2, 4)):
        options = replace(OPTIONS, method=method, batch_size=batch, accumulation=accumulation, epochs=2)
        history = fit(replace(run, data=data, options=options, folder=tmp_path / str(batch))).history
        # Adam does not mind a gradient's scale: losses and norms must agree too.
        steps[batch] = [line[name] for line in history if "loss" in line for name in ("loss", "grad_norm")]
    assert steps[1] == pytest.approx(steps[8], rel=1e-3)
    assert steps[2] == pytest.approx(steps[8], rel=1e-3)
    assert_same_weights(tmp_path / "8", tmp_path / "1", atol=2e-5)
    assert_same_weights(tmp_path / "8", tmp_path / "2", atol=2e-5)


class PowerCutError(Exception):
    """What a kill looks like from inside."""


def noting(steps: list[int]) -> Progress:
    """Note which steps of training a run takes."""

    def progress(what: str, done: int, _total: int) -> None:
        if what == "early":
            steps.append(done)

    return progress


@pytest.mark.parametrize(("step", "options"), [(2, {}), (4, {}), (8, {}), (5, {"decay": 0.5, "keep": "last"})])
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    run: Run, tmp_path: Path, step: int, options: dict[str, Any]
) -> None:
    run = replace(run, options=replace(OPTIONS, **options))
    whole = fit(replace(run, folder=tmp_path / "whole"))

    def cut(what: str, done: int, _total: int) -> None:
        if (what, done) == ("early", step):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(replace(run, progress=cut))
    assert read_manifest(run.folder).status == "running"
    steps: list[int] = []
    resumed = fit(replace(run, progress=noting(steps)), resume=True)
    assert steps == list(range(1 + step // 3 * 3, 10))  # three steps an epoch, a checkpoint after each
    assert_same_weights(tmp_path / "whole", run.folder)
    assert resumed.metrics == whole.metrics
    assert [line["step"] for line in resumed.history] == [line["step"] for line in whole.history]


def test_interrupt_saves_after_the_step_at_hand(run: Run, tmp_path: Path) -> None:
    whole = fit(replace(run, folder=tmp_path / "whole"))

    def press(what: str, done: int, _total: int) -> None:
        if (what, done) == ("early", 5):  # in the middle of the second epoch
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(replace(run, progress=press))
    assert checkpoints(run.folder)[-1].name == "checkpoint-5"
    steps: list[int] = []
    resumed = fit(replace(run, progress=noting(steps)), resume=True)
    assert steps == [6, 7, 8, 9]
    assert_same_weights(tmp_path / "whole", run.folder)
    assert resumed.metrics == whole.metrics
    assert [line["step"] for line in resumed.history] == [line["step"] for line in whole.history]


def test_early_stopping_counts_on_after_a_resume(run: Run, tmp_path: Path) -> None:
    # A rate so high that the held-out score rises from the second epoch on: the third must be the last.
    options = replace(OPTIONS, learning_rate=0.3, epochs=9, patience=2, warmup=0.0, batch_size=1)
    run = replace(run, options=options)
    whole = fit(replace(run, folder=tmp_path / "whole"))
    last = round(whole.history[-1]["epoch"])
    assert 3 <= last < 9

    def cut(what: str, done: int, _total: int) -> None:
        if (what, done) == ("early", len(DATA.train) * (last - 1) + 1):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(replace(run, progress=cut))
    resumed = fit(run, resume=True)
    assert [line["step"] for line in resumed.history] == [line["step"] for line in whole.history]
    assert resumed.metrics == whole.metrics


def test_short_texts_learn_with_shared_heads_in_bfloat16(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the trainer runs the model, that is, not only where we score with it: accelerate casts inside of it."""
    learning = set[bool]()
    plain = functional.scaled_dot_product_attention

    def attention(*args: Any, **more: Any) -> torch.Tensor:
        learning.add(torch.is_grad_enabled())
        return plain(*args, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attention)
    for precision, torchs in (("bfloat16", {False}), ("float32", {True, False})):
        monkeypatch.setenv("REDRAFT_PRECISION", precision)
        learning.clear()
        fit(replace(run, options=replace(OPTIONS, epochs=1)))
        assert learning == torchs


def test_passes_of_a_step_or_two_do_not_end_a_run(run: Run) -> None:
    """Its patience is twenty steps at least, here seven passes of three."""
    asked = replace(OPTIONS, learning_rate=0.3, patience=2, warmup=0.0, epochs=12)
    whole = fit(replace(run, options=asked))
    assert [asked.patience_of(n) for n in (1, 10, 40, 400)] == [20, 7, 2, 2]
    assert whole.history[-1]["epoch"] == min(12.0, whole.metrics["epoch"] + 7)


def test_the_last_epoch_is_kept_where_that_is_asked(run: Run) -> None:
    # The same rate: the best epoch is an early one, and at a constant rate a shorter run's last.
    def fitted(name: str, *, keep_epochs: bool = False, **options: Any) -> Manifest:
        asked = replace(OPTIONS, learning_rate=0.3, patience=2, warmup=0.0, **options)
        return fit(replace(run, folder=run.folder.with_name(name), options=asked, keep_epochs=keep_epochs))

    best = fitted("best", epochs=9)
    epoch = round(best.metrics["epoch"])
    short = fitted("short", epochs=epoch, keep="last")
    assert short.metrics == best.metrics
    assert_same_weights(run.folder.with_name("best"), run.folder.with_name("short"))
    whole = fitted(
        "whole", keep_epochs=True, epochs=epoch + 4, keep="last"
    )  # where the best's patience would have ended
    assert whole.metrics["epoch"] == epoch + 4
    assert whole.metrics["nll"] > best.metrics["nll"]
    kept, last = weights(run.folder.with_name("best")), weights(run.folder.with_name("whole"))
    assert not all(torch.equal(kept[name], last[name]) for name in kept)
    epochs = run.folder.with_name("whole") / "epochs"
    assert_same_weights(epochs / str(epoch), run.folder.with_name("best"))
    assert_same_weights(epochs / str(epoch + 4), run.folder.with_name("whole"))
    assert not (run.folder.with_name("best") / "epochs").exists()


def test_a_last_epoch_without_a_score_has_diverged(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows that were left as they are likelihood is the only score, and nothing finite is left of a line."""

    def spoilt(trainer: EditTrainer, *args: Any, **given: Any) -> dict[str, float]:
        if trainer.state.epoch == 3:
            with torch.no_grad():
                for part in trainer.model.parameters():  # pyright: ignore[reportOptionalMemberAccess]
                    part.fill_(math.nan) if part.requires_grad else None
        return evaluate(trainer, *args, **given)

    evaluate = EditTrainer.evaluate
    monkeypatch.setattr(EditTrainer, "evaluate", spoilt)
    train, heldout = ([replace(t, rejected=None) for t in part] for part in (DATA.train, DATA.heldout))
    data = Dataset(train, heldout)
    options = replace(OPTIONS, method="sft", epochs=3)
    assert fit(replace(run, data=data, options=options)).status == "complete"
    kept = replace(run, data=data, options=replace(options, keep="last"), folder=run.folder.with_name("last"))
    assert fit(kept).status == "diverged"


def test_a_checkpoint_cut_off_while_written_is_passed_over(run: Run) -> None:
    half = run.folder / "checkpoints" / "checkpoint-3"
    half.mkdir(parents=True)
    (half / "trainer_state.json").write_text('{"step": ')
    (run.folder / "checkpoints" / "checkpoint-6").mkdir()
    assert checkpoints(run.folder) == []


def test_a_run_older_than_an_option_is_resumed(run: Run) -> None:
    def cut(what: str, done: int, _total: int) -> None:
        if (what, done) == ("early", 4):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(replace(run, progress=cut))
    begun = read_manifest(run.folder)
    write_manifest(run.folder, replace(begun, options={k: v for k, v in begun.options.items() if k != "keep"}))
    steps: list[int] = []
    fit(replace(run, progress=noting(steps)), resume=True)
    assert steps[0] == 4  # where the first epoch ended


def test_resume_refuses_other_options(run: Run) -> None:
    fit(run)
    with pytest.raises(ConfigError, match="started with other options"):
        fit(replace(run, options=replace(OPTIONS, beta=0.2)), resume=True)


def test_dpo_without_pairs_is_refused(run: Run) -> None:
    unchanged = Dataset([replace(t, rejected=None) for t in DATA.train], DATA.heldout)
    with pytest.raises(DataError, match="use sft"):
        fit(replace(run, data=unchanged, options=replace(OPTIONS, method="dpo")))
    assert not run.folder.exists()


def test_unchanged_rows_alone_teach_sft(run: Run) -> None:
    unchanged = Dataset(
        [replace(t, rejected=None) for t in DATA.train], [replace(t, rejected=None) for t in DATA.heldout]
    )
    manifest = fit(replace(run, data=unchanged, options=replace(OPTIONS, method="sft", epochs=1)))
    assert set(manifest.metrics) == {"nll", "reference_nll", "epoch", "step"}


def test_the_reference_is_computed_once(run: Run, tmp_path: Path) -> None:
    seen: list[str] = []

    def watch(what: str, _done: int, _total: int) -> None:
        seen.append(what)

    fit(replace(run, progress=watch))
    assert seen.count("reference") == 5  # two batches of held-out triples, three of training
    seen.clear()
    fit(replace(run, progress=watch, folder=tmp_path / "again", options=replace(OPTIONS, method="dpo")))
    assert seen.count("reference") == 2  # each set at once, from the cache


def test_sweep_keeps_the_table_and_the_best_and_continues(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "early.sweep"
    trials = grid(replace(OPTIONS, epochs=1), {"learning_rate": (1e-5, 5e-3), "nll_weight": (0.5,)})
    found = sweep(replace(run, folder=folder), trials)
    assert [trial.score for trial in found] == sorted(trial.manifest.metrics["nll"] for trial in found)
    assert weights(found[0].folder)
    seen: list[str] = []

    def watch(what: str, _done: int, _total: int) -> None:
        seen.append(what)

    again = sweep(replace(run, folder=folder, progress=watch), trials)
    assert again == found
    assert set(seen) == {"trials"}
    assert len((folder / "trials.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["temperature", "max_prompt", "seed"])
def test_grid_refuses_what_trials_cannot_differ_in(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        grid(OPTIONS, {name: (1.0,)})


def test_dpo_without_held_out_pairs_is_refused(run: Run) -> None:
    data = Dataset(DATA.train, [replace(t, rejected=None) for t in DATA.heldout])
    with pytest.raises(DataError, match="raise --holdout"):
        fit(replace(run, data=data, options=replace(OPTIONS, method="dpo")))


def test_dpo_learns_from_pairs_alone(run: Run) -> None:
    assert all(t.rejected for t in replace(run, options=replace(OPTIONS, method="dpo")).learned)
    assert replace(run, options=replace(OPTIONS, method="sft")).learned == DATA.train


def test_a_run_that_diverges_says_so(run: Run) -> None:
    manifest = fit(replace(run, options=replace(OPTIONS, learning_rate=1e30, warmup=0.0)))
    assert (manifest.status, manifest.metrics) == ("diverged", {})


def test_a_cut_text_is_counted(tiny_base: Base) -> None:
    data = prepare([edited(i) for i in range(8)], tiny_base, replace(OPTIONS, max_response=4, holdout=0.3))
    assert data.counts["cut"] == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "ppo"),
        ("learning_rate", 0.0),
        ("epochs", -1),
        ("holdout", 1.0),
        ("nll_weight", -1.0),
        ("max_prompt", 1),
    ],
)
def test_invalid_options_are_named(name: str, value: float | str) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(OPTIONS, **{name: value})


def edited(i: int, model: str = "") -> Interaction:
    message = Message("user", f"Write about topic number {i} and of nothing else, please.")
    return Interaction(Completion(str(i), "email", (message,), f"draft {i}", model=model), Edit(str(i), f"text {i}"))


def test_prepare_splits_once_for_every_method(tiny_base: Base) -> None:
    rows = [edited(i) for i in range(20)]
    one, other = (prepare(rows, tiny_base, replace(OPTIONS, method=m, holdout=0.25)) for m in ("sft", "dpo"))
    assert one == other
    assert not {t.id for t in one.train} & {t.id for t in one.heldout}
    assert isinstance(one.train[0], Triple)


def test_prepare_needs_two_contexts(tiny_base: Base) -> None:
    with pytest.raises(DataError, match="log edits of other contexts"):
        prepare([edited(1)], tiny_base, OPTIONS)


def test_a_log_of_another_model_is_noticed(tiny_base: Base) -> None:
    rows = [edited(1, tiny_base.identity), edited(2, "llama:abc"), edited(3)]
    assert foreign_policies(rows, tiny_base) == ["an unknown model", "llama:abc"]
    second = replace(rows[0].completion, policy="email/sft@1")
    assert foreign_policies([Interaction(second)], tiny_base) == ["email/sft@1"]
