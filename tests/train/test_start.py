"""Going on from a policy: it is π_ref, and what is trained begins as it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from redraft.errors import ConfigError, ModelError
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate
from redraft.lm.load import Base
from redraft.train.dataset import foreign_policies
from redraft.train.fit import fit
from redraft.train.packing import Triple
from redraft.train.reference import reference_logprobs
from redraft.train.run import Run
from redraft.train.runs import read_manifest, write_manifest
from redraft.train.scoring import score
from redraft.train.start import as_begun, begin, fitting, reference_model, trainable
from redraft.types import Completion, Decoding, Interaction, Message

from .test_fit import DATA, OPTIONS, weights

SFT = replace(OPTIONS, method="sft", epochs=4, learning_rate=2e-2)


@pytest.fixture
def sft(tiny_base: Base, tmp_path: Path) -> Path:
    """A policy that is far from its base."""
    run = Run(tiny_base, DATA, SFT, tmp_path / "sft@1", "email/sft@1", tmp_path / "cache")
    fit(run)
    return run.folder


def test_the_first_loss_is_that_of_a_policy_which_is_its_reference(tiny_base: Base, sft: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, method="dpo", epochs=1, learning_rate=1e-6, start="email/sft@1")
    run = Run(tiny_base, DATA, options, tmp_path / "dpo@1", "email/dpo@1", tmp_path / "cache", start=sft)
    manifest = fit(run)
    assert manifest.history[0]["preference_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert manifest.history[0]["chosen_above_reference"] == pytest.approx(0, abs=1e-4)
    before, after = weights(sft), weights(run.folder)
    assert before.keys() == after.keys()  # a plain adapter of the base model again
    assert all(torch.allclose(after[name], weight, atol=1e-4) for name, weight in before.items())
    assert not torch.equal(torch.cat([w.flatten() for w in after.values()]),
                           torch.cat([w.flatten() for w in before.values()]))  # fmt: skip


def test_the_reference_is_the_policy_and_is_kept_apart_from_the_base_model(
    tiny_base: Base, sft: Path, tmp_path: Path
) -> None:
    of_base = reference_logprobs(tiny_base, DATA.train, tmp_path / "cache")
    with reference_model(tiny_base, sft) as model:
        assert model.identity != tiny_base.identity
        of_sft = reference_logprobs(model, DATA.train, tmp_path / "cache")
        nothing = {t.id: (0.0, 0.0) for t in DATA.train}
        direct = score(model.model, DATA.train, nothing, pad=tiny_base.pad, head=None)
    assert [v[0] for v in of_sft.values()] == pytest.approx(direct.chosen.tolist(), abs=1e-4)
    assert sum(v[0] for v in of_sft.values()) > sum(v[0] for v in of_base.values()) + 1  # it learnt them
    assert reference_logprobs(tiny_base, DATA.train, tmp_path / "cache") == of_base
    prompts = [encode_prompt(tiny_base.tokenizer, [Message("user", "Hi")], 64)]
    assert generate(tiny_base.model, tiny_base.tokenizer, prompts, Decoding(8))  # the base model is plain again
    assert not any("lora" in name for name, _ in tiny_base.model.named_parameters())


def test_a_model_in_training_can_be_its_reference_for_a_while(tiny_base: Base, sft: Path) -> None:
    model = begin(tiny_base, SFT, sft)
    try:
        begun = trainable(model)
        assert begun
        with torch.no_grad():
            for part in model.parameters():
                if part.requires_grad:
                    part.add_(0.1)
        moved = trainable(model)
        triples: list[Triple] = DATA.heldout
        nothing = {t.id: (0.0, 0.0) for t in triples}
        with as_begun(model, begun):
            inside = score(model, triples, nothing, pad=tiny_base.pad, head=None).chosen
        assert all(torch.equal(moved[name], part) for name, part in trainable(model).items())
    finally:
        model.unload()
    with reference_model(tiny_base, sft) as reference:
        expected = score(reference.model, triples, nothing, pad=tiny_base.pad, head=None).chosen
    torch.testing.assert_close(inside, expected)


def test_an_adapter_of_another_rank_is_refused(tiny_base: Base, sft: Path) -> None:
    with pytest.raises(ConfigError, match=r"rank = 8: .*sft@1 has 4, use the same"):
        begin(tiny_base, replace(SFT, rank=8), sft)
    assert not any("lora" in name for name, _ in tiny_base.model.named_parameters())


def test_whose_log_it_is_depends_on_the_start(tiny_base: Base) -> None:
    rows = [
        Interaction(Completion(name, "email", (Message("user", "x"),), "y", name, tiny_base.identity))
        for name in ("base", "email/sft@1", "")
    ]
    assert foreign_policies(rows, tiny_base) == ["email/sft@1"]
    assert foreign_policies(rows, tiny_base, "email/sft@1") == ["base"]
    assert foreign_policies(rows[1:], tiny_base, "email/sft@1") == []


def test_a_policy_that_names_the_earlier_revision_of_its_base_fits(tiny_base: Base, sft: Path) -> None:
    manifest = read_manifest(sft)
    assert tiny_base.earlier not in (None, tiny_base.revision)
    write_manifest(sft, replace(manifest, base={**manifest.base, "revision": str(tiny_base.earlier)}))
    assert fitting(tiny_base, sft).policy == manifest.policy
    old = Interaction(
        Completion("1", "email", (Message("user", "x"),), "y", "base", f"{tiny_base.name}:{tiny_base.earlier}")
    )
    assert foreign_policies([old], tiny_base) == []
    write_manifest(sft, replace(manifest, base={**manifest.base, "revision": "0123456789ab"}))
    with pytest.raises(
        ModelError, match=r"its weights, settings, tokenizer or template have changed\), or train again"
    ):
        fitting(tiny_base, sft)
