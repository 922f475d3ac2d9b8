"""Responses to many prompts at once, greedy or sampled, each a function of its own prompt and the decoding alone.

A decoding loop of our own over the model's key-value cache: prompts are batched by length, and a row that has ended
leaves its batch. Several samples of one prompt in a batch read it once. It keeps pace with transformers' ``generate``,
which takes no generator and draws one row's tokens from what its neighbours left of the global one. Left out: beams,
top-k and top-p; temperature 1 samples π itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from redraft.errors import ConfigError, DataError, ModelError
from redraft.lm.encode import end_of_turn
from redraft.lm.limits import context_of
from redraft.lm.packed import packed, with_room
from redraft.types import Decoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Watch", "generate", "generate_ids", "spoken", "stop_tokens"]

Watch = Callable[[Sequence[int], Sequence[int]], Collection[int]]
"""Gets, after each step, the places of prompts and the new token of each; returns the places that need no more."""

_BATCH_TOKENS = 8192  # prompt tokens in a batch: 1.7 GB with SmolLM2, where 64 prompts of 512 took 4.0 GB


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    *,
    batch_size: int = 64,
    on_batch: Callable[[int], None] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[str]:
    """Text of the response to each prompt (token ids), without special tokens; arguments as for ``generate_ids``."""
    stop = stop_tokens(model, tokenizer)
    answers = generate_ids(model, prompts, decoding, stop, batch_size=batch_size, on_batch=on_batch, seeds=seeds)
    return [spoken(tokenizer, ids, stop) for ids in answers]


def spoken(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stop: Collection[int]) -> str:
    """Text of a response (token ids): neither its special tokens nor the one that ended it, special or not."""
    said = list(ids[:-1] if ids and ids[-1] in stop else ids)
    # Told to clean up, a tokenizer would strike the space before a comma that the policy wrote.
    return str(tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def generate_ids(
    model: Any,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    stop: frozenset[int],
    *,
    batch_size: int = 64,
    on_batch: Callable[[int], None] | None = None,
    seeds: Sequence[int] | None = None,
    watch: Watch | None = None,
) -> list[list[int]]:
    """Token ids of the response to each prompt; the last one is in ``stop`` unless a limit came first.

    Limits are the decoding's and the model's context. ``model`` must be in evaluation mode. Two equal prompts get equal
    responses: for several samples of one prompt change ``decoding.seed``, or give every prompt a seed of its own in
    ``seeds``. A batch holds at most ``batch_size`` prompts and few enough for their memory; ``on_batch`` gets the
    number that each has answered. ``watch`` may end a response early.

    Raises ``ConfigError`` for a decoding out of range and ``DataError`` for a prompt without tokens or beyond the
    model's context.
    """
    assert not model.training, "dropout would answer too"
    if not 0 <= decoding.temperature < math.inf:
        raise ConfigError(f"temperature {decoding.temperature}: use 0 for greedy, or a positive number")
    if decoding.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens {decoding.max_new_tokens}: must be at least 1")
    if not all(prompts):
        raise DataError(f"prompt {list(map(bool, prompts)).index(False) + 1} of {len(prompts)} has no tokens")
    context, longest = context_of(model) or math.inf, max(map(len, prompts), default=0)
    if longest > context:
        raise DataError(f"a prompt has {longest} tokens, and this model's context is {context}: shorten it")
    # The longest come first: a batch that does not fit into memory fails at once, not after an hour.
    # Equal ones stand together: they are read once.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i]))
    answers: list[list[int]] = [[] for _ in prompts]
    start = 0
    while start < len(order):
        batch = order[start : start + max(1, min(batch_size, _BATCH_TOKENS // len(prompts[order[start]])))]
        start += len(batch)
        own = [decoding.seed if seeds is None else seeds[i] for i in batch]
        told = None if watch is None else partial(_told, watch, batch)
        with packed(model):
            found = _answer_batch(model, [prompts[i] for i in batch], decoding, stop, seeds=own, watch=told)
        for i, ids in zip(batch, found, strict=True):
            answers[i] = ids
        if on_batch is not None:
            on_batch(len(batch))
    return answers


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The end-of-turn token, the end of a text, and whatever else the model's own settings end a response at."""
    configured: int | list[int] | None = model.generation_config.eos_token_id
    more = [configured] if isinstance(configured, int) else configured or []
    eos: Any = tokenizer.eos_token_id
    return frozenset({end_of_turn(tokenizer), *more} if eos is None else {end_of_turn(tokenizer), eos, *more})


