"""One packed pass must say what two plain ones say."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from redraft.lm.encode import encode_prompt, encode_response, end_of_turn
from redraft.lm.load import Base
from redraft.lm.logprobs import frozen_head, packed_logprobs
from redraft.lm.reading import PLAIN, TWO_PASSES, WINDOWED, Reading
from redraft.train.packing import LengthBuckets, Limits, Triple, collate, encode, fingerprint
from redraft.types import Completion, Edit, Interaction, Message

if TYPE_CHECKING:
    from collections.abc import Sequence


def triples(count: int, vocabulary: int = 250, seed: int = 0) -> list[Triple]:
    """Random token triples of uneven lengths, one in four without a preference."""
    rng = random.Random(seed)

    def tokens(low: int, high: int) -> list[int]:
        return [rng.randrange(3, vocabulary) for _ in range(rng.randint(low, high))]

    made = [Triple(str(i), tokens(3, 20), [*tokens(0, 12), 2], [*tokens(0, 12), 2]) for i in range(count)]
    return [replace(t, rejected=None) if i % 4 == 3 else t for i, t in enumerate(made)]


def plain(model: torch.nn.Module, prompt: Sequence[int], response: Sequence[int]) -> float:
    """Log π(response | prompt) the long way: one sequence, no padding, full logits."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].float()
    predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(predicted.gather(1, torch.tensor(list(response))[:, None]).sum())


@pytest.mark.parametrize("fast", [False, True])
def test_packed_equals_plain(tiny_base: Base, fast: bool) -> None:
    rows = triples(7)
    head = frozen_head(tiny_base.model.requires_grad_(False)) if fast else None
    assert (head is not None) == fast
    with torch.no_grad():
        found = packed_logprobs(tiny_base.model, collate(rows, tiny_base.pad, pairs=True), head)
        for i, t in enumerate(rows):
            assert float(found.chosen[i]) == pytest.approx(plain(tiny_base.model, t.prompt, t.chosen), abs=1e-4)
            assert int(found.chosen_tokens[i]) == len(t.chosen)
            expected = plain(tiny_base.model, t.prompt, t.rejected) if t.rejected else 0.0
            assert float(found.rejected[i]) == pytest.approx(expected, abs=1e-4)
            assert int(found.rejected_tokens[i]) == len(t.rejected or [])


WIDE = 10_000
READINGS = [PLAIN, Reading(additive=True), Reading(WINDOWED, WIDE), Reading(TWO_PASSES)]


@pytest.mark.parametrize("reading", READINGS, ids=str)
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
def test_every_way_to_read_gives_the_same_numbers_and_gradients(
    tiny_base: Base, reading: Reading, fast: bool, pairs: bool
) -> None:
    model, batch = copy.deepcopy(tiny_base.model).requires_grad_(True), collate(triples(7), tiny_base.pad, pairs=pairs)
    head = model.get_output_embeddings()
    assert head is not None
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=not fast)  # apart from the embeddings
    given = frozen_head(model) if fast else None
    found = []
    for each in (PLAIN, reading):
        model.zero_grad()
        read = packed_logprobs(model, batch, given, each)
        (read.chosen.sum() - 0.5 * read.rejected.sum()).backward()
        gradients = [part.grad.clone() for part in model.parameters() if part.grad is not None]
        found.append([read.chosen.detach(), read.rejected.detach(), *gradients])
    assert len(found[0]) == len(found[1]) > 5
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def test_edit_and_draft_do_not_see_each_other(tiny_base: Base) -> None:
    one = Triple("a", [5, 6, 7], [8, 9, 2], [10, 11, 12, 2])
    other = replace(one, rejected=[20, 2])
    with torch.no_grad():
        first, second = (
            packed_logprobs(tiny_base.model, collate([t], tiny_base.pad, pairs=True)).chosen for t in (one, other)
        )
    assert torch.allclose(first, second, atol=1e-5)


def test_frozen_head_has_the_gradient_of_plain_logits(tiny_base: Base) -> None:
    model = tiny_base.model.requires_grad_(False)
    layer = model.get_submodule("model.layers.0.mlp.down_proj").requires_grad_(True)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    batch, gradients = collate(triples(4), tiny_base.pad, pairs=True), []
    for head in (None, frozen_head(model)):
        layer.zero_grad()
        found = packed_logprobs(model, batch, head)
        ((found.chosen - 0.5 * found.rejected) * weights).sum().backward()
        gradients.append(layer.weight.grad.clone())  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    layer.requires_grad_(False)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_a_head_that_trains_is_not_taken_for_frozen(tiny_base: Base) -> None:
    head = tiny_base.model.get_submodule("lm_head")
    head.requires_grad_(True)
    try:
        assert frozen_head(tiny_base.model) is None
    finally:
        head.requires_grad_(False)


def interaction(response: str, edited: str | None) -> Interaction:
    completion = Completion("1", "email", (Message("user", "Write."),), response)
    return Interaction(completion, Edit("1", edited))


def test_end_of_turn_belongs_to_both_texts(tiny_base: Base) -> None:
    (triple,) = encode([interaction("Dear all", "Hi all")], tiny_base.tokenizer, Limits())
    assert triple.chosen[-1] == end_of_turn(tiny_base.tokenizer) == tiny_base.tokenizer.eos_token_id
    assert triple.rejected is not None
    assert triple.rejected[-1] == triple.chosen[-1]


def test_unchanged_rows_hold_no_preference(tiny_base: Base) -> None:
    rows = encode([interaction("Hi", None), interaction("Hi", "Hi")], tiny_base.tokenizer, Limits())
    assert [t.rejected for t in rows] == [None, None]


def test_a_long_prompt_loses_its_middle(tiny_base: Base) -> None:
    message = [Message("user", "start " + "x" * 500 + " end")]
    whole = encode_prompt(tiny_base.tokenizer, message, 10_000)
    short = encode_prompt(tiny_base.tokenizer, message, 41)
    assert len(short) == 41
    assert short[:20] == whole[:20]
    assert short[-21:] == whole[-21:]


def test_an_empty_response_is_one_token(tiny_base: Base) -> None:
    assert encode_response(tiny_base.tokenizer, "") == [end_of_turn(tiny_base.tokenizer)]


def test_fingerprint_tells_data_apart() -> None:
    rows = triples(5)
    assert fingerprint(rows) == fingerprint(triples(5))
    assert fingerprint(rows) != fingerprint(rows[::-1])


@pytest.mark.parametrize("count", [1, 7, 64, 301])
def test_buckets_are_a_seeded_permutation_with_little_padding(count: int) -> None:
    lengths = [random.Random(i).randint(1, 500) for i in range(count)]
    sampler = LengthBuckets(lengths, 8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(count))
    assert first == list(LengthBuckets(lengths, 8, seed=3))
    sampler.set_epoch(1)
    assert count < 8 or list(sampler) != first
    batches = [[lengths[i] for i in first[k : k + 8]] for k in range(0, count, 8)]
    padded = sum(max(b) * len(b) for b in batches)
    assert count < 64 or padded < 1.35 * sum(lengths)
