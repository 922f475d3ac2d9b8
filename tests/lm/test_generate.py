from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from redraft.errors import ConfigError, DataError
from redraft.lm.encode import encode_prompt, end_of_turn
from redraft.lm.generate import generate, generate_ids, stop_tokens
from redraft.lm.load import EMBEDDED, Base, load_base
from redraft.types import Decoding, Message

TEXTS = ("Hi", "Write to Tom about room 204.", "?", "", "The budget meeting is on Thursday, at 3 pm.", "Hi there", "ok")
GREEDY = Decoding(max_new_tokens=24)


def no_copy(*_: Any) -> None:
    """The model's own step answers."""


def prompts_of(base: Base, texts: tuple[str, ...] = TEXTS) -> list[list[int]]:
    return [encode_prompt(base.tokenizer, [Message("user", text)], 512) for text in texts]


def by_transformers(base: Base, prompt: list[int], tokens: int, stop: frozenset[int]) -> list[int]:
    model: Any = base.model
    inputs = torch.tensor([prompt])
    output = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=sorted(stop),
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def prompts(tiny_base: Base) -> list[list[int]]:
    return prompts_of(tiny_base)


@pytest.fixture(scope="module")
def early_stop(tiny_base: Base, prompts: list[list[int]]) -> frozenset[int]:
    """Tokens that the tiny model writes early in some responses, so that rows end at different times."""
    answers = generate_ids(tiny_base.model, prompts, GREEDY, frozenset())
    return frozenset({answers[0][3], answers[1][0], answers[4][10]})


def test_greedy_is_what_transformers_generates(
    tiny_base: Base, prompts: list[list[int]], early_stop: frozenset[int]
) -> None:
    expected = [by_transformers(tiny_base, prompt, 24, early_stop) for prompt in prompts]
    assert generate_ids(tiny_base.model, prompts, GREEDY, early_stop, batch_size=4) == expected
    assert len({len(answer) for answer in expected}) > 2  # rows left their batch at different times


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_response_depends_on_its_own_prompt_only(
    tiny_base: Base, prompts: list[list[int]], early_stop: frozenset[int], temperature: float
) -> None:
    decoding = Decoding(24, temperature, seed=5)
    together = generate_ids(tiny_base.model, prompts, decoding, early_stop, batch_size=16)
    backwards = generate_ids(tiny_base.model, prompts[::-1], decoding, early_stop, batch_size=3)
    alone = [generate_ids(tiny_base.model, [prompt], decoding, early_stop)[0] for prompt in prompts]
    assert together == alone == backwards[::-1]


