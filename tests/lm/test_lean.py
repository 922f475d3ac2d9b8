"""The lean forward pass writes what the model's own step writes, or it is not used."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from redraft.errors import ConfigError
from redraft.lm import rows as module
from redraft.lm.generate import generate_ids
from redraft.lm.lean import Lean, low_rank
from redraft.lm.rows import Adapters, LeanRows, fastest, lean_of
from redraft.types import Decoding

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,  # wide enough that the greedy token is never nearly a tie
}
CONFIGS: dict[str, Any] = {
    "llama, grouped": LlamaConfig(**SIZES, num_key_value_heads=2),
    "llama, one key": LlamaConfig(**SIZES, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True),
    "llama, biases": LlamaConfig(**SIZES, num_key_value_heads=4, attention_bias=True, mlp_bias=True),
    "llama, long": LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
        },
    ),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=None),
}  # fmt: skip
LENGTHS = (5, 14, 9, 14, 3)


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name])
    for part, parameter in model.named_parameters():
        if part.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model.eval().requires_grad_(False)


def prompts_of(*lengths: int, begun: int = 2) -> list[list[int]]:
    """Prompts of these lengths, with a common beginning, and a copy of the first."""
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(4, 60, (length,), generator=generator).tolist() for length in lengths]
    texts = [drawn[0][:begun] + ids[begun:] for ids in drawn]
    return [*texts, texts[0]]


def none(*_: Any) -> None:
    """No lean copy."""


@contextmanager
def plainly() -> Generator[None]:
    """Within it the model's own step answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("redraft.lm.generate.lean_of", none)
        yield


@pytest.mark.parametrize("begun", [0, 2])
@pytest.mark.parametrize("name", CONFIGS)
def test_it_writes_what_the_model_writes(name: str, begun: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 30)  # several passes
    monkeypatch.setattr(module, "_ROOM", 5)  # which does not suffice
    model, prompts, stop = model_of(name), prompts_of(*LENGTHS, begun=begun), frozenset(range(6))
    assert lean_of(model, torch.float32, None) is not None
    ended: set[int] = set()
    for decoding in (Decoding(24), Decoding(24, 2.0, seed=3)):
        found = generate_ids(model, prompts, decoding, stop)
        with plainly():
            assert generate_ids(model, prompts, decoding, stop) == found
        assert [generate_ids(model, [ids], decoding, stop)[0] for ids in prompts] == found
        ended |= {len(ids) for ids in found}
    assert len(ended) > 2, "rows left their batch at different times"


