from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from redraft.errors import ConflictError, DataError, ModelError, NotFoundError
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate
from redraft.lm.load import Base
from redraft.policies import Policy
from redraft.policies.adapter import AdapterHost, merged_model
from redraft.types import Decoding, Message

CONTEXTS = [[Message("user", text)] for text in ("Hi", "Write to Tom about room 204, please.", "Thanks")]
DECODING = Decoding(16)


@pytest.fixture
def base(tiny_base: Base) -> Base:
    """A base model of the test's own: a host takes it over."""
    return replace(tiny_base, model=copy.deepcopy(tiny_base.model))


@pytest.fixture
def host(base: Base, tiny_policies: Path) -> AdapterHost:
    host = AdapterHost(base, batch_size=2)
    for name in ("sft@1", "dpo@1"):
        host.load(f"email/{name}", tiny_policies / "email" / name)
    return host


@pytest.fixture(scope="module")
def sound_answers(tiny_base: Base, tiny_policies: Path) -> list[str]:
    """What email/sft@1 answers, loaded alone."""
    host = AdapterHost(replace(tiny_base, model=copy.deepcopy(tiny_base.model)))
    return host.load("email/sft@1", tiny_policies / "email/sft@1").respond(CONTEXTS, DECODING)


@pytest.fixture
def folder(tiny_policies: Path, tmp_path: Path) -> Path:
    """A copy of email/sft@1 that a test may spoil."""
    return shutil.copytree(tiny_policies / "email/sft@1", tmp_path / "sft@1")


def plainly(base: Base, limit: int = 512) -> list[str]:
    prompts = [encode_prompt(base.tokenizer, messages, limit) for messages in CONTEXTS]
    return generate(base.model, base.tokenizer, prompts, DECODING)


def test_each_name_answers_with_its_own_adapter(host: AdapterHost, tiny_base: Base, tiny_policies: Path) -> None:
    answers: dict[str, list[str]] = {}
    for name in ("email/sft@1", "base", "email/dpo@1", "email/sft@1", "base"):
        policy: Policy = host.policy(name)
        assert policy.name == name
        said = policy.respond(CONTEXTS, DECODING)
        assert answers.setdefault(name, said) == said
    assert len({tuple(said) for said in answers.values()}) == 3
    assert answers["base"] == plainly(tiny_base)


def test_samples_are_what_each_seed_answers(host: AdapterHost) -> None:
    policy, hot = host.policy("email/sft@1"), Decoding(16, temperature=1.0, seed=1)
    drawn = policy.samples(CONTEXTS, hot, [3, 9])
    assert drawn == [policy.respond(CONTEXTS, replace(hot, seed=seed)) for seed in (3, 9)]
    assert drawn[0] != drawn[1]


def test_an_adapter_answers_as_merged_into_the_weights(
    host: AdapterHost, base: Base, tiny_base: Base, tiny_policies: Path
) -> None:
    alone = replace(tiny_base, model=copy.deepcopy(tiny_base.model))
    merged = replace(alone, model=merged_model(alone, tiny_policies / "email/dpo@1"))
    assert host.policy("email/dpo@1").respond(CONTEXTS, DECODING) == plainly(merged, limit=64)


def test_the_base_stays_bit_for_bit(host: AdapterHost, base: Base, tiny_base: Base) -> None:
    for name in ("email/sft@1", "base", "email/dpo@1"):
        host.policy(name).respond(CONTEXTS, DECODING)
    after = {name.replace(".base_layer", ""): value for name, value in base.model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in tiny_base.model.state_dict().items())


def test_the_prompt_limit_is_the_manifests(host: AdapterHost, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(_model: Any, _tokenizer: Any, prompts: Sequence[list[int]], *_: Any, **__: Any) -> list[str]:
        seen.extend(map(len, prompts))
        return ["" for _ in prompts]

    monkeypatch.setattr("redraft.lm.generate.generate", spy)
    for name in ("email/sft@1", "base"):
        host.policy(name).respond([[Message("user", "x" * 900)]], DECODING)
    assert seen == [64, 512]


def test_names_are_loaded_once_and_mean_one_folder(host: AdapterHost, folder: Path, tiny_policies: Path) -> None:
    assert host.load("email/sft@1", tiny_policies / "email/sft@1") == host.policy("email/sft@1")
    for name in ("email/sft@1", "base"):
        with pytest.raises(ConflictError, match="immutable"):
            host.load(name, folder)
    with pytest.raises(NotFoundError, match="base, email/sft@1, email/dpo@1"):
        host.policy("email/sft@2")
    with pytest.raises(NotFoundError, match="'email/sft@2' is not loaded"):
        host.respond("email/sft@2", CONTEXTS, DECODING)


def test_progress_counts_contexts(base: Base) -> None:
    counts: list[int] = []
    AdapterHost(base, batch_size=2, on_batch=counts.append).policy().respond(CONTEXTS, DECODING)
    assert counts == [2, 1]


def rewrite(file: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def another_revision(folder: Path) -> None:
    rewrite(folder / "redraft.json", lambda manifest: manifest["base"].update(revision="0123"))


def another_model(folder: Path) -> None:
    rewrite(folder / "redraft.json", lambda manifest: manifest["base"].update(name="smollm2"))


def other_shapes(folder: Path) -> None:
    rewrite(folder / "adapter_config.json", lambda config: config.update(r=8))


def other_modules(folder: Path) -> None:
    rewrite(folder / "adapter_config.json", lambda config: config.update(target_modules=["nowhere"]))


def unknown_kind(folder: Path) -> None:
    rewrite(folder / "adapter_config.json", lambda config: config.update(peft_type="MAGIC"))


def half_the_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    kept = sorted(load_file(file).items())[::2]
    save_file(dict(kept), file)


def broken_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"broken")


def no_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def no_configuration(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (another_revision, "was trained on .*:0123, not on .*set .model. name"),
        (another_model, "was trained on smollm2:.*, not on "),
        (other_shapes, "cannot be loaded"),
        (other_modules, "cannot be loaded"),
        (unknown_kind, "cannot be loaded"),
        (half_the_weights, "cannot be loaded .*weights are missing"),
        (broken_weights, "cannot be loaded"),
        (no_weights, "cannot be loaded"),
        (no_configuration, "no adapter_config.json"),
    ],
)
@pytest.mark.parametrize("loaded", [(), ("email/dpo@1",)])
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
    *,
    base: Base,
    folder: Path,
    tiny_policies: Path,
    spoil: Callable[[Path], None],
    said: str,
    loaded: Sequence[str],
    sound_answers: list[str],
) -> None:
    host = AdapterHost(base)
    for name in loaded:
        host.load(name, tiny_policies / name)
    before = host.policy().respond(CONTEXTS, DECODING)
    spoil(folder)
    with pytest.raises(ModelError, match=said) as caught:
        host.load("email/sft@1", folder)
    assert "\n" not in str(caught.value)
    assert host.policy().respond(CONTEXTS, DECODING) == before
    sound = host.load("email/sft@1", tiny_policies / "email/sft@1")
    assert sound.respond(CONTEXTS, DECODING) == sound_answers


def test_a_folder_without_a_manifest_is_refused(base: Base, folder: Path) -> None:
    (folder / "redraft.json").unlink()
    with pytest.raises(DataError, match="not a redraft manifest"):
        AdapterHost(base).load("email/sft@1", folder)