def test_rows_leave_the_batch_of_a_model_whose_state_is_no_list_of_keys() -> None:
    """Of layers with a recurrent state beside those with keys, all forget the rows that have ended."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    sizes = {"vocab_size": 40, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 12}
    linear = {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    kinds = {"layer_types": ["linear_attention", "full_attention"]}
    config = Qwen3_5TextConfig.from_dict(heads | sizes | linear | kinds)
    torch.manual_seed(0)
    model: Any = Qwen3_5ForCausalLM(config).eval()
    prompts = [torch.randint(2, 40, (n,)).tolist() for n in (5, 9, 12, 3)]
    prompts.append(prompts[1])
    stop = frozenset(range(4))
    together = generate_ids(model, prompts, Decoding(24, 1.0), stop)
    assert len({len(answer) for answer in together}) > 2
    assert together == [generate_ids(model, [prompt], Decoding(24, 1.0), stop)[0] for prompt in prompts]


def test_seed_decides_what_is_sampled_and_nothing_global_does(tiny_base: Base, prompts: list[list[int]]) -> None:
    before = torch.get_rng_state()
    one = generate_ids(tiny_base.model, prompts, Decoding(8, 1.0, seed=1), frozenset())
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert generate_ids(tiny_base.model, prompts, Decoding(8, 1.0, seed=1), frozenset()) == one
    assert generate_ids(tiny_base.model, prompts, Decoding(8, 1.0, seed=2), frozenset()) != one


def test_prompts_of_one_length_draw_apart(tiny_base: Base) -> None:
    pair = prompts_of(tiny_base, ("Hi", "ok"))
    # So hot that the draw alone decides: shared draws would give equal responses.
    one, other = generate_ids(tiny_base.model, pair, Decoding(16, 1e9), frozenset())
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 4


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_samples_follow_the_model(tiny_base: Base, prompts: list[list[int]], temperature: float) -> None:
    draws = 250
    with torch.no_grad():
        logits = tiny_base.model(input_ids=torch.tensor([prompts[0]])).logits[0, -1]
    probability = torch.softmax(logits / temperature, 0)
    drawn = Counter(
        generate_ids(tiny_base.model, prompts[:1], Decoding(1, temperature, seed), frozenset())[0][0]
        for seed in range(draws)
    )
    for token in probability.topk(8).indices.tolist():
        p = float(probability[token])
        assert abs(drawn[token] / draws - p) < 4 * math.sqrt(p * (1 - p) / draws)


def test_text_holds_no_special_token_and_keeps_its_spaces(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    tidy = "clean_up_tokenization_spaces"
    monkeypatch.setattr(tiny_base.tokenizer, tidy, True)  # as Llama 3's is
    monkeypatch.setattr(tiny_base.tokenizer, f"{tidy}_for_bpe_even_though_it_will_corrupt_output", True)

    class Parrot(torch.nn.Module):
        """Says one text to every prompt, then ends its turn, then would go on."""

        device = torch.device("cpu")
        generation_config = tiny_base.model.generation_config

        def __init__(self, text: str) -> None:
            super().__init__()
            said: Any = tiny_base.tokenizer(text)["input_ids"]
            self.script = [*said, end_of_turn(tiny_base.tokenizer), 50, 50]
            self.eval()

        def forward(self, past_key_values: Any, **_: Any) -> Any:
            step = past_key_values or 0
            logits = torch.zeros(1, 1, 300)
            logits[0, 0, self.script[step]] = 1.0
            return type("Output", (), {"past_key_values": step + 1, "logits": logits})

    text = "It 's <|im_start|>fine , is n't it ?  Yes !\n"
    said = generate(Parrot(text), tiny_base.tokenizer, [[7]], Decoding(64))
    assert said == ["It 's fine , is n't it ?  Yes !\n"]


def test_the_token_limit_holds(tiny_base: Base, prompts: list[list[int]]) -> None:
    assert {len(ids) for ids in generate_ids(tiny_base.model, prompts, Decoding(5), frozenset())} == {5}


def test_progress_counts_every_prompt_once(tiny_base: Base, prompts: list[list[int]]) -> None:
    counts: list[int] = []
    answers = generate(tiny_base.model, tiny_base.tokenizer, prompts, Decoding(2), batch_size=3, on_batch=counts.append)
    assert counts == [3, 3, 1]
    assert len(answers) == len(prompts)
    assert generate(tiny_base.model, tiny_base.tokenizer, [], Decoding(2)) == []


def test_long_prompts_come_in_batches_of_fewer(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.lm.generate._BATCH_TOKENS", 20)
    counts: list[int] = []
    prompts = [[5] * length for length in (3, 50, 9, 10, 3, 3)]  # a row alone, two of 10, and six of 3 or fewer
    generate(tiny_base.model, tiny_base.tokenizer, prompts, Decoding(2), on_batch=counts.append)
    assert counts == [1, 2, 3]


def test_stop_tokens_are_the_templates_and_the_models_own(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stop_tokens(tiny_base.model, tiny_base.tokenizer) == {2}
    for configured, expected in (([0, 2], {0, 2}), (7, {2, 7}), (None, {2})):
        monkeypatch.setattr(tiny_base.model.generation_config, "eos_token_id", configured)
        assert stop_tokens(tiny_base.model, tiny_base.tokenizer) == expected


@pytest.mark.parametrize("decoding", [Decoding(temperature=-1.0), Decoding(temperature=math.nan), Decoding(0)])
def test_invalid_decoding(tiny_base: Base, decoding: Decoding) -> None:
    with pytest.raises(ConfigError):
        generate_ids(tiny_base.model, [[1]], decoding, frozenset())


def test_invalid_prompt_is_named(tiny_base: Base) -> None:
    with pytest.raises(DataError, match="prompt 2 of 3 has no tokens"):
        generate_ids(tiny_base.model, [[1], [], [2]], GREEDY, frozenset())


@pytest.mark.slow
def test_greedy_is_what_transformers_generates_with_smollm2() -> None:
    base = load_base(EMBEDDED, Path("~/.cache/redraft").expanduser())
    prompts = prompts_of(base, ("What is the capital of France?", "Write a long email about a budget."))
    stop = stop_tokens(base.model, base.tokenizer)
    expected = [by_transformers(base, prompt, 20, stop) for prompt in prompts]
    assert len(set(map(len, expected))) == 2  # one of them ends its turn
    assert generate_ids(base.model, prompts, Decoding(20), stop) == expected


def test_samples_of_one_prompt_read_it_once_and_are_those_of_their_seeds(
    tiny_base: Base, prompts: list[list[int]], early_stop: frozenset[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, seeds = Decoding(24, 1.0), [3, 1, 4, 1, 5, 9]
    alone = [generate_ids(tiny_base.model, [prompts[1]], Decoding(24, 1.0, seed=seed), early_stop)[0] for seed in seeds]
    other = generate_ids(tiny_base.model, [prompts[4]], Decoding(24, 1.0, seed=7), early_stop)[0]
    rows: list[int] = []
    forward = tiny_base.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(tiny_base.model, "forward", counted)
    monkeypatch.setattr("redraft.lm.generate.lean_of", no_copy)  # its own way is tested with it
    repeated = [prompts[1]] * 3 + [prompts[4]] + [prompts[1]] * 3
    together = generate_ids(tiny_base.model, repeated, decoding, early_stop, seeds=[*seeds[:3], 7, *seeds[3:]])
    assert [*together[:3], *together[4:]] == alone
    assert together[3] == other
    assert together[1] == together[4] != together[0]
    assert rows[0] == 2
    assert 4 < rows[1] <= 7  # one may have ended at once