def test_what_all_begin_with_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    before = Lean.hidden

    def hidden(self: Lean, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        read.append(tuple(ids.shape))
        return before(self, ids, *rest)

    model = model_of("qwen2")
    generate_ids(model, [[7]], Decoding(1), frozenset())
    monkeypatch.setattr(Lean, "hidden", hidden)
    generate_ids(model, prompts_of(12, 12, 10, begun=8), Decoding(2), frozenset())
    assert read == [(1, 8), (3, 4), (4, 1)]


def turned(rotary: Any, x: torch.Tensor, positions: torch.Tensor) -> Any:
    return rotary(x, positions + positions // 6)


@pytest.mark.parametrize("part", ["_embedding", "_norms", "_scale", "_products", "_rotary"])
def test_a_copy_that_computes_otherwise_is_refused(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Lean):
        def __init__(self, model: Any, dtype: torch.dtype) -> None:
            super().__init__(model, dtype)
            whole: Any = getattr(self, part)
            if part == "_norms":
                self._norms = [norm * 1.01 for norm in whole]
            elif part == "_products":
                self._products = [whole[4], *whole[1:]]  # another layer's
            elif part == "_rotary":
                self._rotary = partial(turned, whole)
            else:
                setattr(self, part, whole * 1.01)

    monkeypatch.setattr(module, "Lean", Broken)
    model, prompts = model_of("llama, grouped"), prompts_of(*LENGTHS)
    assert lean_of(model, torch.float32, None) is None
    found = generate_ids(model, prompts, Decoding(12), frozenset())
    with plainly():
        assert generate_ids(model, prompts, Decoding(12), frozenset()) == found


@pytest.mark.parametrize("counted", [True, False])
def test_changed_weights_are_copied_anew_and_others_are_not(counted: bool) -> None:
    model, prompts = model_of("qwen2"), prompts_of(*LENGTHS)
    generate_ids(model, prompts, Decoding(4), frozenset())
    first = lean_of(model, torch.float32, None)
    again = lean_of(model, torch.float32, None)
    assert first
    assert again
    assert first[0] is again[0]
    with torch.no_grad():
        for layer in model.model.layers:
            weight = layer.mlp.up_proj.weight
            if counted:
                weight.add_(0.3)
            else:
                weight.data += 0.3  # as PEFT merges
    found = generate_ids(model, prompts, Decoding(12), frozenset())
    with plainly():
        assert generate_ids(model, prompts, Decoding(12), frozenset()) == found


def test_where_memory_is_short_there_is_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama, grouped")
    with monkeypatch.context() as short:
        short.setattr(module, "fits", none)
        assert lean_of(model, torch.float32, None) is None
    assert lean_of(model, torch.float32, None) is not None


def test_all_that_it_computes_with_is_where_the_model_is() -> None:
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False)
    model: Any = get_peft_model(model_of("qwen2"), config).to("meta")  # refuses to compute with what is elsewhere
    lean = Lean(model.get_base_model(), torch.float32)
    adapters: Adapters = {"default": low_rank(model.get_base_model(), "default")}
    with torch.no_grad():
        rows = LeanRows(lean, adapters, prompts_of(*LENGTHS), [None, None, *["default"] * 4], 1)
        for kept in (range(6), [1, 3]):
            rows.keep([*kept])
            rows.step(rows.logits.argmax(1)[[*kept]])
    assert rows.logits.device.type == "meta"


def test_a_copy_goes_with_its_model() -> None:
    model = model_of("mistral")
    found = lean_of(model, torch.float32, None)
    assert found
    copy = weakref.ref(found[0])
    del found, model
    gc.collect()
    assert copy() is None


@pytest.mark.parametrize(
    "other",
    [
        MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8),
        Qwen2Config(**SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1),
        LlamaConfig(**SIZES, hidden_act="gelu"),
        LlamaConfig(**SIZES, dtype="bfloat16"),
    ],
)
def test_other_kinds_keep_their_own_step(other: Any) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(other).eval()
    assert lean_of(model, torch.float32, None) is None
    assert len(generate_ids(model, prompts_of(*LENGTHS), Decoding(4), frozenset())) == len(LENGTHS) + 1


@pytest.mark.parametrize("name", ["llama, grouped", "qwen2"])
def test_in_bfloat16_it_says_nearly_the_same_beside_the_model_as_it_is(name: str) -> None:
    model, prompts = model_of(name), prompts_of(*LENGTHS)
    found = lean_of(model, torch.bfloat16, None)
    assert found
    near = LeanRows(*found, prompts, [None] * len(prompts), 1).logits.log_softmax(-1)
    with torch.no_grad():
        own = torch.cat([model(input_ids=torch.tensor([ids])).logits[:, -1] for ids in prompts]).log_softmax(-1)
    assert 0 < float((own.exp() * (own - near)).sum(-1).max()) < 0.02
    rough = Decoding(12, precision="bfloat16")
    together = generate_ids(model, prompts, rough, frozenset())
    assert together[0] == together[-1]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_fastest_precision_is_one_that_the_model_writes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Any = AutoModelForCausalLM.from_config(MistralConfig(**SIZES, num_key_value_heads=2)).eval()
    for told in ("float32", "bfloat16"):
        monkeypatch.setenv("REDRAFT_PRECISION", told)
        assert (fastest(model_of("qwen2")), fastest(other)) == (told, "float32")


@pytest.mark.parametrize("other", [MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8)])
def test_bfloat16_is_refused_where_there_is_no_copy(other: Any) -> None:
    model: Any = AutoModelForCausalLM.from_config(other).eval()
    with pytest.raises(ConfigError, match="precision 'bfloat16': mistral"):
        generate_ids(model, [[5, 6]], Decoding(2, precision="bfloat16"), frozenset())
    with pytest.raises(ConfigError, match="use one of float32, bfloat16"):
        generate_ids(model, [[5, 6]], Decoding(2, precision="int8"), frozenset())
