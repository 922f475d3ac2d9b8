from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from redraft.errors import ConflictError, DataError, ModelError, NotFoundError
from redraft.lm.encode import encode_prompt
from redraft.lm.generate import generate, generate_ids
from redraft.lm.lean import Lean
from redraft.lm.load import Base
from redraft.lm.rows import lean_of
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


def none(*_: Any) -> None:
    """No lean copy: PEFT's own layers answer."""


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


@pytest.fixture(scope="module")
def mixed(tiny_base: Base, tiny_policies: Path, tmp_path_factory: pytest.TempPathFactory) -> AdapterHost:
    """A host whose third adapter changes some layers only, with another rank."""
    few = tmp_path_factory.mktemp("few") / "few@1"
    shutil.copytree(tiny_policies / "email/sft@1", few)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(7)
        shape = LoraConfig(r=3, target_modules=["k_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(copy.deepcopy(tiny_base.model), shape).save_pretrained(str(few))
    host = AdapterHost(replace(tiny_base, model=copy.deepcopy(tiny_base.model)), batch_size=5)
    for folder in (tiny_policies / "email/sft@1", tiny_policies / "email/dpo@1", few):
        host.load(f"email/{folder.name}", folder)
    return host


@pytest.fixture(scope="module")
def each_alone(mixed: AdapterHost) -> dict[tuple[str, float], list[str]]:
    """What PEFT's own layers answer, one policy at a time."""
    names = ("base", "email/sft@1", "email/dpo@1", "email/few@1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.lm.generate.lean_of", none)
        return {(n, t): mixed.respond(n, CONTEXTS, Decoding(16, t, seed=4)) for n in names for t in (0.0, 1.0)}


@pytest.mark.parametrize("lean", [True, False])
@given(asked=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=9), hot=st.booleans())
@settings(max_examples=12)
def test_policies_answer_together_what_each_answers_alone(
    mixed: AdapterHost,
    each_alone: dict[tuple[str, float], list[str]],
    lean: bool,
    asked: list[tuple[int, int]],
    hot: bool,
) -> None:
    names, temperature = [name for name, t in each_alone if t == hot], float(hot)
    request = [(names[policy], [CONTEXTS[context]]) for policy, context in asked]
    with pytest.MonkeyPatch.context() as patch:
        if not lean:
            patch.setattr("redraft.lm.generate.lean_of", none)
        found = mixed.respond_many(request, Decoding(16, temperature, seed=4))
    assert found == [[each_alone[names[policy], temperature][context]] for policy, context in asked]


@pytest.mark.parametrize("seed", range(3))
def test_rows_leave_a_mixed_batch_and_the_others_keep_their_adapters(mixed: AdapterHost, seed: int) -> None:
    model, stop = vars(mixed)["_model"], frozenset(range(0, 259, 9))
    keys = [None, "adapter2", "adapter0", "adapter1", "adapter0", None, "adapter1", "adapter2"]
    prompts = [encode_prompt(mixed.tokenizer, CONTEXTS[number % 3], 512) for number in range(len(keys))]
    seeds = [seed * 10 + number for number in range(len(keys))]
    decoding = Decoding(24, temperature=1.0)
    together = generate_ids(model, prompts, decoding, stop, seeds=seeds, keys=keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.lm.generate.lean_of", none)
        asked = zip(prompts, seeds, keys, strict=True)
        alone = [generate_ids(model, [ids], decoding, stop, seeds=[s], keys=[key])[0] for ids, s, key in asked]
    assert together == alone
    assert len({len(ids) for ids in alone}) > 3


def test_all_share_one_batch(mixed: AdapterHost, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    before = Lean.hidden

    def hidden(self: Lean, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(len(ids))
        return before(self, ids, *rest)

    request = [(name, CONTEXTS[:1]) for name in ("email/sft@1", "base", "email/few@1")]
    mixed.respond_many(request, Decoding(2))
    monkeypatch.setattr(Lean, "hidden", hidden)
    mixed.respond_many(request, Decoding(2))
    assert rows == [3, 3]


@pytest.mark.parametrize("how", ["merged", "several", "DoRA"])
def test_what_is_no_plain_lora_answers_by_its_own_layers(base: Base, how: str) -> None:
    shape = LoraConfig(r=3, target_modules="all-linear", init_lora_weights=False, use_dora=how == "DoRA")
    model: Any = get_peft_model(base.model, shape).eval()
    if how == "several":
        model.add_adapter("other", shape)
        model.base_model.set_adapter(["default", "other"])
    elif how == "merged":
        assert lean_of(model, torch.float32, None) is not None
        model.merge_adapter()
    assert lean_of(model, torch.float32, None) is None


def test_an_adapter_that_is_trained_further_is_read_anew(host: AdapterHost) -> None:
    model: Any = vars(host)["_model"]
    model.set_adapter("adapter0")  # to be trained
    prompts = [encode_prompt(host.tokenizer, messages, 512) for messages in CONTEXTS]
    before = generate(model, host.tokenizer, prompts, DECODING)
    for name, parameter in model.named_parameters():
        if ".lora_B.adapter0." in name:
            assert parameter.requires_grad
            with torch.no_grad():
                parameter.mul_(-1)
    after = generate(model, host.tokenizer, prompts, DECODING)
    assert after != before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.lm.generate.lean_of", none)
        assert generate(model, host.tokenizer, prompts, DECODING) == after


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
