"""Responses to many prompts at once, greedy or sampled, each a function of its own prompt and the decoding alone.

A decoding loop of our own: prompts are batched by length, and a row that has ended leaves its batch. Several samples
of one prompt in a batch read it once, and rows of different adapters share a batch (``redraft.lm.rows``). transformers'
``generate`` takes no generator and draws one row's tokens from what its neighbours left of the global one. Left out:
beams, top-k and top-p; temperature 1 samples π itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from redraft.errors import ConfigError, DataError
from redraft.lm.encode import end_of_turn
from redraft.lm.limits import context_of
from redraft.lm.load import PRECISIONS
from redraft.lm.packed import packed
from redraft.lm.rows import Key, LeanRows, PlainRows, adapted, lean_of
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
    keys: Sequence[Key] | None = None,
) -> list[str]:
    """Text of the response to each prompt (token ids), without special tokens; arguments as for ``generate_ids``."""
    stop = stop_tokens(model, tokenizer)
    answers = generate_ids(
        model, prompts, decoding, stop, batch_size=batch_size, on_batch=on_batch, seeds=seeds, keys=keys
    )
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
    keys: Sequence[Key] | None = None,
) -> list[list[int]]:
    """Token ids of the response to each prompt; the last one is in ``stop`` unless a limit came first.

    Limits are the decoding's and the model's context. ``model`` must be in evaluation mode. Two equal prompts get equal
    responses: for several samples of one prompt change ``decoding.seed``, or give every prompt a seed of its own in
    ``seeds``. A batch holds at most ``batch_size`` prompts and few enough for their memory; ``on_batch`` gets the
    number that each has answered. ``watch`` may end a response early. ``keys`` name the adapter of each prompt;
    without them the model answers as it is set.

    Raises ``ConfigError`` for a decoding out of range and ``DataError`` for a prompt without tokens or beyond the
    model's context.
    """
    _require(model, prompts, decoding)
    if not prompts:
        return []
    lean, context = lean_of(model, getattr(torch, decoding.precision), keys), context_of(model) or math.inf
    if lean is None and decoding.precision != "float32" and model.dtype == torch.float32:
        kind = f"{model.config.model_type} models, or with these adapters, write in float32 on a CPU"
        raise ConfigError(f"precision {decoding.precision!r}: {kind}: leave it out, or set REDRAFT_PRECISION=float32")
    known = [*lean[1]] * len(prompts) if lean and keys is None else keys or [None] * len(prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    for batch in _batches(prompts, known, batch_size, mixed=lean is not None):
        asked, mine = [prompts[i] for i in batch], [known[i] for i in batch]
        own = [decoding.seed if seeds is None else seeds[i] for i in batch]
        told = None if watch is None else partial(_told, watch, batch)
        with torch.no_grad(), ExitStack() as stack:
            if lean is None:
                stack.enter_context(packed(model))
                stack.enter_context(nullcontext() if keys is None else adapted(model, mine[0]))
                rows = PlainRows(model, asked)
            else:
                rows = LeanRows(*lean, asked, mine, decoding.max_new_tokens)
            found = _answered(rows, asked, decoding, stop, context, seeds=own, watch=told)
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


def _require(model: Any, prompts: Sequence[list[int]], decoding: Decoding) -> None:
    """Refuse what cannot be answered, as ``generate_ids`` says."""
    assert not model.training, "dropout would answer too"
    if not 0 <= decoding.temperature < math.inf:
        raise ConfigError(f"temperature {decoding.temperature}: use 0 for greedy, or a positive number")
    if decoding.precision not in PRECISIONS:
        raise ConfigError(f"precision {decoding.precision!r}: use one of {', '.join(PRECISIONS)}")
    if decoding.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens {decoding.max_new_tokens}: must be at least 1")
    if not all(prompts):
        raise DataError(f"prompt {list(map(bool, prompts)).index(False) + 1} of {len(prompts)} has no tokens")
    context, longest = context_of(model) or math.inf, max(map(len, prompts), default=0)
    if longest > context:
        raise DataError(f"a prompt has {longest} tokens, and this model's context is {context}: shorten it")


def _batches(prompts: Sequence[list[int]], keys: Sequence[Key], batch_size: int, *, mixed: bool) -> Iterator[list[int]]:
    """Places of the prompts that are answered together; those of one adapter stand together, or alone if not mixed.

    The longest come first: a batch that does not fit into memory fails at once, not after an hour. Equal ones stand
    together: they are read once.
    """
    parts = (
        [range(len(prompts))] if mixed else [[i for i, k in enumerate(keys) if k == key] for key in dict.fromkeys(keys)]
    )
    for part in parts:
        order = sorted(part, key=lambda i: (-len(prompts[i]), prompts[i]))
        while order:
            size = max(1, min(batch_size, _BATCH_TOKENS // len(prompts[order[0]])))
            yield sorted(order[:size], key=lambda i: keys[i] or "")
            order = order[size:]


def _answered(
    rows: LeanRows | PlainRows,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    stop: frozenset[int],
    context: float,
    *,
    seeds: Sequence[int],
    watch: Watch | None,
) -> list[list[int]]:
    """Answer rows that have read these prompts. Row r of a tensor answers ``alive[r]``."""
    draws = None if decoding.temperature == 0 else _draws(prompts, decoding.max_new_tokens, seeds)
    alive = list(range(len(prompts)))
    answers: list[list[int]] = [[] for _ in prompts]
    for step in range(decoding.max_new_tokens):
        logits = rows.logits
        if draws is None:
            chosen = logits.argmax(1)
        else:
            chosen = _sample(logits, decoding.temperature, draws[alive, step].to(logits.device))
        tokens = chosen.tolist()
        for row, token in zip(alive, tokens, strict=True):
            answers[row].append(token)
        enough = {row for row in alive if len(prompts[row]) + len(answers[row]) >= context}
        enough |= set() if watch is None else set(watch(alive, tokens))
        going = [r for r, token in enumerate(tokens) if token not in stop and alive[r] not in enough]
        if not going or step + 1 == decoding.max_new_tokens:
            break
        if len(going) < len(alive):
            rows.keep(going)
            chosen, alive = chosen[going], [alive[r] for r in going]
        rows.step(chosen)
    return answers


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