@torch.no_grad()
def _answer_batch(
    model: Any,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    stop: frozenset[int],
    *,
    seeds: Sequence[int],
    watch: Watch | None,
) -> list[list[int]]:
    """Left-padded, so that every row's next token stands in the last column. Row r of a tensor answers ``alive[r]``.

    Equal prompts share one row of the first pass, which is most of the work where answers are short.
    """
    width, device = max(map(len, prompts)), model.device
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    places = {ids: place for place, ids in enumerate(distinct)}
    copies = torch.tensor([places[tuple(ids)] for ids in prompts], device=device)
    inputs = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in distinct], device=device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    draws = None if decoding.temperature == 0 else _draws(prompts, decoding.max_new_tokens, seeds).to(device)
    alive = list(range(len(prompts)))
    answers: list[list[int]] = [[] for _ in prompts]
    cache: Any = None
    context = context_of(model) or math.inf
    for step in range(decoding.max_new_tokens):
        output = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache, logits = getattr(output, "past_key_values", None), output.logits[:, -1]
        if step == 0:
            cache = with_room(cache, decoding.max_new_tokens)
        if cache is None:
            raise ModelError(
                f"models of type {model.config.model_type} keep no cache of keys and values: let an upstream serve it"
            )
        if len(logits) < len(alive):
            _keep(cache, copies)
            logits, mask, positions = logits[copies], mask[copies], positions[copies]
        chosen = logits.argmax(1) if draws is None else _sample(logits, decoding.temperature, draws[alive, step])
        tokens = chosen.tolist()
        for row, token in zip(alive, tokens, strict=True):
            answers[row].append(token)
        enough = {row for row in alive if len(prompts[row]) + len(answers[row]) >= context}
        enough |= set() if watch is None else set(watch(alive, tokens))
        going = [r for r, token in enumerate(tokens) if token not in stop and alive[r] not in enough]
        if not going:
            break
        if len(going) < len(alive):
            rows = torch.tensor(going, device=device)
            _keep(cache, rows)
            chosen, mask, positions = chosen[rows], mask[rows], positions[rows]
            alive = [alive[r] for r in going]
        inputs, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
    return answers


def _keep(cache: Any, rows: torch.Tensor) -> None:
    """Leave these rows in a cache, any of them several times.

    A cache with states of its own selects for itself; of others only ``reorder_cache`` knows recurrent layers.
    """
    from transformers import Cache

    own = type(cache).batch_select_indices is not Cache.batch_select_indices
    (cache.batch_select_indices if own else cache.reorder_cache)(rows)


def _told(watch: Watch, batch: Sequence[int], rows: Sequence[int], tokens: Sequence[int]) -> Collection[int]:
    """Let ``watch`` speak of prompts where a batch speaks of its rows."""
    places = [batch[row] for row in rows]
    enough = set(watch(places, tokens))
    return [row for row, place in zip(rows, places, strict=True) if place in enough]


def _draws(prompts: Sequence[list[int]], steps: int, seeds: Sequence[int]) -> torch.Tensor:
    """Uniform numbers [B, T] in [0, 1), each row from a generator seeded by (seed, prompt)."""
    rows: list[torch.Tensor] = []
    for ids, seed in zip(prompts, seeds, strict=True):
        digest = hashlib.blake2b(f"{seed}:{ids}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest))
        rows.append(torch.rand(steps, generator=generator, dtype=torch.float64))
    return torch.stack(rows)


def _sample(logits: torch.Tensor, temperature: float, draw: torch.Tensor) -> torch.Tensor:
    """Invert the distribution function of softmax(logits [B, V] / temperature) at ``draw`` [B]."""
    distribution = torch.softmax(logits.double() / temperature, dim=1).cumsum(1)
    # Scaled by the rounded total, a draw below 1 lies below it; the first entry above it has positive probability.
    target = draw[:, None] * distribution[:, -1:]
    return torch.searchsorted(distribution, target, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
